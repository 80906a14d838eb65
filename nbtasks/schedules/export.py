"""Export of schedules: cron, systemd, jupyter-scheduler, Airflow, GitHub Actions."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path, PurePath, PurePosixPath

from nbtasks.exceptions import InvalidScheduleError, InvalidValueError, UnknownTimezoneError, unknown
from nbtasks.formatting import plural
from nbtasks.schedules.cron import CronSchedule
from nbtasks.schedules.cron_syntax import LAST, DayRule, Fields
from nbtasks.schedules.interval import IntervalSchedule
from nbtasks.schedules.parse import Schedule
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.schedules.rules import Rules
from nbtasks.schedules.timezones import LOCAL, find_zone, is_steady, local_zone_name, zone_name

__all__ = ["TARGETS", "Export", "ExportedCell", "export", "exported_cell"]

MINUTE = timedelta(minutes=1)
HOUR_MINUTES, DAY_MINUTES, WEEK_MINUTES = 60, 1_440, 10_080
SECONDS, MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS = (0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6)
WEEKDAY_NAMES = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
LONGEST_COMMAND = 998
"""How many bytes of a command Debian's cron reads, as one line."""
BOTH_DAYS = "a day must match both day of month and day of week, and there it matches one of them"
LOCKED = "it waits 10 s for the end of that one, and then fails; here it is skipped"
APART = 5
"""The least number of minutes between two runs on GitHub Actions."""
YEAR_DAYS = 366


@dataclass(frozen=True, kw_only=True)
class ExportedCell:
    """A background cell with its schedule, as another scheduler is to run it."""

    name: str
    notebook: str
    """The absolute path of the notebook's file."""
    python: str
    """The absolute path of the Python executable that has nbtasks."""
    schedule: Schedule
    zone: tzinfo
    zone_name: str | None
    """The zone by its IANA name; None if it has none."""
    first: datetime
    """The next fire, aware: an interval is exported so that it fires then."""
    rules: Rules = field(default_factory=Rules)
    repository: str | None = None
    """The root of the Git repository that has the notebook, if any."""

    @property
    def command(self) -> list[str]:
        """What runs the cell once."""
        return [self.python, "-m", "nbtasks", "run", self.notebook, "--only", self.name]

    @property
    def title(self) -> str:
        """The cell and its notebook, for comments and descriptions."""
        return f"Cell {self.name!r} of {PurePath(self.notebook).name}"

    @property
    def slug(self) -> str:
        """The name for files and identifiers: letters, digits, `-`, `_` and `.`."""
        return f"nbtasks-{re.sub(r'[^A-Za-z0-9_.-]+', '-', self.name).strip('-.') or 'cell'}"


@dataclass(frozen=True)
class Export:
    """Files for another scheduler, with instructions and a list of differences."""

    files: dict[str, str]
    """Text by file name."""
    install: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"--- {name}\n{text.rstrip()}\n" for name, text in self.files.items()]
        notes = "\n".join(f"- {note}" for note in self.notes)
        return "\n".join([*parts, f"{self.install}\n\nWhat changes:\n{notes}"])


def exported_cell(recurring: RecurringTask, notebook: Path, python: str) -> ExportedCell:
    """The recurring cell as it is to be exported, with its next fire."""
    now = datetime.now(recurring.zone)
    first = next(iter(recurring.next_fires(1)), None) or recurring.parsed.next_after(now)
    folders = [folder for folder in notebook.parents if (folder / ".git").exists()]
    return ExportedCell(
        name=recurring.name,
        notebook=str(notebook),
        python=python,
        schedule=recurring.parsed,
        zone=recurring.zone,
        zone_name=_iana_name(recurring.zone),
        first=now if first is None else first,
        rules=recurring.rules,
        repository=str(folders[0]) if folders else None,
    )


def _iana_name(zone: tzinfo) -> str | None:
    if zone is LOCAL:
        return local_zone_name()
    name = zone_name(zone)
    try:
        find_zone(name)
    except UnknownTimezoneError:  # an offset such as UTC+02:00
        return None
    return name


class _InexpressibleError(Exception):
    """The target cannot express the schedule; the message says what of it, and why."""


