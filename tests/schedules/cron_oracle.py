"""cronie's main loop, minute by minute: a second implementation of its rules.

It shares nothing with nbtasks.schedules. It models crond's `main()` and `find_jobs()`: a virtual clock that runs
after the real one, and a class of wake-up (small, medium, large, negative) for how far it is behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (crond counts minutes of local time)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Job:
    """A line of a crontab: the values and the text of each field."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    texts: tuple[str, str, str, str, str]

    @property
    def expression(self) -> str:
        return " ".join(self.texts)

    @property
    def wild(self) -> bool:
        return self.texts[0][0] == "*" or self.texts[1][0] == "*"

    def is_due(self, clock_minute: int) -> bool:
        """Whether crond finds the job at that minute of the local clock."""
        time = EPOCH + clock_minute * MINUTE
        if time.minute not in self.minutes or time.hour not in self.hours or time.month not in self.months:
            return False
        day, weekday = time.day in self.days, time.isoweekday() % 7 in self.weekdays
        if self.texts[2][0] == "*" or self.texts[4][0] == "*":
            return day and weekday
        return day or weekday


@lru_cache(maxsize=64)
def clock(zone: str, start: datetime, minutes: int) -> tuple[int, ...]:
    """What the local clock shows, in minutes, at each minute from an aware UTC start on."""
    moments = ((start + count * MINUTE).astimezone(ZoneInfo(zone)) for count in range(minutes))
    return tuple((moment.replace(tzinfo=None, fold=0) - EPOCH) // MINUTE for moment in moments)


def fires(job: Job, zone: str, start: datetime, length: timedelta) -> list[datetime]:
    """The moments, in UTC, at which a crond that started at that whole minute of UTC runs the job."""
    shown = clock(zone, start, length // MINUTE)
    return [start + minute * MINUTE for minute in _wake_ups(job, shown)]


def _wake_ups(job: Job, shown: tuple[int, ...]) -> Iterator[int]:
    virtual = shown[0]
    for minute, running in enumerate(shown[1:], start=1):
        late = running - virtual
        if late == 1 or abs(late) > 180:  # on time, or large: the clock was set
            virtual, wild, fixed = running, [running], [running]
        elif late > 5:  # medium: wildcard jobs for now, the others for all that was missed
            wild, fixed = [running], list(range(virtual + 1, running + 1))
            virtual = running
        elif late > 0:  # small: woken late
            wild = fixed = list(range(virtual + 1, running + 1))
            virtual = running
        else:  # negative: the virtual clock waits until the real one has caught up
            wild, fixed = [running], []
        if any(map(job.is_due, wild if job.wild else fixed)):
            yield minute
