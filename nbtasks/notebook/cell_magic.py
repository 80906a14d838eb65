"""`CellMagic`: tasks, schedules and sweeps of cells by the options of `%%bgtask`."""

from __future__ import annotations

import argparse
import ast
import functools
import importlib.util
import itertools
import keyword
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from IPython.core.error import UsageError

from nbtasks import validation
from nbtasks.notebook.cell_options import help_text, parsed, unquoted
from nbtasks.notebook.cells.cell_task import WAITS_FOR_EARLIER, CellTask
from nbtasks.notebook.cells.errors import as_in_foreground
from nbtasks.notebook.cells.recurring_cell import CellRun, CellRuns
from nbtasks.notebook.cells.source import CellSource
from nbtasks.notebook.commands import Commands
from nbtasks.notebook.kernel import LaunchingCell
from nbtasks.notebook.output.output import Output
from nbtasks.notebook.remote.cell_work import WorkerProcess
from nbtasks.notebook.remote.foreign_kernel import OtherKernel, find_kernel
from nbtasks.notebook.session import NotebookSession
from nbtasks.retry import Retry
from nbtasks.schedules import CronSchedule, IntervalSchedule, Schedule, find_zone
from nbtasks.schedules.interval import parse_interval
from nbtasks.task import Task
from nbtasks.task_list import Sweep

__all__ = ["CellMagic"]

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_PROCESS_BACKENDS = ("process", "dask")
_IF_RUNNING = ("error", "skip", "replace", "queue")


