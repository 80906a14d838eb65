"""The IPython extension: what `%load_ext nbtasks` puts into a shell, and takes out again.

Ties the manager, the names, the output and the panels to one shell. The only module that registers anything there.
"""

from __future__ import annotations

import functools
import keyword
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from nbtasks.history.records import ScheduleRecord
from nbtasks.manager import get_manager
from nbtasks.notebook.cells.cell_task import CellPlace, CellTask
from nbtasks.notebook.cells.context_variables import NotebookVariables
from nbtasks.notebook.cells.namespace import NotebookNames
from nbtasks.notebook.cells.recurring_cell import CellRepeats, CellRun, once_more, template_from
from nbtasks.notebook.commands import Commands
from nbtasks.notebook.history_commands import keep_history
from nbtasks.notebook.keepalive import Upkeep
from nbtasks.notebook.kernel import Kernel, LaunchingCell
from nbtasks.notebook.magics import TaskMagics
from nbtasks.notebook.output.headless import Slots
from nbtasks.notebook.output.output import Output
from nbtasks.notebook.output.publisher import Publisher
from nbtasks.notebook.panels import Panels
from nbtasks.notebook.patches.capture import NestedCells
from nbtasks.notebook.patches.ipython import Router
from nbtasks.notebook.patches.main_module import MainModule
from nbtasks.notebook.patches.matplotlib import Figures
from nbtasks.notebook.remote.cell_work import WorkerProcess
from nbtasks.notebook.remote.process_setup import Workers
from nbtasks.notebook.settings import BackgroundTasks
from nbtasks.progress import tqdm_patches
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task

__all__ = ["Extension", "load", "unload"]

_extensions: dict[int, Extension] = {}


def load(shell: InteractiveShell) -> Extension:
    """Load the extension into `shell`; loaded already, it stays as it is, and so do the manager and its tasks."""
    extension = _extensions.get(id(shell))
    if extension is None:
        extension = _extensions[id(shell)] = Extension(shell)
        extension.install()
    return extension


def unload(shell: InteractiveShell) -> None:
    """Take the magics and routes out of `shell`; the manager and its tasks go on."""
    extension = _extensions.pop(id(shell), None)
    if extension is not None:
        extension.uninstall()


