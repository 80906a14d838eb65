"""`TaskExecutor`: a manager as a `concurrent.futures.Executor`, each call of which is a task.

Must not know how tasks are run: it makes them, gives them to its manager, and is told when they are over.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import threading
import time
import weakref
from asyncio import _get_running_loop
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from nbtasks.exceptions import InvalidValueError, LaneError, WorkError
from nbtasks.futures import TaskFuture
from nbtasks.states import TaskState
from nbtasks.task import Task, fresh
from nbtasks.threads import here, protected
from nbtasks.work import is_async

if TYPE_CHECKING:
    from nbtasks.manager import TaskManager
    from nbtasks.retry import Retry

__all__ = ["TaskExecutor"]

T = TypeVar("T")

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
        if isinstance(chunksize, bool) or not isinstance(chunksize, int) or chunksize < 1:
            raise InvalidValueError(f"chunksize is a whole number from 1 on, not {chunksize!r}")
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
    if isinstance(max_workers, bool) or not isinstance(max_workers, int):
        raise InvalidValueError(f"max_workers must be a whole number, not {max_workers!r}")
    if max_workers < 1:
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
