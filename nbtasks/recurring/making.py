"""Recurring tasks made, and changed, from what a user gives: all of it checked, nothing kept if any of it is wrong.

Must not know the scheduler.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any

from nbtasks.cron import CronSchedule, IntervalSchedule, Schedule, find_zone, parse_schedule
from nbtasks.exceptions import AlreadyAddedError, InvalidScheduleError, InvalidValueError, WorkError, unknown
from nbtasks.recurring.rules import Rules
from nbtasks.recurring.task import RecurringTask
from nbtasks.task import Task
from nbtasks.work import Once, described, is_async

__all__ = ["changed", "make", "template_of"]

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
    """A recurring task that no scheduler has yet."""
    parsed, zone = _parsed(schedule, timezone)
    return RecurringTask(
        name=_checked_name(template.name if name is None else name),
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
    schedule = changes.get("schedule", recurring.schedule)
    if "timezone" in changes and isinstance(schedule, CronSchedule):
        schedule = schedule.expression
    parsed, zone = _parsed(schedule, changes.get("timezone", recurring._zone))
    rules = {name: value for name, value in changes.items() if name in RULES}
    if "until" in rules:
        rules["until"] = _aware(rules["until"], zone)
    return {
        "name": _checked_name(changes.get("name", recurring.name)),
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
    function, takes_task, coroutine = described(template)
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
    task._work, task._takes_task = function, takes_task
    return task


_OPTIONS = ("priority", "lane", "backend", "timeout", "tags", "parameters", "heading", "body", "img")


def _checked_template(template: Task, options: Mapping[str, Any]) -> Task:
    if template._manager is not None:
        raise AlreadyAddedError(
            f"{template.name!r} ({template.id}) is {template.state.value}: a template is never run itself; "
            "give a task that was not added, or a function"
        )
    if options:
        raise WorkError(f"set {', '.join(options)} on the template: it is a task already")
    if type(template) is Task:
        raise WorkError("a plain Task has no work: give the function, or an instance of a Task subclass")
    template._clone()  # what cannot be cloned says so now
    if template.backend is None:
        template.backend = "loop" if is_async(template.run) else "thread"
    return template


def _parsed(schedule: Any, timezone: str | tzinfo | None) -> tuple[Schedule, tzinfo]:
    parsed = parse_schedule(schedule, timezone)
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
