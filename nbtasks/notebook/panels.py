"""Puts panels into cells: live where widgets show, as text where they cannot.

Knows the kernel and the live writer; nothing of how a cell runs.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nbtasks.manager import TaskManager
from nbtasks.notebook.kernel import Kernel, LaunchingCell
from nbtasks.recurring.task import RecurringTask
from nbtasks.task import Task
from nbtasks.widgets.live import LiveWriter
from nbtasks.widgets.recurring_shown import shown_of
from nbtasks.widgets.shown import PanelPicture, PicturePanel

if TYPE_CHECKING:
    from nbtasks.widgets.panel import LivePanel
    from nbtasks.widgets.recurring_panel import RecurringPanel

    Panel = LivePanel | RecurringPanel | PicturePanel

__all__ = ["Panels"]


class Panels:
    """The panels of this notebook, by the cell that each is shown in.

    Used from the main thread, apart from what the live writer runs on its own thread.
    """

    def __init__(self, manager: TaskManager, kernel: Kernel) -> None:
        self._manager = manager
        self._kernel = kernel
        self._live: LiveWriter | None = None
        self._by_cell: dict[str, list[Panel]] = {}

    def use_widgets(self, cell: LaunchingCell) -> bool:
        """Whether a panel in `cell` is made of widgets: where front ends show them, or as NBTASKS_WIDGETS says."""
        wanted = os.environ.get("NBTASKS_WIDGETS")
        return self._kernel.exists and (cell.cell_id is not None if wanted is None else wanted != "0")

    def show(self, task: Task | RecurringTask, cell: LaunchingCell) -> None:
        """Show a panel of `task` under `cell`; a panel that an earlier run of the cell left there is closed."""
        if not self._kernel.exists:
            print(shown_of(task, datetime.now(UTC)).text())
            return
        if self._live is None:
            self._live = LiveWriter(self._manager)
        panel = self._live.add(task, lambda: self._put(task, cell))
        place = _place(cell)
        self._close_earlier(place)
        self._by_cell.setdefault(place, []).append(panel)

    def settle(self, task: Task) -> None:
        """Return when the panels of `task` show how it is now."""
        if self._live is not None:
            for panel in [panel for panels in self._by_cell.values() for panel in panels if panel.task is task]:
                self._live.run(panel.refresh)

    def header(self, task: Task | RecurringTask, cell: LaunchingCell) -> tuple[str, dict[str, Any]] | None:
        """The message that shows the panel of `task` in `cell` anew, after the cell was cleared."""
        for panel in reversed(self._by_cell.get(_place(cell), [])):
            if panel.task is task:
                return "display_data", _content(panel.bundle(), _display_id(task, cell))
        return None

    def close(self) -> None:
        """Flush the last changes and stop writing; what is shown stays as it is."""
        if self._live is not None:
            self._live.close()
            self._live = None

    def _put(self, task: Task | RecurringTask, cell: LaunchingCell) -> Panel:
        """Make the panel and show it, on the writer's thread: its models are open before the view is sent."""
        display_id = _display_id(task, cell)

        def put_in_its_place(picture: PanelPicture) -> None:
            self._kernel.send(cell, "update_display_data", _content(picture.bundle(), display_id))

        panel: Panel
        if not self.use_widgets(cell):
            panel = PicturePanel(task, shown_of)
        else:
            from nbtasks.widgets.panel import LivePanel
            from nbtasks.widgets.recurring_panel import RecurringPanel

            assert self._live is not None
            kind: Any = RecurringPanel if isinstance(task, RecurringTask) else LivePanel
            panel = kind(task, self._manager, wake=self._live.touch)
        self._kernel.send(cell, "display_data", _content(panel.bundle(), display_id))
        panel.replace = put_in_its_place
        return panel

    def _close_earlier(self, place: str) -> None:
        assert self._live is not None
        over = [panel for panel in self._by_cell.get(place, []) if _is_over(panel.task)]
        for panel in over:
            self._by_cell[place].remove(panel)
            self._live.remove(panel.task, panel)
            self._live.run(panel.close)


def _is_over(task: Task | RecurringTask) -> bool:
    return task.removed if isinstance(task, RecurringTask) else task.state.is_final


def _place(cell: LaunchingCell) -> str:
    """The cell in the front end, over its runs; where it has no id, the one run."""
    return cell.cell_id or cell.request_id or ""


def _display_id(task: Task | RecurringTask, cell: LaunchingCell) -> str:
    return f"nbtasks-{task.id}-{cell.request_id}"


def _content(data: dict[str, Any], display_id: str) -> dict[str, Any]:
    return {"data": data, "metadata": {}, "transient": {"display_id": display_id}}
