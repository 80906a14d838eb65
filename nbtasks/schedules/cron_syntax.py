"""The syntax of cron expressions: what each field may hold, and the values that it names.

It must not know of calendars, clocks or zones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from nbtasks.exceptions import InvalidScheduleError, unknown

__all__ = ["ALIASES", "LAST", "DayRule", "Fields", "parse"]

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


ALIASES = {
    "@annually": "0 0 1 1 *",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@midnight": "0 0 * * *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@yearly": "0 0 1 1 *",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """What one field counts, from `low` to `high`; `names` stand for the values from `low` on."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    extras: str = ""

    @property
    def allowed(self) -> str:
        """What the field takes, in words."""
        names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"{self.low} to {self.high}{names}, *, ranges a-b, steps */n or a-b/n, lists a,b{self.extras}"
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
SECOND = Unit("second", 0, 59)
MINUTE = Unit("minute", 0, 59)
HOUR = Unit("hour", 0, 23)
DAY_OF_MONTH = Unit("day of month", 1, DAYS_OF_MONTH, extras=", ?, L, L-3, 15W, LW")
MONTH = Unit("month", 1, 12, MONTHS)
# Both 0 and 7 are Sunday.
DAY_OF_WEEK = Unit("day of week", 0, 7, WEEKDAYS, ", ?, 5L, 5#2")
UNITS = (SECOND, MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK)
SYNTAX = re.ASCII | re.IGNORECASE
SPAN = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\w+))?", SYNTAX)
FROM_END = re.compile(r"L(?:-(?P<before>\d+))?", SYNTAX)
NEAREST = re.compile(r"(?:(?P<day>\d+)W|W(?P<same>\d+)|LW)", SYNTAX)
NTH = re.compile(r"(?P<days>[\w-]+)#(?P<number>[1-5])", SYNTAX)
LAST_WEEKDAY = re.compile(r"(?:(?P<day>\w+)L|L(?P<same>\w+))", SYNTAX)


