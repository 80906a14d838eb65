"""What loops tell of their steps: how many were made, of how many, how fast; nested ones from the outermost on.

Must not know how loops are counted, or how any of it is shown.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from nbtasks.task import Task

__all__ = ["Meter", "drives", "finished", "meters_of", "started"]

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
