"""How work tells how far it is: `current_task()`, `track()`, and the bars of tqdm.

Must not know how progress is shown, or who listens.
"""

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
from types import ModuleType
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from nbtasks.exceptions import WorkError
from nbtasks.post_import import after_import
from nbtasks.task import Task

__all__ = ["CURRENT", "Meter", "bridge_tqdm", "current_task", "drives", "finished", "meters_of", "started", "track"]

_SAMPLE_SECONDS = 0.5
_SAMPLES = 30
"""The rate is that of the last quarter of a minute, while somebody looks; else of the whole loop."""


class Meter:
    """Counts the steps of one loop. Whoever makes the steps writes `count`; anybody may read.

    `counter`, where there is one, tells how many steps there were, and nobody needs to write.
    """

    __slots__ = ("__weakref__", "_count", "_samples", "counter", "description", "total", "unit")

    def __init__(
        self,
        total: float | None = None,
        unit: str = "it",
        description: str = "",
        count: float = 0,
        counter: Callable[[], float] | None = None,
    ) -> None:
        self.counter = counter
        self.total = total
        """How many steps there will be; None where that is unknown."""
        self.unit = unit
        """What one step is called, as in "12 file/s"."""
        self.description = description
        self._count = count
        self._samples: deque[tuple[float, float]] = deque([(time.monotonic(), count)], maxlen=_SAMPLES)

    @property
    def count(self) -> float:
        """How many steps were made."""
        return self._count if self.counter is None else self.counter()

    @count.setter
    def count(self, count: float) -> None:
        self._count = count

    def rate(self, now: float | None = None) -> float | None:
        """Steps a second, of late; None before there is one to tell. `now` is the monotonic clock's."""
        now = time.monotonic() if now is None else now
        samples, count = self._samples, self.count
        since, before = samples[0]
        if now - samples[-1][0] >= _SAMPLE_SECONDS:
            samples.append((now, count))
        return (count - before) / (now - since) if count > before and now > since else None

    def seconds_left(self, now: float | None = None) -> float | None:
        """How long the rest will take at that rate; None where one cannot tell."""
        rate, total = self.rate(now), self.total
        return None if rate is None or total is None else max(0.0, total - self.count) / rate
_meters: WeakKeyDictionary[Task, list[weakref.ref[Meter]]] = WeakKeyDictionary()


def started(task: Task, meter: Meter) -> None:
    """A loop of `task` begins, inside those that have begun and are not finished."""
    _meters.setdefault(task, []).append(weakref.ref(meter))


def finished(task: Task, meter: Meter) -> None:
    """The loop is over. One that is dropped half-way need not say so."""
    known = _meters.get(task)
    if known is not None:
        known[:] = [other for other in known if other() not in (meter, None)]


def meters_of(task: Task) -> list[Meter]:
    """Those of the loops of `task` that are not finished, from the outermost on."""
    return [meter for reference in tuple(_meters.get(task, ())) if (meter := reference()) is not None]


def drives(task: Task, meter: Meter) -> bool:
    """Whether `meter` is the outermost one that knows its total: how far that is, is how far the task is."""
    return next((other for other in meters_of(task) if other.total), None) is meter


T = TypeVar("T")
Follow = Callable[[Task, Callable[[], bool | None]], None]
CURRENT: ContextVar[Task | None] = ContextVar("nbtasks_current_task", default=None)
"""The task as part of which code runs. Backends set it in the context of the work, and nowhere else."""
_STEP_SECONDS = 0.05
"""How often the task is told; reading the clock is all that the other iterations cost."""


def current_task() -> Task | None:
    """The task as part of which this code runs; None outside tasks."""
    return CURRENT.get()


