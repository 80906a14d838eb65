"""Fire times of cron expressions, by cronie's rules for days and clock changes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from calendar import isleap
from datetime import MAXYEAR, UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from nbtasks.exceptions import InvalidScheduleError, InvalidValueError
from nbtasks.schedules.cron_describe import describe_fields, why_never
from nbtasks.schedules.cron_syntax import draw, parse
from nbtasks.schedules.timezones import ClockChange, find_zone, is_irregular, is_steady, zone_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbtasks.schedules.cron_syntax import Fields

__all__ = ["CronSchedule", "WallTimes"]

FEBRUARY = 2
LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class WallTimes:
    """The wall times that match some fields, found by bisection in each field."""

    __slots__ = ("_days", "_first", "_hours", "_minutes", "_months", "_rule", "_seconds")

    def __init__(self, fields: Fields) -> None:
        self._seconds = fields.seconds
        self._minutes = fields.minutes
        self._hours = fields.hours
        self._months = fields.months
        self._rule = fields.days
        self._first = (fields.hours[0], fields.minutes[0], fields.seconds[0])
        # The matching days by a month's first weekday and length, of which there are 28 pairs.
        self._days: dict[tuple[int, int], tuple[int, ...]] = {}

    def never(self) -> bool:
        """Whether no day of any year matches."""
        lengths = {length for month in self._months for length in _lengths(month)}
        return not any(self._matching(first, length) for length in lengths for first in range(7))

    def after(self, wall: datetime, zone: tzinfo | None = None) -> datetime | None:
        """The first match later than that wall time, with `zone` as its tzinfo; None past the year 9999."""
        year, month, day = wall.year, wall.month, wall.day
        if month in self._months and day in self._days_of(year, month):
            time = self._time_after(wall.hour, wall.minute, wall.second)
            if time is not None:
                return datetime(year, month, day, *time, tzinfo=zone)
        return self._on_later_day(year, month, day, zone)

    def on_day(self, day: date) -> int:
        """How many matches that day has."""
        if day.month not in self._months or day.day not in self._days_of(day.year, day.month):
            return 0
        return len(self._hours) * len(self._minutes) * len(self._seconds)

    def by_time_of_day(self, wall: datetime) -> int:
        """How many of the times of day that match are not later than that wall time's."""
        hours = bisect_left(self._hours, wall.hour)
        if wall.hour not in self._hours:
            return hours * len(self._minutes) * len(self._seconds)
        minutes = bisect_left(self._minutes, wall.minute)
        seconds = bisect_right(self._seconds, wall.second) if wall.minute in self._minutes else 0
        return (hours * len(self._minutes) + minutes) * len(self._seconds) + seconds

    def _time_after(self, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
        """The first matching time of day later than that one."""
        if hour in self._hours:
            if minute in self._minutes:
                index = bisect_right(self._seconds, second)
                if index < len(self._seconds):
                    return hour, minute, self._seconds[index]
            index = bisect_right(self._minutes, minute)
            if index < len(self._minutes):
                return hour, self._minutes[index], self._first[2]
        index = bisect_right(self._hours, hour)
        return (self._hours[index], *self._first[1:]) if index < len(self._hours) else None

    def _on_later_day(self, year: int, month: int, day: int, zone: tzinfo | None) -> datetime | None:
        """The first match on a day later than that one."""
        if month in self._months:
            days = self._days_of(year, month)
            index = bisect_right(days, day)
            if index < len(days):
                return datetime(year, month, days[index], *self._first, tzinfo=zone)
        index = bisect_right(self._months, month)
        while year <= MAXYEAR:
            for later in self._months[index:]:
                days = self._days_of(year, later)
                if days:
                    return datetime(year, later, days[0], *self._first, tzinfo=zone)
            year, index = year + 1, 0
        return None

    def _days_of(self, year: int, month: int) -> tuple[int, ...]:
        """The matching days of that month."""
        length = LENGTHS[month] + (month == FEBRUARY and isleap(year))
        return self._matching(date(year, month, 1).isoweekday() % 7, length)

    def _matching(self, first_weekday: int, length: int) -> tuple[int, ...]:
        days = self._days.get((first_weekday, length))
        if days is None:
            days = self._days[first_weekday, length] = self._rule.matching(first_weekday, length)
        return days


def _lengths(month: int) -> tuple[int, ...]:
    return (28, 29) if month == FEBRUARY else (LENGTHS[month],)


SECOND = timedelta(seconds=1)
# The limits of crond's main loop. It compares the minute now with the last one that it served, so that a
# gap looks one minute longer than it is, and a repeat one minute shorter.
LATE_WAKE_UP = timedelta(minutes=5)
FORWARD_LIMIT = timedelta(hours=3)
BACK_LIMIT = timedelta(hours=3, minutes=1)


class CronSchedule:
    """The fire times of a cron expression in a time zone, by the rules of cronie.

    The expression has five fields, six with seconds first, or is an alias such as `@hourly`. The zone is a
    name, a tzinfo, or None for the machine's own. `H` in a field is a number hashed from `hash_id`, for which recurring
    tasks give their name, and `R` a random one; both are drawn once, here, unless `drawn` is that of an earlier
    schedule. Immutable, hashable and picklable. Raises InvalidScheduleError for an expression that is wrong or never
    fires, UnknownTimezoneError for a zone that is not known.

    When the clock changes, an expression whose minute and hour (and second) do not begin with `*` fires once
    right after a gap in which it would have fired, and only at the first of two repeated times. Any other
    fires whenever the clock shows a matching time, so that `*/15` fires every 15 minutes. A change of more
    than three hours, as at the date line, is a correction of the clock: no fire is added or left out.
    """

    __slots__ = ("_drawn", "_expression", "_fields", "_steady", "_zone", "times")

    def __init__(
        self,
        expression: str,
        timezone: str | tzinfo | None = None,
        *,
        hash_id: str | None = None,
        drawn: str | None = None,
    ) -> None:
        if not isinstance(expression, str):
            raise InvalidScheduleError(f"a cron expression is text such as '*/5 * * * *': {expression!r} is not")
        self._expression = " ".join(expression.split())
        self._drawn = draw(self._expression, hash_id) if drawn is None else drawn
        self._fields = parse(self._expression, self._drawn)
        self.times = WallTimes(self._fields)
        """The times on the wall at which it fires, were there no clock changes."""
        self._zone = find_zone(timezone)
        self._steady = is_steady(self._zone)
        if self.times.never():
            raise InvalidScheduleError(f"{self._expression!r} never fires: {why_never(self._fields)}")

    @property
    def expression(self) -> str:
        """The expression, its fields apart by one space each."""
        return self._expression

    @property
    def drawn(self) -> str:
        """The expression with the numbers that were drawn for its `H` and `R`."""
        return self._drawn

    @property
    def fields(self) -> Fields:
        """The values of its fields."""
        return self._fields

    @property
    def timezone(self) -> tzinfo:
        """The zone of the expression and of the fire times."""
        return self._zone

    @property
    def timezone_name(self) -> str:
        """The zone's name as `CronSchedule` takes it: "local", "Europe/Paris"."""
        return zone_name(self._zone)

    @property
    def is_fixed(self) -> bool:
        """Whether it names times of day: neither minute nor hour (nor second) begins with `*`."""
        return not self._fields.wildcard

    def in_zone(self, timezone: str | tzinfo | None) -> CronSchedule:
        """The same schedule in another zone, with the same numbers for `H` and `R`."""
        return CronSchedule(self._expression, timezone, drawn=self._drawn)

    def describe(self) -> str:
        """The expression in words, without the zone: "At 08:00, Monday to Friday"."""
        return describe_fields(self._fields)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first fire later than this aware moment, in the schedule's zone; None past the year 9999."""
        if moment.tzinfo is None:
            raise InvalidValueError(f"next_after needs an aware datetime: {moment!r} has no time zone")
        try:
            local = moment.astimezone(self._zone)
        except OverflowError:
            return None
        if self._steady:
            return self.times.after(local, self._zone)
        if is_irregular(local):
            # Arithmetic on wall times may have led into a gap, where no clock ever stood.
            local = local.astimezone(UTC).astimezone(self._zone)
            if is_irregular(local):
                return self._next_in_repeat(local)
        return self._next_regular(local)

    def _next_regular(self, wall: datetime) -> datetime | None:
        """The next fire after a wall time that the clock does not show again."""
        while (fire := self.times.after(wall, self._zone)) is not None:
            if not is_irregular(fire):
                return fire
            change = ClockChange.around(fire)
            if change.forward <= timedelta(0):
                return fire  # The first of its two times.
            if self._made_up(change):
                return change.after.replace(tzinfo=self._zone)
            wall = change.after - SECOND
        return None

    def _next_in_repeat(self, local: datetime) -> datetime | None:
        """The next fire after a moment whose wall time the clock shows twice."""
        change = ClockChange.around(local)
        starts = [(0, local), (1, change.after - SECOND)] if local.fold == 0 else [(1, local)]
        for fold, start in starts:
            if fold == 0 or not self._kept_back(change):
                fire = self.times.after(start)
                if fire is not None and fire < change.before:
                    return fire.replace(tzinfo=self._zone, fold=fold)
        return self._next_regular(change.before - SECOND)

    def _made_up(self, change: ClockChange) -> bool:
        """Whether what the gap skipped fires right after it."""
        limit = LATE_WAKE_UP if self._fields.wildcard else FORWARD_LIMIT
        return change.forward < limit

    def _kept_back(self, change: ClockChange) -> bool:
        """Whether what fired the first time does not fire again in the repeat."""
        return not self._fields.wildcard and -change.forward <= BACK_LIMIT

    def __str__(self) -> str:
        return self._expression

    def __repr__(self) -> str:
        return f"CronSchedule({self._expression!r}, {self.timezone_name!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CronSchedule):
            return NotImplemented
        return (self._expression, self._drawn, self._zone) == (other._expression, other._drawn, other._zone)

    def __hash__(self) -> int:
        return hash((self._expression, self._drawn, self._zone))

    def __reduce__(self) -> tuple[Callable[[str, str, tzinfo], CronSchedule], tuple[str, str, tzinfo]]:
        return _unpickled, (self._expression, self._drawn, self._zone)


def _unpickled(expression: str, drawn: str, zone: tzinfo) -> CronSchedule:
    return CronSchedule(expression, zone, drawn=drawn)
