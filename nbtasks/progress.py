"""How work tells how far it is: `current_task()`, `track()`, and the bars of tqdm.

Must not know how progress is shown, or who listens.
"""

from __future__ import annotations

import functools
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from nbtasks.exceptions import WorkError
from nbtasks.imports import after_import
from nbtasks.task import Task

__all__ = ["CURRENT", "bridge_tqdm", "current_task", "track"]

T = TypeVar("T")

CURRENT: ContextVar[Task | None] = ContextVar("nbtasks_current_task", default=None)
"""The task as part of which code runs. Backends set it in the context of the work, and nowhere else."""

_STEP_SECONDS = 0.05
"""How often the task is told; reading the clock is all that the other iterations cost."""


def current_task() -> Task | None:
    """The task as part of which this code runs; None outside tasks."""
    return CURRENT.get()


class track(Generic[T]):  # noqa: N801 - used like a function: `for x in track(items)`
    """Iterate over `items`, plain or async, and let the current task show how far it is.

    `total` is their number, if it is known and `len(items)` does not tell. Outside a task it only iterates. The
    outermost `track` of a task drives its progress.
    """

    def __init__(self, items: Iterable[T] | AsyncIterable[T], total: float | None = None, *, task: Task | None = None):
        if not isinstance(items, Iterable | AsyncIterable):
            raise WorkError(f"track() iterates over something: {items!r} is not iterable")
        self._items: Any = items
        self._total = len(items) if total is None and isinstance(items, Sized) else total
        self._task = task

    def __len__(self) -> int:
        if self._total is None:
            raise TypeError("the number of items is not known")
        return int(self._total)

    def __iter__(self) -> Iterator[T]:
        steps = _Steps(self._task or CURRENT.get(), self._total)
        for item in self._items:
            yield item
            steps.made()
        steps.finish()

    async def __aiter__(self) -> AsyncIterator[T]:
        steps = _Steps(self._task or CURRENT.get(), self._total)
        async for item in self._items:
            yield item
            steps.made()
        steps.finish()


class _Steps:
    """Counts, and tells the task now and then."""

    __slots__ = ("__weakref__", "_count", "_next", "_task", "_total")

    def __init__(self, task: Task | None, total: float | None) -> None:
        self._task = task if total and _drives(self, task) else None
        self._total = total or 1.0
        self._count = 0
        self._next = 0.0
        if self._task is not None:
            self._task.progress = 0.0

    def made(self) -> None:
        self._count += 1
        if self._task is not None:
            now = time.monotonic()
            if now >= self._next:
                self._next = now + _STEP_SECONDS
                self._task.progress = min(100.0, 100.0 * self._count / self._total)

    def finish(self) -> None:
        if self._task is not None:
            self._task.progress = min(100.0, 100.0 * self._count / self._total)
            _hand_over(self, self._task)


_drivers: WeakKeyDictionary[Task, weakref.ref[Any]] = WeakKeyDictionary()
"""What drives each task's progress: the outermost `track` or bar that is not finished, as long as it lives."""


def _drives(bar: Any, task: Task | None) -> bool:
    """Whether `bar` is the one that drives the progress of `task`, now that nobody else does."""
    if task is None:
        return False
    reference = _drivers.get(task)
    driver = None if reference is None else reference()
    if driver is None:
        _drivers[task] = weakref.ref(bar)
        return True
    return driver is bar


def _hand_over(bar: Any, task: Task) -> None:
    """`bar` is finished: the next one may drive."""
    reference = _drivers.get(task)
    if reference is not None and reference() is bar:
        _drivers.pop(task, None)


def bridge_tqdm() -> Callable[[], None]:
    """Let every bar of tqdm drive the task as part of which it moves; it still draws what it drew.

    All of tqdm's kinds of bars are hooked where they refresh what they show, a few times a second, and so cost nothing
    per iteration. tqdm is not imported: the hook waits for it. What is returned takes the hook back.
    """
    undo: list[Callable[[], None]] = []

    def hook(std: ModuleType) -> None:
        bar_class = std.tqdm
        begin, refresh, close = bar_class.__init__, bar_class.refresh, bar_class.close

        @functools.wraps(begin)
        def begin_and_tell(bar: Any, *args: Any, **kwargs: Any) -> None:
            begin(bar, *args, **kwargs)
            _tell(bar)

        @functools.wraps(refresh)
        def refresh_and_tell(bar: Any, *args: Any, **kwargs: Any) -> Any:
            shown = refresh(bar, *args, **kwargs)
            _tell(bar)
            return shown

        @functools.wraps(close)
        def close_and_tell(bar: Any) -> None:
            was_open = not getattr(bar, "disable", True)
            close(bar)
            task = CURRENT.get()
            if was_open and task is not None:
                _tell(bar)
                _hand_over(bar, task)

        bar_class.__init__, bar_class.refresh, bar_class.close = begin_and_tell, refresh_and_tell, close_and_tell

        def unhook() -> None:
            bar_class.__init__, bar_class.refresh, bar_class.close = begin, refresh, close

        undo.append(unhook)

    undo.append(after_import("tqdm.std", hook))

    def take_back() -> None:
        while undo:
            undo.pop()()

    return take_back


def _tell(bar: Any) -> None:
    task = CURRENT.get()
    total = getattr(bar, "total", None)
    shown = hasattr(bar, "start_t")  # a disabled bar counts nothing
    if task is not None and total and shown and _drives(bar, task):
        task.progress = min(100.0, 100.0 * bar.n / total)
