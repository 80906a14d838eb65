"""`TaskExecutor`: a `concurrent.futures.Executor` whose calls are tasks."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import itertools
import threading
import time
import weakref
from asyncio import _get_running_loop
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn, Protocol, Self, TypeVar

from nbtasks import validation
from nbtasks.callables import is_async
from nbtasks.exceptions import InvalidValueError, LaneError, WorkError
from nbtasks.interrupts import here
from nbtasks.lanes import Lane
from nbtasks.progress import CURRENT
from nbtasks.retry import Retry
from nbtasks.states import TaskState
from nbtasks.task import Task, TaskInternals

__all__ = ["TaskExecutor", "TaskFuture"]

T = TypeVar("T")

EXIT_SECONDS = 3.0
"""How long an interpreter that exits waits for the calls of executors."""


class CallManager(Protocol):
    """The manager as its executors use it: see `TaskManager`."""

    loop: asyncio.AbstractEventLoop | None

    def check_task(self, task: Task) -> None: ...
    def add_checked_task(self, task: Task) -> None: ...
    def cancel_task(self, task: Task | str, *, children: bool = True, running: bool = True) -> bool: ...
    def wait(self, *tasks: Task | str, timeout: float | timedelta | None = None) -> None: ...
    def add_lane(self, name: str, limit: int | None) -> Lane: ...
    def remove_lane(self, name: str) -> None: ...


class TaskFuture(Future[T]):
    """The future of one call; `task` is the call in the manager.

    As in other executors, `cancel()` cancels a call that has not begun; `future.task.cancel()` stops running work too.
    Inside a task `result()` lends the task's slot, so that calls may wait for calls; in a cell it runs the
    notebook's event loop meanwhile.
    """

    _task_was_read = False

    def __init__(self, manager: CallManager, call: Call) -> None:
        super().__init__()
        self.call = call
        self._manager = manager

    def __repr__(self) -> str:
        return f"<TaskFuture of {self.call!r}>"

    def __del__(self) -> None:
        # The manager keeps the records of the last tasks; results and errors end with their future.
        if self.call.done and not self._task_was_read:
            self.call.release()

    @property
    def task(self) -> Task:
        """The call as a task: its state, times, progress, `cancel()`."""
        self._task_was_read = True
        return self.call

    def cancel(self) -> bool:
        """Take back a call that has not begun; False if it has."""
        self._manager.cancel_task(self.call, running=False)
        return self.cancelled()

    def running(self) -> bool:
        """Whether the call is running."""
        return self.call.state is TaskState.RUNNING

    def result(self, timeout: float | None = None) -> T:
        """The return value of the call; raises its error, CancelledError, or TimeoutError."""
        self._wait(timeout)
        return super().result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error of the call, or None; raises CancelledError, or TimeoutError after `timeout` seconds."""
        self._wait(timeout)
        return super().exception()

    def _wait(self, timeout: float | None) -> None:
        """Wait through the manager where that does more than the wait of the base class, which costs less.

        The manager lends the slot of the task that waits, keeps the loop of this thread running, lets interrupts of
        this thread end the wait, and its timeout error has the state of the call.
        """
        if self.done():
            return
        if timeout is not None or here.gate is not None or _get_running_loop() is not None or CURRENT.get() is not None:
            self._manager.wait(self.call, timeout=timeout)

    def settle(self) -> None:
        """Take over the end of the task. Called once, on the thread where it ended."""
        task = self.call
        if task.state is TaskState.CANCELLED:
            super().cancel()
            super().set_running_or_notify_cancel()
        elif task.exception is not None:
            super().set_exception(task.exception)
        else:
            super().set_result(task.result)

    def set_running_or_notify_cancel(self) -> NoReturn:
        """Raise InvalidStateError: the manager alone sets the state of this kind of future."""
        raise InvalidStateError(f"{self!r} follows its task: the manager alone sets its state")

    def set_result(self, result: object) -> NoReturn:  # noqa: ARG002 - the base class's signature
        """As above."""
        self.set_running_or_notify_cancel()

    def set_exception(self, exception: object) -> NoReturn:  # noqa: ARG002 - the base class's signature
        """As above."""
        self.set_running_or_notify_cancel()


