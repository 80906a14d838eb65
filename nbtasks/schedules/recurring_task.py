"""`RecurringTask`: a schedule, its template, its counters, its controls."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import itertools
import random
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol

from nbtasks import validation
from nbtasks.callables import Once, describe, is_async
from nbtasks.exceptions import AlreadyAddedError, InvalidScheduleError, InvalidValueError, WorkError, unknown
from nbtasks.formatting import plural
from nbtasks.schedules.cron import CronSchedule
from nbtasks.schedules.interval import IntervalSchedule
from nbtasks.schedules.parse import Schedule, parse_schedule
from nbtasks.schedules.rules import Plan, Rules, fires_of, goes_by_elapsed_time, plan_after
from nbtasks.schedules.timezones import find_zone, zone_name
from nbtasks.states import TaskState
from nbtasks.task import Task, id_prefix, jsonable

__all__ = ["RecurringTask", "changed", "make", "template_of"]

SHORTEST = timedelta(milliseconds=1)
INSTANCES_KEPT = 10
"""How many failed and how many completed instances of a schedule the manager keeps; older ones are dropped."""
RULES = tuple(rule.name for rule in dataclasses.fields(Rules))
CHANGEABLE = ("schedule", "timezone", "name", *RULES)
OPTIONS = ("priority", "lane", "backend", "timeout", "tags", "parameters", "heading", "body", "img")
_numbers = itertools.count(1)


class RecurringOwner(Protocol):
    """The scheduler, as a recurring task sees it."""

    def next_run(self, recurring: RecurringTask) -> datetime | None: ...
    def enable(self, recurring: RecurringTask) -> bool: ...
    def disable(self, recurring: RecurringTask, reason: str | None = None) -> bool: ...
    def remove(self, recurring: RecurringTask) -> bool: ...
    def run_now(self, recurring: RecurringTask) -> Task | None: ...
    def change(self, recurring: RecurringTask, changes: Mapping[str, Any]) -> None: ...


@dataclass(slots=True, weakref_slot=True, kw_only=True, eq=False, repr=False)
class RecurringTask:
    """A schedule with a template, of which each fire runs a clone: an instance.

    `manager.add_recurring_task` makes it. Only the manager sets its fields; any thread may read them. Instances have
    its id as their `parent_id`: `manager.search_tasks(parent_id=recurring.id)`.
    """

    name: str
    schedule: str | timedelta | Schedule
    """As it was given: a cron expression, an interval, or a schedule."""
    template: Task
    rules: Rules
    id: str = field(default_factory=lambda: f"{id_prefix()}-r{next(_numbers)}")
    """Unique over all kernels. A schedule that is restored in another kernel keeps it."""
    created_at: datetime | None = None
    enabled: bool = False
    """Whether it fires."""
    ended: str | None = None
    """Why it was switched off without a request: `max_runs` reached, `until` passed, too many failures."""
    total_runs: int = 0
    """How many instances were started."""
    total_failures: int = 0
    """How many of them failed. A cancelled instance counts as neither success nor failure."""
    consecutive_failures: int = 0
    """How many failed since the last one that completed."""
    total_skipped: int = 0
    """How many fires had no instance: `max_concurrent` were running already, or the fire was missed."""
    last_run: datetime | None = None
    """When the last instance was started; aware, UTC."""
    last_duration: float | None = None
    """How many seconds the last instance took that completed or failed."""
    last_error: str | None = None
    """The error of the last instance that failed."""

    # For the scheduler, which also guards them.
    parsed: Schedule
    """`schedule`, parsed."""
    zone: tzinfo
    owner: RecurringOwner | None = None
    """The scheduler; None before it is added and after it is removed."""
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    """The context in which it was added: instances run in copies of it."""
    loop: asyncio.AbstractEventLoop | None = None
    """The event loop that ran where it was added: coroutines of its instances run there."""
    fires: Schedule = field(init=False)
    """The fires as fixed moments: an interval counts from its start."""
    plan: Plan | None = None
    """The next fire, while it is enabled."""
    generation: int = 0
    """Incremented by a change and when it is switched off, which makes fires that are under way void."""
    live: list[Task] = field(default_factory=list)
    """The instances that have not finished, as far as the scheduler has noticed."""
    _failed: list[Task] = field(default_factory=list)
    _completed: deque[weakref.ref[Task]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.fires = self.parsed

    def __repr__(self) -> str:
        if not self.enabled:
            plan = f"off ({self.ended})" if self.ended else "off"
        else:
            plan = f"next at {self.next_run:%Y-%m-%d %H:%M:%S}" if self.next_run else "on"
        return f"<RecurringTask {self.name!r} ({self.id}): {self.describe()}; {plan}; {plural(self.total_runs, 'run')}>"

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def removed(self) -> bool:
        """Whether it was removed from its manager."""
        return self.owner is None

    @property
    def parent_id(self) -> str:
        """Its own id, so that events of a schedule and of its instances are found by the same attribute."""
        return self.id

    @property
    def expression(self) -> str:
        """The schedule as text: a cron expression or an interval."""
        return str(self.parsed)

    @property
    def timezone(self) -> str:
        """The zone of a cron expression: "local", "Europe/Paris"."""
        return zone_name(self.zone)

    @property
    def max_concurrent(self) -> int:
        """How many instances may be pending or running at once."""
        return self.rules.max_concurrent

    @property
    def next_run(self) -> datetime | None:
        """When it fires next, in its zone, by the wall clock; None if it does not."""
        return self.owner.next_run(self) if self.owner is not None else None

    @property
    def instances(self) -> list[Task]:
        """The instances that are pending or running, oldest first."""
        return [task for task in list(self.live) if not task.done]

    @property
    def by_elapsed_time(self) -> bool:
        """Whether it fires by elapsed time, whatever the wall clock shows."""
        return goes_by_elapsed_time(self.parsed)

    def describe(self) -> str:
        """The schedule in words: "At 08:00, Monday to Friday"."""
        return self.parsed.describe()

    def next_fires(self, count: int = 5) -> list[datetime]:
        """The next fires, in its zone, without jitter; fewer if the rules end it, none while it is off."""
        first = self.next_run
        plan = self.plan
        if first is None or plan is None:
            return []
        shift = timedelta(0)
        if self.by_elapsed_time:  # its moments are on the clock of elapsed time
            shift = first.astimezone(UTC) - plan.due
        most = count if self.rules.max_runs is None else min(count, self.rules.max_runs - self.total_runs)
        times: list[datetime] = []
        fire: datetime | None = plan.planned
        until = self.rules.until
        while len(times) < most and fire is not None and (until is None or fire.astimezone(UTC) <= until):
            times.append((fire.astimezone(UTC) + shift).astimezone(self.zone))
            fire = self.fires.next_after(fire)
        return times

    def as_dict(self) -> dict[str, Any]:
        """The record, JSON-safe: times as ISO strings, the schedule as text."""
        names = ["id", "name", "enabled", "ended", "timezone", "next_run", "last_run", "last_duration", "last_error"]
        names += ["total_runs", "total_failures", "consecutive_failures", "total_skipped", "created_at"]
        record = {name: jsonable(getattr(self, name)) for name in names}
        record["schedule"] = self.expression
        for rule in fields(self.rules):
            record[rule.name] = jsonable(getattr(self.rules, rule.name))
        return record

    # -- steering -----------------------------------------------------------------------------------------------------

    def enable(self) -> bool:
        """Let it fire from now on; False if it already does, was removed, or has no fire to come."""
        return self.owner is not None and self.owner.enable(self)

    def disable(self, reason: str | None = None) -> bool:
        """Stop firing; running instances continue. False if it did not fire. `reason` is shown as `ended`."""
        return self.owner is not None and self.owner.disable(self, reason)

    def remove(self) -> bool:
        """Remove it from the manager; running instances continue. False if it was removed before."""
        return self.owner is not None and self.owner.remove(self)

    def run_now(self) -> Task | None:
        """Start an instance at once, also while the schedule is off, and leave the schedule as it is.

        None, and counted as skipped, if `max_concurrent` instances are running.
        """
        return self._existing_owner().run_now(self)

    def change(self, **changes: Any) -> None:
        """Change `schedule`, `timezone`, `name` or any rule of `add_recurring_task`.

        On an error nothing is changed. A change of the schedule takes effect at once; running instances continue.
        """
        self._existing_owner().change(self, changes)

    def _existing_owner(self) -> RecurringOwner:
        if self.owner is None:
            raise WorkError(f"the recurring task {self.name!r} was removed")
        return self.owner

    # -- for the scheduler --------------------------------------------------------------------------------------------

    def begin_at(self, moment: datetime) -> None:
        """Count the fires from `moment` on: an interval goes by its last start."""
        self.fires = fires_of(self.parsed, self.rules, moment)

    def plan_after(self, moment: datetime, rng: random.Random) -> Plan | None:
        """The first fire later than `moment`, with its jitter; None if there is none."""
        return plan_after(self.fires, self.rules, moment.astimezone(self.zone), rng)

    def switch_off(self, reason: str | None) -> None:
        """Stop firing. Under either of the scheduler's locks: each line is atomic."""
        self.generation += 1
        self.enabled = False
        self.ended = reason
        self.plan = None

    def why_no_fire(self) -> str:
        """Why there is no next fire."""
        rules = self.rules
        if self.used_up:
            return f"max_runs={rules.max_runs} reached"
        if rules.until is not None:
            return f"it has no fire until {rules.until:%Y-%m-%d %H:%M}"
        return f"{self.describe()} has no fire in the hours of only_if"

    def make_instance(self) -> Task:
        """A clone of the template, which the scheduler adds."""
        instance = self.template.clone(parent_id=self.id)
        instance.name = self.name
        if self.rules.retry is not None:
            instance.retry = self.rules.retry
        return instance

    def count_start(self, instance: Task, now: datetime) -> None:
        """Count an instance that is about to be added."""
        self.live.append(instance)
        self.total_runs += 1
        self.last_run = now

    def uncount_start(self, instance: Task) -> None:
        """Undo `count_start`, if it was called, for an instance that could not be added."""
        if instance in self.live:
            self.live.remove(instance)
            self.total_runs -= 1

    def count_finish(self, task: Task) -> Task | None:
        """Count the outcome of an instance; returns one of the same outcome that is too old to be kept."""
        self.live.remove(task)
        if task.state is not TaskState.CANCELLED and task.started_at is not None and task.completed_at is not None:
            self.last_duration = (task.completed_at - task.started_at).total_seconds()
        if task.state is TaskState.COMPLETED:
            self.consecutive_failures = 0
            self._completed.append(weakref.ref(task))
            if len(self._completed) > INSTANCES_KEPT:
                return self._completed.popleft()()
        elif task.state is TaskState.FAILED:
            self.count_failure(task.error)
            self._failed.append(task)
            if len(self._failed) > INSTANCES_KEPT:
                return self._failed.pop(0)
        return None

    def count_failure(self, message: str | None) -> None:
        """Count an instance that failed or could not be started."""
        self.total_failures += 1
        self.consecutive_failures += 1
        self.last_error = message

    def take_failed(self) -> list[Task]:
        """Forget the failed instances that it keeps, and return them."""
        failed, self._failed = self._failed, []
        return failed

    @property
    def used_up(self) -> bool:
        """Whether it has run `max_runs` times."""
        return self.rules.max_runs is not None and self.total_runs >= self.rules.max_runs

    def failure_limit(self) -> str | None:
        """What to say if it has failed `max_consecutive_failures` times in a row, else None."""
        most = self.rules.max_consecutive_failures
        return None if most is None or self.consecutive_failures < most else f"it failed {most} times in a row"


