"""Puts tasks that ran on a schedule, as the controls of schedules ask for.

Knows nothing of widgets. Any thread may use it.
"""

from __future__ import annotations

import functools

from nbtasks.exceptions import InvalidValueError
from nbtasks.manager import TaskManager
from nbtasks.notebook.cell import CellTask
from nbtasks.notebook.kernel import Kernel
from nbtasks.notebook.panels import Panels
from nbtasks.notebook.publisher import Publisher
from nbtasks.notebook.recurring import repeated
from nbtasks.recurring.task import RecurringTask
from nbtasks.task import Task

__all__ = ["CellRepeats"]

MOST_NAMES = 100


class CellRepeats:
    """Background cells, and tasks of a class of their own, put on a schedule; the newest of each name."""

    def __init__(self, manager: TaskManager, kernel: Kernel, panels: Panels, publisher: Publisher) -> None:
        self._manager = manager
        self._kernel = kernel
        self._panels = panels
        self._publisher = publisher

    def names(self) -> list[str]:
        """What could be repeated, the newest first: what has no schedule yet, and of very many the newest."""
        return list(self._newest())[:MOST_NAMES]

    def repeat(self, name: str, schedule: str, timezone: str) -> RecurringTask:
        """Put the newest task of that name on a schedule; of a cell, each run takes the place of its output.

        Raises InvalidValueError where there is none that could be, and what `add_recurring_task` raises.
        """
        task = self._newest().get(name)
        if task is None:
            raise InvalidValueError(f"there is no task {name!r} that could be put on a schedule")
        if not task.done:
            raise InvalidValueError(f"{name!r} is {task.state.value}: a template is never run itself; wait for it")
        if not isinstance(task, CellTask):
            return self._manager.add_recurring_task(schedule, task._clone(), timezone=timezone)
        template = repeated(task, functools.partial(self._kernel.send, task.cell), self._publisher)
        recurring = self._manager.add_recurring_task(schedule, template, timezone=timezone)
        template.runs.header = functools.partial(self._panels.header, recurring, task.cell)
        if template.output.shows_pages:
            self._panels.show(recurring, task.cell)
        return recurring

    def _newest(self) -> dict[str, Task]:
        scheduled = {one.name for one in self._manager.list_recurring_tasks()}
        newest: dict[str, Task] = {}
        for task in reversed(self._manager.list_tasks()):
            if type(task) is not Task and task.parent_id is None and task.name not in scheduled:
                newest.setdefault(task.name, task)
        return newest
