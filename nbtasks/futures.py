"""`TaskFuture`: the `concurrent.futures.Future` of an executor's call, which follows a task to its end.

Must not know how calls are given in, or what an executor is beyond the few things that it is asked here.
"""

from __future__ import annotations

import logging
import threading
import time
from asyncio import _get_running_loop
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any, NoReturn, Protocol, TypeVar

from nbtasks.progress import CURRENT
from nbtasks.states import TaskState
from nbtasks.task import Task
from nbtasks.threads import doze, here, wake

__all__ = ["TaskFuture"]

T = TypeVar("T")

logger = logging.getLogger("nbtasks")


class Calls(Protocol):
    """Who has given the call in."""

    unfinished: set[TaskFuture[Any]]
    """The calls that are not over, or of whose end not all have been told who are to be."""
    closed: bool

    def take_back(self, task: Task) -> bool:
        """Cancel the task if it has not begun."""

    def block(self, tasks: list[Task], timeout: float | None) -> None:
        """Wait for the tasks as part of whatever task this is, and keep the loop of this thread turning."""

    def look_round(self) -> None:
        """It is closed, and one of the calls has left `unfinished`."""


# What `concurrent.futures.wait` and `as_completed` read in a future's `_state`.
_PENDING, _CANCELLED, _FINISHED = "PENDING", "CANCELLED_AND_NOTIFIED", "FINISHED"


_making = threading.Lock()
"""Guards what a future makes when somebody needs it: see there. Held for two instructions."""


class TaskFuture(Future[T]):
    """The future of one call, and with it its `task` in the manager, by which it can be watched and stopped.

    As everywhere, `cancel()` takes back what has not begun; `future.task.cancel()` stops running work too. Inside a
    task `result()` lends the task's slot, so that calls may wait for calls; in a cell it keeps the notebook's loop
    turning.
    """

    # Most futures are asked for a result that is there. What others need is made when they do: a lock, and lists of
    # those who are to be told. Whoever makes one looks at the state after that, and `settle` sets the state before it
    # looks for them; so nobody is missed. `wait` and `as_completed` use `_condition` as a lock and no more than that.

    _state = _PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _beds: tuple[threading.Lock, ...] = ()
    _lock: Any = None
    _watchers: list[Any] | None = None
    _callbacks: list[Callable[[Future[T]], object]] | None = None
    _shared = False
    """Whether somebody has the task too, and may look for the result there."""

    def __init__(self, executor: Calls, task: Task) -> None:
        self._executor = executor
        self._task = task

    def __repr__(self) -> str:
        return f"<TaskFuture of {self._task!r}>"

    def __del__(self) -> None:
        # The manager keeps the records of the last tasks; results and errors are not to live longer than their futures.
        if self._state != _PENDING and not self._shared:
            task = self._task
            task._result = None
            if task._exception is not None:
                task.release()

    @property
    def _condition(self) -> Any:  # type: ignore[override]
        with _making:
            if self._lock is None:
                self._lock = threading.RLock()
            return self._lock

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        with _making:
            if self._watchers is None:
                self._watchers = []
            return self._watchers

    @property
    def _done_callbacks(self) -> list[Callable[[Future[T]], object]]:
        with _making:
            if self._callbacks is None:
                self._callbacks = []
            return self._callbacks

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

    @property
    def succeeded(self) -> bool:
        """Whether it is over, and has a result."""
        return self._state == _FINISHED and self._exception is None

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
        if (_get_running_loop() is not None or CURRENT.get() is not None) and self._state == _PENDING:
            # Where a slot is to be lent, or the loop of this thread kept turning.
            self._executor.block([self._task], timeout)
            timeout = None
        if not self._settled(timeout):
            raise TimeoutError(f"{self._task.name!r} is not over after {timeout:g} s")
        if self._state == _CANCELLED:
            raise CancelledError(self._task.error)

    def _settled(self, timeout: float | None) -> bool:
        """Sleep until it is over; False if `timeout` seconds passed first."""
        end = None if timeout is None else time.monotonic() + timeout
        while self._state == _PENDING:
            bed = threading.Lock()
            bed.acquire()
            with _making:
                self._beds += (bed,)
            if self._state != _PENDING:
                break
            if end is None and here.gate is None:
                bed.acquire()
            elif not doze(bed, None if end is None else end - time.monotonic()):
                break
        return self._state != _PENDING

    def rouse(self) -> None:
        """The call has returned, and its task will be over in a moment: wake who waits, which takes longer than that.

        Whoever is awake before finds it pending, and sleeps again.
        """
        if self._beds:
            with _making:
                beds, self._beds = self._beds, ()
            for bed in beds:
                wake(bed)

    def settle(self) -> None:
        """The task is over: wake who waits, and call back. Called once, on the thread where it ended."""
        task = self._task
        self._result = task._result
        error = task._exception
        if error is not None:
            self._exception = error
        self._state = _CANCELLED if task._state is TaskState.CANCELLED else _FINISHED
        self.rouse()
        if self._lock is not None:
            self._tell_waiters(self._lock)
        if self._callbacks is not None:
            self._call_back(self._callbacks)
        executor = self._executor
        executor.unfinished.discard(self)
        if executor.closed:
            executor.look_round()

    def _tell_waiters(self, lock: Any) -> None:
        with lock:
            for waiter in self._watchers or ():
                if self._exception is not None:
                    waiter.add_exception(self)
                elif self._state is _FINISHED:
                    waiter.add_result(self)
                else:
                    waiter.add_cancelled(self)

    def _call_back(self, callbacks: list[Callable[[Future[T]], object]]) -> None:
        for callback in callbacks:
            try:
                callback(self)
            except BaseException:  # somebody's code; the thread has other things to do
                logger.exception("a callback of %r failed", self)