def make(
    schedule: str | timedelta | Schedule,
    template: Task,
    *,
    name: str | None,
    timezone: str | tzinfo | None,
    rules: Mapping[str, Any],
) -> RecurringTask:
    """A recurring task that no scheduler has yet. `H` in a cron expression is hashed from its name."""
    name = validation.name(template.name if name is None else name, "a recurring task's name")
    parsed, zone = _parsed(schedule, timezone, name)
    return RecurringTask(
        name=name,
        schedule=schedule,
        template=template,
        rules=Rules(**{**rules, "until": _aware(rules.get("until"), zone)}),
        parsed=parsed,
        zone=zone,
    )


def changed(recurring: RecurringTask, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of the recurring task as the changes leave them."""
    for name in changes:
        if name not in CHANGEABLE:
            raise InvalidValueError(unknown("option of a recurring task", name, CHANGEABLE))
    name = validation.name(changes.get("name", recurring.name), "a recurring task's name")
    schedule, parsed, zone = recurring.schedule, recurring.parsed, recurring.zone
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
        "parsed": parsed,
        "zone": zone,
    }


def template_of(template: Any, name: str | None, options: Mapping[str, Any]) -> Task:
    """The template as a task that was never added: an instance of a Task subclass, or of a function.

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
        if option not in OPTIONS:
            raise WorkError(unknown("option of a recurring task", option, (*RULES, *OPTIONS)))
        setattr(task, option, value)
    task.backend = task.backend or ("loop" if coroutine else "thread")
    task.internals.work, task.internals.takes_task = function, takes_task
    return task


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


def _aware(until: Any, zone: tzinfo) -> Any:
    """A naive time is one on the wall, in the schedule's zone."""
    return until.replace(tzinfo=zone) if isinstance(until, datetime) and until.tzinfo is None else until