def export(target: str, cell: ExportedCell) -> Export:
    """What runs the cell on its schedule in `target`, one of `TARGETS`.

    Raises InvalidScheduleError for a schedule that the target cannot express, which names a target that can, and
    InvalidValueError for an unknown target or a name that does not fit into its files.
    """
    if target not in TARGETS:
        raise InvalidValueError(unknown("target", target, TARGETS))
    _check_texts(cell)
    try:
        exported = _EXPORTERS[target](cell)
    except _InexpressibleError as error:
        others = [other for other in TARGETS if other != target and _can(other, cell)]
        hint = f"use --to {others[0]}" if others else "keep it in nbtasks: nbtasks run NOTEBOOK"
        what = f"{target} cannot express the schedule of {cell.name!r} ({cell.schedule})"
        raise InvalidScheduleError(f"{what}: {error}; {hint}") from None
    return replace(exported, notes=(*exported.notes, *_rule_notes(target, cell.rules), *_common_notes(cell)))


def _can(target: str, cell: ExportedCell) -> bool:
    try:
        _EXPORTERS[target](cell)
    except (_InexpressibleError, InvalidValueError):
        return False
    return True


def _check_texts(cell: ExportedCell) -> None:
    for what, text in (("name", cell.name), ("notebook's path", cell.notebook), ("path of Python", cell.python)):
        if not text.isprintable():
            raise InvalidValueError(f"the {what} {text!r} has characters that cannot be exported")


# -- cron --------------------------------------------------------------------------------------------------------------


def _cron(cell: ExportedCell) -> Export:
    times = _times(cell, LOCAL)
    expression = _crontab_fields(times.fields, by_star=True)
    command = shlex.join(cell.command)
    if "\\" in command:
        raise InvalidValueError(f"cron: the command {command} has a backslash, which not every cron passes on")
    command = command.replace("%", r"\%")
    if len(command.encode()) > LONGEST_COMMAND:
        raise InvalidValueError(f"cron: the command is longer than {LONGEST_COMMAND} bytes: {command}")
    lines = [f"# {cell.title}: {cell.schedule.describe()}"]
    notes = list(times.notes)
    if times.zone is not LOCAL:
        name = _named_zone(cell)
        lines.append(f"CRON_TZ={name}")
        notes.append(
            "time zone: CRON_TZ is a line of cronie (Fedora, RHEL, Arch, SUSE), and holds for all lines after it. "
            f"The cron of Debian and Ubuntu ignores it, and goes by the machine's own zone: unless that is {name}, "
            "use --to systemd there"
        )
        if times.changes_clock:
            notes.append(
                "clock changes: cronie has rules for the machine's zone only. In another zone a time that is skipped "
                "does not run, and one that comes twice runs twice; here it runs right after the gap, and once"
            )
    notes += [
        "missed runs: those of a machine that is off are not made up for; here one run makes up for them",
        f"overlap: cron starts a run although the one before is active; {LOCKED}",
        "output: cron mails what the command prints; the cell's output is written into the notebook",
    ]
    lines.append(f"{expression} {command}")
    return Export({"crontab": "\n".join(lines) + "\n"}, "Add the lines by: crontab -e", tuple(notes))


def _crontab_fields(times: Fields, *, by_star: bool) -> str:
    """The five fields, as all versions of cron read them: numbers, upwards.

    `by_star`: a leading `*` of minute or hour says by which rules it goes when the clock changes.
    """
    days = times.days
    if times.seconds != (0,):
        raise _InexpressibleError("it starts a run at second 0 of a minute only")
    if days.from_end or days.nearest or days.nth:
        raise _InexpressibleError("it has numbers of days and weekdays only, not L, W and #")
    minutes = _field(times.minutes, MINUTES, starred=times.wildcard or not by_star)
    hours = _field(times.hours, HOURS, starred=times.wildcard or not by_star)
    if by_star and times.wildcard and not (minutes.startswith("*") or hours.startswith("*")):
        if hours_star := _with_star(times.hours, HOURS):
            hours = hours_star
        elif minutes_star := _with_star(times.minutes, MINUTES):
            minutes = minutes_star
        else:
            raise _InexpressibleError("only its second begins with *, by which it would go when the clock changes")
    return f"{minutes} {hours} {_plain_days(days, times.months)}"


