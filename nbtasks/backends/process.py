"""The `process` backend: work in processes that can be interrupted and killed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from nbtasks.backends.base import Attempt, Backend
from nbtasks.backends.remote_work import RemoteWork, show_streams, work_of
from nbtasks.exceptions import NbtasksError, TaskFailedError, WorkerDiedError
from nbtasks.interrupts import start_thread
from nbtasks.programs import started_by
from nbtasks.states import TaskState
from nbtasks.task import Outcome
from nbtasks.workers import worker_side
from nbtasks.workers.messages import Message

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpec

    from nbtasks.workers.kept_worker import KeptWorker
    from nbtasks.workers.kernel_process import Worker
    from nbtasks.workers.pool import Pool
    from nbtasks.workers.serialization import Buffers

__all__ = ["ProcessBackend"]

logger = logging.getLogger("nbtasks")

GRACE_SECONDS = 5.0
"""How long interrupted work may take to stop, before its process is killed."""
_POLL_SECONDS = 0.2
_TRIES = 3


class ProcessBackend(Backend):
    """Runs work in worker processes, one for each attempt at a time."""

    name: ClassVar[str] = "process"

    def __init__(self) -> None:
        self.grace = GRACE_SECONDS
        """Seconds between an interrupt and a kill."""
        self.on_display: Callable[[Message], None] = show_streams
        """Shows what a function in a worker prints or displays; called in the context of its attempt."""
        self.modules: Callable[[], list[str]] = list
        """Gives the names of the modules that a spare worker imports beforehand."""
        self.worker_module = worker_side.__name__
        """The module whose function `main` starts the kernel of a worker."""
        self._lock = threading.Lock()  # guards the making of the pool
        self._pool: Pool | None = None
        self._closed = False

    def _kernel_now(self) -> KernelSpec:
        from nbtasks.workers.kernel_process import python_kernel

        return python_kernel(self.worker_module)

    def _modules_now(self) -> list[str]:
        return self.modules()

    @property
    def limit(self) -> int:
        """How many workers there may be at a time; more work waits for one."""
        return self.pool.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self.pool.limit = limit

    @property
    def kept_limit(self) -> int:
        """How many workers are kept at a time for the live objects of cells; others end, the oldest first."""
        return self.pool.kept_limit

    @kept_limit.setter
    def kept_limit(self, limit: int) -> None:
        self.pool.kept_limit = limit

    def workers(self) -> list[dict[str, Any]]:
        """One row for each worker: its `pid`, the name of its `task`, and the `seconds` since its start."""
        return [] if self._pool is None else self._pool.rows()

    @property
    def pool(self) -> Pool:
        """The workers; made on first use."""
        from nbtasks.workers.pool import Pool

        with self._lock:
            if self._pool is None:
                self._pool = Pool(self._kernel_now, self._modules_now)
                if self._closed:
                    self._pool.close()
            return self._pool

    def start(self, attempt: Attempt) -> None:
        """Send the work to a worker, on a thread of its own, which also receives what comes back."""
        if self._closed:
            raise TaskFailedError("the process backend is closed")
        attempt.handle = _Conversation(self, attempt)
        start_thread(attempt.handle.run, f"nbtasks-process-{attempt.task.name}")

    def interrupt(self, attempt: Attempt) -> None:
        """Interrupt the worker; work that does not stop within `grace` seconds is killed."""
        attempt.interrupted = True
        conversation = attempt.handle
        if conversation is not None:
            conversation.interrupt()

    def usage(self, attempt: Attempt) -> str:
        """Its worker's process id, memory and CPU time, at most a second old, or that a worker starts."""
        conversation = attempt.handle
        return "" if conversation is None else conversation.usage()

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            self._closed, pool = True, self._pool
        if pool is not None:
            pool.close()


