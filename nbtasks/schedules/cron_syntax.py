"""Cron expressions, read by croniter, with one meaning in all of its versions.

The versions 1.4 to 7 of croniter disagree on some forms, and none has all of those that are accepted here. So `Field`
rewrites an item where that is needed before croniter reads it, and reads the forms itself that croniter does not have:

- `a-a` and `a/n` at the end of the field are the whole field in some versions; a range that wraps around (`22-2`) is an
  error before 6, and its step is off by one since. They are written as one value, or as two ranges.
- `?` is an error before 2: it is written `*`. `5L`, `FRIL` and `1-3#1` are errors: they are written `l5` and
  `1#1,2#1,3#1`.
- `5#2` beside `3` is an error: plain days of the week and those of a certain week are read apart.
- `L-3` and `LW` are errors, `15W` is one before 6 and must stand alone since: they are read here.
- `H` and `R` draw from other numbers in old versions, and `R` at each reading: see `draw`.
- Messages of croniter name neither the field nor what it may hold, so what it refuses is explained here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from nbtasks.exceptions import InvalidScheduleError, unknown
from nbtasks.formatting import plural

__all__ = ["ALIASES", "LAST", "DayRule", "Fields", "draw", "is_croniter", "parse", "texts_of_croniter"]

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
    """A kind of field: its name, its column in croniter, its values."""

    name: str
    column: int
    low: int
    high: int
    names: str = ""
    extras: str = ""

    @property
    def allowed(self) -> str:
        """The values and forms of this field, in words."""
        return f"{self.low} to {self.high}{self.names}, *, ranges a-b, steps */n or a-b/n, lists a,b{self.extras}"

    @property
    def last(self) -> int:
        """The highest value, each counted once: Sunday is 0, not 7."""
        return SATURDAY if self is DAY_OF_WEEK else self.high


SECOND = Unit("second", 5, 0, 59)
MINUTE = Unit("minute", 0, 0, 59)
HOUR = Unit("hour", 1, 0, 23)
DAY_OF_MONTH = Unit("day of month", 2, 1, DAYS_OF_MONTH, extras=", ?, L, L-3, 15W, LW")
MONTH = Unit("month", 3, 1, 12, " or JAN to DEC")
DAY_OF_WEEK = Unit("day of week", 4, 0, 7, " or SUN to SAT", ", ?, 5L, 5#2")
UNITS = (SECOND, MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK)
SYNTAX = re.ASCII | re.IGNORECASE
ITEM = re.compile(r"[\w*/#?-]+", SYNTAX)
SPAN = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\w+))?", SYNTAX)
FROM_END = re.compile(r"L-(?P<before>\d+)", SYNTAX)
NEAREST = re.compile(r"(?:(?P<day>\d+)W|W(?P<same>\d+)|LW)", SYNTAX)
NTH = re.compile(r"(?P<days>[\w-]+)#(?P<number>[1-5])", SYNTAX)
LAST_WEEKDAY = re.compile(r"(?:(?P<day>\w+)L|L(?P<same>\w+))", SYNTAX)
DRAWN = re.compile(r"(?P<kind>[HR])(?:\((?P<first>\d+)-(?P<last>\d+)\))?(?:/(?P<step>\d+))?", SYNTAX)


@dataclass(frozen=True, slots=True)
class Fields:
    """The values of each field of a cron expression, in order."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    days: DayRule
    wildcard: bool
    """Whether minute or hour begins with `*`, as for cronie; the second, which cronie lacks, counts too."""


def parse(expression: str, drawn: str | None = None) -> Fields:
    """The fields of a cron expression: five, or six with seconds first, or an alias such as `@hourly`.

    `drawn` is the expression as `draw` returns it. Raises InvalidScheduleError, which names the field and what it may
    hold.
    """
    texts = _split(expression if drawn is None else drawn)
    fields = [Field(unit, text, expression) for unit, text in zip(UNITS, texts, strict=True)]
    columns = _expanded(fields)
    second, minute, hour, day, month, weekday = (field.values(columns) for field in fields)
    day_field, weekday_field = fields[3], fields[5]
    return Fields(
        seconds=second,
        minutes=minute,
        hours=hour,
        months=month,
        days=DayRule(
            days=frozenset(day),
            weekdays=frozenset(weekday),
            from_end=frozenset(day_field.from_end),
            nearest=frozenset(day_field.nearest),
            nth=frozenset(weekday_field.nth()),
            both=day_field.starred or weekday_field.starred,
        ),
        wildcard=any(field.starred for field in fields[:3]),
    )


