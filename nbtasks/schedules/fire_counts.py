"""Counting the fires between two moments, and finding the last, by arithmetic."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING

from nbtasks.schedules.cron import CronSchedule
from nbtasks.schedules.interval import IntervalSchedule

if TYPE_CHECKING:
    from nbtasks.schedules.parse import Schedule

__all__ = ["count_fires", "last_fire"]

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
WALKED = 20_000
"""How many fires one count enumerates at most: about a tenth of a second's work."""


def count_fires(schedule: Schedule, after: datetime, until: datetime) -> int:
    """The number of fires later than `after` and not later than `until`, both aware.

    Exact for intervals, and for cron expressions unless more than 20,000 fires are on days on which the clock changes.
    Of any other schedule at most 20,000 fires are counted.
    """
    if isinstance(schedule, IntervalSchedule):
        return _count_interval(schedule, after.astimezone(UTC), until.astimezone(UTC))
    if isinstance(schedule, CronSchedule):
        return _count_cron(schedule, after, until)
    return _walk(schedule, after, until, WALKED)


def last_fire(schedule: Schedule, after: datetime, until: datetime) -> datetime | None:
    """The last fire later than `after` and not later than `until`, both aware; None if there is none."""
    until = until.astimezone(UTC)
    fire = schedule.next_after(after)
    if fire is None or fire > until:
        return None
    if isinstance(schedule, IntervalSchedule):
        first = fire.astimezone(UTC)
        last = first + (until - first) // schedule.every * schedule.every
        return last.astimezone(fire.tzinfo)
    # By bisection: no fire lies between `high` and `until`, and `low` is one. In UTC, for sums of times in one zone are
    # sums of wall times.
    last, low, high = fire, fire.astimezone(UTC), until
    while high - low > SECOND:
        middle = low + (high - low) / 2
        if (fire := schedule.next_after(middle)) is not None and fire <= until:
            last, low = fire, fire.astimezone(UTC)
        else:
            high = middle
    while (fire := schedule.next_after(low)) is not None and fire <= until:
        last, low = fire, fire.astimezone(UTC)
    return last


def _count_interval(schedule: IntervalSchedule, after: datetime, until: datetime) -> int:
    first = schedule.next_after(after)
    return 0 if first is None or first > until else (until - first) // schedule.every + 1


def _count_cron(schedule: CronSchedule, after: datetime, until: datetime) -> int:
    """Day by day: by arithmetic, or one by one if the clock changes on that day."""
    zone, times = schedule.timezone, schedule.times
    begin, end = after.astimezone(zone), until.astimezone(zone)
    count, left = 0, WALKED
    day = begin.date()
    while day <= end.date():
        opening, closing = _midnight(day, zone), _midnight(day + DAY, zone)
        if opening.utcoffset() == closing.utcoffset() or left <= 0:
            if on_day := times.on_day(day):
                count += times.by_time_of_day(end) if day == end.date() else on_day
                count -= times.by_time_of_day(begin) if day == begin.date() else 0
        else:
            first, last = opening.astimezone(UTC) - INSTANT, closing.astimezone(UTC) - INSTANT
            walked = _walk(schedule, max(after, first), min(until, last), left)
            left -= walked
            count += walked
        day += DAY
    return count


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time.min, zone)


def _walk(schedule: Schedule, after: datetime, until: datetime, at_most: int) -> int:
    """Count one by one."""
    # In UTC, since times in one zone are compared by their wall times.
    moment, end, count = after, until.astimezone(UTC), 0
    while count < at_most and (fire := schedule.next_after(moment)) is not None and fire <= end:
        moment = fire
        count += 1
    return count
