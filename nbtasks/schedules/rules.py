"""Rules of recurring tasks, and the pure functions that decide about their fires."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nbtasks import validation
from nbtasks.exceptions import InvalidValueError, RetryError, WorkError
from nbtasks.retry import Retry
from nbtasks.schedules.business_hours import BusinessHours, OpenSchedule
from nbtasks.schedules.fire_counts import count_fires, last_fire
from nbtasks.schedules.interval import IntervalSchedule, parse_interval
from nbtasks.schedules.parse import Schedule

__all__ = ["Decision", "Plan", "Rules", "decide", "fires_of", "goes_by_elapsed_time", "plan_after"]

NOTHING = timedelta(0)
ON_TIME = timedelta(seconds=1)
"""A fire that is less late than this was not missed, whatever the grace: timers are not exact."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The options of a recurring task.

    Raises InvalidValueError, WorkError or RetryError for a value that is not allowed.
    """

    max_concurrent: int = 1
    """How many instances may be pending or running at once; further fires are skipped and counted."""
    misfire_grace: timedelta | None = None
    """After the machine slept one run makes up for the missed fires, if the last of them is no older than this; None:
    whatever its age. Less than a second counts as a second."""
    jitter: timedelta = NOTHING
    """Each fire is delayed by a random part of this, so that many machines do not use one server at once."""
    max_runs: int | None = None
    """The number of runs after which it is switched off."""
    until: datetime | None = None
    """The end of its fires."""
    only_if: Callable[[datetime], Any] | None = None
    """Called with the time of a fire, in the schedule's zone; if it returns False, nothing runs or is counted."""
    retry: Retry | None = None
    """The retry policy of its instances, in place of the template's."""
    max_consecutive_failures: int | None = None
    """The number of failures in a row after which it is switched off; None: never."""

    def __post_init__(self) -> None:
        validation.whole_number("max_concurrent", self.max_concurrent, 1)
        for name in ("max_runs", "max_consecutive_failures"):
            if getattr(self, name) is not None:
                validation.whole_number(name, getattr(self, name), 1)
        if self.misfire_grace is not None:
            object.__setattr__(self, "misfire_grace", _span("misfire_grace", self.misfire_grace))
        object.__setattr__(self, "jitter", _span("jitter", self.jitter or NOTHING))
        if self.until is not None and (not isinstance(self.until, datetime) or self.until.tzinfo is None):
            raise InvalidValueError(f"until must be a datetime with a time zone, not {self.until!r}")
        if self.only_if is not None and not callable(self.only_if):
            raise WorkError(f"only_if must be a function of the time of a fire: {self.only_if!r} cannot be called")
        if self.retry is not None and not isinstance(self.retry, Retry):
            raise RetryError(f"retry must be a Retry(attempts, delay, ...), not {self.retry!r}")


@dataclass(frozen=True, slots=True)
class Plan:
    """The next fire: its time in the schedule, and when, with jitter, it is due."""

    planned: datetime
    due: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """The fire to run, if any, and the number of missed fires that are not made up."""

    run: datetime | None
    missed: int
    served: datetime
    """The next fire is the first one later than this."""


def goes_by_elapsed_time(schedule: Schedule) -> bool:
    """Whether it fires by elapsed time since its last start, whatever the wall clock shows."""
    return isinstance(schedule, IntervalSchedule) and schedule.anchor is None


def fires_of(schedule: Schedule, rules: Rules, start: datetime) -> Schedule:
    """The fires from `start` on as fixed moments, within business hours if the rules have them."""
    if isinstance(schedule, IntervalSchedule) and schedule.anchor is None:
        schedule = IntervalSchedule(schedule.every, start)
    return OpenSchedule(schedule, rules.only_if) if isinstance(rules.only_if, BusinessHours) else schedule


def plan_after(fires: Schedule, rules: Rules, moment: datetime, rng: random.Random) -> Plan | None:
    """The first fire later than `moment`; None if there is none."""
    planned = fires.next_after(moment)
    if planned is None or (rules.until is not None and planned.astimezone(UTC) > rules.until):
        return None
    due = planned.astimezone(UTC)
    if rules.jitter:
        due += rules.jitter * rng.random()
    return Plan(planned, due)


def decide(fires: Schedule, rules: Rules, plan: Plan, now: datetime) -> Decision:
    """Decide at `now` about a fire that is due and those after it that are due as well."""
    horizon = now - rules.jitter
    if rules.until is not None:
        horizon = min(horizon, rules.until)
    last = last_fire(fires, plan.planned, horizon)
    missed, planned, due = 0, plan.planned, plan.due
    if last is not None:
        missed, planned = count_fires(fires, plan.planned, last), last
        due = last.astimezone(UTC) + rules.jitter
    grace = rules.misfire_grace
    if grace is not None and now - due > max(grace, ON_TIME):
        return Decision(None, missed + 1, planned)
    return Decision(planned, missed, planned)


def _span(name: str, value: Any) -> timedelta:
    return parse_interval(value) if isinstance(value, str) else timedelta(seconds=validation.seconds(name, value))
