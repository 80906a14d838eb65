"""`BusinessHours`: a condition for recurring tasks, and schedules within them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from nbtasks.exceptions import InvalidValueError, unknown
from nbtasks.schedules.parse import Schedule
from nbtasks.schedules.timezones import find_zone

__all__ = ["BusinessHours", "OpenSchedule", "business_hours"]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
SEARCHED_DAYS = 3_700
"""The limit of the search for an open day: ten years of holidays count as never."""
TRIES = 4_000
"""The limit of the search for a fire in business hours: about ten years of openings."""


@dataclass(frozen=True, slots=True)
class BusinessHours:
    """A condition: a moment is between `opens` and `closes` on these days of the week.

    Times are "09:00" or a `time`; `closes="24:00"` is the day's end. `days` is text such as "mon-fri" or "mon,wed,sat";
    `holidays` are dates, or text such as "2026-12-25", on which it is closed all day. Times are in `timezone`, a name
    or a tzinfo; None: in that of the moment, which is that of the recurring task. Raises InvalidValueError,
    UnknownTimezoneError.
    """

    opens: time
    closes: time
    days: frozenset[int]
    holidays: frozenset[date]
    timezone: tzinfo | None

    def __init__(
        self,
        opens: str | time = "09:00",
        closes: str | time = "17:00",
        *,
        days: str | Iterable[str] = "mon-fri",
        holidays: str | Iterable[str | date] = (),
        timezone: str | tzinfo | None = None,
    ) -> None:
        first = _time(opens)
        last = time.max if closes == "24:00" else _time(closes)
        if first >= last:
            raise InvalidValueError(f"business hours close after they open: {closes} is not after {opens}")
        object.__setattr__(self, "opens", first)
        object.__setattr__(self, "closes", last)
        object.__setattr__(self, "days", _days(days))
        object.__setattr__(self, "holidays", _dates(holidays))
        object.__setattr__(self, "timezone", None if timezone is None else find_zone(timezone))

    def __call__(self, moment: datetime) -> bool:
        """Whether this aware moment is in business hours."""
        wall = moment if self.timezone is None else moment.astimezone(self.timezone)
        return self._is_open_on(wall.date()) and self.opens <= wall.time() < self.closes

    def next_opening(self, moment: datetime) -> datetime | None:
        """The first opening at or after this aware moment; None if there is none for ten years."""
        zone = self.timezone or moment.tzinfo
        day = moment.astimezone(zone).date()
        for _ in range(SEARCHED_DAYS):
            opening = datetime.combine(day, self.opens, zone)
            if self._is_open_on(day) and opening.astimezone(UTC) >= moment:
                return opening
            day += DAY
        return None

    def _is_open_on(self, day: date) -> bool:
        return day.weekday() in self.days and day not in self.holidays


@dataclass(frozen=True, slots=True)
class OpenSchedule:
    """The fires of a schedule that are in business hours."""

    schedule: Schedule
    hours: BusinessHours

    def next_after(self, moment: datetime) -> datetime | None:
        """The first fire later than this aware moment; None if there is none, or none for years."""
        fire = self.schedule.next_after(moment)
        for _ in range(TRIES):
            if fire is None or self.hours(fire):
                return fire
            opening = self.hours.next_opening(fire)
            if opening is None:
                return None
            # In UTC, for the difference of two times in one zone is that of their wall times.
            fire = self.schedule.next_after((opening.astimezone(UTC) - INSTANT).astimezone(fire.tzinfo))
        return None

    def describe(self) -> str:
        """The schedule in words."""
        return f"{self.schedule.describe()}, in business hours"


def _time(given: str | time) -> time:
    if isinstance(given, time):
        return given.replace(tzinfo=None)
    try:
        return time.fromisoformat(given.zfill(5) if ":" in given else f"{int(given):02}:00")
    except (ValueError, AttributeError):
        raise InvalidValueError(f'a time of day is text such as "09:00": {given!r} is not') from None


def _days(given: str | Iterable[str]) -> frozenset[int]:
    parts = given.split(",") if isinstance(given, str) else list(given)
    found: set[int] = set()
    for part in parts:
        first, _, last = part.strip().lower().partition("-")
        start, end = _day(first), _day(last or first)
        found.update(number % 7 for number in range(start, end + 1 if end >= start else end + 8))
    if not found:
        raise InvalidValueError("business hours have at least one day of the week")
    return frozenset(found)


def _dates(given: str | Iterable[str | date]) -> frozenset[date]:
    try:
        return frozenset(map(_date, given.split(",") if isinstance(given, str) else given))
    except TypeError:
        raise InvalidValueError(f"holidays are dates, not {given!r}") from None


def _date(given: str | date) -> date:
    if isinstance(given, datetime):  # which equals no date
        return given.date()
    if isinstance(given, date):
        return given
    try:
        return date.fromisoformat(given.strip())
    except (ValueError, AttributeError):
        raise InvalidValueError(f'a holiday is a date, or text such as "2026-12-25": {given!r} is not') from None


def _day(name: str) -> int:
    try:
        return DAYS.index(name.strip()[:3])
    except ValueError:
        raise InvalidValueError(unknown("day of the week", name, DAYS)) from None


business_hours = BusinessHours()
"""Monday to Friday, 9 to 17 o'clock by the recurring task's own clock: `only_if=business_hours`."""