class Extension:
    """nbtasks in one shell. Used from the main thread only."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.kernel = Kernel(shell)
        self.manager = get_manager(loop=self.kernel.loop)
        self.manager.loop_backend.passing_loop = self.kernel.passing_loop
        self.names = NotebookNames(shell.user_ns)
        self.variables = NotebookVariables()
        self.router = Router(shell, self.kernel)
        self.main_module = MainModule(shell)
        self.figures = Figures()
        self.publisher = Publisher()
        self.settings = BackgroundTasks(parent=shell)
        self.panels = Panels(self.manager, self.kernel, self.retry, self.settings)
        self.slots = Slots(self.kernel)
        self.place = CellPlace(shell, self.kernel, self.names, self.variables, WorkerProcess())
        self.repeats = CellRepeats(self.manager, self.kernel, self.panels, self.publisher)
        self.nested = NestedCells(shell, self.router)
        self.commands = Commands(shell, self)
        self.workers = Workers(self.manager, shell)
        self.upkeep = Upkeep(self.manager, self.kernel, self.settings)

    def install(self) -> None:
        """Register the magics, the boundaries between foreground cells, and the routes of output."""
        self.router.install()
        self.main_module.install()
        self.figures.install()
        self.nested.install()
        self.workers.install()
        self.tqdm_patches = tqdm_patches()
        self.tqdm_patches.apply()
        self.shell.configurables.append(self.settings)
        # A task that is the last line of a cell is shown, panel, output and all.
        self.shell.display_formatter.ipython_display_formatter.for_type(Task, self.show)
        self.shell.display_formatter.ipython_display_formatter.for_type(RecurringTask, self.show_schedule)
        if not self.kernel.exists:
            self.manager._waits.around = self.panels.while_waiting
        self.upkeep.start()
        keep_history(self)
        self.shell.register_magics(TaskMagics(self.shell, self))
        self.shell.set_hook("complete_command", self._complete, str_key="%bgtask")
        self.shell.events.register("pre_run_cell", self._foreground_began)
        self.shell.events.register("post_run_cell", self._foreground_ended)

    def uninstall(self) -> None:
        """Undo `install`."""
        self.shell.events.unregister("pre_run_cell", self._foreground_began)
        self.shell.events.unregister("post_run_cell", self._foreground_ended)
        for kind in ("line", "cell"):
            self.shell.magics_manager.magics[kind].pop("bgtask", None)
        self.manager._waits.around = nullcontext
        self.upkeep.stop()
        self.shell.configurables.remove(self.settings)
        self.shell.display_formatter.ipython_display_formatter.pop(Task, None)
        self.shell.display_formatter.ipython_display_formatter.pop(RecurringTask, None)
        self.tqdm_patches.revert()
        self.workers.uninstall()
        self.nested.uninstall()
        self.figures.uninstall()
        self.main_module.uninstall()
        self.router.uninstall()
        self.panels.close()
        self.publisher.close()

    def show(self, task: Task) -> None:
        """Show the panel of `task` and, of a cell task, its output in the cell that runs now, and what follows."""
        here = self.kernel.launching_cell()
        self.panels.show(task, here)
        if not isinstance(task, CellTask):
            return
        if task.done or not self.kernel.exists:
            display(task.output)
        else:
            header = functools.partial(self.panels.header, task, here)
            task.output.follow(here.place, functools.partial(self.kernel.send, here), header)

    def bind(self, name: str, task: Task | RecurringTask) -> None:
        """Bind the name, if it can be one, to the task in the notebook."""
        if name.isidentifier() and not keyword.iskeyword(name):
            self.shell.user_ns[name] = task

    def template_of_cell(self, record: ScheduleRecord) -> CellRun | None:
        """The template of a recurring cell that an earlier kernel had; None if its template is no cell."""
        return template_from(record.details["work"], self.place, self.kernel.launching_cell(), self.publisher)

    def show_timeline(self, span: timedelta) -> None:
        """Show the timeline of the last `span` in the cell that runs now."""
        self.panels.show_timeline(self.kernel.launching_cell(), span)

    def show_table(self) -> None:
        """Show the task table in the cell that runs now."""
        self.panels.show_table(self.kernel.launching_cell())

    def show_schedule(self, recurring: RecurringTask) -> None:
        """Show the panel of a recurring task, which has the output of its last runs, in the cell that runs now."""
        self.panels.show(recurring, self.kernel.launching_cell())

    def show_schedules(self, chosen: Sequence[RecurringTask] | None) -> None:
        """Show the controls of these schedules, or of all, in the cell that runs now."""
        self.panels.show_schedules(self.kernel.launching_cell(), chosen, self.repeats)

    def show_launched_schedule(self, recurring: RecurringTask, cell: LaunchingCell, *, quiet: bool) -> None:
        """Show the panel of a recurring cell under it, or make room there for its output."""
        if not quiet and cell.headless:
            self.slots.open(recurring, cell)
        elif not quiet:
            self.panels.show(recurring, cell)

    def show_launched(self, task: CellTask, *, quiet: bool) -> None:
        """Show the panel of a task in the cell that has just launched it, and make room for its output where needed."""
        if quiet:
            return
        if task.cell.headless and not task.raises_in_cell:
            self.slots.open(task, task.cell)
        else:
            self.panels.show(task, task.cell)

    def run_again(self, task: Task) -> None:
        """Run a task that is over once more, as a new one; a cell's output goes to the cell that runs now."""
        here = self.kernel.launching_cell()
        self.panels.show(self._add_again(task, here), here)

    def retry(self, task: Task) -> None:
        """Run it once more where it ran, as a new task with a panel there. Any thread may call it.

        A function's task has no cell of its own, and no panel is shown.
        """
        again = self._add_again(task, None)
        if isinstance(again, CellTask) and self.kernel.exists:
            self.panels.show(again, again.cell, alone=True)

    def _add_again(self, task: Task, cell: LaunchingCell | None) -> Task:
        """A new task that does what `task` did; a cell's output goes to `cell`, or to the cell that it had."""
        again: Task
        if isinstance(task, CellTask):
            cell = cell or task.cell
            output = Output(functools.partial(self.kernel.send, cell), self.publisher)
            again = once_more(task, cell=cell, output=output)
            output.on_publish = again._output_written
            output.header = functools.partial(self.panels.header, again, cell)
        else:
            again = task._clone()
        return self.manager.add_task(again)

    def _complete(self, _shell: InteractiveShell, event: Any) -> list[str]:
        """Tab after `%bgtask`: its commands, then the names of tasks."""
        return self.commands.complete(event.line.lstrip())

    def _foreground_began(self, *_: Any) -> None:
        self.variables.foreground_began()
        self.names.foreground_began(self.kernel.launching_cell().request_id)

    def _foreground_ended(self, result: Any = None) -> None:
        self.figures.foreground_ended()
        self.names.foreground_ended()
        self.slots.deliver(self.kernel.launching_cell())
        error = getattr(result, "error_in_exec", None)
        if isinstance(error, NameError) and error.name is not None:
            self._hint(error.name)

    def _hint(self, name: str) -> None:
        """Tell which task to wait for, where the foreground missed a name that a live task will bind."""
        for task in self.manager.active_tasks:
            if isinstance(task, CellTask) and name in task.code.binds and name not in self.shell.user_ns:
                print(
                    f"{name} will be bound by the background task {task.name!r}: %bgtask wait {task.name}",
                    file=sys.stderr,
                )
                return
