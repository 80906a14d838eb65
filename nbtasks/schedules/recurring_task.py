"""`RecurringTask`: the record of one schedule and its template, and the user's handle on it.

Must not know when its fires come or who makes its instances: it asks the scheduler that it was added to.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol

from nbtasks.callables import Once, describe, is_async
from nbtasks.exceptions import AlreadyAddedError, InvalidScheduleError, InvalidValueError, WorkError, unknown
from nbtasks.schedules import CronSchedule, IntervalSchedule, Schedule, find_zone, parse_schedule, zone_name
from nbtasks.schedules.rules import Plan, Rules, fires_of, goes_by_elapsed_time
from nbtasks.task import Task, id_prefix, jsonable

__all__ = ["RecurringTask", "changed", "make", "template_of"]

SHORTEST = timedelta(milliseconds=1)
RULES = tuple(rule.name for rule in dataclasses.fields(Rules))
CHANGEABLE = ("schedule", "timezone", "name", *RULES)


def make(
    schedule: str | timedelta | Schedule,
    template: Task,
    *,
    name: str | None,
    timezone: str | tzinfo | None,
    rules: Mapping[str, Any],
) -> RecurringTask:
    """A recurring task that no scheduler has yet. `H` in a cron expression is hashed from its name."""
    name = _checked_name(template.name if name is None else name)
    parsed, zone = _parsed(schedule, timezone, name)
    return RecurringTask(
        name=name,
        schedule=schedule,
        template=template,
        rules=Rules(**{**rules, "until": _aware(rules.get("until"), zone)}),
        _parsed=parsed,
        _zone=zone,
    )


def changed(recurring: RecurringTask, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of the recurring task as the changes leave them."""
    for name in changes:
        if name not in CHANGEABLE:
            raise InvalidValueError(unknown("option of a recurring task", name, CHANGEABLE))
    name = _checked_name(changes.get("name", recurring.name))
    schedule, parsed, zone = recurring.schedule, recurring._parsed, recurring._zone
    if "timezone" in changes:
        zone = find_zone(changes["timezone"])
        parsed = parsed.in_zone(zone) if isinstance(parsed, CronSchedule) else parsed
    new = changes.get("schedule", schedule)
    same_text = isinstance(new, str) and " ".join(new.split()) == str(parsed)  # keeps the numbers drawn for H and R
    if "schedule" in changes and not same_text:
        schedule = new
        parsed, zone = _parsed(schedule, zone, name)
    rules = {name: value for name, value in changes.items() if name in RULES}
    if "until" in rules:
        rules["until"] = _aware(rules["until"], zone)
    return {
        "name": name,
        "schedule": schedule,
        "rules": dataclasses.replace(recurring.rules, **rules),
        "_parsed": parsed,
        "_zone": zone,
    }


def template_of(template: Any, name: str | None, options: Mapping[str, Any]) -> Task:
    """The template as a task that has never been added: an instance of a Task subclass, or made of a function.

    `options` are fields of `Task`, for a function only. Raises WorkError, AlreadyAddedError.
    """
    if isinstance(template, Task):
        return _checked_template(template, options)
    if isinstance(template, type) and issubclass(template, Task):
        raise WorkError(f"{template.__name__} is a Task class: give an instance, {template.__name__}(...)")
    function, takes_task, coroutine = describe(template)
    if isinstance(function, Once):
        function.close()
        raise WorkError("a coroutine object runs once and cannot recur: give the coroutine function")
    given = str(getattr(template, "__name__", type(template).__name__)).strip("<>")
    task = Task(name=given if name is None else name)
    task.priority, task.lane = 0, "default"
    for option, value in options.items():
        if option not in _OPTIONS:
            raise WorkError(unknown("option of a recurring task", option, (*RULES, *_OPTIONS)))
        setattr(task, option, value)
    task.backend = task.backend or ("loop" if coroutine else "thread")
    task.internals.work, task.internals.takes_task = function, takes_task
    return task


_OPTIONS = ("priority", "lane", "backend", "timeout", "tags", "parameters", "heading", "body", "img")


def _checked_template(template: Task, options: Mapping[str, Any]) -> Task:
    if template.internals.manager is not None:
        raise AlreadyAddedError(
            f"{template.name!r} ({template.id}) is {template.state.value}: a template is never run itself; "
            "give a task that was not added, or a function"
        )
    if options:
        raise WorkError(f"set {', '.join(options)} on the template: it is a task already")
    if type(template) is Task:
        raise WorkError("a plain Task has no work: give the function, or an instance of a Task subclass")
    template.clone()  # what cannot be cloned says so now
    if template.backend is None:
        template.backend = "loop" if is_async(template.run) else "thread"
    return template