def draw(expression: str, hash_id: str | None = None) -> str:
    """The expression with numbers for its `H` and `R`: hashed from `hash_id`, and random.

    `H(a-b)` is one of a to b; `H/n` and `H(a-b)/n` are each n-th from one of the first n. Raises InvalidScheduleError.
    """
    if re.search(r"(?:^|[\s,])[HR](?:[(/,\s]|$)", expression, SYNTAX) is None:
        return expression
    texts = _split(expression)
    drawn = [
        ",".join(Field.drawn(unit, item, expression, hash_id) for item in text.split(","))
        for unit, text in zip(UNITS, texts, strict=True)
    ]
    return " ".join(drawn[len(UNITS) - len(expression.split()) :])


def is_croniter(value: object) -> bool:
    """Whether it is a croniter object; there is none as long as croniter was not imported."""
    library = sys.modules.get("croniter")
    return library is not None and isinstance(value, library.croniter)


def texts_of_croniter(cron: Any) -> tuple[str, str]:
    """The expression of a croniter object, seconds first, and the same with the numbers that it has drawn.

    Raises InvalidScheduleError if it fires otherwise than its expression does here.
    """
    texts, columns = [str(text) for text in cron.expressions], cron.expanded
    if len(texts) > len(UNITS):
        raise InvalidScheduleError(
            f"a schedule has no years, and the croniter object has ({cron.expressions}); use until"
        )
    drawn = [
        ",".join(map(str, values)) if DRAWN.fullmatch(text) else text
        for text, values in zip(texts, columns, strict=True)
    ]
    # croniter keeps the second in the last column, wherever it was written.
    expression, resolved = (" ".join([*fields[5:], *fields[:5]]) for fields in (texts, drawn))
    fields = [Field(unit, text, expression) for unit, text in zip(UNITS, _split(resolved), strict=True)]
    ours = _expanded(fields)
    for field in fields:
        if field.unit.column < len(columns):
            field.check_same(ours, columns)
    day, weekday = fields[3], fields[5]
    starred = day.starred or weekday.starred
    both = not cron._day_or or (starred and cron._implement_cron_bug)
    if both != starred and "*" not in columns[day.unit.column] and "*" not in columns[weekday.unit.column]:
        theirs, rule = ("both", "one") if both else ("one", "both")
        raise InvalidScheduleError(
            f"{expression!r}: the croniter object fires on days that match {theirs} of day of month and day of week, "
            f"and a schedule on days that match {rule} of them; write the days so that one field says it"
        )
    return expression, resolved


def _split(expression: str) -> list[str]:
    """The text of each of the six fields."""
    texts = expression.split()
    if len(texts) == 1 and texts[0].startswith("@"):
        texts = _alias(texts[0].lower()).split()
    if len(texts) == len(UNITS) - 1:
        texts.insert(0, "0")
    if len(texts) != len(UNITS):
        raise InvalidScheduleError(
            f"{expression!r} has {plural(len(texts), 'field')}; a cron expression has "
            "five (minute, hour, day of month, month, day of week) or six (second first)"
        )
    return texts


def _alias(name: str) -> str:
    if name in ALIASES:
        return ALIASES[name]
    if name == "@reboot":
        raise InvalidScheduleError("'@reboot' never fires: a notebook's kernel does not see the machine start")
    raise InvalidScheduleError(unknown("alias", name, ALIASES))


def _expand(unit: Unit, text: str, hash_id: bytes | None = None) -> tuple[list[Any], dict[int, set[Any]]]:
    """What croniter reads in this one field: its values, and its days of the week of a certain week."""
    from croniter import croniter

    # Without a second where there is none: beside it, versions before 7 take day 0 for 1, and day of week 7 for no day.
    texts = ["*"] * (len(UNITS) if unit is SECOND else len(UNITS) - 1)
    texts[unit.column] = text
    columns, nth = croniter.expand(" ".join(texts), hash_id=hash_id)
    return columns[unit.column], nth


def _expanded(fields: Sequence[Field]) -> list[list[Any]]:
    """What croniter reads in all fields, by its columns; raises InvalidScheduleError."""
    from croniter import croniter

    second, *others = (",".join(field.items) or "*" for field in fields)
    try:
        columns: list[list[Any]] = croniter.expand(" ".join(others))[0]
        return [*columns, [0] if second == "0" else _expand(SECOND, second)[0]]
    except ValueError as error:
        for field in fields:
            field.explain()
        raise InvalidScheduleError(f"{fields[0].expression!r} cannot be read: {error}") from error