def _plain_days(days: DayRule, months: tuple[int, ...]) -> str:
    """The fields for days and months of a rule with plain numbers, by cron's OR and AND."""
    if days.any_day_of_month and days.any_day_of_week:
        number, weekday = "*", "*"
    elif not days.both:
        every = days.any_day_of_month or days.any_day_of_week
        number = "*" if every else _field(days.days, DAYS, starred=False)
        weekday = "*" if every else _field(days.weekdays, WEEKDAYS, starred=False)
    else:
        number = _field(days.days, DAYS, starred=True)
        weekday = _field(days.weekdays, WEEKDAYS, starred=True)
        if not (number.startswith("*") or weekday.startswith("*")):
            number, weekday = _with_star(days.days, DAYS) or number, _with_star(days.weekdays, WEEKDAYS) or weekday
    return f"{number} {_field(months, MONTHS, starred=True)} {weekday}"


def _field(values: Iterable[int], limits: tuple[int, int], *, starred: bool) -> str:
    """The text of a field's values; `starred`: `*` or `*/n` where that is all of it."""
    found, (low, high) = sorted(values), limits
    if starred and found[0] == low and len(found) > 1:
        step = found[1] - low
        if found == list(range(low, high + 1, step)):
            return "*" if step == 1 else f"*/{step}"
    return ",".join(_ranges(found))


def _with_star(values: Iterable[int], limits: tuple[int, int]) -> str | None:
    """A text of the values that begins with `*`, which changes cron's rules; None if there is none."""
    found, (low, high) = sorted(values), limits
    if found[0] != low:
        return None
    steps = range(2, high - low + 2)
    step = next(step for step in steps if set(range(low, high + 1, step)) <= set(found))
    return ",".join([f"*/{step}", *_ranges([value for value in found if (value - low) % step])])


def _ranges(values: list[int]) -> list[str]:
    """The values as numbers, ranges and one stepped range, upwards."""
    if len(values) > 2:
        step = values[1] - values[0]
        if step > 1 and values == list(range(values[0], values[-1] + 1, step)):
            return [f"{values[0]}-{values[-1]}/{step}"]
    texts = []
    for first, last in _runs(values):
        texts += [f"{first}-{last}"] if last > first + 1 else [str(value) for value in range(first, last + 1)]
    return texts


def _runs(values: list[int]) -> list[tuple[int, int]]:
    """The first and the last of each run of consecutive values."""
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and runs[-1][1] == value - 1:
            runs[-1] = runs[-1][0], value
        else:
            runs.append((value, value))
    return runs


# -- systemd -----------------------------------------------------------------------------------------------------------

WORKING_DAYS = frozenset({1, 2, 3, 4, 5})
MONDAY, FRIDAY = frozenset({1}), frozenset({5})
ALL_MONTHS, ALL_WEEKDAYS = frozenset(range(1, 13)), frozenset(range(7))
FEBRUARY = frozenset({2})
SHORT_MONTHS = frozenset({4, 6, 9, 11})
LONG_MONTHS = ALL_MONTHS - FEBRUARY - SHORT_MONTHS
ALL_DAYS = frozenset(range(1, 32))


@dataclass(frozen=True)
class _Days:
    """Days in a line of systemd: numbers from the start or end of a month, weekdays."""

    days: frozenset[int] = ALL_DAYS
    weekdays: frozenset[int] = ALL_WEEKDAYS
    months: frozenset[int] = ALL_MONTHS
    from_end: bool = False

    def __and__(self, other: _Days) -> _Days:
        if self.from_end == other.from_end:
            days, from_end = self.days & other.days, self.from_end
        elif self.days == ALL_DAYS and not self.from_end:
            days, from_end = other.days, True
        elif other.days == ALL_DAYS and not other.from_end:
            days, from_end = self.days, True
        else:
            raise _InexpressibleError("a day that counts from the month's end cannot also have certain numbers")
        return _Days(days, self.weekdays & other.weekdays, self.months & other.months, from_end)

    def text(self) -> str | None:
        """As in OnCalendar; None if there is no such day."""
        longest = 31 if self.months & LONG_MONTHS else 30 if self.months & SHORT_MONTHS else 29
        days = frozenset(day for day in self.days if day <= longest)
        if not (days and self.weekdays and self.months):
            return None
        weekdays = sorted((day - 1) % 7 for day in self.weekdays)  # Monday first
        names = [WEEKDAY_NAMES[(day + 1) % 7] for day in range(7)]
        texts = [names[first] if first == last else f"{names[first]}..{names[last]}" for first, last in _runs(weekdays)]
        weekday = "" if self.weekdays == ALL_WEEKDAYS else f"{','.join(texts)} "
        day = _calendar_field(days, DAYS) if not self.from_end else ",".join(map(str, sorted(days)))
        return f"{weekday}*-{_calendar_field(self.months, MONTHS)}{'~' if self.from_end else '-'}{day}"


