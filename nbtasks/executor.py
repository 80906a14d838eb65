"""`TaskExecutor`: a manager as a `concurrent.futures.Executor`, each call of which is a task.

Must not know how tasks are run: it makes them, gives them to its manager, and is told when they are over.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import logging
import threading
import time
import weakref
from asyncio import _get_running_loop
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from contextlib import suppress
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from nbtasks import validation
from nbtasks.callables import is_async
from nbtasks.exceptions import InvalidValueError, LaneError, WorkError
from nbtasks.interrupts import doze, here, protected, wake
from nbtasks.progress import CURRENT
from nbtasks.states import TaskState
from nbtasks.task import Task, fresh

if TYPE_CHECKING:
    from nbtasks.manager import TaskManager
    from nbtasks.retry import Retry

__all__ = ["TaskExecutor", "TaskFuture"]

logger = logging.getLogger("nbtasks")

T = TypeVar("T")


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


EXIT_SECONDS = 3.0
"""How long an interpreter that exits waits for calls that an executor has taken."""


class TaskExecutor(Executor):
    """A manager as an executor: made by `manager.as_executor`. Each call is a task of its own, in one lane.

    The manager outlives it; `shutdown` ends this executor alone. Calls that run when a script exits are waited for, as
    those of other executors, but not for more than three seconds.
    """

    def __init__(
        self,
        manager: TaskManager,
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
        template = Task(priority=priority, backend=backend, timeout=timeout, retry=retry, tags=tags, name="call")
        template.lane = lane or "default"
        template._work = print  # any function will do: it is checked, and never called
        manager._check_template(template)
        self._manager = manager
        self._dispatcher = manager._dispatcher
        self._threads = manager._threads
        self._backend = backend
        self._template = template
        self._has_options = bool(template.timeout or template.retry or template.tags)
        self._own_lane = own
        if own is not None:
            template.lane = manager.add_lane(own, max_workers).name
        self._lock = threading.Lock()
        self.closed = False
        self.unfinished: set[TaskFuture[Any]] = set()
        self._all_over = threading.Event()
        _executors.add(self)

    def __repr__(self) -> str:
        state = "shut down" if self.closed else "open"
        return f"<TaskExecutor in the lane {self._template._lane!r}: {len(self.unfinished)} unfinished, {state}>"

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> TaskFuture[T]:
        """Call `fn` with these arguments as a task called like it.

        A coroutine function runs on the loop unless the executor says otherwise; its future has what it returns in the
        end.
        """
        if not callable(fn):
            raise WorkError(f"submit takes a function and its arguments, not {fn!r}")
        work = partial(fn, *args, **kwargs) if args or kwargs else fn
        name, backend = _name(fn), self._backend or _backend(fn)
        return self._begin(work, name, backend) if here.gate is None else protected(self._begin, work, name, backend)

    def _begin(self, work: Callable[..., T], name: str, backend: str) -> TaskFuture[T]:
        template = self._template
        if backend == "thread" and self._dispatcher.lanes.has_room(template._lane):
            self._threads.rouse()
        task = fresh(Task, work)
        task.name = name
        task._backend = backend
        task._priority = template._priority
        task._lane = template._lane
        if self._has_options:
            task.timeout, task.retry, task.tags = template.timeout, template.retry, template.tags
        future: TaskFuture[T] = TaskFuture(self, task)
        task._future = future
        with self._lock:
            if self.closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self.unfinished.add(future)
        try:
            if backend == "thread":
                task._loop = _get_running_loop() or self._manager.loop
                task._context = copy_context()
                self._dispatcher.submit(task)
            else:  # other backends may look at what they are given
                self._manager._add(task, None)
        except BaseException:
            self.unfinished.discard(future)
            raise
        return future

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """The results of `fn` for the items of the iterables, in order. All calls are given in before this returns.

        With a `chunksize` so many calls make one task, which saves time where each is short. Raises TimeoutError if a
        result is not there `timeout` seconds from now; what has not begun is then taken back.
        """
        validation.whole_number("chunksize", chunksize, 1)
        if not callable(fn):
            raise WorkError(f"map takes a function and what to call it with, not {fn!r}")
        end = None if timeout is None else timeout + time.monotonic()
        name, backend = _name(fn), self._backend or _backend(fn)
        items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize == 1:
            begin = self._begin if here.gate is None else partial(protected, self._begin)
            return _results([begin(partial(fn, *args), name, backend) for args in items], end)
        each = partial(_await_each if is_async(fn) else _call_each, fn)
        chunks = iter(lambda: list(itertools.islice(items, chunksize)), [])
        return _flat(_results([protected(self._begin, partial(each, chunk), name, backend) for chunk in chunks], end))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. `cancel_futures` takes back those that have not begun; `wait` for the others to end."""
        self._close()
        if cancel_futures:
            for future in list(self.unfinished):
                future.cancel()
        if wait and self.unfinished:
            self.block([future._task for future in list(self.unfinished)], None)
            self._all_over.wait()

    def _close(self) -> None:
        with self._lock:
            self.closed = True
        self.look_round()

    def look_round(self) -> None:
        """It was shut down: whether the last call is over."""
        if self.unfinished:
            return
        with self._lock:
            own, self._own_lane = self._own_lane, None
        if own is not None:
            with suppress(LaneError):  # others may have put tasks there
                self._manager.remove_lane(own)
        self._all_over.set()

    def take_back(self, task: Task) -> bool:
        """Cancel the task if it has not begun; whether it is cancelled then."""
        dispatcher = self._dispatcher
        pending = TaskState.PENDING
        return dispatcher.change(lambda: task._state is pending and dispatcher._cancel(task, True, None))

    def block(self, tasks: list[Task], timeout: float | None, *, quietly: bool = False) -> None:
        """Wait for the tasks, as `manager.wait` does."""
        self._manager._waits.block_until_over(tasks, timeout, quietly=quietly)