class Field:
    """A field's text, rewritten so that all versions of croniter read it alike."""

    def __init__(self, unit: Unit, text: str, expression: str) -> None:
        self.unit = unit
        self.text = text
        self.expression = expression
        self.starred = text.startswith(("*", "?"))
        self.items: list[str] = []
        """The items for croniter to read."""
        self.from_end: set[int] = set()
        self.nearest: set[int] = set()
        self._nth: list[str] = []
        for item in [] if text == "?" and unit.extras else text.split(","):
            if ITEM.fullmatch(item) is None or "?" in item:
                raise self._wrong(item, "cannot be read")
            if not (self._keep_day(item) or self._keep_weekday(item)):
                self.items.append(self._alike(item))
        if text == "?" and unit.extras:
            self.items.append("*")

    @classmethod
    def drawn(cls, unit: Unit, item: str, expression: str, hash_id: str | None) -> str:
        """The item, with a number drawn by croniter if it is `H` or `R`."""
        match = DRAWN.fullmatch(item)
        if match is None:
            return item
        field = cls(unit, "*", expression)
        first, last = unit.low, unit.last
        if match["first"] is not None:
            first, last = field._value(match["first"], item), field._value(match["last"], item)
            if first >= last:
                raise field._wrong(item, f"the range of {match['kind']} runs upwards")
        step = field._step(match["step"], item)
        size = last - first + 1 if match["step"] is None else min(step, last - first + 1)
        if match["kind"] in "Hh" and hash_id is None:
            raise field._wrong(item, "H is hashed from a schedule's name, and there is none (give `hash_id`)")
        value = first + _number_below(size, unit, match["kind"].lower(), hash_id)
        return str(value) if match["step"] is None or value + step > last else f"{value}-{last}/{step}"

    def values(self, columns: Sequence[Sequence[Any]]) -> tuple[int, ...]:
        """The numbers of this field in croniter's columns, in order; `l` is added to `from_end`."""
        if not self.items:
            return ()
        column = columns[self.unit.column]
        if "l" in column:
            self.from_end.add(0)
        if "*" in column:
            return tuple(range(self.unit.low, self.unit.last + 1))
        return tuple(sorted(value for value in column if value != "l"))

    def nth(self) -> Iterable[tuple[int, int]]:
        """The days of the week in a week of the month: (5, 2) is the second Friday, (5, LAST) the last."""
        if not self._nth:
            return ()
        _, weeks = _expand(self.unit, ",".join(self._nth))
        return [(day, LAST if week == "l" else week) for day, found in weeks.items() for week in found]

    def check_same(self, ours: Sequence[Sequence[Any]], theirs: Sequence[Sequence[Any]]) -> None:
        """Raise InvalidScheduleError if a croniter object has other values in this field than its text."""
        mine = {*self.values(ours), *self.nearest, *(day for day, _ in self.nth())}
        found = {value for value in theirs[self.unit.column] if value != "l"}
        if "*" in found:
            found = set(range(self.unit.low, self.unit.last + 1))
        if mine != found:
            raise self._wrong(
                self.text,
                f"the croniter object has {', '.join(map(str, sorted(found)))} here, and a schedule would have "
                f"{', '.join(map(str, sorted(mine)))}; give it as text",
            )

    def explain(self) -> None:
        """Raise InvalidScheduleError for the first item that croniter refuses."""
        for item in self.items:
            try:
                _expand(self.unit, item)
            except ValueError:
                raise self._reason(item) from None

    def _reason(self, item: str) -> InvalidScheduleError:
        """Why croniter refuses an item that is no range."""
        item = next((written for written in self.text.split(",") if written.lower() == item), item)
        match = SPAN.fullmatch(item)
        if match is None or match["last"] is not None:
            return self._wrong(item, "cannot be read")
        try:
            self._step(match["step"], item)
            if match["first"] != "*":
                self._value(match["first"], item)
        except InvalidScheduleError as error:
            return error
        return self._wrong(item, "cannot be read")

    def _keep_day(self, item: str) -> bool:
        """Keep `L-3`, `15W` and `LW`, which croniter does not read; False for any other item."""
        if self.unit is not DAY_OF_MONTH:
            return False
        if match := FROM_END.fullmatch(item):
            before = self._number(match["before"], item)
            if before >= self.unit.high:
                raise self._wrong(item, f"no month has a day {before} before its last")
            self.from_end.add(before)
        elif match := NEAREST.fullmatch(item):
            number = match["day"] or match["same"] or str(self.unit.high)
            self.nearest.add(self._value(number, item))
        return match is not None

    def _keep_weekday(self, item: str) -> bool:
        """Keep `5#2` and `5L` apart from plain days of the week; False for any other item."""
        if self.unit is not DAY_OF_WEEK:
            return False
        if match := NTH.fullmatch(item):
            days = Field(self.unit, match["days"], self.expression)
            found = days.values(_expanded([*(Field(unit, "*", "") for unit in UNITS[:-1]), days]))
            self._nth += [f"{day}#{match['number']}" for day in found]
        elif match := LAST_WEEKDAY.fullmatch(item):
            self._nth.append(f"l{self._value(match['day'] or match['same'], item) % DAYS_OF_WEEK}")
        return match is not None

    def _alike(self, item: str) -> str:
        """The item for croniter: a range or a step from a value as numbers that only run upwards."""
        match = SPAN.fullmatch(item)
        if match is None or match["first"] == "*" or (match["last"] is None and match["step"] is None):
            return item.lower()
        step = self._step(match["step"], item)
        first = self._value(match["first"], item)
        last = self.unit.high if match["last"] is None else self._last(match["last"], item)
        if self.unit is DAY_OF_WEEK and last < first:
            if last == SUNDAY:
                last = DAYS_OF_WEEK
            first = first if last == DAYS_OF_WEEK else first % DAYS_OF_WEEK
        if first <= last:
            return _upwards(first, last, step)
        # Once around the field, with the step counted through its end.
        size = self.unit.last - self.unit.low + 1
        second = first + ((self.unit.last - first) // step + 1) * step - size
        parts = [_upwards(first, self.unit.last, step)]
        return ",".join(parts if second > last else [*parts, _upwards(second, last, step)])

    def _last(self, text: str, item: str) -> int:
        """The end of a range; `29-L` ends with the month."""
        return self.unit.high if self.unit is DAY_OF_MONTH and text.upper() == "L" else self._value(text, item)

    def _step(self, text: str | None, item: str) -> int:
        step = 1 if text is None else self._number(text, item)
        if step == 0:
            raise self._wrong(item, "a step of 0 goes nowhere")
        return step

    def _value(self, text: str, item: str) -> int:
        """One value of the field, by number or by name."""
        from croniter import croniter

        names = {name: value for name, value in croniter.ALPHACONV[self.unit.column].items() if value != name}
        if text.lower() in names:
            return int(names[text.lower()])
        if names and not text.isdecimal():
            near = get_close_matches(text.lower(), names, n=1)
            raise self._wrong(item, f"unknown name {text!r}{f' (did you mean {near[0].upper()!r}?)' if near else ''}")
        value = self._number(text, item)
        if not self.unit.low <= value <= self.unit.high:
            raise self._wrong(item, f"{value} is out of range")
        return value

    def _number(self, text: str, item: str) -> int:
        if not text.isdecimal():
            raise self._wrong(item, f"{text!r} is not a number")
        if len(text) > 9:
            raise self._wrong(item, "that number is out of range")
        return int(text)

    def _wrong(self, item: str, why: str) -> InvalidScheduleError:
        allowed = f"allowed: {self.unit.allowed}"
        return InvalidScheduleError(f"{self.unit.name} {item!r}: {why}; {allowed} (in {self.expression!r})")


def _upwards(first: int, last: int, step: int) -> str:
    """A range as croniter reads it in all versions; one of a single value as that value."""
    if first + step > last:
        return str(first)
    return f"{first}-{last}" if step == 1 else f"{first}-{last}/{step}"


def _number_below(size: int, unit: Unit, kind: str, hash_id: str | None) -> int:
    """A number from 0 to size - 1 that croniter hashes ("h") or draws at random ("r").

    Asked in the one form for each field in which all versions draw from as many numbers: before 6 a range of minutes or
    hours lacks its last, and a step of seconds or weekdays draws from one too many.
    """
    if size == 1:
        return 0
    form = f"{kind}({unit.low}-{unit.low + size - 1})"
    if unit is MINUTE or unit is HOUR:
        form = kind if size == unit.high + 1 else f"{kind}/{size}"
    values, _ = _expand(unit, form, (hash_id or "").encode("utf-8", "surrogatepass"))
    return int(values[0]) - unit.low
