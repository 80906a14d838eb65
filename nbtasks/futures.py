"""`TaskFuture`: the `concurrent.futures.Future` of an executor's call, which follows a task to its end.

Must not know how calls are given in, or what an executor is beyond the few things that it is asked here.
"""

from __future__ import annotations

import logging
import threading
from asyncio import _get_running_loop
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any, NoReturn, Protocol, TypeVar

from nbtasks.progress import CURRENT
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Task
from nbtasks.threads import doze

__all__ = ["TaskFuture"]

T = TypeVar("T")

logger = logging.getLogger("nbtasks")


class Calls(Protocol):
    """Who has given the call in."""

    def take_back(self, task: Task) -> bool:
        """Cancel the task if it has not begun."""

    def block(self, tasks: list[Task], timeout: float | None) -> None:
        """Wait for the tasks as part of whatever task this is, and keep the loop of this thread turning."""

    def settled(self, future: TaskFuture[Any]) -> None:
        """The call is over, and all who are to know it have been told."""


# What `concurrent.futures.wait` and `as_completed` read in a future's `_state`.
_PENDING, _CANCELLED, _FINISHED = "PENDING", "CANCELLED_AND_NOTIFIED", "FINISHED"


class TaskFuture(Future[T]):
    """The future of one call, and with it its `task` in the manager, by which it can be watched and stopped.

    As everywhere, `cancel()` takes back what has not begun; `future.task.cancel()` stops running work too. Inside a
    task `result()` lends the task's slot, so that calls may wait for calls; in a cell it keeps the notebook's loop
    turning.
    """

    # `wait` and `as_completed` use four attributes of the base class, of which `_condition` only as a lock. Here it is
    # no more than that: to make a real one for each future costs more than all the rest.

    _condition: Any
    _result: Any
    _exception: BaseException | None
    _shared = False
    """Whether somebody has the task too, and may look for the result there."""

    def __init__(self, executor: Calls, task: Task) -> None:
        self._executor = executor
        self._task = task
        self._condition = threading.RLock()
        self._state = _PENDING
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[Future[T]], object]] = []

    def __repr__(self) -> str:
        return f"<TaskFuture of {self._task!r}>"

    def __del__(self) -> None:
        # The manager keeps the records of the last tasks; results and errors are not to live longer than their futures.
        task = self._task
        if not self._shared and task._state not in LIVE_STATES:
            task._result = None
            if task._exception is not None:
                task.release()

    @property
    def task(self) -> Task:
        """The call as a task: its state, times, progress, `cancel()`."""
        self._shared = True
        return self._task

    def cancel(self) -> bool:
        """Take back a call that has not begun; False if it has."""
        if self._state == _PENDING and self._executor.take_back(self._task):
            self._settled(None)
        return self._state == _CANCELLED

    def cancelled(self) -> bool:
        """Whether the call was taken back, or its task cancelled."""
        return self._state == _CANCELLED

    def running(self) -> bool:
        """Whether the call runs now."""
        return self._state == _PENDING and self._task._state is TaskState.RUNNING

    def done(self) -> bool:
        """Whether it is over, however it ended."""
        return self._state != _PENDING

    def result(self, timeout: float | None = None) -> T:
        """What the call returned; raises what it raised, CancelledError, or TimeoutError after `timeout` seconds."""
        if self._state != _FINISHED:
            self._wait(timeout)
        if self._exception is None:
            result: T = self._result
            return result
        try:
            raise self._exception
        finally:
            del self  # the traceback of what it raises leads here

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None; raises CancelledError, or TimeoutError after `timeout` seconds."""
        if self._state != _FINISHED:
            self._wait(timeout)
        return self._exception

    def set_running_or_notify_cancel(self) -> NoReturn:
        """Not for this kind of future."""
        raise InvalidStateError(f"{self!r} follows its task: the manager alone says how it ends")

    def set_result(self, result: object) -> NoReturn:  # noqa: ARG002 - the base class's signature
        """Not for this kind of future."""
        self.set_running_or_notify_cancel()

    def set_exception(self, exception: object) -> NoReturn:  # noqa: ARG002 - as above
        """Not for this kind of future."""
        self.set_running_or_notify_cancel()

    def _wait(self, timeout: float | None) -> None:
        """Return when it is finished; raises CancelledError or TimeoutError."""
        if self._state == _PENDING and (CURRENT.get() is not None or _get_running_loop() is not None):
            # Where a slot is to be lent, or the loop of this thread kept turning.
            self._executor.block([self._task], timeout)
            timeout = None
        if not self._settled(timeout):
            raise TimeoutError(f"{self._task.name!r} is not over after {timeout:g} s")
        if self._state == _CANCELLED:
            raise CancelledError(self._task.error)

    def _settled(self, timeout: float | None) -> bool:
        """Sleep until it is over; False if `timeout` seconds passed first."""
        if self._state != _PENDING:
            return True
        sleeper = _Sleeper()
        with self._condition:
            if self._state != _PENDING:
                return True
            self._waiters.append(sleeper)
        if doze(sleeper.bed, timeout):
            return True
        with self._condition:
            self._waiters.remove(sleeper)
            return self._state != _PENDING

    def settle(self) -> None:
        """The task is over: wake who waits, and call back. Called once, on the thread where it ended."""
        task = self._task
        self._result = task._result
        error = self._exception = task._exception
        state = _CANCELLED if task._state is TaskState.CANCELLED else _FINISHED
        with self._condition:
            self._state = state
            for waiter in self._waiters:
                if error is not None:
                    waiter.add_exception(self)
                elif state is _FINISHED:
                    waiter.add_result(self)
                else:
                    waiter.add_cancelled(self)
        if self._done_callbacks:
            self._call_back()
        self._executor.settled(self)

    def _call_back(self) -> None:
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException:
                logger.exception("a callback of %r failed", self)


class _Sleeper:
    """What wakes a thread: as `wait` and `as_completed` put it into a future."""

    __slots__ = ("bed",)

    def __init__(self) -> None:
        self.bed = threading.Lock()
        self.bed.acquire()

    def add_result(self, _: object) -> None:
        self.bed.release()

    add_exception = add_cancelled = add_result