def _systemd(cell: ExportedCell) -> Export:
    notes = [
        "overlap: systemd never runs it twice at once. A time that comes during a run is made up for right afterwards, "
        "once; here it is skipped"
    ]
    if isinstance(cell.schedule, CronSchedule):
        lines = _calendar_lines(cell, cell.schedule.fields)
        notes += _calendar_notes(cell, cell.schedule)
    elif isinstance(cell.schedule, IntervalSchedule):
        every = f"{cell.schedule.every // timedelta(milliseconds=1)}ms"
        lines = [f"OnActiveSec={every}", f"OnUnitActiveSec={every}"]
        notes += [
            "interval: it counts from the start of the timer, then from the start of each run, by a clock that stands "
            "still while the machine sleeps",
            "missed runs: none are made up for; here one run makes up for those that were missed during sleep",
        ]
    else:
        raise _not_exportable(cell.schedule)
    if cell.rules.jitter:
        lines.append(f"RandomizedDelaySec={cell.rules.jitter // timedelta(milliseconds=1)}ms")
    title = cell.title.replace("%", "%%")
    service = [
        "[Unit]",
        f"Description={title}",
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={' '.join(_unit_words(cell.command))}",
    ]
    timer = [
        "[Unit]",
        f"Description={title}: {cell.schedule.describe()}",
        "",
        "[Timer]",
        *lines,
        "AccuracySec=1ms",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    files = {f"{cell.slug}.service": "\n".join(service) + "\n", f"{cell.slug}.timer": "\n".join(timer) + "\n"}
    install = (
        f"Write the two files into ~/.config/systemd/user, then: systemctl --user enable --now {cell.slug}.timer; "
        "so that it also runs while you are logged out: loginctl enable-linger"
    )
    return Export(files, install, tuple(notes))


def _calendar_lines(cell: ExportedCell, times: Fields) -> list[str]:
    """The OnCalendar lines: one for each kind of day."""
    zone = "" if cell.zone is LOCAL else f" {_named_zone(cell)}"
    parts = [(times.hours, HOURS), (times.minutes, MINUTES), (times.seconds, SECONDS)]
    time = ":".join(_calendar_field(values, limits, width=2) for values, limits in parts)
    texts = [days.text() for days in _kinds_of_days(times)]
    lines = [f"OnCalendar={text} {time}{zone}" for text in dict.fromkeys(texts) if text is not None]
    return [*lines, "Persistent=true"]


def _calendar_notes(cell: ExportedCell, schedule: CronSchedule) -> list[str]:
    late = cell.rules.misfire_grace
    notes = [
        "missed runs: one run makes up for those that were missed while the machine was off, as here"
        + (f", but however late (here: at most {late})" if late is not None else "")
    ]
    if _changes_clock(cell.zone, cell.first):
        difference = (
            "a time that is skipped does not run; here it runs right after the gap"
            if schedule.is_fixed
            else "when the clock goes back, nothing runs in the second pass of the repeated hour; here it does"
        )
        notes.append(f"clock changes: {difference}")
    return notes


def _kinds_of_days(times: Fields) -> list[_Days]:
    rule = times.days
    months = _Days(months=frozenset(times.months))
    numbers = [_Days()] if rule.any_day_of_month else list(_by_number(rule))
    weekdays = [_Days()] if rule.any_day_of_week else list(_by_weekday(rule))
    if rule.both:
        return [months & number & weekday for number in numbers for weekday in weekdays]
    if rule.any_day_of_month or rule.any_day_of_week:
        return [months]
    return [months & days for days in (*numbers, *weekdays)]


def _by_number(rule: DayRule) -> Iterable[_Days]:
    if rule.days:
        yield _Days(rule.days)
    if rule.from_end:
        yield _Days(frozenset(before + 1 for before in rule.from_end), from_end=True)
    for number in sorted(rule.nearest):
        if number < 28:
            yield from _nearest(number, 31)
            continue
        for months, length in ((LONG_MONTHS, 31), (SHORT_MONTHS, 30), (FEBRUARY, 28)):
            yield from (replace(days, months=months) for days in _nearest(number, length))


def _nearest(number: int, length: int) -> Iterable[_Days]:
    """The working day nearest to that day, in months of that length (28: also 29)."""
    if number == length == 28:
        raise _InexpressibleError("28W in February depends on the leap year, and its calendar has no leap years")
    if number >= length:
        yield _Days(frozenset({1}), WORKING_DAYS, from_end=True)
        yield _Days(frozenset({2, 3}), FRIDAY, from_end=True)
        return
    yield _Days(frozenset({number}), WORKING_DAYS)
    if number > 1:
        yield _Days(frozenset({number - 1}), FRIDAY)
    yield _Days(frozenset({number + 1} if number > 1 else {2, 3}), MONDAY)


def _by_weekday(rule: DayRule) -> Iterable[_Days]:
    if rule.weekdays:
        yield _Days(weekdays=rule.weekdays)
    for weekday, place in sorted(rule.nth):
        on = frozenset({weekday})
        if place == LAST:
            yield _Days(frozenset(range(1, 8)), on, from_end=True)
        else:
            yield _Days(frozenset(range(7 * place - 6, min(7 * place, 31) + 1)), on)


def _calendar_field(values: Iterable[int], limits: tuple[int, int], width: int = 0) -> str:
    found, (low, high) = sorted(values), limits
    if found == list(range(low, high + 1)):
        return "*"
    # No steps: with `00/5` systemd 252 skips the first midnight of a month (findings/).
    return ",".join(
        f"{first:0{width}}" if first == last else f"{first:0{width}}..{last:0{width}}" for first, last in _runs(found)
    )


def _unit_words(words: list[str]) -> list[str]:
    """Return the words of ExecStart, quoted where needed; systemd replaces no variables in the first."""
    escaped = [word.replace("\\", r"\\").replace('"', r"\"").replace("%", "%%") for word in words]
    escaped[1:] = [word.replace("$", "$$") for word in escaped[1:]]
    return [f'"{word}"' if re.search(r"[\s\"'\\;]", word) else word for word in escaped]


# -- jupyter-scheduler -------------------------------------------------------------------------------------------------


def _jupyter_scheduler(cell: ExportedCell) -> Export:
    times = _times(cell, None)
    definition = {
        "name": cell.slug,
        "input_uri": f"{cell.slug}.ipynb",
        "runtime_environment_name": PurePath(cell.python).name,
        "output_formats": ["ipynb"],
        "schedule": _croniter_fields(times.fields, seconds=False),
        "timezone": times.zone_name,
    }
    source = f"import subprocess\n\nsubprocess.run({json.dumps(cell.command)}, check=True)"
    notebook = {
        "cells": [
            {"cell_type": "code", "id": "run", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    notes = [
        *times.notes,
        "notebook: jupyter-scheduler runs whole notebooks; so a notebook of one cell runs nbtasks, which writes yours",
        "environment: runtime_environment_name must be one that the server lists: GET /scheduler/runtime_environments",
        "missed runs: none while the Jupyter server is off, and none are made up for; a run starts up to 10 s late",
        f"overlap: it starts a run although the one before is active; {LOCKED}",
    ]
    if times.changes_clock:
        notes.append(
            "clock changes: croniter computes the times, and may run a job at another hour, twice or not at all "
            "on the day of the change"
        )
    files = {
        f"{cell.slug}.ipynb": json.dumps(notebook, indent=1) + "\n",
        f"{cell.slug}.json": json.dumps(definition, indent=2) + "\n",
    }
    install = (
        f"Write {cell.slug}.ipynb into the root folder of the Jupyter server, and send the job definition: POST "
        "/scheduler/job_definitions"
    )
    return Export(files, install, tuple(notes))


def _croniter_fields(times: Fields, *, seconds: bool) -> str:
    """The fields as all versions of croniter read them; a second stands last."""
    days = times.days
    if times.seconds != (0,) and not seconds:
        raise _InexpressibleError("it starts a run at second 0 of a minute only")
    if days.nearest or days.from_end - {0}:
        raise _InexpressibleError("croniter, which reads its schedules, has no W and no L-3 in all of its versions")
    if days.nth and days.weekdays:
        raise _InexpressibleError("croniter, which reads its schedules, refuses 5#2 beside a plain day of the week")
    if days.nth and not (days.both or days.any_day_of_month):
        raise _InexpressibleError("croniter, which reads its schedules, wants both 5#2 and the day of month to match")
    any_number, any_weekday = days.any_day_of_month, days.any_day_of_week
    if days.both and not (any_number or any_weekday):
        raise _InexpressibleError(BOTH_DAYS)
    every = (any_number and any_weekday) or (not days.both and (any_number or any_weekday))
    texts = [
        _field(times.minutes, MINUTES, starred=True),
        _field(times.hours, HOURS, starred=True),
        "*" if every or any_number else _croniter_numbers(days),
        _field(times.months, MONTHS, starred=True),
        "*" if every or any_weekday else _croniter_weekdays(days),
    ]
    if times.seconds != (0,):
        texts.append(_field(times.seconds, SECONDS, starred=True))
    return " ".join(texts)


def _croniter_numbers(days: DayRule) -> str:
    numbers = [_field(days.days, DAYS, starred=True)] if days.days else []
    return ",".join([*numbers, *(["L"] if days.from_end else [])])


def _croniter_weekdays(days: DayRule) -> str:
    if not days.nth:
        return _field(days.weekdays, WEEKDAYS, starred=True)
    return ",".join(f"L{day}" if place == LAST else f"{day}#{place}" for day, place in sorted(days.nth))


# -- Airflow -----------------------------------------------------------------------------------------------------------

_DAG = '''"""{title}: {description}."""

import subprocess
{imports}

try:  # Airflow 3
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.decorators import task

with DAG(
    dag_id={dag_id},
    schedule={schedule},
    start_date=pendulum.parse({start}),
{end}    catchup=False,
    max_active_runs=1,
) as dag:

    @task(task_id="run", retries=0)
    def run():
        subprocess.run({command}, check=True)

    run()
'''


def _airflow(cell: ExportedCell) -> Export:
    notes = [
        "missed runs: one run makes up for those that were missed while the scheduler was off (catchup=False), as here",
        "overlap: a run waits for the one before (max_active_runs=1); here it is skipped",
        "machine: the command runs where the task of Airflow does, which needs this notebook and this Python",
        "start: a new DAG is paused until it is switched on, unless Airflow is configured otherwise",
    ]
    if isinstance(cell.schedule, IntervalSchedule):
        schedule = f"timedelta(seconds={cell.schedule.every.total_seconds()!r})"
        start = cell.first - cell.schedule.every
        imports = "from datetime import timedelta\n\nimport pendulum"
        notes.append("interval: it counts from one run to the next; Airflow's scheduler starts them some seconds late")
    else:
        times = _times(cell, None)
        expression = _croniter_fields(times.fields, seconds=True)
        schedule = f"CronTriggerTimetable({expression!r}, timezone={times.zone_name!r})"
        start = cell.first
        imports = "\nimport pendulum\nfrom airflow.timetables.trigger import CronTriggerTimetable"
        if times.changes_clock:
            notes.append(
                "clock changes: a fixed time that is skipped runs later by the length of the gap, and one that comes "
                "twice runs the second time; here it runs right after the gap, and the first time"
            )
    until = cell.rules.until
    text = _DAG.format(
        title=_docstring_text(cell.title),
        description=_docstring_text(cell.schedule.describe()),
        imports=imports,
        dag_id=repr(cell.slug),
        schedule=schedule,
        start=repr(start.astimezone(UTC).replace(microsecond=0).isoformat()),
        end="" if until is None else f"    end_date=pendulum.parse({until.isoformat()!r}),\n",
        command=repr(cell.command),
    )
    install = f"Write {cell.slug}.py into Airflow's dags folder"
    return Export({f"{cell.slug}.py": text}, install, tuple(notes))


def _docstring_text(text: str) -> str:
    return text.replace("\\", "/").replace('"', "'")


# -- GitHub Actions ----------------------------------------------------------------------------------------------------

_WORKFLOW = """# {title}: {description}
name: {name}

on:
  schedule:
    - cron: {cron}
{zone}  workflow_dispatch:

concurrency:
  group: {name}

jobs:
  run:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
      - uses: actions/setup-python@v6
        with:
          python-version: "3.13"
      # REPOSITORY: the address of a repository of nbtasks, such as https://HOST/OWNER/nbtasks
      - run: python -m pip install "nbtasks[run] @ git+REPOSITORY"
      - run: {command}
      - uses: actions/upload-artifact@v5
        if: always()
        with:
          name: {name}
          path: {notebook}
"""


def _github_actions(cell: ExportedCell) -> Export:
    times = _times(cell, None)
    apart = _least_minutes_apart(times.fields)
    if apart < APART:
        raise _InexpressibleError(f"its runs are {plural(apart, 'minute')} apart, and there they are at least {APART}")
    if times.fields.days.both and not (times.fields.days.any_day_of_month or times.fields.days.any_day_of_week):
        raise _InexpressibleError(BOTH_DAYS)
    if "${{" in cell.name + cell.notebook:
        raise InvalidValueError("github-actions: '${{' in a name would be read as an expression")
    expression = _crontab_fields(times.fields, by_star=False)
    notebook = _path_in_repository(cell)
    command = shlex.join(["python", "-m", "nbtasks", "run", notebook, "--only", cell.name])
    text = _WORKFLOW.format(
        title=cell.title,
        description=cell.schedule.describe(),
        name=cell.slug,
        cron=_yaml(expression),
        zone="" if times.zone_name == "UTC" else f"      timezone: {_yaml(times.zone_name)}\n",
        command=_yaml(command),
        notebook=_yaml(notebook),
    )
    notes = [
        *times.notes,
        "delay: scheduled workflows often start some minutes late, and under load some are dropped; they run on the "
        "default branch only, and GitHub switches them off after 60 days without activity in a public repository",
        "packages: add what the notebook imports to the step that installs; its data must be in the repository",
        "output: the executed notebook is an artifact of the run; nothing is committed",
        "missed runs: none are made up for",
        "overlap: a run waits for the one before, and of those that wait the newest remains; here it is skipped",
    ]
    if times.zone_name != "UTC":
        notes.append(
            "time zone: github.com reads the key `timezone` since March 2026. An older GitHub Enterprise Server does "
            "not know it: there, give the schedule the zone UTC"
        )
    if times.changes_clock:
        notes.append(
            "clock changes: by GitHub's documentation a time that is skipped runs at the next valid time, as here; one "
            "that comes twice may run twice"
        )
    if cell.repository is None:
        notes.append(f"path: no Git repository has the notebook; the workflow expects {notebook} at the root of one")
    install = f"Write .github/workflows/{cell.slug}.yml, and push it with the notebook to the default branch"
    return Export({f"{cell.slug}.yml": text}, install, tuple(notes))


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _path_in_repository(cell: ExportedCell) -> str:
    notebook = PurePath(cell.notebook)
    if cell.repository is None:
        return notebook.name
    return str(PurePosixPath(notebook.relative_to(cell.repository)))


def _least_minutes_apart(times: Fields) -> int:
    """The shortest time between two fires on one day or on two consecutive ones."""
    if len(times.seconds) > 1:
        return 0
    minutes = [hour * HOUR_MINUTES + minute for hour in times.hours for minute in times.minutes]
    return min(later - earlier for earlier, later in pairwise([*minutes, minutes[0] + DAY_MINUTES]))


# -- common to the targets ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Times:
    """Times on the clock of a zone."""

    fields: Fields
    zone: tzinfo
    zone_name: str
    changes_clock: bool
    notes: tuple[str, ...] = ()


def _times(cell: ExportedCell, interval_zone: tzinfo | None) -> _Times:
    """The schedule by the clock: an interval by that of `interval_zone`, None for UTC."""
    if isinstance(cell.schedule, CronSchedule):
        name = "" if cell.zone is LOCAL and interval_zone is LOCAL else _named_zone(cell)
        return _Times(cell.schedule.fields, cell.zone, name, _changes_clock(cell.zone, cell.first))
    if not isinstance(cell.schedule, IntervalSchedule):
        raise _not_exportable(cell.schedule)
    zone = UTC if interval_zone is None else interval_zone
    first = cell.first.astimezone(zone)
    changes = _changes_clock(zone, cell.first)
    note = f"interval: by the clock from {first:%H:%M} on, whenever the run before started; here from start to start"
    if changes:
        note += ", so that a change of the clock shifts nothing"
    return _Times(_interval_fields(cell.schedule.every, first), zone, "UTC", changes, (note,))


def _interval_fields(every: timedelta, first: datetime) -> Fields:
    """The times on the clock at that interval from a fire on."""
    minutes, rest = divmod(every, MINUTE)
    if rest or not minutes:
        raise _InexpressibleError("it starts a run at whole minutes only, and the interval is not of whole minutes")
    hours, of_hour = divmod(minutes, HOUR_MINUTES)
    weekdays = ALL_WEEKDAYS
    if not hours and HOUR_MINUTES % minutes == 0:
        at_minutes, at_hours = range(first.minute % minutes, HOUR_MINUTES, minutes), range(24)
    elif not of_hour and 0 < hours <= 24 and 24 % hours == 0:
        at_minutes, at_hours = range(first.minute, first.minute + 1), range(first.hour % hours, 24, hours)
    elif minutes == WEEK_MINUTES:
        at_minutes, at_hours = range(first.minute, first.minute + 1), range(first.hour, first.hour + 1)
        weekdays = frozenset({first.isoweekday() % 7})
    else:
        raise _InexpressibleError(
            "its times follow the clock, and the interval is no divisor of an hour or a day, and no week"
        )
    days = DayRule(days=ALL_DAYS, weekdays=weekdays)
    wildcard = at_hours[0] == 0 and len(at_hours) > 1
    return Fields((0,), tuple(at_minutes), tuple(at_hours), tuple(range(1, 13)), days, wildcard)


def _not_exportable(schedule: Schedule) -> _InexpressibleError:
    return _InexpressibleError(f"a {type(schedule).__name__} is neither a cron expression nor an interval")


def _named_zone(cell: ExportedCell) -> str:
    if cell.zone_name is None:
        raise _InexpressibleError("its time zone has no name; give the schedule one, such as Europe/Paris")
    return cell.zone_name


def _changes_clock(zone: tzinfo, start: datetime) -> bool:
    """Whether the clock of the zone changes in the year from `start` on."""
    if is_steady(zone):
        return False
    moments = (start + timedelta(days=day) for day in range(0, YEAR_DAYS, 7))
    return len({moment.astimezone(zone).utcoffset() for moment in moments}) > 1


EXPORTED_RULES = {"systemd": {"jitter"}, "airflow": {"until"}}
NOTED_RULES = ("max_concurrent", "misfire_grace", "retry")


def _rule_notes(target: str, rules: Rules) -> list[str]:
    """A note for the rules that the export leaves out."""
    if rules.only_if is not None:
        raise InvalidScheduleError(
            f"{target} cannot call only_if: remove it, and write its hours into the expression: '0 9-16 * * 1-5'"
        )
    default = Rules()
    names = [rule.name for rule in fields(Rules) if getattr(rules, rule.name) != getattr(default, rule.name)]
    names = [name for name in names if name not in (EXPORTED_RULES.get(target) or ())]
    if target == "systemd" and "misfire_grace" in names:
        names.remove("misfire_grace")
    return [f"not exported: {', '.join(f'{name}={getattr(rules, name)}' for name in names)}"] if names else []


def _common_notes(cell: ExportedCell) -> list[str]:
    notes = [
        f"names: each run is a new kernel, which runs the foreground cells before {cell.name!r} and then that cell; "
        "this notebook does not get the names that it binds",
        f"notebook: each run reads the file as it was saved, with {cell.name!r} in the cell's first line. While the "
        "notebook is open in a kernel that has loaded nbtasks, it refuses to write the file: add --output FILE",
        f"here the schedule stays on: %bgtask pause {cell.name}",
    ]
    if isinstance(cell.schedule, CronSchedule) and cell.schedule.drawn != cell.schedule.expression:
        notes.insert(0, "H and R: the numbers that were drawn here are written out")
    return notes


_EXPORTERS: dict[str, Callable[[ExportedCell], Export]] = {
    "cron": _cron,
    "systemd": _systemd,
    "jupyter-scheduler": _jupyter_scheduler,
    "airflow": _airflow,
    "github-actions": _github_actions,
}
TARGETS = tuple(_EXPORTERS)
