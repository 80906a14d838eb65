"""A schedule as somebody types it: checked, said in words, with the times at which it would fire.

Knows nothing of widgets and recurring tasks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import available_timezones

from nbtasks.cron import PRESETS, find_zone, next_fire_times, parse_schedule
from nbtasks.exceptions import NbtasksError

__all__ = ["FIRES", "Draft", "fires_text", "preset_choices", "read_draft", "zone_names"]

FIRES = 5
"""So many of the next fires are told."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What was typed, and what it means; `error` says what is wrong, and then there are neither words nor fires."""

    expression: str
    zone: str
    words: str = ""
    error: str = ""
    fires: tuple[datetime, ...] = ()


def read_draft(expression: str, zone: str, now: datetime) -> Draft:
    """What these two mean at the aware moment `now`. A zone left empty is the machine's own."""
    expression, zone = expression.strip(), zone.strip() or "local"
    try:
        found = find_zone(zone)
        words = parse_schedule(expression, found).describe()
        fires = tuple(next_fire_times(expression, found, now, FIRES))
    except NbtasksError as error:
        return Draft(expression, zone, error=str(error))
    return Draft(expression, zone, words, fires=fires)


def fires_text(fires: Sequence[datetime], now: datetime) -> str:
    """The times of these fires, each day named once: "14:05, 14:10; Mon 23 Nov 08:00"."""
    seconds = any(fire.second or fire.microsecond for fire in fires)
    days: dict[str, list[str]] = {}
    for fire in fires:
        there = now.astimezone(fire.tzinfo)
        year = "" if fire.year == there.year else " %Y"
        day = "" if fire.date() == there.date() else f"{fire:%a %d %b{year}} "
        days.setdefault(day, []).append(f"{fire:%H:%M:%S}" if seconds else f"{fire:%H:%M}")
    return "; ".join(day + ", ".join(times) for day, times in days.items())


@functools.cache
def preset_choices() -> tuple[tuple[str, str], ...]:
    """The expressions that most schedules are, each with its words."""
    return tuple((parse_schedule(preset, UTC).describe(), preset) for preset in PRESETS)


@functools.cache
def zone_names() -> tuple[str, ...]:
    """The zones to choose from, the machine's own first."""
    return "local", "UTC", *sorted(available_timezones() - {"UTC"})