def _parsed(schedule: Any, timezone: str | tzinfo | None, name: str) -> tuple[Schedule, tzinfo]:
    parsed = parse_schedule(schedule, timezone, hash_id=name)
    if isinstance(parsed, IntervalSchedule) and parsed.every < SHORTEST:
        raise InvalidScheduleError(f"an interval is at least a millisecond: {parsed.every} is not")
    return parsed, parsed.timezone if isinstance(parsed, CronSchedule) else find_zone(timezone)


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidValueError(f"a recurring task's name must be a non-empty string, not {name!r}")
    return name


def _aware(until: Any, zone: tzinfo) -> Any:
    """A naive time is one on the wall, in the schedule's zone."""
    return until.replace(tzinfo=zone) if isinstance(until, datetime) and until.tzinfo is None else until


_numbers = itertools.count(1)


class RecurringOwner(Protocol):
    """What a recurring task asks of its scheduler."""

    def next_run(self, recurring: RecurringTask) -> datetime | None: ...
    def enable(self, recurring: RecurringTask) -> bool: ...
    def disable(self, recurring: RecurringTask) -> bool: ...
    def remove(self, recurring: RecurringTask) -> bool: ...
    def run_now(self, recurring: RecurringTask) -> Task | None: ...
    def change(self, recurring: RecurringTask, changes: Mapping[str, Any]) -> None: ...


