"""One compact panel for several tasks that were started in one cell: how they are together, and a row for each.

Written by the live writer's thread only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import ipywidgets

from nbtasks.manager import TaskManager
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Task
from nbtasks.widgets.pace import reading
from nbtasks.widgets.panel import STYLE, VIEW_TYPE, LivePanel
from nbtasks.widgets.snapshot import BAR_HEIGHT, LOOKS, PanelPicture, Shown, figures_html, label_html, one_line
from nbtasks.widgets.task_table import TABLE_STYLE, LiveTable
from nbtasks.widgets.widget_factory import put

__all__ = ["GroupPanel", "SomeTasks", "group_shown"]

NAMED = 3
"""How many tasks a group is called by."""
FAILED = 5
"""How many failures the picture at the end tells."""


class SomeTasks:
    """Certain tasks, told of as a manager tells of all of its own."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = list(tasks)

    def list_tasks(self, state: str | None = None) -> list[Task]:
        """Those in one state, or all."""
        return [task for task in self.tasks if state is None or task.state == state]

    def get_stats(self) -> dict[str, int]:
        """How many there are, in all and in each state."""
        counts = Counter(task.state for task in self.tasks)
        states = {state.value: counts[state] for state in TaskState if state is not TaskState.LOST}
        return {"total": len(self.tasks), **states}

    @property
    def active_tasks(self) -> Sequence[Task]:
        """Those that are not over."""
        return [task for task in self.tasks if task.state in LIVE_STATES]

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)


class GroupPanel(LiveTable):
    """The live panel of several tasks; a view for the live writer. More tasks may join."""

    def __init__(
        self,
        tasks: Sequence[Task],
        manager: TaskManager,
        wake: Callable[[LiveTable], None],
        changes: Callable[[], int],
        retry: Callable[[Task], object],
    ) -> None:
        self.tasks = SomeTasks(tasks)
        self.replace: Callable[[PanelPicture], None] | None = None
        """Puts a picture in the place of the widget in its document: called once, when all are over."""
        self._taken: list[LivePanel] = []
        super().__init__(manager, wake, changes, retry, source=self.tasks)
        self._root = self.widget

    def take_place_of(self, panel: LivePanel) -> bool:
        """Show inside the widget of `panel`, in its document; False where a picture is there already.

        (JupyterLab hides an output whose widget is closed, also where another has come into its place.)
        """
        shows, panel.replace = panel.replace is not None, None
        if shows:
            put(panel.widget, children=(self.widget, *panel.beside))
            self._root = panel.widget
        panel.taken = True  # the writer may come by once more before it is told to leave this panel alone
        self._taken.append(panel)
        return shows

    def join(self, task: Task) -> None:
        """Show this one too."""
        self.tasks.tasks.append(task)
        self.look_again()

    def _make_frame(self) -> tuple[Any, ...]:
        parts = self._parts
        style = parts.html(STYLE + TABLE_STYLE, display="none")
        self._label = parts.html(flex="0 1 auto", min_width="0")
        self._figures = parts.html(flex="1 0 auto")
        self._bar = parts.make(
            ipywidgets.FloatProgress, {"width": "auto", "height": f"{BAR_HEIGHT}px"}, min=0.0, max=100.0
        )
        row = parts.row(self._label, self._figures, self._cancel_all, align_items="center", height="32px")
        row.add_class("nbtasks-row")
        self.heads_shown = False
        return (style, row, self._bar)

    def reading(self) -> object:
        """What the work of all says of itself, for the bar is that of all."""
        return [reading(task) for task in self.tasks.tasks]

    def refresh(self) -> int:
        """Write to the widgets what differs from what they show; how many messages that took."""
        shown = group_shown(self.tasks.tasks, datetime.now(UTC))
        sent = put(self._label, value=label_html(shown)) + put(self._figures, value=figures_html(shown))
        sent += put(self._bar, value=shown.progress or 0.0)
        sent += put(self._bar.style, bar_color=LOOKS[shown.state][2])
        sent += super().refresh()
        if shown.over and self.replace is not None:
            replace, self.replace = self.replace, None
            replace(PanelPicture(shown))
            sent += 1
        return sent

    def close(self) -> None:
        """Close the widgets, on the writer's thread."""
        super().close()
        for panel in self._taken:
            panel.close()

    def bundle(self) -> dict[str, Any]:
        """The mime bundle that shows the live panel, with its picture for viewers that show no widgets."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self._root.model_id}
        return {VIEW_TYPE: view, **PanelPicture(group_shown(self.tasks.tasks, datetime.now(UTC))).bundle()}


def group_shown(tasks: Sequence[Task], now: datetime) -> Shown:
    """What is told of them together: as of one task, which is as far as they are on average."""
    counts = Counter(task.state.value for task in tasks)
    over = not counts["running"] and not counts["pending"]
    state = next(state for state in ("running", "pending", "failed", "cancelled", "completed") if counts[state])
    parts = [Shown.of(task, now, whole=False).progress or 0.0 for task in tasks]
    far = [100.0 if task.done else progress for task, progress in zip(tasks, parts, strict=True)]
    starts = [task.started_at for task in tasks if task.started_at is not None]
    ends = [task.completed_at for task in tasks if task.completed_at is not None] if over else [now]
    failed = [task for task in tasks if task.state is TaskState.FAILED]
    names = [one_line(task.heading or task.name, 40) for task in tasks[:NAMED]]
    names += ["…"] if len(tasks) > NAMED else []
    return Shown(
        state=state,
        title=f"{len(tasks)} tasks: {', '.join(names)}",
        body="",
        error=_failures(failed) if over else "",
        progress=sum(far) / len(far),
        elapsed=int((max(ends) - min(starts)).total_seconds()) if starts and ends else None,
        waited_to_stop=None,
        described=", ".join(f"{counts[name]:,} {name}" for name in LOOKS if counts[name]),
    )


def _failures(failed: Sequence[Task]) -> str:
    said = [one_line(f"{task.heading or task.name}: {task.error}", 300) for task in failed[:FAILED]]
    more = [f"… and {len(failed) - FAILED} more"] if len(failed) > FAILED else []
    return "\n".join([*said, *more])
