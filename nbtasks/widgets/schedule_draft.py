"""A schedule as somebody types it: checked, said in words, with the times at which it would fire.

Knows nothing of widgets.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import available_timezones

from nbtasks.cron import PRESETS, find_zone, next_fire_times, parse_schedule
from nbtasks.exceptions import NbtasksError
from nbtasks.recurring.rules import Rules, fires_of

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


def read_draft(expression: str, zone: str, now: datetime, rules: Rules | None = None) -> Draft:
    """What these two mean at the aware moment `now`, to a recurring task with these rules.

    A zone left empty is the machine's own.
    """
    expression, zone = expression.strip(), zone.strip() or "local"
    try:
        found = find_zone(zone)
        schedule = parse_schedule(expression, found)
        asked = schedule if rules is None else fires_of(schedule, rules, now.astimezone(found))
        fires = next_fire_times(asked, found, now, FIRES)
    except NbtasksError as error:
        return Draft(expression, zone, error=str(error))
    if rules is not None and rules.until is not None:
        fires = [fire for fire in fires if fire <= rules.until]
    return Draft(expression, zone, schedule.describe(), fires=tuple(fires))


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