class Call(Task):
    """One call of an executor, as a task."""

    __slots__ = ("executor", "future")

    future: TaskFuture[Any] | None
    """Until the call has ended: who holds the future has the result."""
    executor: TaskExecutor

    def on_end(self) -> None:
        """Settle the future."""
        future, self.future = self.future, None
        if future is not None:
            future.settle()
            self.executor.call_ended(future)

    def on_failure(self) -> None:
        """Log nothing: the caller finds the error in the future."""

    def clone(self, *, parent_id: str | None = None) -> Self:
        """A call that is run again, from a view, has no future."""
        twin = super().clone(parent_id=parent_id)
        twin.future = None
        return twin


class TaskExecutor(Executor):
    """A manager as an executor, made by `manager.as_executor`.

    Each call is a task of its own, in one lane. The manager outlives it; `shutdown` ends this executor alone. A script
    that exits waits for the calls that are running, as with other executors, but not for more than three seconds.
    """

    def __init__(
        self,
        manager: CallManager,
        *,
        lane: str | None = None,
        backend: str | None = None,
        max_workers: int | None = None,
        priority: int = 0,
        timeout: float | timedelta | None = None,
        retry: Retry | None = None,
        tags: Iterable[str] = (),
    ) -> None:
        own = None if max_workers is None else _checked_workers(max_workers, lane)
        template = Call(
            name="call", lane=lane or "default", backend=backend,
            priority=priority, timeout=timeout, retry=retry, tags=tags,
        )  # fmt: skip
        template.internals.work = print  # any function: it is checked, and never called
        manager.check_task(template)
        template.backend = backend  # of each call, by default that of its function
        if own is not None:
            template.lane = manager.add_lane(own, max_workers).name
        self.manager = manager
        self._template = template
        self._own_lane = own
        self._lock = threading.Lock()  # guards what follows
        self._all_ended = threading.Event()
        """Set when the executor is closed, all its calls have ended, and the callbacks of their futures have too."""
        self._closed = False
        self._unfinished: set[TaskFuture[Any]] = set()
        _executors.add(self)

    def __repr__(self) -> str:
        state = "shut down" if self._closed else "open"
        return f"<TaskExecutor in the lane {self._template.lane!r}: {len(self._unfinished)} unfinished, {state}>"

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> TaskFuture[T]:
        """Call `fn` with these arguments, as a task that has its name.

        A coroutine function runs on the loop unless the executor has another backend; its future gets what it returns
        in the end.
        """
        if not callable(fn):
            raise WorkError(f"submit takes a function and its arguments, not {fn!r}")
        return self._submit(partial(fn, *args, **kwargs) if args or kwargs else fn, fn)

    def _submit(self, work: Callable[..., Any], fn: Any) -> TaskFuture[Any]:
        """Call `work`, which calls `fn`."""
        internals, template = TaskInternals(), self._template.internals
        internals.name, internals.work = _name_of(fn), work
        internals.backend = template.backend or ("loop" if is_async(fn) else "thread")
        internals.lane, internals.priority = template.lane, template.priority
        internals.timeout, internals.retry, internals.tags = template.timeout, template.retry, template.tags
        call = Call.of(internals)
        call.executor = self
        future: TaskFuture[Any] = TaskFuture(self.manager, call)
        call.future = future
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._unfinished.add(future)
        try:
            self.manager.add_checked_task(call)
        except BaseException:
            self.call_ended(future)
            raise
        return future

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """The results of `fn` for the items of the iterables, in order.

        All calls are submitted before this returns. With a `chunksize` that many calls make one task, which saves time
        where each is short. Raises TimeoutError if a result is not there `timeout` seconds from now; calls that have
        not begun are then taken back.
        """
        validation.whole_number("chunksize", chunksize, 1)
        if not callable(fn):
            raise WorkError(f"map takes a function and what to call it with, not {fn!r}")
        end = None if timeout is None else timeout + time.monotonic()
        items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize == 1:
            return _results([self._submit(partial(fn, *args), fn) for args in items], end)
        each = partial(_await_each if is_async(fn) else _call_each, fn)
        chunks = iter(lambda: list(itertools.islice(items, chunksize)), [])
        return _flat(_results([self._submit(partial(each, chunk), fn) for chunk in chunks], end))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls; take back those that have not begun if asked; wait for the others."""
        self.close()
        futures = self.unfinished()
        if cancel_futures:
            for future in futures:
                future.cancel()
        if wait and futures:
            self.manager.wait(*(future.call for future in futures))
            self._all_ended.wait()

    def close(self) -> None:
        """Accept no more calls."""
        with self._lock:
            self._closed = True
            all_ended = not self._unfinished
        if all_ended:
            self._end()

    def unfinished(self) -> list[TaskFuture[Any]]:
        """The futures of calls that have not ended, or whose callbacks are still running."""
        with self._lock:
            return list(self._unfinished)

    def call_ended(self, future: TaskFuture[Any]) -> None:
        """Called when a call has ended, and the callbacks of its future have been called."""
        with self._lock:
            self._unfinished.discard(future)
            all_ended = self._closed and not self._unfinished
        if all_ended:
            self._end()

    def _end(self) -> None:
        """Remove the lane of `max_workers`, and wake `shutdown`."""
        self._all_ended.set()
        with self._lock:
            own, self._own_lane = self._own_lane, None
        if own is not None:
            with suppress(LaneError):  # others may have put tasks there
                self.manager.remove_lane(own)


def _name_of(fn: Any) -> str:
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) and name else type(fn).__name__


def _checked_workers(max_workers: Any, lane: str | None) -> str:
    """The name of a lane for that many workers."""
    if validation.whole_number("max_workers", max_workers) < 1:  # the text is that of other executors
        raise InvalidValueError(f"max_workers must be greater than 0, not {max_workers!r}")
    if lane is not None:
        raise InvalidValueError(f"give a lane or max_workers, not both: {lane!r} has a limit of its own")
    return f"executor-{next(_numbers)}"


def _results(futures: list[TaskFuture[T]], end: float | None) -> Iterator[T]:
    """Results in order, with no reference kept; takes back the rest of the calls when it is closed."""
    futures.reverse()
    try:
        while futures:
            yield _pop_result(futures, None if end is None else end - time.monotonic())
    finally:
        for future in futures:
            future.cancel()


def _pop_result(futures: list[TaskFuture[T]], timeout: float | None) -> T:
    result = futures[-1].result(timeout)
    futures.pop()
    return result


def _call_each(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    return [fn(*args) for args in chunk]


async def _await_each(fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> list[Any]:
    return [await fn(*args) for args in chunk]


def _flat(chunks: Iterator[list[T]]) -> Iterator[T]:
    """The items of the chunks. Keeps no reference to an item."""
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()


_numbers = itertools.count(1)
_executors: weakref.WeakSet[TaskExecutor] = weakref.WeakSet()


@atexit.register
def _finish_calls() -> None:
    """Wait for running calls when a script exits, before the managers stop."""
    end = time.monotonic() + EXIT_SECONDS
    executors = list(_executors)
    for executor in executors:
        executor.close()
    for executor in executors:
        if executor.manager.loop is None:  # not in a kernel, which is to exit at once
            calls = [future for future in executor.unfinished() if _can_end(future.call)]
            concurrent.futures.wait(calls, max(0.0, end - time.monotonic()))


def _can_end(task: Task) -> bool:
    """Whether it runs on no event loop, or on one that is running."""
    loop = task.internals.loop
    return task.backend != "loop" or (loop is not None and loop.is_running())
