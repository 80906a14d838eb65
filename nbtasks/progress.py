"""How work tells how far it is: `current_task()` and `track()`.

Must not know how progress is shown, or who listens.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from nbtasks.exceptions import WorkError
from nbtasks.task import Task

__all__ = ["CURRENT", "current_task", "track"]

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

    def __init__(
        self, items: Iterable[T] | AsyncIterable[T], total: float | None = None, *, task: Task | None = None
    ):
        if not isinstance(items, Iterable | AsyncIterable):
            raise WorkError(f"track() iterates over something: {items!r} is not iterable")
        self._items: Any = items
        self._total = len(items) if total is None and hasattr(items, "__len__") else total
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

    __slots__ = ("_count", "_next", "_task", "_total")

    def __init__(self, task: Task | None, total: float | None) -> None:
        self._task = task if total else None
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
