"""The magics `%%bgtask` and `%bgtask`: what the user types, checked, and handed on.

Errors of the user are UsageErrors of one line. Knows nothing of how cells run or how anything is shown.
"""

from __future__ import annotations

import argparse
import functools
import keyword
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from nbtasks.exceptions import NbtasksError
from nbtasks.notebook.cell import CellSource, CellTask
from nbtasks.notebook.errors import show_as_rendered
from nbtasks.notebook.listing import task_list
from nbtasks.notebook.output import Output
from nbtasks.states import TaskState
from nbtasks.task import Task

if TYPE_CHECKING:
    from nbtasks.notebook.extension import Extension

__all__ = ["TaskMagics"]

_LIVE = (TaskState.PENDING, TaskState.RUNNING)


@magics_class
class TaskMagics(Magics):
    """`%%bgtask` runs a cell as a task; `%bgtask` lists the tasks and steers them."""

    def __init__(self, shell: Any, extension: Extension) -> None:
        super().__init__(shell)
        self._extension = extension
        self._manager = extension.manager
        self._unnamed = 0

    @magic_arguments("%%bgtask")
    @argument("name", nargs="?", help="the task's name; one that is an identifier is bound to the task")
    @argument("--backend", help="where it runs: thread or loop; by default cells that await go to the loop")
    @argument("--lane", default="default", help="the lane, which limits how many tasks run at once")
    @argument("--priority", default="0", help="a whole number; higher ones start first")
    @argument("--shared", action="store_true", help="run straight in the notebook's namespace")
    @argument("--quiet", action="store_true", help="show no panel")
    @argument("--wait", action="store_true", help="return when the task is over")
    @cell_magic("bgtask")
    def run_cell(self, line: str, cell: str) -> None:
        """Run the cell as a background task."""
        options = parse_argstring(self.run_cell, line)
        with _OneLineErrors():
            task = self._make_task(options, cell)
            self._start(task, quiet=options.quiet)
            if options.wait:
                self._wait_in_cell(task)

    def _make_task(self, options: argparse.Namespace, cell: str) -> CellTask:
        extension = self._extension
        if not cell.strip():
            raise UsageError("%%bgtask: the cell is empty; put the code to run below the first line")
        priority = _whole_number(options.priority)
        name = self._free_name(options.name)
        launching = extension.kernel.launching_cell()
        code = CellSource(extension.shell, cell, launching.execution_count)
        if name in code.binds:
            raise UsageError(f"%%bgtask: the cell itself binds {name!r}; give the task another name")
        output = Output(functools.partial(extension.kernel.send, launching), extension.publisher)
        task = CellTask(
            name=name,
            lane=options.lane,
            priority=priority,
            backend=options.backend or ("loop" if code.awaits else "thread"),
            code=code,
            place=extension.place,
            cell=launching,
            output=output,
            shared=options.shared,
            raises_in_cell=options.wait,
        )
        output.on_publish = task._output_written
        output.header = functools.partial(extension.panels.header, task, launching)
        return task

    def _start(self, task: CellTask, *, quiet: bool) -> None:
        with task.output.held():
            self._manager.add_task(task)
            if task.name.isidentifier() and not keyword.iskeyword(task.name):
                self.shell.user_ns[task.name] = task
            if not quiet:
                self._extension.panels.show(task, task.cell)

    def _wait_in_cell(self, task: CellTask) -> None:
        """Wait, and let the cell itself fail as it would have in the foreground."""
        self._manager.wait(task)
        if task.exception is not None:
            show_as_rendered(self.shell, task.exception)
            raise task.exception

    def _free_name(self, name: str | None) -> str:
        if name is None:
            taken = {task.name for task in self._manager.list_tasks()}
            while True:
                self._unnamed += 1
                if f"bg{self._unnamed}" not in taken:
                    return f"bg{self._unnamed}"
        for task in self._manager.list_tasks():
            if task.name == name and task.state in _LIVE:
                raise UsageError(
                    f"%%bgtask: the task {name!r} is still {task.state.value}; wait for it, cancel it "
                    f"(%bgtask cancel {name}), or choose another name"
                )
        return name

    @no_var_expand
    @line_magic("bgtask")
    def steer(self, line: str) -> None:
        """List the tasks, or steer them: %bgtask [list | show NAME | wait [NAME ...] | cancel NAME ...]."""
        commands: dict[str, Callable[[list[str]], None]] = {
            "list": self._list,
            "show": self._show,
            "wait": self._wait,
            "cancel": self._cancel,
        }
        command, *names = line.split() or ["list"]
        if command not in commands:
            raise UsageError(f"%bgtask: there is no command {command!r}; there are {', '.join(commands)}")
        with _OneLineErrors():
            commands[command](names)

    def _list(self, names: list[str]) -> None:
        if names:
            raise UsageError(f"%bgtask list: takes no names, not {' '.join(names)!r}")
        print(task_list(self._manager.list_tasks()))

    def _show(self, names: list[str]) -> None:
        for task in self._named("show", names):
            self._extension.show(task)

    def _wait(self, names: list[str]) -> None:
        tasks = self._named("wait", names) if names else list(self._manager.active_tasks)
        for task in tasks:
            self._manager.wait(task)
            print(f"{task.name}: {task.state.value}" + (f" ({task.error})" if task.error else ""))

    def _cancel(self, names: list[str]) -> None:
        for task in self._named("cancel", names):
            if not self._manager.cancel_task(task):
                print(f"{task.name} is {task.state.value} already")

    def _named(self, command: str, names: list[str]) -> list[Task]:
        """The newest task of each name."""
        if not names:
            raise UsageError(f"%bgtask {command}: say which task, by its name")
        newest = {task.name: task for task in self._manager.list_tasks()}
        for name in names:
            if name not in newest:
                known = ", ".join(newest) or "none"
                raise UsageError(f"%bgtask {command}: there is no task {name!r}; there are {known}")
        return [newest[name] for name in names]


class _OneLineErrors:
    """Turn errors of the manager about what the user asked for into UsageErrors, which show as one line."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, NbtasksError):
            raise UsageError(f"bgtask: {error}") from None


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"%%bgtask: --priority takes a whole number, not {text!r}") from None