@dataclass(frozen=True, slots=True)
class Fields:
    """A cron expression, understood: the values of each field, in order."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    days: DayRule
    wildcard: bool
    """Whether minute or hour begins with `*`, as for cronie; the second, which cronie lacks, counts too."""


def parse(expression: str) -> Fields:
    """The fields of an expression of five fields, of six with seconds first, or of an alias as `@hourly`.

    Raises InvalidScheduleError, which names the field and what it takes.
    """
    texts = _split(expression)
    second, minute, hour, day, month, weekday = (
        Field(unit, text, expression).read() for unit, text in zip(UNITS, texts, strict=True)
    )
    return Fields(
        seconds=tuple(sorted(second.values)),
        minutes=tuple(sorted(minute.values)),
        hours=tuple(sorted(hour.values)),
        months=tuple(sorted(month.values)),
        days=DayRule(
            days=frozenset(day.values),
            weekdays=frozenset(value % DAYS_OF_WEEK for value in weekday.values),
            from_end=frozenset(day.from_end),
            nearest=frozenset(day.nearest),
            nth=frozenset(weekday.nth),
            both=day.starred or weekday.starred,
        ),
        wildcard=second.starred or minute.starred or hour.starred,
    )


def _split(expression: str) -> list[str]:
    """The text of each of the six fields."""
    texts = expression.split()
    if len(texts) == 1 and texts[0].startswith("@"):
        texts = _alias(texts[0].lower()).split()
    if len(texts) == len(UNITS) - 1:
        texts.insert(0, "0")
    if len(texts) != len(UNITS):
        raise InvalidScheduleError(
            f"{expression!r} has {len(texts)} field{'' if len(texts) == 1 else 's'}; a cron expression has "
            "five (minute, hour, day of month, month, day of week) or six (second first)"
        )
    return texts


def _alias(name: str) -> str:
    if name in ALIASES:
        return ALIASES[name]
    if name == "@reboot":
        raise InvalidScheduleError("'@reboot' never fires: a notebook's kernel does not see the machine start")
    raise InvalidScheduleError(unknown("alias", name, ALIASES))


@dataclass(slots=True)
class Field:
    """One field on its way from text to values."""

    unit: Unit
    text: str
    expression: str
    values: set[int] = field(default_factory=set)
    from_end: set[int] = field(default_factory=set)
    nearest: set[int] = field(default_factory=set)
    nth: set[tuple[int, int]] = field(default_factory=set)

    @property
    def starred(self) -> bool:
        """Whether it begins with `*`, which is all that cronie looks at; `?` is another way to write `*`."""
        return self.text.startswith(("*", "?"))

    def read(self) -> Field:
        """Fills in the values."""
        if self.text == "*" or (self.text == "?" and self.unit.extras):
            self.values.update(range(self.unit.low, self.unit.high + 1))
            return self
        for item in self.text.split(","):
            if not (
                (self.unit is DAY_OF_MONTH and self._read_day(item))
                or (self.unit is DAY_OF_WEEK and self._read_weekday(item))
            ):
                self.values.update(self._span(item))
        return self

    def _read_day(self, item: str) -> bool:
        """Takes `L`, `L-3`, `15W` and `LW`; tells whether it did."""
        if match := FROM_END.fullmatch(item):
            before = self._number(match["before"] or "0", item)
            if before >= self.unit.high:
                raise self._wrong(item, f"no month has a day {before} before its last")
            self.from_end.add(before)
        elif match := NEAREST.fullmatch(item):
            number = match["day"] or match["same"] or str(self.unit.high)
            self.nearest.add(self._value(number, item))
        return match is not None

    def _read_weekday(self, item: str) -> bool:
        """Takes `5#2` and `5L`; tells whether it did."""
        if match := NTH.fullmatch(item):
            number = int(match["number"])
            self.nth.update((day % DAYS_OF_WEEK, number) for day in self._span(match["days"]))
        elif match := LAST_WEEKDAY.fullmatch(item):
            self.nth.add((self._value(match["day"] or match["same"], item) % DAYS_OF_WEEK, LAST))
        return match is not None

    def _span(self, item: str) -> range:
        """The values of `*`, `5`, `1-5` and each of them with a step; `5/15` goes on to the field's end."""
        match = SPAN.fullmatch(item)
        if match is None or (match["first"] == "*" and match["last"]):
            raise self._wrong(item, "cannot be read")
        step = 1 if match["step"] is None else self._number(match["step"], item)
        if step == 0:
            raise self._wrong(item, "a step of 0 goes nowhere")
        if match["first"] == "*":
            return range(self.unit.low, self.unit.high + 1, step)
        first = self._value(match["first"], item)
        if match["last"] is None:
            return range(first, (first if match["step"] is None else self.unit.high) + 1, step)
        last = self._last(match["last"], first, item)
        if last < first:
            around = f"{match['first']}-{self.unit.high},{self.unit.low}-{match['last']}"
            raise self._wrong(item, f"a range runs upwards (to go around, write {around})")
        return range(first, last + 1, step)

    def _last(self, text: str, first: int, item: str) -> int:
        """Where a range ends: `29-L` with the month, `FRI-SUN` and `5-0` with the week."""
        if self.unit is DAY_OF_MONTH and text.upper() == "L":
            return self.unit.high
        last = self._value(text, item)
        return DAYS_OF_WEEK if self.unit is DAY_OF_WEEK and last == 0 and first > 0 else last

    def _value(self, text: str, item: str) -> int:
        """One value of the field, by number or by name."""
        if text.upper() in self.unit.names:
            return self.unit.low + self.unit.names.index(text.upper())
        value = self._number(text, item)
        if not self.unit.low <= value <= self.unit.high:
            raise self._wrong(item, f"{value} is out of range")
        return value

    def _number(self, text: str, item: str) -> int:
        if not text.isdecimal():
            what = "name" if self.unit.names else "number"
            raise self._wrong(item, f"{text!r} is no {what} that this field knows")
        if len(text) > 9:
            raise self._wrong(item, "that number is out of range")
        return int(text)

    def _wrong(self, item: str, why: str) -> InvalidScheduleError:
        allowed = f"allowed: {self.unit.allowed}"
        return InvalidScheduleError(f"{self.unit.name} {item!r}: {why}; {allowed} (in {self.expression!r})")
