"""The wall times that a cron expression names, in order, by the calendar alone.

It must not know of zones or of clocks that change.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from calendar import isleap
from datetime import MAXYEAR, date, datetime, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbtasks.cron.fields import Fields

__all__ = ["WallTimes"]

FEBRUARY = 2
LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class WallTimes:
    """The wall times that match some fields, each found from the one before by bisection in each field."""

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
