"""The days that a cron expression's day of month and day of week pick out of a month.

It must not know of time of day, zones or the syntax of expressions.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LAST", "DayRule"]

LAST = -1
DAYS_OF_MONTH = 31
DAYS_OF_WEEK = 7
SUNDAY, SATURDAY = 0, 6


@dataclass(frozen=True, slots=True)
class DayRule:
    """Which days of a month match. Weekdays count from 0, Sunday, to 6."""

    days: frozenset[int]
    weekdays: frozenset[int]
    from_end: frozenset[int] = frozenset()
    """Days before the month's last: `L` is 0, `L-3` is 3."""
    nearest: frozenset[int] = frozenset()
    """`15W` is 15: the working day nearest to the 15th in that month. `LW` is 31."""
    nth: frozenset[tuple[int, int]] = frozenset()
    """`5#2` is (5, 2), the second Friday; `5L` is (5, LAST)."""
    both: bool = True
    """Whether a day must match both its number and its weekday, or one of them."""

    @property
    def any_day_of_month(self) -> bool:
        """Whether each day's number matches."""
        return len(self.days) == DAYS_OF_MONTH

    @property
    def any_day_of_week(self) -> bool:
        """Whether each day's weekday matches."""
        return len(self.weekdays) == DAYS_OF_WEEK

    def matching(self, first_weekday: int, length: int) -> tuple[int, ...]:
        """The matching days, in order, of a month of that length that begins on that weekday."""
        numbers = self._by_number(first_weekday, length)
        weekdays = self._by_weekday(first_weekday, length)
        return tuple(sorted(numbers & weekdays if self.both else numbers | weekdays))

    def _by_number(self, first_weekday: int, length: int) -> set[int]:
        days = set(range(1, length + 1))
        if not self.any_day_of_month:
            days &= self.days
            days.update(length - before for before in self.from_end if before < length)
            days.update(_working_day(min(day, length), first_weekday, length) for day in self.nearest)
        return days

    def _by_weekday(self, first_weekday: int, length: int) -> set[int]:
        if self.any_day_of_week:
            return set(range(1, length + 1))
        days: set[int] = set()
        for weekday in self.weekdays:
            days.update(_weekly(weekday, first_weekday, length))
        for weekday, place in self.nth:
            weekly = _weekly(weekday, first_weekday, length)
            days.update(weekly[-1:] if place == LAST else weekly[place - 1 : place])
        return days


def _weekly(weekday: int, first_weekday: int, length: int) -> range:
    """The days on that weekday."""
    return range((weekday - first_weekday) % DAYS_OF_WEEK + 1, length + 1, DAYS_OF_WEEK)


def _working_day(day: int, first_weekday: int, length: int) -> int:
    """The Monday to Friday nearest to the day, within its month."""
    weekday = (first_weekday + day - 1) % DAYS_OF_WEEK
    if weekday == SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == SUNDAY:
        return day + 1 if day < length else day - 2
    return day