class CellMagic:
    """Runs cells as the options of `%%bgtask` say."""

    def __init__(self, session: NotebookSession, commands: Commands) -> None:
        self._session = session
        self._manager = session.manager
        self._commands = commands

    def run(self, line: str, cell: str) -> CellTask | None:
        """Run the cell with the options on the line; returns its task if that has been waited for."""
        options = parsed(line)
        if options.help:
            print(help_text())
            return None
        schedule = _schedule_options(options)
        if options.sweep is not None:
            self._launch_sweep(options, cell, recurs=schedule is not None)
            return None
        task = self._make_task(options, cell, recurs=schedule is not None, line=line)
        if task is None:
            return None
        if schedule is None:
            self._session.launch(task, quiet=options.quiet, replaces=options.if_running == "replace")
        else:
            assert isinstance(task, CellRun)
            self._session.launch_schedule(
                task,
                schedule.schedule,
                timezone=schedule.timezone,
                max_concurrent=schedule.max_concurrent,
                quiet=options.quiet,
                at_once=options.now or options.every is not None,
                replaces=options.if_running == "replace",
            )
        if not options.wait:
            return None
        self._session.wait_in_cell(task, quiet=options.quiet)
        return task

    def _launch_sweep(self, options: argparse.Namespace, cell: str, *, recurs: bool) -> None:
        """Run the cell once for each combination of the values of `--for`."""
        if recurs or options.shared or options.kernel is not None:
            raise UsageError("%%bgtask: --for cannot be combined with --every, --cron, --shared or --kernel")
        if cell.lstrip().startswith("%%"):
            raise UsageError("%%bgtask: --for needs a cell without another cell magic")
        combinations = sweep_combinations(options.sweep)
        stem = options.name or self._session.next_name()
        if not stem.isidentifier():
            raise UsageError(f"%%bgtask: a sweep needs a name that a variable can have, not {stem!r}")
        tasks = []
        for number, values in enumerate(combinations, start=1):
            options.name = f"{stem}-{number}"
            bound = "; ".join(f"{name} = {value!r}" for name, value in values.items())
            heading = ", ".join(f"{name}={value}" for name, value in values.items())
            task = self._make_task(options, f"{bound}\n{cell}", recurs=False, heading=heading, commits=False)
            if task is None:
                return
            tasks.append(task)
        sweep = Sweep(tasks, combinations, self._session.run_all_again)
        for task in tasks:
            self._session.launch(task, quiet=options.quiet, replaces=options.if_running == "replace")
        self._session.shell.user_ns[stem] = sweep
        if options.wait:
            self._session.wait_for_all(tasks, quiet=options.quiet)

    def _make_task(
        self,
        options: argparse.Namespace,
        cell: str,
        *,
        recurs: bool,
        line: str = "",
        heading: str | None = None,
        commits: bool = True,
    ) -> CellTask | None:
        """The task that the options describe, or the template of its schedule; None if it is skipped.

        One that commits nothing shows its output in the panel only.
        """
        if not cell.strip():
            raise UsageError("%%bgtask: the cell is empty; put the code to run below the first line")
        launching = self._session.kernel.launching_cell()
        if options.if_running not in _IF_RUNNING:
            raise UsageError(f"%%bgtask: --if-running must be {_any_of(_IF_RUNNING)}, not {options.if_running!r}")
        if options.notify and options.quiet:
            raise UsageError("%%bgtask: --notify needs the panel to reach the page; omit --quiet")
        if options.detach and options.wait:
            raise UsageError("%%bgtask: --detach cannot be combined with --wait")
        if options.atomic and options.shared:
            raise UsageError("%%bgtask: --atomic cannot be combined with --shared, which binds names at once")
        priority, retry = _whole_number("--priority", options.priority), _retry(options.retries)
        timeout = None if options.timeout is None else parse_interval(options.timeout)
        elsewhere = _elsewhere(options)
        after = self._dependencies(options.after)
        code = self._read(cell, launching, elsewhere)
        name = options.name or self._session.next_name()
        if name in code.binds:
            raise UsageError(f"%%bgtask: the cell itself binds {name!r}; give the task another name")
        earlier = [task for task in self._manager.active_tasks if _is_rerun(task, name, launching, named=options.name)]
        if earlier and not self._may_start(earlier, options.if_running, quiet=options.quiet):
            return None
        # A program that runs the notebook drops late output of this cell: `Slots` deliver it with later cells.
        dropped = launching.headless and not (options.wait or options.quiet)
        send = None if dropped or not commits else functools.partial(self._session.kernel.send, launching)
        waits = options.if_running in ("queue", "replace") and not recurs  # of a schedule, its runs wait
        kind: Callable[..., CellTask] = CellTask
        if recurs:
            kind = functools.partial(CellRun, runs=CellRuns(send, self._session.publisher, line))
        output = Output(None if recurs else send, self._session.publisher)
        output.shows_pages = not options.quiet
        return kind(
            name=name,
            lane=options.lane,
            priority=priority,
            timeout=timeout,
            retry=retry,
            backend=options.backend or _backend(code, elsewhere),
            after=[*after, *(earlier if waits else ())],
            body=WAITS_FOR_EARLIER if waits and options.if_running == "replace" and earlier else None,
            code=code,
            notebook=self._session.notebook,
            cell=launching,
            output=output,
            shared=options.shared,
            atomic=options.atomic,
            notify=options.notify,
            detached=options.detach,
            raises_in_cell=options.wait and commits,
            heading=heading,
            commits=commits,
            earlier_runs=tuple(earlier),
            elsewhere=elsewhere,
        )

    def _read(self, cell: str, launching: LaunchingCell, elsewhere: WorkerProcess | OtherKernel | None) -> CellSource:
        shell = self._session.shell
        if isinstance(elsewhere, OtherKernel) and elsewhere.language != "python":
            return CellSource.of_other_language(shell, cell, launching.execution_count)
        try:
            with warnings.catch_warnings():
                if elsewhere is not None:  # the compiler warns there
                    warnings.simplefilter("ignore", SyntaxWarning)
                return CellSource(shell, cell, launching.execution_count)
        except SyntaxError as error:
            raise as_in_foreground(shell, error) from None

    def _dependencies(self, names: str | None) -> list[Task]:
        if names is None:
            return []
        return self._commands.tasks("%%bgtask --after", [name.strip() for name in names.split(",") if name.strip()])

    def _may_start(self, earlier: Iterable[Task], if_running: str, *, quiet: bool) -> bool:
        """Apply `--if-running` to earlier runs of the same cell; whether the new run starts."""
        names = ", ".join(f"{task.name!r} is still {task.state.value}" for task in earlier)
        if if_running in ("error", "skip") and not quiet:
            for task in earlier:  # the cell was cleared: its panel, with Cancel, belongs to the running task
                self._session.show(task)
        if if_running == "error":
            raise UsageError(
                f"%%bgtask: {names}; wait for it, cancel it, choose another name, "
                "or add --if-running skip, replace or queue"
            )
        if if_running == "skip":
            print(f"skipped: {names}")
            return False
        if if_running == "replace":
            for task in earlier:
                self._manager.cancel_task(task)
        return True


def _is_rerun(task: Task, name: str, cell: LaunchingCell, *, named: str | None) -> bool:
    """Whether `task` is an earlier run: of the same name or, for an unnamed cell, of the same cell."""
    if named is not None or not isinstance(task, CellTask):
        return task.name == name
    return cell.cell_id is not None and task.cell.cell_id == cell.cell_id


