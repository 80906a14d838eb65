"""Schedules of cells: what `%%bgtask --every` asks for, and the commands of `%bgtask` that steer schedules.

Knows nothing of how a cell runs, nor of when it is due.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from nbtasks.schedules import CronSchedule, IntervalSchedule, Schedule, find_zone
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.widgets.recurring_shown import until_text

if TYPE_CHECKING:
    from nbtasks.notebook.extension import Extension

__all__ = ["AskedSchedule", "ScheduleCommands", "asked_schedule"]


@dataclass(frozen=True, slots=True)
class AskedSchedule:
    """What the options of a cell say about its schedule, checked."""

    schedule: Schedule
    timezone: str | None
    max_concurrent: int


def asked_schedule(options: argparse.Namespace) -> AskedSchedule | None:
    """The schedule that the options ask for; None where they ask for none. Raises UsageError and what is ours."""
    every, cron, zone = (unquoted(text) for text in (options.every, options.cron, options.tz))
    if every is None and cron is None:
        for option, value in (("--tz", zone), ("--max-concurrent", options.max_concurrent)):
            if value is not None:
                raise UsageError(f"%%bgtask: {option} belongs to a schedule; add --every or --cron")
        return None
    if every is not None and cron is not None:
        raise UsageError("%%bgtask: give --every or --cron, not both")
    for option, given in (("--wait", options.wait), ("--after", options.after is not None)):
        if given:
            raise UsageError(f"%%bgtask: {option} is for a cell that runs once; leave it out, or the schedule")
    schedule = IntervalSchedule(every) if every is not None else CronSchedule(cron or "", zone)
    if every is not None:
        find_zone(zone)
    return AskedSchedule(schedule, zone, _max_concurrent(options.max_concurrent))


def unquoted(text: str | None) -> str | None:
    """Without the quotes that keep the words of an expression together on a magic's line."""
    if text is not None and len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _max_concurrent(text: str | None) -> int:
    if text is None:
        return 1
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"%%bgtask: --max-concurrent takes a whole number from 1 on, not {text!r}")
    return int(text)


class ScheduleCommands:
    """The commands that steer schedules. A name means the newest schedule of that name."""

    def __init__(self, extension: Extension, tell_of_offers: Callable[[], None]) -> None:
        self._extension = extension
        self._tell_of_offers = tell_of_offers
        self._manager = extension.manager
        self.by_name: dict[str, Callable[[list[str]], None]] = {
            "schedules": self._schedules,
            "pause": self._pause,
            "resume": self._resume,
            "run": self._run,
            "remove": self._remove,
        }

    @property
    def names(self) -> list[str]:
        """Of the schedules there are, each once."""
        return [*dict.fromkeys(one.name for one in self._manager.list_recurring_tasks())]

    def find(self, name: str) -> RecurringTask | None:
        """The newest schedule of that name."""
        named = [one for one in self._manager.list_recurring_tasks() if one.name == name]
        return named[-1] if named else None

    def _named(self, command: str, names: list[str]) -> list[RecurringTask]:
        if not names:
            raise UsageError(f"%bgtask {command}: say which schedule, by its name")
        found = []
        for name in names:
            one = self.find(name)
            if one is None:
                raise UsageError(
                    f"%bgtask {command}: there is no schedule {name!r}; there are {', '.join(self.names) or 'none'}"
                )
            found.append(one)
        return found

    def _schedules(self, names: list[str]) -> None:
        """The schedules, all or those named, with what changes them."""
        self._extension.show_schedules(self._named("schedules", names) if names else None)
        if not names:
            self._tell_of_offers()

    def _pause(self, names: list[str]) -> None:
        """Let these schedules fire no more; what runs goes on."""
        for one in self._named("pause", names):
            print(f"{one.name} is paused" if one.disable() else f"{one.name} was not on")

    def _resume(self, names: list[str]) -> None:
        """Let these schedules fire again."""
        for one in self._named("resume", names):
            if one.enable():
                print(f"{one.name} fires next in {until_text(one, datetime.now(UTC))}")
            else:
                print(f"{one.name} stays off: {one.ended}" if not one.enabled else f"{one.name} was on")

    def _run(self, names: list[str]) -> None:
        """Run these schedules' cells once now; the schedules stay as they are."""
        for one in self._named("run", names):
            if one.run_now() is None:
                print(f"skipped: {one.name} runs already ({one.max_concurrent} at once)")

    def _remove(self, names: list[str]) -> None:
        """Forget these schedules; what runs goes on."""
        for one in self._named("remove", names):
            one.remove()
