"""The cell magic `%%bgtask`: what the user types above a cell, checked, made a task and started.

Errors of the user are UsageErrors of one line. Knows nothing of how cells run or how anything is shown.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from nbtasks.exceptions import NbtasksError
from nbtasks.notebook.cells.cell_task import CellTask
from nbtasks.notebook.cells.errors import as_in_foreground, show_as_rendered
from nbtasks.notebook.cells.recurring_cell import CellRun, CellRuns
from nbtasks.notebook.cells.source import CellSource
from nbtasks.notebook.kernel import LaunchingCell
from nbtasks.notebook.output.output import Output
from nbtasks.notebook.remote.cell_work import WorkerProcess
from nbtasks.notebook.remote.foreign_kernel import OtherKernel, find_kernel
from nbtasks.notebook.schedule_commands import AskedSchedule, asked_schedule
from nbtasks.retry import Retry
from nbtasks.schedules.interval import parse_interval
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task

if TYPE_CHECKING:
    from nbtasks.notebook.extension import Extension

__all__ = ["TaskMagics"]

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_ELSEWHERE = ("process", "dask")
_IF_RUNNING = ("error", "skip", "replace", "queue")


@magics_class
class TaskMagics(Magics):
    """`%%bgtask` runs a cell as a task; `%bgtask` lists the tasks and steers them."""

    def __init__(self, shell: Any, extension: Extension) -> None:
        super().__init__(shell)
        self._extension = extension
        self._manager = extension.manager
        self._commands = extension.commands
        self._unnamed = 0

    @magic_arguments("%%bgtask")
    @argument("name", nargs="?", help="the task's name; one that is an identifier is bound to the task")
    @argument("--backend", help="where it runs: thread, loop, process or dask; by default a thread, or the loop")
    @argument("--memory", help="how much memory a cell in a process of its own may use: 500M, 4G")
    @argument("--kernel", help="the name of another installed kernel to run it in: another environment or language")
    @argument("--lane", default="default", help="the lane, which limits how many tasks run at once")
    @argument("--priority", default="0", help="a whole number; higher ones start first")
    @argument("--after", help="names of tasks that must complete before it starts: a,b")
    @argument("--timeout", help="how long one attempt may take: 30s, 5m, 1h30m")
    @argument("--retries", help="how many more attempts follow one that failed")
    @argument(
        "--if-running", default="error", help="when a task of that name still runs: error, skip, replace or queue"
    )
    @argument("--every", help="run it again and again, so long from start to start: 30s, 5m, 1h30m")
    @argument("--cron", help='run it at these times: "*/5 * * * *", "0 8 * * 1-5", @hourly')
    @argument("--tz", help="the time zone of --cron, as Europe/Paris; by default the machine's own")
    @argument("--max-concurrent", help="how many runs of the schedule there may be at once; by default 1")
    @argument("--shared", action="store_true", help="run straight in the notebook's namespace")
    @argument("--quiet", action="store_true", help="show no panel")
    @argument("--wait", action="store_true", help="return when the task is over")
    @argument("--notify", action="store_true", help="where nobody looks at the page, give notice of its end")
    @cell_magic("bgtask")
    def run_cell(self, line: str, cell: str) -> None:
        """Run the cell as a background task."""
        options = parse_argstring(self.run_cell, line)
        with OneLineErrors():
            asked = asked_schedule(options)
            task = self._make_task(options, cell, recurs=asked is not None)
            if task is None:
                return
            if asked is not None:
                self._start_schedule(task, asked, quiet=options.quiet)
                return
            self._start(task, quiet=options.quiet)
            if options.wait:
                self._wait_in_cell(task, quiet=options.quiet)

    @no_var_expand
    @line_magic("bgtask")
    def steer(self, line: str) -> None:
        """List the tasks, or steer them: %bgtask [COMMAND [NAME ...]]; see the commands by %bgtask help."""
        with OneLineErrors():
            self._commands.run(line)

    def _make_task(self, options: argparse.Namespace, cell: str, *, recurs: bool) -> CellTask | None:
        """The task, or the template of the schedule, that the options ask for; None where they ask for none."""
        if not cell.strip():
            raise UsageError("%%bgtask: the cell is empty; put the code to run below the first line")
        launching = self._extension.kernel.launching_cell()
        priority, retry = _whole_number("--priority", options.priority), _retry(options.retries)
        timeout = None if options.timeout is None else parse_interval(options.timeout)
        if options.if_running not in _IF_RUNNING:
            raise UsageError(f"%%bgtask: --if-running is {', '.join(_IF_RUNNING)}; not {options.if_running!r}")
        if options.notify and options.quiet:
            raise UsageError("%%bgtask: --notify reaches the page by the panel; leave out --quiet")
        elsewhere = _elsewhere(options)
        after = self._named_before(options.after)
        try:
            code = self._read(cell, launching, elsewhere)
        except SyntaxError as error:
            raise as_in_foreground(self._extension.shell, error) from None
        name = options.name or self._next_name()
        if name in code.binds:
            raise UsageError(f"%%bgtask: the cell itself binds {name!r}; give the task another name")
        earlier = [task for task in self._manager.active_tasks if _is_rerun(task, name, launching, named=options.name)]
        if earlier and not self._may_start(earlier, options.if_running):
            return None
        # Where nobody watches, what comes after the launching cell is delivered with later ones (`headless.py`).
        dropped = launching.headless and not (options.wait or options.quiet)
        send = None if dropped else functools.partial(self._extension.kernel.send, launching)
        output = Output(None if recurs else send, self._extension.publisher)
        kind: Callable[..., CellTask] = CellTask
        if recurs:
            kind = functools.partial(CellRun, runs=CellRuns(send, self._extension.publisher))
        task = kind(
            name=name,
            lane=options.lane,
            priority=priority,
            timeout=timeout,
            retry=retry,
            backend=options.backend or _backend(code, elsewhere),
            after=[*after, *(earlier if options.if_running == "queue" else ())],
            code=code,
            place=self._extension.place,
            cell=launching,
            output=output,
            shared=options.shared,
            notify=options.notify,
            elsewhere=elsewhere,
            raises_in_cell=options.wait,
            earlier_runs=tuple(earlier),
        )
        output.shows_pages = not options.quiet
        output.on_publish = task._output_written
        output.header = functools.partial(self._extension.panels.header, task, launching)
        return task

    def _read(self, cell: str, launching: LaunchingCell, elsewhere: WorkerProcess | OtherKernel | None) -> CellSource:
        if isinstance(elsewhere, OtherKernel) and elsewhere.language != "python":
            code = CellSource(self._extension.shell, "", launching.execution_count)
            code.source = cell
            return code
        with warnings.catch_warnings():
            if elsewhere is not None:  # the compiler warns there
                warnings.simplefilter("ignore", SyntaxWarning)
            return CellSource(self._extension.shell, cell, launching.execution_count)

    def _start_schedule(self, template: CellTask, asked: AskedSchedule, *, quiet: bool) -> None:
        """Run the cell on its schedule, in place of an earlier schedule of the cell or of the name."""
        assert isinstance(template, CellRun)
        earlier = [one for one in self._manager.list_recurring_tasks() if _is_replaced(one, template)]
        recurring = self._manager.add_recurring_task(
            asked.schedule, template, timezone=asked.timezone, max_concurrent=asked.max_concurrent
        )
        for one in earlier:
            one.remove()
        template.runs.header = functools.partial(self._extension.panels.header, recurring, template.cell)
        self._extension.bind(template.name, recurring)
        self._extension.show_launched_schedule(recurring, template.cell, quiet=quiet)

    def _start(self, task: CellTask, *, quiet: bool) -> None:
        with task.output.held():
            # What the launching cell itself has said, the compiler's warnings, comes first.
            sys.stdout.flush()
            sys.stderr.flush()
            self._manager.add_task(task)
            for former in self._manager.list_recurring_tasks():
                if _is_of_cell(former, task.cell):  # the cell was a recurring one, and is no longer
                    former.remove()
            self._extension.bind(task.name, task)
            self._extension.show_launched(task, quiet=quiet)

    def _wait_in_cell(self, task: CellTask, *, quiet: bool) -> None:
        """Wait, and let the cell itself fail as it would have in the foreground."""
        with self._extension.panels.while_waiting([] if quiet else [task]):
            self._manager.wait(task)
        if not quiet:
            self._extension.panels.settle(task)
        if task.exception is not None:
            show_as_rendered(self.shell, task.exception)
            raise task.exception

    def _next_name(self) -> str:
        taken = {task.name for task in self._manager.list_tasks()}
        taken |= {recurring.name for recurring in self._manager.list_recurring_tasks()}
        while True:
            self._unnamed += 1
            if f"bg{self._unnamed}" not in taken:
                return f"bg{self._unnamed}"

    def _named_before(self, names: str | None) -> list[Task]:
        if names is None:
            return []
        return self._commands.named("--after", [name.strip() for name in names.split(",") if name.strip()])

    def _may_start(self, earlier: Iterable[Task], if_running: str) -> bool:
        """What `--if-running` says about runs of the same cell that are not over."""
        names = ", ".join(f"{task.name!r} is still {task.state.value}" for task in earlier)
        if if_running == "error":
            raise UsageError(
                f"%%bgtask: {names}; wait for it, cancel it, choose another name, or say "
                "--if-running skip, replace or queue"
            )
        if if_running == "skip":
            print(f"skipped: {names}")
            return False
        if if_running == "replace":
            for task in earlier:
                self._manager.cancel_task(task)
        return True


class OneLineErrors:
    """Turn errors of the manager about what the user asked for into UsageErrors, which show as one line."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, NbtasksError):
            raise UsageError(f"bgtask: {error}") from None


