"""The magics: `%%bgtask` runs a cell as a task, `%bgtask` controls tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from nbtasks.exceptions import NbtasksError
from nbtasks.first_use import FirstUse
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

    @cell_magic("bgtask")
    def run_cell(self, line: str, cell: str) -> None:
        """Run the cell as a background task."""
        with _one_line_errors("%%bgtask"):
            task = self._cell_magic.get().run(line, cell)
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


def _options_help() -> str:
    from nbtasks.notebook.cell_options import help_text

    return help_text()


TaskMagics.run_cell.getdoc = _options_help  # what IPython asks for the text of `%%bgtask?`


@contextlib.contextmanager
def _one_line_errors(magic: str) -> Iterator[None]:
    """Show errors of nbtasks about the arguments of a magic as one line, without a traceback."""
    try:
        yield
    except NbtasksError as error:
        raise UsageError(f"{magic}: {error}") from None
