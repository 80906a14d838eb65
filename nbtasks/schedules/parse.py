"""`parse_schedule`: cron expressions, intervals and croniter objects as schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol, runtime_checkable

from nbtasks import validation
from nbtasks.exceptions import InvalidScheduleError
from nbtasks.schedules.cron import CronSchedule
from nbtasks.schedules.cron_syntax import is_croniter, texts_of_croniter
from nbtasks.schedules.interval import IntervalSchedule, looks_like_interval
from nbtasks.schedules.timezones import find_zone

__all__ = ["PRESETS", "Schedule", "next_fire_times", "parse_schedule"]

NEITHER = 'neither a cron expression such as "*/5 * * * *" or "@hourly" nor an interval such as "5m"'
# The most frequent expressions, for the controls to offer.
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
    """A rule for fire times; `parse_schedule` makes an equal one from its `str()`."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first fire later than this aware moment, itself aware; None if there is none."""
        ...

    def describe(self) -> str:
        """The schedule in words."""
        ...


def parse_schedule(
    schedule: str | timedelta | Schedule | Any, timezone: str | tzinfo | None = None, *, hash_id: str | None = None
) -> Schedule:
    """The schedule of a cron expression, an interval ("5m", a timedelta) or a croniter object.

    A schedule is returned as it is. The zone, by default the machine's own, is that of a cron expression; an interval
    needs none. A croniter object has the zone of its start time unless one is given. `H` in an expression is hashed
    from `hash_id`. Raises InvalidScheduleError for what is wrong or never fires, UnknownTimezoneError.
    """
    zone = find_zone(timezone)
    if isinstance(schedule, str):
        if looks_like_interval(schedule):
            return IntervalSchedule(schedule)
        if len(schedule.split()) < 2 and not schedule.strip().startswith("@"):
            raise InvalidScheduleError(f"{schedule!r} is {NEITHER}")
        return CronSchedule(schedule, zone, hash_id=hash_id)
    if isinstance(schedule, timedelta):
        return IntervalSchedule(schedule)
    if is_croniter(schedule):
        cron: Any = schedule
        expression, drawn = texts_of_croniter(cron)
        return CronSchedule(expression, cron.tzinfo if timezone is None else zone, drawn=drawn)
    if isinstance(schedule, Schedule):
        return schedule
    raise InvalidScheduleError(f"{schedule!r} is {NEITHER}, nor a timedelta")


def next_fire_times(
    expression: str | timedelta | Schedule | Any,
    timezone: str | tzinfo | None = None,
    start: datetime | None = None,
    count: int = 5,
    *,
    hash_id: str | None = None,
) -> list[datetime]:
    """The next `count` times, in order and aware, at which a schedule fires later than `start`.

    They are in `timezone`, a name, a tzinfo, or None for the machine's own (a CronSchedule keeps its own). A
    naive `start` is a wall time there; None is now. The list is shorter only where the calendar ends, with
    the year 9999. Raises as `parse_schedule` does.
    """
    validation.whole_number("count", count, 0)
    zone = find_zone(timezone)
    schedule = parse_schedule(expression, zone if timezone is not None else None, hash_id=hash_id)
    moment = datetime.now(UTC) if start is None else start
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    moment = moment.astimezone(zone)
    times: list[datetime] = []
    while len(times) < count and (fire := schedule.next_after(moment)) is not None:
        times.append(fire)
        moment = fire
    return times
