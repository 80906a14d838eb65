"""Progress counters for loops: `Meter`, `track` and `current_task`."""

from __future__ import annotations

import functools
import sys
import time
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from itertools import chain
from numbers import Real
from operator import itemgetter, length_hint
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from nbtasks.exceptions import WorkError
from nbtasks.task import Task, bus_of, keep_progress, read_progress_from

__all__ = ["CURRENT", "Meter", "current_task", "meters_of", "track"]

T = TypeVar("T")

_SAMPLE_SECONDS = 0.5
_SAMPLES = 30
"""The rate is measured over the last 15 seconds while it is displayed, otherwise over the whole loop."""

CURRENT: ContextVar[Task | None] = ContextVar("nbtasks_current_task", default=None)
"""The task whose work runs in this context. Only backends set it, in the context of the work."""

_meters: WeakKeyDictionary[Task, list[weakref.ref[Meter]]] = WeakKeyDictionary()


def current_task() -> Task | None:
    """The task whose work this code is part of; None outside tasks."""
    return CURRENT.get()


def meters_of(task: Task) -> list[Meter]:
    """The meters of the unfinished loops of `task`, from the outermost to the innermost."""
    return [meter for reference in tuple(_meters.get(task, ())) if (meter := reference()) is not None]


class Meter:
    """Counts the steps of one loop of a task.

    The loop is among those of the task until `finish()`, or until its meter is no longer referenced.
    `count` is written by the loop, or computed by `counter` whenever it is read. Any thread may read it.
    """

    __slots__ = ("__weakref__", "_count", "_counter", "_samples", "_task", "description", "total", "unit")

    def __init__(
        self,
        total: float | None = None,
        unit: str = "it",
        description: str = "",
        count: float = 0,
        *,
        counter: Callable[[], float] | None = None,
        task: Task | None = None,
    ) -> None:
        self._task = None if task is None else weakref.ref(task)
        self.total = total
        """The number of steps; None where it is unknown."""
        self.unit = unit
        """The name of one step, as in "12 file/s"."""
        self.description = description
        self._count = count
        self._counter = counter
        self._samples: deque[tuple[float, float]] = deque([(time.monotonic(), count)], maxlen=_SAMPLES)
        if task is not None:
            _meters.setdefault(task, []).append(weakref.ref(self))

    @property
    def task(self) -> Task | None:
        """The task that the loop belongs to, as long as it is referenced elsewhere."""
        return None if self._task is None else self._task()

    @property
    def count(self) -> float:
        """The number of steps made so far."""
        return self._count if self._counter is None else self._counter()

    @count.setter
    def count(self, count: float) -> None:
        self._count = count

    @property
    def percent(self) -> float:
        """The progress of the loop, from 0 to 100; only meaningful with a total."""
        return _percent(self.count, self.total)

    @property
    def drives_task(self) -> bool:
        """Whether the progress of the task is that of this loop: the outermost one that has a total."""
        task = self.task
        return task is not None and next((meter for meter in meters_of(task) if meter.total), None) is self

    def rate(self, now: float | None = None) -> float | None:
        """Recent steps per second; None before the first step. `now` is a time of the monotonic clock."""
        now = time.monotonic() if now is None else now
        samples, count = self._samples, self.count
        since, before = samples[0]
        if now - samples[-1][0] >= _SAMPLE_SECONDS:
            samples.append((now, count))
        return (count - before) / (now - since) if count > before and now > since else None

    def seconds_left(self, now: float | None = None) -> float | None:
        """The remaining time at the recent rate; None where rate or total are unknown."""
        rate, total = self.rate(now), self.total
        return None if rate is None or total is None else max(0.0, total - self.count) / rate

    def finish(self) -> None:
        """Remove the meter from those of its task. A meter that is no longer referenced need not be finished."""
        task = self.task
        known = None if task is None else _meters.get(task)
        if known is not None:
            known[:] = [other for other in known if other() not in (self, None)]


def _percent(count: float, total: float | None) -> float:
    return min(100.0, 100.0 * count / (total or 1.0))


class track(Generic[T]):  # noqa: N801 - used like a function: `for x in track(items)`
    """Iterate over plain or async `items` and show the progress in the current task.

    That is the count, the rate and the remaining time.
    `total` is the number of items where `len(items)` is not available; without it the bar only shows activity. `unit`
    is the name of one item, `description` the name of the loop. Outside tasks it only iterates. Loops can be nested:
    the outermost one with a known total sets the progress of the task.
    """

    def __init__(
        self,
        items: Iterable[T] | AsyncIterable[T],
        total: float | None = None,
        *,
        unit: str = "it",
        description: str = "",
        task: Task | None = None,
    ) -> None:
        if not isinstance(items, Iterable | AsyncIterable):
            raise WorkError(f"track() iterates over something: {items!r} is not iterable")
        if total is not None and (isinstance(total, bool) or not isinstance(total, Real)):
            raise WorkError(f"track(): total is the number of items, not {total!r}")
        self._items: Any = items
        self._total = len(items) if total is None and isinstance(items, Sized) else total
        self._unit = str(unit)
        self._description = str(description)
        self._task = task

    def __len__(self) -> int:
        if self._total is None:
            raise TypeError("the number of items is not known")
        return int(self._total)

    def __iter__(self) -> Iterator[T]:
        task = self._task or CURRENT.get()
        if task is None:
            return iter(self._items)
        steps = _Steps(task, self._total, self._unit, self._description)
        # All in C code, which costs a tenth of a generator that counts.
        return chain(map(itemgetter(0), zip(self._items, steps.numbers, strict=False)), steps.end())

    async def __aiter__(self) -> AsyncIterator[T]:
        task = self._task or CURRENT.get()
        if task is None:
            async for item in self._items:
                yield item
            return
        steps = _Steps(task, self._total, self._unit, self._description)
        async for item in self._items:
            next(steps.numbers)
            yield item
        for _ in steps.end():
            pass


class _Steps:
    """The meter of a loop that takes one of `numbers` together with each item."""

    def __init__(self, task: Task, total: float | None, unit: str, description: str) -> None:
        self.numbers = iter(range(sys.maxsize))
        counter = functools.partial(_steps_done, self.numbers)
        self._meter = Meter(total, unit, description, counter=counter, task=task)
        # Without the meter, which must not outlive a loop that is left by `break`.
        self._progress = functools.partial(_progress_of, counter, total)
        if self._meter.drives_task:
            read_progress_from(task, self._progress)
        bus = bus_of(task)
        if bus is not None:
            bus.follow(task, _look_at(self._meter))

    def end(self) -> Iterator[Any]:
        """No items: taking the first one finishes the meter."""
        next(self.numbers)  # the last item is done
        task = self._meter.task
        if task is not None:
            keep_progress(task, self._progress)
        self._meter.finish()
        yield from ()


def _steps_done(numbers: Iterator[int]) -> int:
    return max(0, sys.maxsize - length_hint(numbers) - 1)


def _progress_of(counter: Callable[[], float], total: float | None) -> float:
    return _percent(counter(), total)


def _look_at(meter: Meter) -> Callable[[], bool | None]:
    """A function that returns whether the count has changed since its last call; None after the loop."""
    reference, last = weakref.ref(meter), -1.0

    def changed() -> bool | None:
        nonlocal last
        meter = reference()
        task = None if meter is None else meter.task
        if meter is None or task is None or task.done or meter not in meters_of(task):
            return None
        before, last = last, meter.count
        return before != last

    return changed
