"""The agenda: which recurring tasks are due, by the clock on the wall or by elapsed time, and when to look again.

Must not know what a fire comes to. Whoever uses it holds a lock.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from nbtasks.clock import Clock, Timer, TimerHandle
from nbtasks.recurring.rules import Plan, goes_by_elapsed_time
from nbtasks.recurring.task import RecurringTask

__all__ = ["Agenda"]

WATCH_SECONDS = 30.0
"""How often the clock on the wall is looked at again: it may have been set, or gone on while the machine slept."""

_NOW = timedelta(0)
Entry = tuple[datetime, int, RecurringTask, Plan]


class Agenda:
    """The plans of recurring tasks, in order, and the timer's next call to `wake`, so many seconds ahead of the first.

    Moments by elapsed time are written as times of a clock of its own, which agreed with the one on the wall when the
    agenda was made.
    """

    def __init__(self, clock: Clock, timer: Timer, wake: Callable[[], object], head_start: float) -> None:
        self.watch_seconds = WATCH_SECONDS
        self._clock = clock
        self._timer = timer
        self._wake = wake
        self._head_start = timedelta(seconds=head_start)
        # A clock may tell the time that goes on while the machine sleeps; without, elapsed time stands still then.
        self._elapsed: Callable[[], float] = getattr(clock, "elapsed", clock.monotonic)
        self._zero = clock.now() - timedelta(seconds=self._elapsed())
        self._by_wall: list[Entry] = []
        self._by_elapsed: list[Entry] = []
        self._numbers = itertools.count()
        self._call: TimerHandle | None = None
        self._seen = self._drift()

    def now_of(self, recurring: RecurringTask) -> datetime:
        """The moment, in UTC, on the clock that the schedule goes by."""
        return self._elapsed_now() if goes_by_elapsed_time(recurring._parsed) else self._clock.now()

    def seconds_until(self, recurring: RecurringTask, due: datetime) -> float:
        """How long to wait for a fire that was taken early; 0 if it is due, or if the clock was set meanwhile."""
        wait = due - self.now_of(recurring)
        return wait.total_seconds() if _NOW < wait <= self._head_start else 0.0

    def plan(self, recurring: RecurringTask, plan: Plan) -> None:
        """Make this its next fire, in place of another."""
        recurring._plan = plan
        heap = self._by_elapsed if goes_by_elapsed_time(recurring._parsed) else self._by_wall
        heapq.heappush(heap, (plan.due, next(self._numbers), recurring, plan))

    def due(self) -> Iterator[tuple[RecurringTask, Plan, datetime]]:
        """Take what is due, or is so soon, each with the moment on its clock. Each recurring task comes once."""
        found: list[tuple[RecurringTask, Plan, datetime]] = []
        for heap, now in self._clocks():
            while heap and (heap[0][0] <= now + self._head_start or not _is_current(heap[0])):
                entry = heapq.heappop(heap)
                if _is_current(entry):
                    found.append((entry[2], entry[3], now))
        found.sort(key=_due)
        yield from found

    def arm(self) -> None:
        """Have `wake` called in time for what comes first, and within half a minute anyhow, if anything comes."""
        wait: timedelta | None = None
        for heap, now in self._clocks():
            while heap and not _is_current(heap[0]):
                heapq.heappop(heap)
            if heap:
                until_due = heap[0][0] - now - self._head_start
                wait = until_due if wait is None else min(wait, until_due)
        if wait is None:
            return
        when = self._clock.monotonic() + min(self.watch_seconds, max(0.0, wait.total_seconds()))
        if self._call is not None:
            if self._call.callback is not None and self._call.when <= when:
                return
            self._call.cancel()
        self._call = self._timer.call_at(when, self._wake)

    def set_back_by(self) -> timedelta:
        """How far the clock on the wall was set back since this was last asked; negative: forward."""
        before, self._seen = self._seen, self._drift()
        return before - self._seen

    def close(self) -> None:
        """Nothing is due any more."""
        self._by_wall.clear()
        self._by_elapsed.clear()
        if self._call is not None:
            self._call.cancel()

    def _elapsed_now(self) -> datetime:
        return self._zero + timedelta(seconds=self._elapsed())

    def _drift(self) -> timedelta:
        return self._clock.now() - self._elapsed_now()

    def _clocks(self) -> tuple[tuple[list[Entry], datetime], ...]:
        return (self._by_wall, self._clock.now()), (self._by_elapsed, self._elapsed_now())


def _is_current(entry: Entry) -> bool:
    return entry[2]._plan is entry[3]


def _due(found: tuple[RecurringTask, Plan, datetime]) -> timedelta:
    return found[1].due - found[2]
