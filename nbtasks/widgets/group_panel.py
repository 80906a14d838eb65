"""Panel of several tasks of one cell: their common progress, and a row for each.

Used on the live writer's thread only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from nbtasks.manager import TaskManager
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Task
from nbtasks.widgets.html import panel_bundle
from nbtasks.widgets.live_writer import View, ViewCount
from nbtasks.widgets.panel import LivePanel, PanelHead
from nbtasks.widgets.snapshot import Snapshot, group_snapshot, progress_state
from nbtasks.widgets.task_table import LiveTable
from nbtasks.widgets.widget_factory import update, widget_bundle

__all__ = ["GroupPanel", "TaskGroup"]


class TaskGroup:
    """Some tasks, with the queries of a manager that the table uses."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = list(tasks)

    def add(self, task: Task) -> None:
        """Add a task."""
        self._tasks.append(task)

    def list_tasks(self, state: str | None = None) -> list[Task]:
        """The tasks in one state, or all."""
        return [task for task in self._tasks if state is None or task.state == state]

    def get_stats(self) -> dict[str, int]:
        """The number of tasks in total and in each state."""
        counts = Counter(task.state for task in self._tasks)
        states = {state.value: counts[state] for state in TaskState if state is not TaskState.LOST}
        return {"total": len(self._tasks), **states}

    @property
    def active_tasks(self) -> Sequence[Task]:
        """The tasks that are pending or running."""
        return [task for task in self._tasks if task.state in LIVE_STATES]

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)


class GroupPanel(LiveTable):
    """The live panel of several tasks; more may join."""

    def __init__(
        self,
        tasks: Sequence[Task],
        manager: TaskManager,
        touch: Callable[[View], None],
        state_changes: Callable[[], int],
        retry: Callable[[Task], object],
    ) -> None:
        self.tasks = TaskGroup(tasks)
        self.replace: Callable[[Snapshot], None] | None = None
        """Shows a static panel in place of the widget; called once, when all tasks are finished."""
        self._replaced: list[LivePanel] = []
        super().__init__(manager, touch, state_changes, retry, source=self.tasks)
        self._root = self.widget
        self.views = ViewCount(self.widget)

    def take_place_of(self, panel: LivePanel) -> bool:
        """Show inside the widget of `panel`; False if a static panel has replaced that widget.

        (JupyterLab hides an output whose widget is closed, even if another has taken its place.)
        """
        live, panel.replace = panel.replace is not None, None
        if live:
            update(panel.widget, children=(self.widget, *panel.extra_widgets))
            self._root, self.views = panel.widget, panel.views
        panel.replaced = True  # the writer may refresh it once more before it is removed
        self._replaced.append(panel)
        return live

    def join(self, task: Task) -> None:
        """Show this task too."""
        self.tasks.add(task)
        self.query_again()

    def _make_frame(self) -> tuple[Any, ...]:
        self._head = PanelHead(self._factory, height="32px", figures_flex="1 0 auto")
        return (self._factory.style_sheet(), self._head.row, self._head.bar)

    def _make_heads(self) -> tuple[Any, ...]:
        return ()

    def _make_past(self) -> None:
        return None

    def progress_state(self) -> object:
        """That of all tasks, since the bar shows all of them."""
        return [progress_state(task) for task in self.tasks]

    def refresh(self) -> int:
        """Write what has changed; returns the number of messages."""
        snapshot = group_snapshot(self.tasks.list_tasks(), datetime.now(UTC))
        sent = self._head.show(snapshot, self._cancel_all) + super().refresh()
        if snapshot.finished and self.replace is not None:
            replace, self.replace = self.replace, None
            replace(snapshot)
            sent += 1
        return sent

    def close(self) -> None:
        """Close the widgets, those of the panels that it has replaced too."""
        super().close()
        for panel in self._replaced:
            panel.close()

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the live panel, with a static one for viewers without widgets."""
        snapshot = group_snapshot(self.tasks.list_tasks(), datetime.now(UTC))
        return widget_bundle(self._root, panel_bundle(snapshot))
