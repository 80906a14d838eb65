"""Intervals such as "5m" and "1h30m", and the schedule that fires at an interval."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from nbtasks.exceptions import InvalidScheduleError, InvalidValueError
from nbtasks.formatting import plural

__all__ = ["IntervalSchedule", "format_interval", "looks_like_interval", "parse_interval"]

WEEK = timedelta(weeks=1)
MILLISECOND = timedelta(milliseconds=1)
# Longest first. `format_interval` writes the first spelling, `describe` the last.
UNITS: dict[timedelta, tuple[str, ...]] = {
    WEEK: ("w", "wk", "week"),
    timedelta(days=1): ("d", "day"),
    timedelta(hours=1): ("h", "hr", "hour"),
    timedelta(minutes=1): ("m", "min", "minute"),
    timedelta(seconds=1): ("s", "sec", "second"),
    MILLISECOND: ("ms", "millisecond"),
}
SPELLINGS = {spelling: unit for unit, spellings in UNITS.items() for spelling in spellings}
SPELLINGS |= {f"{spelling}s": unit for unit, spellings in UNITS.items() for spelling in spellings[1:]}
PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.ASCII | re.IGNORECASE)
PARTS = re.compile(rf"\s*(?:{PART.pattern},?\s*)+", PART.flags)
EXAMPLES = '"30s", "5m", "1h30m", "2 days" or a timedelta'


def parse_interval(text: str | timedelta) -> timedelta:
    """The time span, longer than zero, that "30s", "5m", "1h30m", "1.5h", "2 days" or a timedelta gives.

    Units are w, d, h, m, s and ms, or the words in full. Raises InvalidScheduleError, which says what to
    write.
    """
    if not isinstance(text, str | timedelta):
        raise InvalidScheduleError(f"{text!r} is not an interval; write {EXAMPLES}")
    span = text if isinstance(text, timedelta) else _sum(text)
    if span <= timedelta(0):
        raise InvalidScheduleError(f"an interval must be longer than zero, not {_shown(text)}")
    return span


def looks_like_interval(text: str) -> bool:
    """Whether the text consists of numbers each followed by a word, as no cron expression does."""
    return bool(_parts(text))


def format_interval(span: timedelta) -> str:
    """The shortest text from which `parse_interval` makes the interval: "1h30m"."""
    return "".join(f"{number:g}{UNITS[unit][0]}" for number, unit in _split(span))


@dataclass(frozen=True, slots=True)
class IntervalSchedule:
    """Fires at an interval of elapsed time, whatever the wall clock shows.

    Without an `anchor` the next fire is `every` after the given moment. With one, an aware moment, it fires at the
    anchor and at whole intervals from it. `every` is a timedelta or text such as "5m", and longer
    than zero, or InvalidScheduleError is raised.
    """

    every: timedelta
    anchor: datetime | None = None

    def __init__(self, every: str | timedelta, anchor: datetime | None = None) -> None:
        if anchor is not None and anchor.tzinfo is None:
            raise InvalidScheduleError(f"anchor must be an aware datetime; {anchor!r} has no time zone")
        object.__setattr__(self, "every", parse_interval(every))
        object.__setattr__(self, "anchor", anchor)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first fire later than this aware moment, in the moment's zone; None past the year 9999."""
        if moment.tzinfo is None:
            raise InvalidValueError(f"next_after needs an aware datetime: {moment!r} has no time zone")
        # In UTC, since sums of aware datetimes are sums of wall times.
        now = moment.astimezone(UTC)
        try:
            return self._later(now).astimezone(moment.tzinfo)
        except OverflowError:
            return None

    def _later(self, now: datetime) -> datetime:
        if self.anchor is None:
            return now + self.every
        anchor = self.anchor.astimezone(UTC)
        return anchor if now < anchor else anchor + ((now - anchor) // self.every + 1) * self.every

    def describe(self) -> str:
        """The interval in words: "Every 1 hour 30 minutes"."""
        parts = _split(self.every)
        if len(parts) == 1 and parts[0][0] == 1:
            return f"Every {UNITS[parts[0][1]][-1]}"
        words = (plural(int(number) if number == int(number) else number, UNITS[unit][-1]) for number, unit in parts)
        return f"Every {' '.join(words)}"

    def __str__(self) -> str:
        return format_interval(self.every)


def _parts(text: str) -> list[tuple[str, str]]:
    """The numbers and words of the text; none if it has anything else."""
    return PART.findall(text.lower()) if PARTS.fullmatch(text) else []


def _sum(text: str) -> timedelta:
    parts = _parts(text)
    if not parts:
        raise InvalidScheduleError(f"{text!r} is not an interval; write {EXAMPLES}")
    unknown = [word for _, word in parts if word not in SPELLINGS]
    if unknown:
        raise InvalidScheduleError(f"{text!r} is not an interval: unknown unit {unknown[0]!r}; write {EXAMPLES}")
    try:
        return sum((float(number) * SPELLINGS[word] for number, word in parts), timedelta(0))
    except OverflowError as error:
        raise InvalidScheduleError(f"{text!r} is not an interval: it is too long") from error


def _split(span: timedelta) -> list[tuple[float, timedelta]]:
    """How many of each unit make up the span; weeks only where they alone do."""
    parts: list[tuple[float, timedelta]] = []
    for unit in UNITS:
        if unit == WEEK and span % unit:
            continue
        number: float
        number, span = (span / unit, timedelta(0)) if unit == MILLISECOND else divmod(span, unit)
        if number:
            parts.append((number, unit))
    return parts


def _shown(text: str | timedelta) -> str:
    return repr(text) if isinstance(text, str) else str(text)