def _checked_workers(max_workers: Any, lane: str | None) -> str:
    """The name of a lane for so many workers."""
    if validation.whole_number("max_workers", max_workers) < 1:  # the text is that of other executors
        raise InvalidValueError(f"max_workers must be greater than 0, not {max_workers!r}")
    if lane is not None:
        raise InvalidValueError(f"give a lane or max_workers, not both: {lane!r} has a limit of its own")
    return f"executor-{next(_numbers)}"


def _name(fn: Any) -> str:
    return getattr(fn, "__name__", None) or type(fn).__name__


def _backend(fn: Any) -> str:
    return "loop" if is_async(fn) else "thread"


def _results(futures: list[TaskFuture[T]], end: float | None) -> Iterator[T]:
    """Results in order; what is left when nobody asks any more is taken back. Holds no reference to what it yielded."""
    futures.reverse()
    try:
        while futures:
            if futures[-1].succeeded:
                yield futures.pop()._result
            else:
                yield _next_result(futures, None if end is None else end - time.monotonic())
    finally:
        for future in futures:
            future.cancel()


def _next_result(futures: list[TaskFuture[T]], timeout: float | None) -> T:
    result = futures[-1].result(timeout)
    futures.pop()
    return result


def _call_each(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    return [fn(*args) for args in chunk]


async def _await_each(fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> list[Any]:
    return [await fn(*args) for args in chunk]


def _flat(chunks: Iterator[list[T]]) -> Iterator[T]:
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()
_numbers = itertools.count(1)
_executors: weakref.WeakSet[TaskExecutor] = weakref.WeakSet()


@atexit.register
def _finish_calls() -> None:
    """Runs before the managers stop, for it was registered later."""
    end = time.monotonic() + EXIT_SECONDS
    executors = list(_executors)
    for executor in executors:
        executor._close()
    for executor in executors:
        if executor._manager.loop is not None:  # a kernel that ends is to be gone
            continue
        tasks = [future._task for future in list(executor.unfinished)]
        with suppress(TimeoutError):
            executor.block([task for task in tasks if _can_end(task)], max(0.0, end - time.monotonic()), quietly=True)


def _can_end(task: Task) -> bool:
    """Whether it needs no loop that turns no more."""
    attempt = task._attempt
    loop: asyncio.AbstractEventLoop | None = attempt.loop if attempt and attempt.backend.name == "loop" else None
    return loop is None or loop.is_running()
