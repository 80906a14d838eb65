"""What a recurring task keeps to besides its schedule, and what its fires come to: pure functions of their arguments.

Must not know of tasks, threads, timers or the present time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nbtasks.exceptions import InvalidValueError, RetryError, WorkError
from nbtasks.retry import Retry
from nbtasks.schedules import IntervalSchedule, Schedule, count_fires, last_fire, parse_interval
from nbtasks.schedules.business_hours import BusinessHours, OpenSchedule

__all__ = ["Decision", "Plan", "Rules", "decide", "fires_of", "goes_by_elapsed_time", "plan_after"]

NOTHING = timedelta(0)
ON_TIME = timedelta(seconds=1)
"""A fire that is less late than this was not missed, whatever the grace: timers and interpreters are not exact."""

Span = timedelta | float | str
"""A length of time: seconds, a timedelta, or text such as "5m"."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The options of a recurring task, checked. Raises InvalidValueError and its kin for what is not allowed."""

    max_concurrent: int = 1
    """How many instances may be pending or running at once; a fire beyond that is skipped and counted."""
    misfire_grace: timedelta | None = None
    """Fires missed while the machine slept are made up by one, if the last of them is no older than this; None: however
    old it is. Less than a second counts as a second."""
    jitter: timedelta = NOTHING
    """Each fire is late by a random share of this, so that many machines do not ask one server at once."""
    max_runs: int | None = None
    """After so many runs it is switched off."""
    until: datetime | None = None
    """It does not fire later than this."""
    only_if: Callable[[datetime], Any] | None = None
    """Asked with the time of a fire, in the schedule's zone; where it says no, nothing runs and nothing is counted."""
    retry: Retry | None = None
    """The retry policy of its instances, in place of the template's."""
    max_consecutive_failures: int | None = None
    """After so many failures in a row it is switched off; None: never."""

    def __post_init__(self) -> None:
        _check_number("max_concurrent", self.max_concurrent)
        for name in ("max_runs", "max_consecutive_failures"):
            if getattr(self, name) is not None:
                _check_number(name, getattr(self, name))
        if self.misfire_grace is not None:
            object.__setattr__(self, "misfire_grace", _span("misfire_grace", self.misfire_grace))
        object.__setattr__(self, "jitter", _span("jitter", self.jitter or NOTHING))
        if self.until is not None and (not isinstance(self.until, datetime) or self.until.tzinfo is None):
            raise InvalidValueError(f"until is a datetime with a time zone, not {self.until!r}")
        if self.only_if is not None and not callable(self.only_if):
            raise WorkError(f"only_if is asked with the time of a fire: {self.only_if!r} cannot be called")
        if self.retry is not None and not isinstance(self.retry, Retry):
            raise RetryError(f"retry must be a Retry(attempts, delay, ...), not {self.retry!r}")


@dataclass(frozen=True, slots=True)
class Plan:
    """A fire to come: when the schedule has it, and when, with its jitter, it is due."""

    planned: datetime
    due: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a due fire: which is run, if any, and how many were missed and are not made up."""

    run: datetime | None
    missed: int
    served: datetime
    """The next fire is the first one later than this."""


def goes_by_elapsed_time(schedule: Schedule) -> bool:
    """Whether it fires so long after its last start, whatever the clock on the wall says meanwhile."""
    return isinstance(schedule, IntervalSchedule) and schedule.anchor is None


def fires_of(schedule: Schedule, rules: Rules, start: datetime) -> Schedule:
    """The schedule's fires from `start` on, as fixed moments; those in business hours, where the rules ask for that."""
    if isinstance(schedule, IntervalSchedule) and schedule.anchor is None:
        schedule = IntervalSchedule(schedule.every, start)
    return OpenSchedule(schedule, rules.only_if) if isinstance(rules.only_if, BusinessHours) else schedule


def plan_after(fires: Schedule, rules: Rules, moment: datetime, rng: random.Random) -> Plan | None:
    """The first fire later than `moment`; None if there is none any more."""
    planned = fires.next_after(moment)
    if planned is None or (rules.until is not None and planned.astimezone(UTC) > rules.until):
        return None
    due = planned.astimezone(UTC)
    if rules.jitter:
        due += rules.jitter * rng.random()
    return Plan(planned, due)


def decide(fires: Schedule, rules: Rules, plan: Plan, now: datetime) -> Decision:
    """What becomes, at `now`, of a fire that is due, and of those after it that are due as well."""
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


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidValueError(f"{name} is a whole number from 1 on, not {value!r}")


def _span(name: str, value: Any) -> timedelta:
    if isinstance(value, str):
        return parse_interval(value)
    try:
        span = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except (TypeError, ValueError, OverflowError):
        allowed = 'a number of seconds, a timedelta or text such as "5m"'
        raise InvalidValueError(f"{name} is {allowed}, not {value!r}") from None
    if isinstance(value, bool) or span < NOTHING:
        raise InvalidValueError(f"{name} is zero or more, not {value!r}")
    return span
