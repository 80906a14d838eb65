"""Schedules of every kind behind one interface, and the times at which they fire.

It must not know of tasks, timers or which schedules exist.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol, runtime_checkable

from nbtasks.exceptions import InvalidScheduleError, InvalidValueError
from nbtasks.schedules.cron import CronSchedule
from nbtasks.schedules.interval import IntervalSchedule, looks_like_interval
from nbtasks.schedules.timezones import find_zone

__all__ = ["PRESETS", "Schedule", "next_fire_times", "parse_schedule"]

NEITHER = 'neither a cron expression such as "*/5 * * * *" or "@hourly" nor an interval such as "5m"'
# What the controls offer: expressions that most schedules are, the most frequent first.
PRESETS = (
    "* * * * *",
    "*/5 * * * *",
    "*/15 * * * *",
    "0 * * * *",
    "0 8 * * *",
    "0 8 * * 1-5",
    "0 0 * * *",
    "0 0 * * 1",
    "0 0 1 * *",
    "0 0 L * *",
)


@runtime_checkable
class Schedule(Protocol):
    """What tells when to fire next. `str()` of it is text that `parse_schedule` takes back."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first fire later than this aware moment, itself aware; None if there is none."""
        ...

    def describe(self) -> str:
        """The schedule in words."""
        ...


def parse_schedule(schedule: str | timedelta | Schedule, timezone: str | tzinfo | None = None) -> Schedule:
    """The schedule that a cron expression, an interval ("5m" or a timedelta) or a schedule itself gives.

    The zone, by default the machine's own, is that of a cron expression; an interval needs none. Raises
    InvalidScheduleError for what is wrong or never fires, UnknownTimezoneError for a zone that is not known.
    """
    zone = find_zone(timezone)
    if isinstance(schedule, str):
        if looks_like_interval(schedule):
            return IntervalSchedule(schedule)
        if len(schedule.split()) < 2 and not schedule.strip().startswith("@"):
            raise InvalidScheduleError(f"{schedule!r} is {NEITHER}")
        return CronSchedule(schedule, zone)
    if isinstance(schedule, timedelta):
        return IntervalSchedule(schedule)
    if isinstance(schedule, Schedule):
        return schedule
    raise InvalidScheduleError(f"{schedule!r} is {NEITHER}, nor a timedelta")


def next_fire_times(
    expression: str | timedelta | Schedule,
    timezone: str | tzinfo | None = None,
    start: datetime | None = None,
    count: int = 5,
) -> list[datetime]:
    """The next `count` times, in order and aware, at which a schedule fires later than `start`.

    They are in `timezone`, a name, a tzinfo, or None for the machine's own (a CronSchedule keeps its own). A
    naive `start` is a wall time there; None is now. The list is shorter only where the calendar ends, with
    the year 9999. Raises as `parse_schedule` does.
    """
    if count < 0:
        raise InvalidValueError(f"count is zero or more: {count} is not")
    zone = find_zone(timezone)
    schedule = parse_schedule(expression, zone)
    moment = datetime.now(UTC) if start is None else start
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    moment = moment.astimezone(zone)
    times: list[datetime] = []
    while len(times) < count and (fire := schedule.next_after(moment)) is not None:
        times.append(fire)
        moment = fire
    return times
