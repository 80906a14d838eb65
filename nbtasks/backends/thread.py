"""The `thread` backend: plain functions on daemon threads that are reused.

Must not know the manager. How an interrupt reaches a thread is the business of `nbtasks.interrupts`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import ClassVar

from nbtasks.backends.base import Attempt, Backend
from nbtasks.exceptions import TaskFailedError
from nbtasks.interrupts import Gate, TaskInterrupt, run_in_own_loop, start_thread
from nbtasks.progress import CURRENT
from nbtasks.states import TaskState
from nbtasks.task import Outcome

__all__ = ["ThreadBackend"]

logger = logging.getLogger("nbtasks")

_IDLE_SECONDS = 30.0
_DONE = Outcome(TaskState.COMPLETED)


class ThreadBackend(Backend):
    """Runs work on a thread each, taken from the idle ones or new: how many run at once is the lanes' business.

    `_idle` is used by atomic deque operations only: whoever pops a worker owns it. `_lock` guards the count of running
    attempts and the interpreter's switch interval.
    """

    name: ClassVar[str] = "thread"
    takes_over: ClassVar[bool] = True

    def __init__(self, idle_seconds: float = _IDLE_SECONDS) -> None:
        self.idle_seconds = idle_seconds
        self._idle: deque[_Worker] = deque()
        self._numbers = itertools.count(1)
        self._closed = False
        self._lock = threading.Lock()
        self._running = 0
        self._usual_interval = 0.0
        self.switch_interval: float | None = None
        """Seconds after which a computing thread lets others run, while work runs here; None: the interpreter's own."""

    def start(self, attempt: Attempt) -> None:
        """Hand the work to an idle thread, or to a new one."""
        self._hand_over(attempt)

    def call(self, function: Callable[[], object]) -> None:
        """Call `function` on a thread of the pool, where no interrupt reaches it.

        An attempt that it returns is run on that thread at once: nothing is handed over once more.
        """
        self._hand_over(function)

    def interrupt(self, attempt: Attempt) -> None:
        """Raise TaskInterrupt in the thread, at its next Python instruction."""
        attempt.interrupted = True
        gate = attempt.handle
        if gate is not None:
            gate.strike(attempt)

    def close(self) -> None:
        """Let the idle threads go; busy ones go when their work is over."""
        self._closed = True
        while self._idle:
            try:
                self._idle.pop().wake(_leave)
            except IndexError:
                return

    def _hand_over(self, job: Attempt | Callable[[], object]) -> None:
        if self._closed:
            raise TaskFailedError("the thread backend is closed")
        try:
            self._idle.pop().wake(job)
        except IndexError:
            _Worker(self, job, f"nbtasks-worker-{next(self._numbers)}")

    def begin_running(self) -> bool:
        """Own thread of a worker: while attempts run, other threads get their turn sooner, if that is asked for."""
        if self.switch_interval is None:
            return False
        with self._lock:
            self._running += 1
            if self._running == 1:
                self._usual_interval = sys.getswitchinterval()
                sys.setswitchinterval(self.switch_interval)
        return True

    def end_running(self) -> None:
        """Own thread of a worker, if it was counted: its attempts are over."""
        with self._lock:
            self._running -= 1
            if self._running == 0 and self._usual_interval:
                sys.setswitchinterval(self._usual_interval)
                self._usual_interval = 0.0

    def rouse(self) -> None:
        """Work is about to come: let an idle thread wake up meanwhile, for that takes longer than most of what is left
        to do. If none comes, it sleeps again.
        """
        try:
            self._idle[-1].bell.release()
        except (IndexError, RuntimeError):  # nobody is idle, or it was roused before
            return

    def rest(self, worker: _Worker) -> bool:
        """Own thread of an idle worker: sleep until there is a job; False if there is none for long.

        The first one to rest stays however long that is: to sleep with a time limit takes 2 us more to wake from.
        """
        seconds = self.idle_seconds if self._idle else -1
        self._idle.append(worker)
        while not self._closed or worker not in self._idle:
            if worker.bell.acquire(timeout=seconds):
                if worker.job is not None:  # else it was roused for nothing
                    return worker.job is not _leave
                continue
            try:
                self._idle.remove(worker)
            except ValueError:  # somebody popped it in this moment, and is about to wake it
                continue
            return False
        return False


def _leave() -> None:
    """What an idle worker is given if there will be nothing to do any more."""


class _Worker:
    """One thread of the pool. `job` is written by whoever popped it from the idle ones, before `bell` rings.

    The bell may ring without a job too, so the thread looks for one each time.
    """

    __slots__ = ("_gate", "_pool", "bell", "job")

    def __init__(self, pool: ThreadBackend, job: Attempt | Callable[[], object], name: str) -> None:
        self._pool = pool
        self.job: Attempt | Callable[[], object] | None = job
        self.bell = threading.Lock()
        self.bell.acquire()
        start_thread(self._serve, name)

    def wake(self, job: Attempt | Callable[[], object]) -> None:
        """Give an idle worker its next job."""
        self.job = job
        try:
            self.bell.release()
        except RuntimeError:  # it has been roused, and is not awake yet
            return

    def _serve(self) -> None:
        gate = Gate()
        while True:
            job, self.job = self.job, None
            attempt = job if job is None or isinstance(job, Attempt) else _call(job)
            if attempt is not None:
                counted = self._pool.begin_running()
                while attempt is not None:
                    attempt = attempt.finished(_run(attempt, gate))
                if counted:
                    self._pool.end_running()
            del job
            if not self._pool.rest(self):
                return


def _call(job: Callable[[], object]) -> Attempt | None:
    try:
        answer = job()
    except Exception:  # whoever handed it over has no other way to learn of it, and the thread is to live
        logger.exception("%r failed", job)
        return None
    return answer if isinstance(answer, Attempt) else None


def _run(attempt: Attempt, gate: Gate) -> Outcome:
    """Run the work where interrupts reach it, and come back where they do not."""
    outcome = None
    try:
        try:
            outcome = _called(attempt, gate)
        finally:
            gate.leave()
    except TaskInterrupt as error:  # it struck between the end of the work and the shut gate
        gate.leave()
        if outcome is None:
            outcome = Outcome(TaskState.CANCELLED, None, error)
    return outcome


def _called(attempt: Attempt, gate: Gate) -> Outcome:
    context = attempt.context
    context.run(CURRENT.set, attempt.task)
    attempt.handle = gate
    try:
        gate.enter(attempt)
        if attempt.interrupted:  # before it had begun; from here on a strike finds the gate
            raise TaskInterrupt
        result = context.run(attempt.function, *attempt.args)
        if result is not None and hasattr(result, "__await__") and attempt.is_async:
            result = context.run(run_in_own_loop, result)
    except (TaskInterrupt, asyncio.CancelledError) as error:
        return Outcome(TaskState.CANCELLED, None, error)
    except BaseException as error:  # noqa: BLE001 - user code; whatever it raises is the task's, and the thread lives
        return Outcome(TaskState.FAILED, None, error)
    return _DONE if result is None else Outcome(TaskState.COMPLETED, result)
