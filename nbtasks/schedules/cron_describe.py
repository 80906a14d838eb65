"""Descriptions of cron expressions in words, and the reason why one never fires."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from nbtasks.schedules.cron_syntax import DAYS_OF_MONTH, LAST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbtasks.schedules.cron_syntax import DayRule, Fields

__all__ = ["describe_fields", "why_never"]

# By number, as cron has them; Sunday comes last, as 7, so that a weekend's range is one.
MONTHS: tuple[str, ...] = ("", "January", "February", "March", "April", "May", "June", "July", "August")
MONTHS += ("September", "October", "November", "December")
WEEKDAYS = ("", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PLACES = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", LAST: "last"}
SIZES = {"second": 60, "minute": 60, "hour": 24}
# More times of day than these are not listed one by one.
FEW = 6


def describe_fields(fields: Fields) -> str:
    """When the expression fires: "At 08:00, Monday to Friday"."""
    months = "" if len(fields.months) == 12 else f"in {_list(_runs(fields.months, MONTHS))}"
    text = ", ".join(part for part in (_time(fields), _days(fields.days), months) if part)
    return text[0].upper() + text[1:]


def why_never(fields: Fields) -> str:
    """Why no day of any year matches: "February never has day 31"."""
    days, months = fields.days, _runs(fields.months, MONTHS)
    if days.any_day_of_week:
        have = "has" if len(fields.months) == 1 else "have"
        return f"{_list(months)} never {have} {_numbers(days, 'or')}"
    month = "any month" if len(fields.months) == 12 else _list(months, "or")
    return f"no day in {month} is both {_numbers(days, 'or')} of the month and {_weekdays(days, 'or')}"


def _time(fields: Fields) -> str:
    seconds, minutes, hours = fields.seconds, fields.minutes, fields.hours
    if len(seconds) == 1 and len(minutes) * len(hours) <= FEW:
        second = f":{seconds[0]:02}" if seconds[0] else ""
        return f"at {_list([f'{hour:02}:{minute:02}{second}' for hour in hours for minute in minutes])}"
    if (seconds, minutes) == ((0,), (0,)):
        return _hourly(hours)
    if seconds == (0,):
        text = _repeating("minute", minutes)
        steady = text.startswith("every")
    else:
        text = _repeating("second", seconds)
        steady = len(minutes) == SIZES["minute"]
        if not steady or text.startswith("at"):
            text += f" of {_which('minute', minutes)}"
    return text + _within(hours, steady=steady, text=text)


def _hourly(hours: tuple[int, ...]) -> str:
    """On the hour, in these hours."""
    step = _step(hours)
    if step is None:
        return f"at {_list([f'{hour:02}:00' for hour in hours])}"
    span = "" if _whole("hour", hours, step) else f" from {hours[0]:02}:00 to {hours[-1]:02}:00"
    return f"every {'hour' if step == 1 else f'{step} hours'}{span}"


def _repeating(unit: str, values: tuple[int, ...]) -> str:
    """The times within the next larger unit: "every 5 minutes", "at minutes 5 and 7"."""
    step = _step(values)
    if step is None:
        return f"at {_which(unit, values)}"
    span = "" if _whole(unit, values, step) else f" from {unit} {values[0]} to {values[-1]}"
    return f"every {unit if step == 1 else f'{step} {unit}s'}{span}"


def _within(hours: tuple[int, ...], *, steady: bool, text: str) -> str:
    """In which hours; `steady` if it fires throughout each hour."""
    if len(hours) == SIZES["hour"]:
        return "" if steady else " of every hour"
    contiguous = hours[-1] - hours[0] == len(hours) - 1
    if steady and contiguous and " from " not in text:
        return f" from {hours[0]:02}:00 to {hours[-1]:02}:59"
    return f" of {_which('hour', hours)}"


def _which(unit: str, values: tuple[int, ...]) -> str:
    """These values of the unit: "minute 5", "hours 9 to 17", "every 2nd hour"."""
    step = _step(values)
    if step is not None and _whole(unit, values, step):
        return f"every {unit if step == 1 else f'{_ordinal(step)} {unit}'}"
    return f"{unit}{'s' if len(values) > 1 else ''} {_list(_runs(values))}"


def _days(days: DayRule) -> str:
    if days.both:
        if days.any_day_of_week:
            return "" if days.any_day_of_month else f"on {_numbers(days)} of the month"
        if days.any_day_of_month:
            weekdays = _weekdays(days)
            return weekdays if " to " in weekdays else f"on {weekdays}"
        return f"on {_numbers(days)} of the month if it is {_weekdays(days, 'or')}"
    if days.any_day_of_week or days.any_day_of_month:
        return ""
    return f"on {_numbers(days)} of the month or on {_weekdays(days)}"


def _numbers(days: DayRule, conjunction: str = "and") -> str:
    """The days of the month by number: "days 1 and 15", "the last day"."""
    numbers = sorted(days.days)
    step = _step(numbers)
    parts = []
    if step is not None and step > 1 and numbers[0] == 1 and numbers[-1] + step > DAYS_OF_MONTH:
        parts.append(f"every {_ordinal(step)} day")
    elif numbers:
        parts.append(f"day{'s' if len(numbers) > 1 else ''} {_list(_runs(numbers), conjunction)}")
    parts += [
        f"the {_ordinal(before + 1)} day from the end" if before else "the last day" for before in sorted(days.from_end)
    ]
    parts += [
        "the last working day" if day == DAYS_OF_MONTH else f"the working day nearest to day {day}"
        for day in sorted(days.nearest)
    ]
    return _list(parts, conjunction)


def _weekdays(days: DayRule, conjunction: str = "and") -> str:
    """The days of the week: "Monday to Friday", "the second Friday of the month"."""
    parts = _runs(sorted(day or 7 for day in days.weekdays), WEEKDAYS)
    for day, place in sorted(days.nth, key=lambda pair: (pair[1] % 6, pair[0])):
        parts.append(f"the {PLACES[place]} {WEEKDAYS[day or 7]} of the month")
    return _list(parts, conjunction)


def _step(values: Sequence[int]) -> int | None:
    """The distance between neighbours, if it is the same for three of them or more."""
    steps = {later - earlier for earlier, later in pairwise(values)}
    return steps.pop() if len(values) > 2 and len(steps) == 1 else None


def _whole(unit: str, values: tuple[int, ...], step: int) -> bool:
    """Whether values at that distance fill the whole unit without a shorter gap."""
    return values[0] == 0 and values[-1] + step == SIZES[unit]


def _runs(values: Sequence[int], names: Sequence[str] = ()) -> list[str]:
    """The values, or their names, with three or more in a row as "first to last"."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    words: list[str] = []
    for run in runs:
        shown = [names[value] if names else str(value) for value in run]
        words += [f"{shown[0]} to {shown[-1]}"] if len(shown) > 2 else shown
    return words


def _list(words: Sequence[str], conjunction: str = "and") -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def _ordinal(number: int) -> str:
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number in (11, 12, 13) else suffix}"