MOST_RUNS = 1_000


def sweep_combinations(texts: Iterable[str]) -> list[dict[str, Any]]:
    """The combinations of the values of `--for C=0.1,1,10` options, the last option varying fastest.

    Values are Python literals; other words are strings.
    """
    values: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, listed = unquoted(text).partition("=")
        if not equals or not name.isidentifier() or keyword.iskeyword(name):
            raise UsageError(f"%%bgtask: --for must be a name and its values, such as C=0.1,1,10, not {text!r}")
        if name in values:
            raise UsageError(f"%%bgtask: --for has {name!r} twice")
        values[name] = _literals(listed)
        if not values[name]:
            raise UsageError(f"%%bgtask: --for {name}= has no values")
    number = math.prod(map(len, values.values()))
    if number > MOST_RUNS:
        raise UsageError(f"%%bgtask: --for gives {number:,} runs; at most {MOST_RUNS:,} are allowed")
    return [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]


def _literals(text: str) -> list[Any]:
    """The values of a comma-separated list."""
    try:
        return list(ast.literal_eval(f"({text},)")) if text.strip() else []
    except (ValueError, SyntaxError):
        return [_literal(one.strip()) for one in text.split(",") if one.strip()]


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


# -- options -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ScheduleOptions:
    schedule: Schedule | str
    timezone: str | None
    max_concurrent: int


def _schedule_options(options: argparse.Namespace) -> _ScheduleOptions | None:
    """The options of the schedule, checked; None for a cell that runs once."""
    every, cron, zone = options.every, options.cron, options.tz
    if every is None and cron is None:
        for option, value in (("--tz", zone), ("--max-concurrent", options.max_concurrent), ("--now", options.now)):
            if value not in (None, False):
                raise UsageError(f"%%bgtask: {option} needs a schedule; add --every or --cron")
        return None
    if every is not None and cron is not None:
        raise UsageError("%%bgtask: use either --every or --cron, not both")
    once = {"--wait": options.wait, "--after": options.after is not None, "--detach": options.detach}
    for option, given in once.items():
        if given:
            raise UsageError(f"%%bgtask: {option} is for a cell that runs once; omit it, or the schedule")
    schedule: Schedule | str
    if every is not None:
        schedule = IntervalSchedule(every)
        find_zone(zone)
    else:
        schedule = cron or ""
        CronSchedule(schedule, zone, hash_id="")  # checked before anything starts; the name that H needs comes later
    limit = options.max_concurrent
    return _ScheduleOptions(schedule, zone, 1 if limit is None else _whole_number("--max-concurrent", limit, 1))


def _whole_number(option: str, text: str, least: int | None = None) -> int:
    try:
        value: int | str = int(text)
    except ValueError:
        value = text
    return validation.whole_number(option, value, least)


def _backend(code: CellSource, elsewhere: WorkerProcess | OtherKernel | None) -> str:
    """The backend of a cell that names none."""
    if elsewhere is not None:
        return "process"
    return "loop" if code.needs_loop else "thread"


def _elsewhere(options: argparse.Namespace) -> WorkerProcess | OtherKernel | None:
    """How the cell runs in another process; None if it runs in the notebook's own."""
    if options.kernel is not None:
        if options.backend not in (None, "process") or options.memory is not None or options.shared:
            raise UsageError("%%bgtask: --kernel cannot be combined with --backend, --memory or --shared")
        return find_kernel(options.kernel)
    if options.backend not in _PROCESS_BACKENDS:
        if options.memory is not None:
            raise UsageError("%%bgtask: --memory needs --backend process or dask")
        return None
    if options.shared:
        raise UsageError(f"%%bgtask: --shared needs the notebook's own process; omit --backend {options.backend}")
    if options.backend == "dask" and importlib.util.find_spec("distributed") is None:
        raise UsageError("%%bgtask: --backend dask needs Dask: pip install distributed")
    return WorkerProcess(None if options.memory is None else _bytes(options.memory))


def _bytes(text: str) -> int:
    number, unit = text[:-1], text[-1:].upper()
    if unit in _UNITS and number.replace(".", "", 1).isdecimal() and float(number) > 0:
        return int(float(number) * _UNITS[unit])
    raise UsageError(f"%%bgtask: --memory must be a number with K, M, G or T, such as 500M or 4G, not {text!r}")


def _retry(retries: str | None) -> Retry | None:
    number = 0 if retries is None else _whole_number("--retries", retries, 0)
    return Retry(attempts=number + 1) if number else None


def _any_of(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}"
