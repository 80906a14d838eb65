"""Persistence of schedules: as records of JSON values, and restored from them."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any

from nbtasks.exceptions import WorkError
from nbtasks.retry import Retry
from nbtasks.schedules.business_hours import DAYS, BusinessHours
from nbtasks.schedules.cron import CronSchedule
from nbtasks.schedules.interval import IntervalSchedule
from nbtasks.schedules.parse import Schedule, parse_schedule
from nbtasks.schedules.recurring_task import RecurringTask, make, template_of
from nbtasks.schedules.rules import Rules
from nbtasks.schedules.timezones import find_zone, zone_name
from nbtasks.task import Task, jsonable

__all__ = ["made_from", "record_of", "rule_from", "rule_record", "template_from"]

COUNTERS = ("total_runs", "total_failures", "consecutive_failures", "total_skipped", "last_duration", "last_error")
TIMES = ("last_run", "created_at")
OPTIONS = ("priority", "lane", "backend", "timeout", "tags", "parameters", "heading", "body", "update_sleep_time")


def record_of(recurring: RecurringTask) -> dict[str, Any]:
    """The JSON values that `made_from` needs; "lost" says what of it cannot be kept, if anything."""
    record = {name: jsonable(getattr(recurring, name)) for name in (*COUNTERS, *TIMES, "ended", "enabled", "timezone")}
    try:
        record.update(
            schedule=_schedule_record(recurring.parsed),
            rules={rule.name: rule_record(getattr(recurring.rules, rule.name)) for rule in dataclasses.fields(Rules)},
            work=_work_record(recurring.template),
        )
    except WorkError as error:
        record["lost"] = str(error)
    return record


def made_from(name: str, recurring_id: str, record: Mapping[str, Any], template: Task) -> RecurringTask:
    """The recurring task of that record with this template, counters included; no scheduler has it yet."""
    zone = find_zone(record["timezone"])
    schedule = _schedule_from(record["schedule"], zone)
    rules = {rule: rule_from(value) for rule, value in record["rules"].items()}
    recurring = make(schedule, template, name=name, timezone=zone, rules=rules)
    recurring.id = recurring_id
    for counter in COUNTERS:
        setattr(recurring, counter, record[counter])
    for moment in TIMES:
        setattr(recurring, moment, None if record[moment] is None else datetime.fromisoformat(record[moment]))
    return recurring


def template_from(record: Mapping[str, Any]) -> Task:
    """The template of that record, by importing its class or function; raises WorkError if that fails."""
    work = record["work"]
    if "function" in work:
        options = {name: value for name, value in work["options"].items() if name != "update_sleep_time"}
        options["tags"] = tuple(options["tags"] or ())
        return template_of(_imported(work["function"]), work["name"], options)
    kind = _imported(work["class"])
    try:
        template = kind(name=work["name"], **work["options"], **work["fields"])
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
        raise WorkError(f"{work['class'].replace(':', '.')} cannot be created: {fault}") from error
    return template_of(template, None, {})


def _schedule_record(schedule: Schedule) -> list[Any]:
    """Its text, its anchor if it is an interval, and the numbers that a cron expression has drawn."""
    text = str(schedule)
    if isinstance(schedule, CronSchedule):
        return [text, None, schedule.drawn]
    try:
        parse_schedule(text)
    except ValueError:
        raise WorkError(f"its schedule is of the class {type(schedule).__name__}, which is not built in") from None
    return [text, jsonable(schedule.anchor) if isinstance(schedule, IntervalSchedule) else None]


def _schedule_from(record: Sequence[Any], zone: tzinfo) -> Schedule:
    text, anchor, *drawn = record
    if drawn:
        return CronSchedule(text, zone, drawn=drawn[0])
    schedule = parse_schedule(text, zone)
    if isinstance(schedule, IntervalSchedule) and anchor is not None:
        return IntervalSchedule(schedule.every, datetime.fromisoformat(anchor))
    return schedule


def _work_record(template: Task) -> dict[str, Any]:
    own = template.work_record()
    if own is not None:
        return own
    options = {name: _plain(name, getattr(template, name)) for name in OPTIONS}
    if type(template) is Task:
        return {"function": _name_of(template.internals.work), "name": template.name, "options": options}
    base = {field.name for field in dataclasses.fields(Task)}
    own_fields = [field for field in dataclasses.fields(template) if field.init and field.name not in base]
    fields = {field.name: _plain(field.name, getattr(template, field.name)) for field in own_fields}
    return {"class": _name_of(type(template)), "name": template.name, "options": options, "fields": fields}


def rule_record(value: Any) -> Any:
    """A rule's value as JSON: itself, or a list of its kind and its parts."""
    if value is None or isinstance(value, int | float | str):
        return value
    if isinstance(value, timedelta):
        return ["timedelta", value.total_seconds()]
    if isinstance(value, datetime):
        return ["datetime", value.isoformat()]
    if isinstance(value, Retry):
        kinds = [_name_of(kind) for kind in (value.on if isinstance(value.on, tuple) else (value.on,))]
        return ["retry", value.attempts, value.delay, value.backoff, value.jitter, kinds, value.max_delay]
    if isinstance(value, BusinessHours):
        zone = None if value.timezone is None else zone_name(value.timezone)
        days = [DAYS[day] for day in sorted(value.days)]
        holidays = [day.isoformat() for day in sorted(value.holidays)]
        return ["hours", value.opens.isoformat(), value.closes.isoformat(), days, holidays, zone]
    return ["function", _name_of(value)]


def rule_from(value: Any) -> Any:
    """The value whose `rule_record` this is."""
    if not isinstance(value, list):
        return value
    kind, *parts = value
    if kind == "timedelta":
        return timedelta(seconds=parts[0])
    if kind == "datetime":
        return datetime.fromisoformat(parts[0])
    if kind == "retry":
        attempts, delay, backoff, jitter, kinds, *rest = parts  # the rest: not in records of earlier versions
        return Retry(attempts, delay, backoff, jitter, tuple(_imported(name) for name in kinds), *rest)
    if kind == "hours":
        opens, closes, days, holidays, zone = parts
        closed = [date.fromisoformat(day) for day in holidays]
        first, last = time.fromisoformat(opens), time.fromisoformat(closes)
        return BusinessHours(first, last, days=days, holidays=closed, timezone=zone)
    return _imported(parts[0])


def _plain(name: str, value: Any) -> Any:
    """The value, if JSON keeps it as it is."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(name, item) for key, item in value.items()}
    raise WorkError(f"its {name} is a {type(value).__name__}; only numbers, texts, lists and dicts can be kept")


def _name_of(thing: Any) -> str:
    """Where another kernel can import it from, as "module:name"."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    if module is None or module == "__main__" or "<" in name or _found(f"{module}:{name}") is not thing:
        raise WorkError(f"{name or thing!r} cannot be imported by another kernel")
    return f"{module}:{name}"


def _imported(name: str) -> Any:
    thing = _found(name)
    if thing is None:
        raise WorkError(f"{name.replace(':', '.')} does not exist any more")
    return thing


def _found(name: str) -> Any:
    module, _, path = name.partition(":")
    try:
        thing: Any = importlib.import_module(module)
        for part in path.split("."):
            thing = getattr(thing, part)
    except (ImportError, AttributeError):
        return None
    return thing
