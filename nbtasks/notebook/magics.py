"""The magics: `%%bgtask` runs a cell as a task, `%bgtask` controls tasks."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from nbtasks.exceptions import NbtasksError
from nbtasks.first_use import FirstUse
from nbtasks.notebook.options import explained
from nbtasks.task import Task
from nbtasks.waiting import result_of

if TYPE_CHECKING:
    from nbtasks.notebook.cell_magic import CellMagic
    from nbtasks.notebook.commands import Commands
    from nbtasks.notebook.session import NotebookSession

__all__ = ["TaskMagics"]


@magics_class
class TaskMagics(Magics):
    """`%%bgtask` runs a cell as a background task; `%bgtask` lists and controls tasks.

    `CellMagic` and `Commands` do that; they are made with the first use of the magics.
    """

    def __init__(self, shell: InteractiveShell, session: FirstUse[NotebookSession]) -> None:
        super().__init__(parent=shell)  # given a shell, Magics would register itself there
        self.shell = shell
        self._session = session
        self._cell_magic = FirstUse(self._make_cell_magic)
        self._commands = FirstUse(self._make_commands)

    @magic_arguments("%bgtask")
    @argument("name", nargs="?", help="name of the task; the notebook gets a variable of that name, if it can be one")
    @argument("--backend", help="thread, loop, process or dask; default: loop if the cell awaits, else thread")
    @argument("--memory", help="memory limit of a cell with --backend process or dask: 500M, 4G")
    @argument("--kernel", help="run the cell in another installed kernel, of another environment or language")
    @argument("--lane", default="default", help="lane of the task; a lane limits how many tasks run at once")
    @argument("--priority", default="0", help="a whole number; tasks with a higher one start first")
    @argument("--after", help="names of tasks that must complete before this one starts: a,b")
    @argument("--timeout", help="time limit of one attempt: 30s, 5m, 1h30m")
    @argument("--retries", help="how often a failed attempt is repeated")
    @argument(
        "--if-running", default="error", help="if a task of that name is still running: error, skip, replace or queue"
    )
    @argument("--every", help="run the cell repeatedly, at this interval: 30s, 5m, 1h30m")
    @argument("--cron", help='run the cell at these times: "*/5 * * * *", "0 8 * * 1-5", @hourly')
    @argument("--now", action="store_true", help="with --cron: run for the first time at once, as --every does")
    @argument("--tz", help="time zone of --cron, such as Europe/Paris; default: that of the machine")
    @argument("--max-concurrent", help="how many runs of the schedule may overlap; default: 1")
    @argument("--for", dest="sweep", action="append", help="a run for each value, and each combination: C=0.1,1,10")
    @argument("--shared", action="store_true", help="use the notebook's variables directly, without a snapshot")
    @argument("--atomic", action="store_true", help="commit nothing if the cell fails or is cancelled")
    @argument("--quiet", action="store_true", help="show no panel")
    @argument("--wait", action="store_true", help="block until the task is finished")
    @argument("--detach", action="store_true", help="a program that runs the notebook does not wait for it at the end")
    @argument("--notify", action="store_true", help="notify when it finishes, if the page is not visible")
    @argument("--help", action="store_true", help="show this help")
    @cell_magic("bgtask")
    def run_cell(self, line: str, cell: str) -> None:
        """Run the cell as a background task."""
        options = _parsed(self.run_cell, line)
        if options.help:
            print(self.run_cell.parser.format_help())
            return
        with _one_line_errors("%%bgtask"):
            task = self._cell_magic.get().run(options, cell, line)
        if task is not None:
            self._raise_error(task)

    @no_var_expand
    @line_magic("bgtask")
    def run_command(self, line: str) -> None:
        """Show the task table, or run a command: %bgtask [COMMAND [NAME ...]]; see %bgtask help."""
        with _one_line_errors("%bgtask"):
            failed = self._commands.get().run(line)
            if failed is not None and failed.exception is None:
                result_of(failed)  # raises that it was cancelled
        if failed is not None:
            self._raise_error(failed)

    def complete(self, _shell: InteractiveShell, event: Any) -> list[str]:
        """Completions of a line that starts with `%bgtask`, for IPython's hook."""
        return self._commands.get().complete(event.line.lstrip())

    def _raise_error(self, task: Task) -> None:
        """Raise the error of a task that failed, which is shown as the task shows it."""
        if task.exception is not None:
            self._session.get().show_as_rendered(task.exception)
            raise task.exception

    def _make_cell_magic(self) -> CellMagic:
        from nbtasks.notebook.cell_magic import CellMagic

        return CellMagic(self._session.get(), self._commands.get())

    def _make_commands(self) -> Commands:
        from nbtasks.notebook.commands import Commands

        return Commands(self._session.get())


if getattr(TaskMagics.run_cell.parser, "color", False):  # of Python 3.14 and later: its text is no terminal's
    TaskMagics.run_cell.parser.color = False
    TaskMagics.run_cell.__doc__ = TaskMagics.run_cell.parser.format_help()


@contextlib.contextmanager
def _one_line_errors(magic: str) -> Iterator[None]:
    """Show errors of nbtasks about the arguments of a magic as one line, without a traceback."""
    try:
        yield
    except NbtasksError as error:
        raise UsageError(f"{magic}: {error}") from None


def _parsed(magic: Any, line: str) -> argparse.Namespace:
    """The options on a magic's line, without the quotes that keep the words of a value together."""
    try:
        options: argparse.Namespace = parse_argstring(magic, line)
    except UsageError as error:
        raise UsageError(f"%%bgtask: {explained(str(error), magic.parser, '%%bgtask?')}") from None
    for name, value in vars(options).items():
        if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            setattr(options, name, value[1:-1])
    return options
