"""The line magic `%bgtask`: its commands, by name.

Knows nothing of how cells are started. Every command prints text, or shows what it is asked to show.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from nbtasks.notebook.cells.errors import without_own_frames
from nbtasks.notebook.history_commands import PastCommands
from nbtasks.notebook.schedule_commands import ScheduleCommands
from nbtasks.schedules.interval import parse_interval
from nbtasks.task import Task
from nbtasks.widgets.snapshot import Shown
from nbtasks.widgets.task_table import task_list
from nbtasks.widgets.timeline import SPAN

if TYPE_CHECKING:
    from nbtasks.notebook.extension import Extension

__all__ = ["Commands"]


class Commands:
    """What `%bgtask` can do. A name means the newest task of that name."""

    def __init__(self, shell: Any, extension: Extension) -> None:
        self._shell = shell
        self._extension = extension
        self._manager = extension.manager
        self._past = PastCommands(extension)
        self._schedules = ScheduleCommands(extension, self._past.tell_of_offers)
        self._by_name: dict[str, Callable[[list[str]], None]] = {
            "list": self._list,
            "show": self._show,
            "wait": self._wait,
            "cancel": self._cancel,
            "retry": self._retry,
            "debug": self._debug,
            "prune": self._prune,
            "timeline": self._timeline,
            "workers": self._workers,
            **self._schedules.by_name,
            **self._past.by_name,
            "help": self._help,
        }

    @property
    def names(self) -> list[str]:
        """The commands."""
        return list(self._by_name)

    def run(self, line: str) -> None:
        """Carry out what was typed after `%bgtask`."""
        if not line.strip():
            self._extension.show_table()
            return
        command, *names = line.split()
        if command not in self._by_name:
            raise UsageError(f"%bgtask: there is no command {command!r}; there are {', '.join(self._by_name)}")
        self._by_name[command](names)

    def named(self, command: str, names: list[str]) -> list[Task]:
        """The newest task of each name."""
        if not names:
            raise UsageError(f"%bgtask {command}: say which task, by its name")
        newest = {task.name: task for task in self._manager.list_tasks()}
        for name in names:
            if name not in newest:
                known = ", ".join(newest) or "none"
                raise UsageError(f"%bgtask {command}: there is no task {name!r}; there are {known}")
        return [newest[name] for name in names]

    def complete(self, line: str) -> list[str]:
        """What may stand at the end of a line that begins with `%bgtask`."""
        words = line.split(" ")[1:]
        if len(words) <= 1:
            return self.names
        if words[0] == "restore":
            return self._past.names
        if words[0] in self._schedules.by_name:
            return self._schedules.names
        return [*dict.fromkeys(task.name for task in self._manager.list_tasks())]

    def _list(self, names: list[str]) -> None:
        """The tasks as text, oldest first."""
        _takes_no_names("list", names)
        print(task_list(self._manager.list_tasks()))

    def _show(self, names: list[str]) -> None:
        """The panel of a task, and the output of a cell, here."""
        for name in names or [""]:
            schedule = self._schedules.find(name)
            if schedule is not None:
                self._extension.show_schedule(schedule)
            else:
                [task] = self.named("show", [name] if name else [])
                self._extension.show(task)

    def _timeline(self, names: list[str]) -> None:
        """What ran when, in which lane, and what fires next: of the last hour, or as far back as one says (30m, 6h)."""
        if len(names) > 1:
            raise UsageError(f"%bgtask timeline: takes one length of time, as 30m or 6h, not {' '.join(names)!r}")
        self._extension.show_timeline(parse_interval(names[0]) if names else SPAN)

    def _wait(self, names: list[str]) -> None:
        """Wait for these tasks, or for all; the names that they bound are there then."""
        tasks = self.named("wait", names) if names else list(self._manager.active_tasks)
        with self._extension.panels.while_waiting(tasks):
            for task in tasks:
                self._manager.wait(task)
                shown = Shown.of(task, datetime.now(UTC))
                print(f"{task.name}: {shown.state}" + (f" ({shown.error})" if shown.error else ""))

    def _cancel(self, names: list[str]) -> None:
        """Ask the work of these tasks to stop."""
        for task in self.named("cancel", names):
            if not self._manager.cancel_task(task):
                print(f"{task.name} is {task.state.value} already")

    def _retry(self, names: list[str]) -> None:
        """Run tasks that failed or were cancelled once more, in their cells."""
        for task in self.named("retry", names):
            if not task.done:
                raise UsageError(f"%bgtask retry: {task.name!r} is still {task.state.value}")
            self._extension.run_again(task)

    def _debug(self, names: list[str]) -> None:
        """Look around, with the debugger, where a task failed."""
        [task] = self.named("debug", names[:1])
        error = task.exception
        if error is None or error.__traceback__ is None:
            raise UsageError(f"%bgtask debug: {task.name!r} is {task.state.value}; there is no error to look at")
        debugger = self._shell.debugger_cls()
        debugger.reset()
        debugger.interaction(None, without_own_frames(error.__traceback__))

    def _prune(self, names: list[str]) -> None:
        """Forget the tasks that are over."""
        _takes_no_names("prune", names)
        states = ("completed", "cancelled", "failed")
        print(f"{sum(self._manager.prune(state) for state in states)} tasks forgotten")

    def _workers(self, names: list[str]) -> None:
        """The worker processes, with what they use of memory and processor."""
        _takes_no_names("workers", names)
        print(self._extension.workers.listing())

    def _help(self, names: list[str]) -> None:
        """Print these lines."""
        _takes_no_names("help", names)
        for name, command in self._by_name.items():
            print(f"%bgtask {name:8} {command.__doc__}")


def _takes_no_names(command: str, names: list[str]) -> None:
    if names:
        raise UsageError(f"%bgtask {command}: takes no names, not {' '.join(names)!r}")
