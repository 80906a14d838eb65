"""The `thread` backend: plain functions on reused daemon threads."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import ClassVar

from nbtasks.backends.base import Attempt, Backend
from nbtasks.exceptions import TaskFailedError
from nbtasks.interrupts import Gate, TaskInterrupt, here, run_in_own_loop, start_thread
from nbtasks.progress import CURRENT
from nbtasks.states import TaskState
from nbtasks.task import COMPLETED, Outcome

__all__ = ["ThreadBackend"]

logger = logging.getLogger("nbtasks")

_IDLE_SECONDS = 30.0
_Job = Attempt | Callable[[], object]


class ThreadBackend(Backend):
    """Runs each attempt on an idle thread, or on a new one.

    Lanes limit how many run at once. `_idle` is used by atomic deque operations only: a worker belongs to the thread
    that popped it. `_lock` guards the count of running attempts and the interpreter's switch interval.
    """

    name: ClassVar[str] = "thread"
    takes_over: ClassVar[bool] = True
    interrupts_programs: ClassVar[bool] = True

    def __init__(self, idle_seconds: float = _IDLE_SECONDS) -> None:
        self.idle_seconds = idle_seconds
        """An idle thread ends after this time, except the last one."""
        self._idle: deque[_Worker] = deque()
        self._numbers = itertools.count(1)
        self._closed = False
        self._lock = threading.Lock()
        self._running = 0
        self._usual_interval = 0.0
        self.switch_interval: float | None = None
        """The interpreter's switch interval while work runs here, in seconds; None leaves it as it is."""

    def start(self, attempt: Attempt) -> None:
        """Pass the work to an idle thread, or to a new one."""
        self._pass(attempt)

    def call(self, function: Callable[[], object]) -> None:
        """Call `function` on a thread of the pool, where no interrupt reaches it.

        An attempt that it returns runs on that thread next, which saves another thread.
        """
        self._pass(function)

    def interrupt(self, attempt: Attempt) -> None:
        """Raise TaskInterrupt in the thread, at its next Python instruction.

        The child processes of the work, whose end lets it go on, are terminated when that can no longer come too late.
        """
        attempt.interrupted = True
        gate = attempt.handle
        if gate is None:
            attempt.interrupt_programs()
        else:
            gate.interrupt(attempt, attempt.interrupt_programs)

    def is_here(self, attempt: Attempt) -> bool:
        """Whether this is the worker thread of the attempt."""
        return attempt.handle is not None and attempt.handle is here.gate

    def close(self) -> None:
        """Let the idle threads end now, and busy ones when their work has ended."""
        self._closed = True
        while self._idle:
            try:
                self._idle.pop().jobs.put(None)
            except IndexError:
                return

    def _pass(self, job: _Job) -> None:
        if self._closed:
            raise TaskFailedError("the thread backend is closed")
        try:
            self._idle.pop().jobs.put(job)
        except IndexError:
            _Worker(self, job, f"nbtasks-worker-{next(self._numbers)}")

    def begin_running(self) -> bool:
        """Own thread of a worker: set the switch interval; True if `end_running` must be called."""
        if self.switch_interval is None:
            return False
        with self._lock:
            self._running += 1
            if self._running == 1:
                self._usual_interval = sys.getswitchinterval()
                sys.setswitchinterval(self.switch_interval)
        return True

    def end_running(self) -> None:
        """Own thread of a worker: restore the switch interval after the last running attempt."""
        with self._lock:
            self._running -= 1
            if self._running == 0 and self._usual_interval:
                sys.setswitchinterval(self._usual_interval)
                self._usual_interval = 0.0

    def offer(self, worker: _Worker) -> float | None:
        """Own thread of a worker: put it among the idle ones; returns how many seconds it waits for a job."""
        seconds = self.idle_seconds if self._idle else None
        worker.is_offered = True
        self._idle.append(worker)
        if self._closed:  # `close` may have missed this worker
            self.close()
        return seconds

    def withdraw(self, worker: _Worker) -> bool:
        """Own thread of a worker: take it from the idle ones; False if another thread has taken it."""
        try:
            self._idle.remove(worker)
        except ValueError:
            return not worker.is_offered
        return True


class _Worker:
    """One thread of the pool.

    Only the thread that popped it from the idle ones puts a job into `jobs`.
    """

    __slots__ = ("_pool", "is_offered", "jobs")

    def __init__(self, pool: ThreadBackend, job: _Job, name: str) -> None:
        self._pool = pool
        self.is_offered = False
        """Whether it was put among the idle ones since its last job."""
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self.jobs.put(job)
        start_thread(self._serve, name)

    def _serve(self) -> None:
        gate = Gate()
        job = self.jobs.get()
        while job is not None:
            attempt = job if isinstance(job, Attempt) else _call(job)
            if attempt is not None:
                counted = _logged(self._pool.begin_running)
                while attempt is not None:
                    attempt = attempt.finished(_run(attempt, gate))
                if counted:
                    _logged(self._pool.end_running)
            del job  # an idle thread keeps no task alive
            job = self._next_job()

    def _next_job(self) -> _Job | None:
        """Wait until there is a job; None if the thread must end."""
        self.is_offered = False
        try:
            return self.jobs.get(timeout=self._pool.offer(self))
        except Empty:
            pass
        except Exception:
            logger.exception("an idle thread of the pool ends")
        return None if self._pool.withdraw(self) else self.jobs.get()


def _call(function: Callable[[], object]) -> Attempt | None:
    result = _logged(function)
    return result if isinstance(result, Attempt) else None


def _logged(function: Callable[[], object]) -> object:
    """Call a function; an error is logged, as nothing else would show it."""
    try:
        return function()
    except Exception:
        logger.exception("%r failed", function)
        return None


def _run(attempt: Attempt, gate: Gate) -> Outcome:
    """Run the work where interrupts reach it, and return where they do not."""
    outcome = None
    try:
        try:
            outcome = _called(attempt, gate)
            if attempt.programs is not None and attempt.programs.interrupted and gate.is_pending(attempt):
                # The end of a program has let the work go on before the interrupt could be raised in it.
                outcome = Outcome(TaskState.CANCELLED)
        finally:
            gate.leave()
    except TaskInterrupt as error:  # raised between the end of the work and the closed gate
        gate.leave()
        if outcome is None:
            outcome = Outcome(TaskState.CANCELLED, None, error)
    return outcome


def _called(attempt: Attempt, gate: Gate) -> Outcome:
    context = attempt.context
    attempt.handle = gate
    try:
        context.run(CURRENT.set, attempt.task)
        gate.enter(attempt)
        if attempt.interrupted:  # before the work has begun; a later interrupt finds the gate
            raise TaskInterrupt
        result = context.run(attempt.function, *attempt.args)
        if result is not None and hasattr(result, "__await__") and attempt.is_async:
            result = context.run(run_in_own_loop, result)
    except (TaskInterrupt, asyncio.CancelledError) as error:
        return Outcome(TaskState.CANCELLED, None, error)
    except BaseException as error:  # noqa: BLE001 - user code; whatever it raises is the task's, and the thread lives
        return Outcome(TaskState.FAILED, None, error)
    return COMPLETED if result is None else Outcome(TaskState.COMPLETED, result)