class track(Generic[T]):  # noqa: N801 - used like a function: `for x in track(items)`
    """Iterate over `items`, plain or async, and let the current task show how far it is, how fast, and what is left.

    `total` is their number, if it is known and `len(items)` does not tell; without it the bar only shows that
    something moves. `unit` is what one of them is called, `description` what the loop does. Outside a task it only
    iterates. Loops may be nested: the outermost one that knows its total drives the task's progress.
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
        follow = getattr(getattr(task._manager, "bus", None), "follow", None)
        return self._told(task) if follow is None else self._counted(task, follow)

    def _counted(self, task: Task, follow: Follow) -> Iterator[T]:
        """The items, counted by C code as they pass; the count is looked at from outside."""
        numbers = iter(range(sys.maxsize))
        steps = _Counted(task, self._total, self._unit, self._description, numbers)
        follow(task, steps.look())
        return chain(map(itemgetter(0), zip(self._items, numbers, strict=False)), steps.finish())

    def _told(self, task: Task) -> Iterator[T]:
        """The items; the task is told of them now and then."""
        steps, clock = _Steps(task, self._total, self._unit, self._description), time.monotonic
        for item in self._items:
            yield item
            steps.count += 1
            if clock() >= steps.due:
                steps.tell()
        steps.finish()

    async def __aiter__(self) -> AsyncIterator[T]:
        task = self._task or CURRENT.get()
        steps = None if task is None else _Steps(task, self._total, self._unit, self._description)
        async for item in self._items:
            yield item
            if steps is not None:
                steps.count += 1
                if time.monotonic() >= steps.due:
                    steps.tell()
        if steps is not None:
            steps.finish()


class _Steps(Meter):
    """Counts, and tells the task now and then."""

    __slots__ = ("_drives", "_task", "due")

    def __init__(self, task: Task, total: float | None, unit: str, description: str) -> None:
        super().__init__(total, unit, description)
        started(task, self)
        self._task = task
        self._drives = drives(task, self)
        self.due = 0.0
        """When the task is told next; on the monotonic clock."""
        if self._drives:
            task.progress = 0.0

    def tell(self) -> None:
        self.due = time.monotonic() + _STEP_SECONDS
        if self._drives:
            self._task.progress = _percent(self)

    def finish(self) -> None:
        if self._drives:
            self._task.progress = _percent(self)
        finished(self._task, self)


class _Counted(Meter):
    """Counts by an iterator of numbers that goes along with the items: it is one ahead of the steps that were made."""

    __slots__ = ("_made", "_task")

    def __init__(self, task: Task, total: float | None, unit: str, description: str, numbers: Iterator[int]) -> None:
        made = _Made(numbers, total)
        super().__init__(total, unit, description, counter=made.count)
        started(task, self)
        self._task = task
        self._made = made
        if drives(task, self):
            task.progress = 0.0
            task._progress = made

    def look(self) -> Callable[[], bool | None]:
        """What tells whether there were more steps since the last time; None when the loop is over, or dropped."""
        reference, last = weakref.ref(self), [-1.0]

        def moved() -> bool | None:
            steps = reference()
            if steps is None or steps._made.over or steps._task.done:
                return None
            count, last[0] = last[0], steps.count
            return count != last[0]

        return moved

    def finish(self) -> Iterator[Any]:
        """No more items; whoever asks for the first of them learns that the loop is over."""
        self._made.over = True
        if self._task._progress is self._made:
            self._task.progress = _percent(self)
        finished(self._task, self)
        yield from ()


class _Made:
    """How many steps were made, and how far that is; it stands for the progress of a task."""

    __slots__ = ("_numbers", "_total", "over")

    def __init__(self, numbers: Iterator[int], total: float | None) -> None:
        self._numbers = numbers
        self._total = total or 1.0
        self.over = False

    def count(self) -> float:
        begun = sys.maxsize - length_hint(self._numbers)
        return begun if self.over else max(0, begun - 1)

    def __call__(self) -> float:
        return min(100.0, 100.0 * self.count() / self._total)


def _percent(meter: Meter) -> float:
    return min(100.0, 100.0 * meter.count / (meter.total or 1.0))


def bridge_tqdm() -> Callable[[], None]:
    """Let every bar of tqdm drive the task as part of which it moves; it still draws what it drew.

    All of tqdm's kinds of bars are hooked where they refresh what they show, a few times a second, and so cost nothing
    per iteration. tqdm is not imported: the hook waits for it. What is returned takes the hook back.
    """
    undo: list[Callable[[], None]] = []

    def hook(std: ModuleType) -> None:
        bar_class = std.tqdm
        begin, refresh, close = bar_class.__init__, bar_class.refresh, bar_class.close
        own = {name: vars(bar_class)[name] for name in ("__init__", "refresh", "close")}

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
            for name, method in own.items():
                setattr(bar_class, name, method)

        undo.append(unhook)

    undo.append(after_import("tqdm.std", hook))

    def take_back() -> None:
        while undo:
            undo.pop()()

    return take_back
_bars: WeakKeyDictionary[Any, Meter] = WeakKeyDictionary()
"""The meters of tqdm's bars, which live as long as the bars do."""


def _tell(bar: Any) -> None:
    task = CURRENT.get()
    if task is None or not hasattr(bar, "start_t"):  # a disabled bar counts nothing
        return
    meter = _bars.get(bar)
    if meter is None:
        meter = _bars[bar] = Meter(bar.total, str(bar.unit), str(bar.desc or "").rstrip(": "), bar.initial)
        started(task, meter)
    meter.count, meter.total = bar.n, bar.total
    if meter.total and drives(task, meter):
        task.progress = _percent(meter)


def _hand_over(bar: Any, task: Task) -> None:
    """`bar` is finished: the next one may drive."""
    meter = _bars.pop(bar, None)
    if meter is not None:
        finished(task, meter)