@dataclass(slots=True, weakref_slot=True, kw_only=True, eq=False, repr=False)
class RecurringTask:
    """A schedule with a template: each fire runs a clone of the template, its instance.

    Made by `manager.add_recurring_task`; all is set by the manager alone, and may be read on any thread. Instances have
    its id as their `parent_id`: `manager.search_tasks(parent_id=recurring.id)`.
    """

    name: str
    schedule: str | timedelta | Schedule
    """As it was given: a cron expression, an interval, or a schedule."""
    template: Task
    rules: Rules
    id: str = field(default_factory=lambda: f"{id_prefix()}-r{next(_numbers)}")
    """Unique over all kernels. A schedule that another kernel takes up again keeps it."""
    created_at: datetime | None = None
    enabled: bool = False
    """Whether it fires."""
    ended: str | None = None
    """Why it was switched off by itself: its runs are used up, its time is over, it failed too often."""
    total_runs: int = 0
    """How many instances were started."""
    total_failures: int = 0
    """How many of them failed. Those that were cancelled count for neither success nor failure."""
    consecutive_failures: int = 0
    """How many failed since the last one that completed."""
    total_skipped: int = 0
    """How many fires had no instance of their own: too many ran already, or they were missed."""
    last_run: datetime | None = None
    """When the last instance was started; aware, UTC."""
    last_duration: float | None = None
    """How many seconds the last instance took that completed or failed."""
    last_error: str | None = None
    """Why the last instance that failed did so."""

    _parsed: Schedule
    _zone: tzinfo
    _owner: RecurringOwner | None = None
    _context: contextvars.Context = field(default_factory=contextvars.copy_context)
    _loop: asyncio.AbstractEventLoop | None = None
    _fires: Schedule = field(init=False)
    """The schedule's fires as fixed moments."""
    _plan: Plan | None = None
    """The next fire, as long as it is enabled."""
    _generation: int = 0
    """Counts what makes fires that are on their way void: a change, a switch-off."""
    _live: list[Task] = field(default_factory=list)
    _failed: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._fires = self._parsed

    def __repr__(self) -> str:
        if not self.enabled:
            plan = f"off ({self.ended})" if self.ended else "off"
        else:
            plan = f"next at {self.next_run:%Y-%m-%d %H:%M:%S}" if self.next_run else "on"
        return f"<RecurringTask {self.name!r} ({self.id}): {self.describe()}; {plan}; {self.total_runs} runs>"

    # -- reading ----------------------------------------------------------------------------------------------

    @property
    def removed(self) -> bool:
        """Whether it was taken from its manager."""
        return self._owner is None

    @property
    def parent_id(self) -> str:
        """Its own id: events of a schedule and of its instances are found by the same attribute."""
        return self.id

    @property
    def timezone(self) -> str:
        """The zone in which a cron expression is read: "local", "Europe/Paris"."""
        return zone_name(self._zone)

    @property
    def expression(self) -> str:
        """The schedule as text that can be parsed again: a cron expression or an interval."""
        return str(self._parsed)

    @property
    def max_concurrent(self) -> int:
        """How many instances may be pending or running at once."""
        return self.rules.max_concurrent

    @property
    def next_run(self) -> datetime | None:
        """When it fires next, in its zone, by the clock on the wall; None if it does not."""
        return self._owner.next_run(self) if self._owner is not None else None

    @property
    def instances(self) -> list[Task]:
        """The instances that are pending or running, oldest first."""
        return [task for task in list(self._live) if not task.done]

    def describe(self) -> str:
        """The schedule in words: "At 08:00, Monday to Friday"."""
        return self._parsed.describe()

    def next_fires(self, count: int = 5) -> list[datetime]:
        """The next fires by the schedule, in its zone, without jitter; fewer where the rules end it, none while off."""
        first = self.next_run
        plan = self._plan
        if first is None or plan is None:
            return []
        shift = timedelta(0)
        if goes_by_elapsed_time(self._parsed):  # its moments are those of a clock of its own
            shift = first.astimezone(UTC) - plan.due
        most = count if self.rules.max_runs is None else min(count, self.rules.max_runs - self.total_runs)
        times: list[datetime] = []
        fire: datetime | None = plan.planned
        until = self.rules.until
        while len(times) < most and fire is not None and (until is None or fire.astimezone(UTC) <= until):
            times.append((fire.astimezone(UTC) + shift).astimezone(self._zone))
            fire = self._fires.next_after(fire)
        return times

    def as_dict(self) -> dict[str, Any]:
        """The record, JSON-safe: times as ISO strings, the schedule as text."""
        names = ["id", "name", "enabled", "ended", "timezone", "next_run", "last_run", "last_duration", "last_error"]
        names += ["total_runs", "total_failures", "consecutive_failures", "total_skipped", "created_at"]
        record = {name: jsonable(getattr(self, name)) for name in names}
        record["schedule"] = str(self._parsed)
        for rule in fields(self.rules):
            record[rule.name] = jsonable(getattr(self.rules, rule.name))
        return record

    def record(self) -> dict[str, Any]:
        """What the history has of it (see `nbtasks.schedules.persistence`)."""
        from nbtasks.schedules.persistence import record_of

        return record_of(self)

    # -- steering ---------------------------------------------------------------------------------------------

    def enable(self) -> bool:
        """Let it fire, from now on; False if it does already, is removed, or has nothing to come."""
        return self._owner is not None and self._owner.enable(self)

    def disable(self) -> bool:
        """Let it fire no more; what runs goes on. False if it does not fire."""
        return self._owner is not None and self._owner.disable(self)

    def remove(self) -> bool:
        """Take it from the manager; what runs goes on. False if that was done before."""
        return self._owner is not None and self._owner.remove(self)

    def run_now(self) -> Task | None:
        """Start an instance at once, whether it is on or off; None, and counted as skipped, if too many run already.

        The schedule stays as it is.
        """
        if self._owner is None:
            raise WorkError(f"the recurring task {self.name!r} was removed")
        return self._owner.run_now(self)

    def change(self, **changes: Any) -> None:
        """Change `schedule`, `timezone`, `name` or any rule of `add_recurring_task`: all of them or, on an error, none.

        A change of the schedule takes effect at once; what runs goes on.
        """
        if self._owner is None:
            raise WorkError(f"the recurring task {self.name!r} was removed")
        self._owner.change(self, changes)

    # -- for the scheduler ------------------------------------------------------------------------------------

    def _begin_at(self, moment: datetime) -> None:
        """Count the fires from `moment` on: intervals go by their last start."""
        self._fires = fires_of(self._parsed, self.rules, moment)

    def _switch_off(self, reason: str | None) -> None:
        """Under either of the scheduler's locks, for each line is atomic: fires that are on their way become void."""
        self._generation += 1
        self.enabled = False
        self.ended = reason
        self._plan = None

    def _nothing_left(self) -> str:
        """Why there is no next fire."""
        rules = self.rules
        if rules.max_runs is not None and self.total_runs >= rules.max_runs:
            return f"its {rules.max_runs} runs are used up"
        if rules.until is not None:
            return f"it has no fire until {rules.until:%Y-%m-%d %H:%M}"
        return f"{self.describe()} has no fire in the hours of its condition"

    def _instance(self) -> Task:
        instance = self.template.clone(parent_id=self.id)
        instance.name = self.name
        if self.rules.retry is not None:
            instance.retry = self.rules.retry
        return instance