class _Conversation:
    """One attempt and its worker, on a thread of its own.

    Any thread may call `interrupt`. Before the work has begun an interrupt would be lost: it is sent once it begins.
    `_lock` guards what has begun. `_kept` is the kept worker that it waits for or runs in, which was taken at
    `_taken_at`: programs in it that are older belong to earlier work.
    """

    def __init__(self, backend: ProcessBackend, attempt: Attempt) -> None:
        self._backend = backend
        self._attempt = attempt
        self._lock = threading.Lock()
        self._begun: Worker | None = None
        self._has_begun = False
        self._stops_programs = False
        self._kept: KeptWorker | None = None
        self._is_kept = False
        self._request = ""
        self._taken_at = 0.0
        self._kill_at: float | None = None
        self._measure_at = 0.0
        self._usage = ""

    def interrupt(self) -> None:
        with self._lock:
            if self._kill_at is None:
                self._kill_at = time.monotonic() + self._backend.grace
            if self._begun is not None:
                self._stops_programs |= self._note_programs(self._begun)
                self._begun.interrupt()

    def _note_programs(self, worker: Worker) -> bool:
        """Add the programs that the work has started to its attempt, which ends those that are left over."""
        programs = [] if worker.pid is None else started_by(worker.pid, since=self._taken_at)
        for pid in programs:
            self._attempt.start_program(lambda pid=pid: pid, ends_with_work=True)  # type: ignore[misc]
        return bool(programs)

    def usage(self) -> str:
        with self._lock:
            if not self._has_begun:
                return "starting a worker…" if self._kept is None else _waiting_text(self._kept)
            worker = self._begun
            due = time.monotonic() >= self._measure_at
            self._measure_at = time.monotonic() + 1.0 if due else self._measure_at
        if worker is not None and due:
            from nbtasks.workers.usage import usage_text

            self._usage = "" if worker.pid is None else usage_text(worker.pid)
        return "" if worker is None else self._usage

    def _begins(self, worker: Worker | None) -> None:
        """The work begins in this worker; with None it has ended."""
        with self._lock:
            self._begun = worker
            self._has_begun |= worker is not None
            if worker is not None and self._kill_at is not None:
                worker.interrupt()

    def run(self) -> None:
        attempt = self._attempt
        try:
            outcome = self._converse()
        except BaseException as error:  # noqa: BLE001 - any failure is the outcome of the task
            if isinstance(error, NbtasksError):  # the message says all, and the traceback shows only nbtasks
                error.__traceback__ = None
            outcome = Outcome(TaskState.FAILED, None, error)
            if attempt.interrupted and isinstance(error, WorkerDiedError):
                outcome = Outcome(TaskState.CANCELLED, None, error)
        attempt.handle = None
        following = attempt.finished(outcome)
        if self._is_kept and self._kept is not None:  # only now: what runs next in it has the names of this work
            self._backend.pool.keep(self._kept)
        self._backend.start_following(following)

    def _converse(self) -> Outcome:
        work, attempt = self._work(), self._attempt
        while (kept := attempt.context.run(work.place)) is not None:
            self._kept = kept
            if self._backend.pool.take_kept(kept, attempt.task.name, lambda: attempt.interrupted):
                self._is_kept, self._taken_at = True, time.time()
                if attempt.context.run(work.place) is kept:
                    # No other worker can do it, as no other one has the objects.
                    return self._converse_in(kept.worker, work, attempt.context.run(work.request))
                self._is_kept = False
                self._backend.pool.keep(kept)
            if attempt.interrupted:
                return Outcome(TaskState.CANCELLED)
        self._kept = None
        request = attempt.context.run(work.request)
        tries = _TRIES
        while True:
            try:
                worker = self._backend.pool.take(
                    attempt.task.name, lambda: attempt.interrupted, fresh=work.fresh, kernel=work.kernel
                )
                return Outcome(TaskState.CANCELLED) if worker is None else self._converse_in(worker, work, request)
            except WorkerDiedError:
                # The worker was already ending when it was taken: nothing has been done, and another one can do it.
                tries -= 1
                if self._has_begun or attempt.interrupted or not tries:
                    raise

    def _converse_in(self, worker: Worker, work: RemoteWork, request: tuple[str, dict[str, Any], Buffers]) -> Outcome:
        attempt = self._attempt
        again, why = False, ""
        try:
            outcome, again = self._ask(worker, work, *request)
            if attempt.interrupted:
                self._note_programs(worker)
                if outcome.state is TaskState.COMPLETED and self._stops_programs:
                    # The end of a program that it waited for has let the work go on.
                    outcome = Outcome(TaskState.CANCELLED)
        except WorkerDiedError as error:
            why = str(error)
            raise
        finally:
            attempt.context.run(work.ended)
            self._begins(None)
            self._give_back(worker, work, why, again=again and not work.fresh and not attempt.interrupted)
        return outcome

    def _give_back(self, worker: Worker, work: RemoteWork, why: str, *, again: bool) -> None:
        """Give the worker back, or note that it is kept: that is done when the work has finished."""
        attempt, pool, kept = self._attempt, self._backend.pool, self._kept
        if why and kept is not None:
            if self._kill_at is not None:
                why = f"{attempt.task.name!r} did not stop within {self._backend.grace:g} s of its cancel there"
            self._is_kept = False
            attempt.context.run(pool.lose, kept, why)
            return
        if worker.alive:
            try:
                kept = attempt.context.run(work.keep, worker, self._request)
            except Exception:  # pickling runs the objects' own code
                logger.exception("cannot keep the worker process of %r", attempt.task.name)
        if kept is None:
            pool.give_back(worker, again=again)
        else:
            self._is_kept, self._kept = True, kept

    def _work(self) -> RemoteWork:
        return work_of(self._attempt, self._backend.on_display)

    def _ask(
        self, worker: Worker, work: RemoteWork, kind: str, content: dict[str, Any], buffers: Buffers
    ) -> tuple[Outcome, bool]:
        attempt = self._attempt
        while True:
            self._request = worker.send(kind, content, buffers)
            answer = self._answer(worker, work, self._request)
            following = attempt.context.run(work.following, answer)
            if following is None or attempt.interrupted:
                return attempt.context.run(work.answered, answer), True
            kind, content, buffers = following

    def _answer(self, worker: Worker, work: RemoteWork, request: str) -> Message:
        """Take the worker's messages, up to its answer to the request."""
        attempt = self._attempt
        answer: Message | None = None
        idle = False
        while not (answer is not None and idle):
            for message in self._receive(worker, work):
                if message.channel == "shell" and message.answers == request:
                    answer = message
                elif message.channel == "iopub" and message.kind == "status":
                    state = message.content["execution_state"] if message.answers == request else ""
                    idle |= state == "idle"
                    if state == "busy" and work.begins_when_busy:
                        self._begins(worker)
                elif message.kind == "nbtasks_begun":
                    attempt.context.run(work.begun, worker.tell)
                    self._begins(worker)
                elif self._kept is not None and self._kept.takes(message):
                    self._kept.received(message)
                elif message.channel == "iopub":
                    attempt.context.run(work.receive, message)
        return answer

    def _receive(self, worker: Worker, work: RemoteWork) -> list[Message]:
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            worker.kill()
        try:
            return worker.receive(_POLL_SECONDS)
        except WorkerDiedError as error:
            if work.memory is not None:
                raise WorkerDiedError(f"{error}; it was limited to {work.memory:,} bytes", error.returncode) from None
            raise


def _waiting_text(kept: KeptWorker) -> str:
    """What work waits for that needs a kept worker, as part of a panel."""
    running = f", where {kept.running!r} runs" if kept.running else ""
    return f"waiting for the process of {kept.label}{running}…"