def _is_rerun(task: Task, name: str, cell: LaunchingCell, *, named: str | None) -> bool:
    """Whether `task` is another run of what is being started: by its name, or, unnamed, by its cell."""
    if named is not None or not isinstance(task, CellTask):
        return task.name == name
    return cell.cell_id is not None and task.cell.cell_id == cell.cell_id


def _is_of_cell(recurring: RecurringTask, cell: LaunchingCell) -> bool:
    """Whether it is the schedule of that cell in the front end."""
    template = recurring.template
    return isinstance(template, CellRun) and cell.cell_id is not None and template.cell.cell_id == cell.cell_id


def _is_replaced(recurring: RecurringTask, template: CellTask) -> bool:
    """Whether a new schedule of a cell takes its place: it is of that cell, or a cell's of that name."""
    same_name = isinstance(recurring.template, CellRun) and recurring.name == template.name
    return same_name or _is_of_cell(recurring, template.cell)


def _whole_number(option: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"%%bgtask: {option} takes a whole number, not {text!r}") from None


def _backend(code: CellSource, elsewhere: WorkerProcess | OtherKernel | None) -> str:
    """Where a cell runs that does not say so."""
    if elsewhere is not None:
        return "process"
    return "loop" if code.needs_loop else "thread"


def _elsewhere(options: argparse.Namespace) -> WorkerProcess | OtherKernel | None:
    if options.kernel is not None:
        if options.backend not in (None, "process") or options.memory is not None or options.shared:
            raise UsageError("%%bgtask: --kernel goes with none of --backend, --memory and --shared")
        return find_kernel(options.kernel)
    if options.backend not in _ELSEWHERE:
        if options.memory is not None:
            raise UsageError("%%bgtask: --memory goes with --backend process or dask")
        return None
    if options.shared:
        raise UsageError(f"%%bgtask: --shared needs the notebook's own process; leave out --backend {options.backend}")
    if options.backend == "dask" and importlib.util.find_spec("distributed") is None:
        raise UsageError("%%bgtask: --backend dask needs Dask: pip install nbtasks[dask]")
    return WorkerProcess(None if options.memory is None else _bytes(options.memory))


def _bytes(text: str) -> int:
    number, unit = text[:-1], text[-1:].upper()
    if unit in _UNITS and number.replace(".", "", 1).isdecimal() and float(number) > 0:
        return int(float(number) * _UNITS[unit])
    raise UsageError(f"%%bgtask: --memory takes a number and K, M, G or T, as 500M or 4G; not {text!r}")


def _retry(retries: str | None) -> Retry | None:
    if retries is None:
        return None
    number = _whole_number("--retries", retries)
    if number < 0:
        raise UsageError(f"%%bgtask: --retries takes a number from 0 on, not {number}")
    return Retry(attempts=number + 1) if number else None
