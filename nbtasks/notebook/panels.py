"""Puts panels into cells: live where widgets show, as text where they cannot.

Knows the kernel and the live writer; nothing of how a cell runs.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from nbtasks.events import EventType
from nbtasks.manager import TaskManager
from nbtasks.notebook.kernel import Kernel, LaunchingCell
from nbtasks.notebook.output.terminal import BottomLines, terminal_of
from nbtasks.progress import current_task
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task
from nbtasks.widgets.live_writer import LiveWriter
from nbtasks.widgets.notifications import Notices, Settings
from nbtasks.widgets.recurring_shown import schedule_list, shown_of
from nbtasks.widgets.snapshot import PanelPicture, PicturePanel
from nbtasks.widgets.task_table import PictureTable, task_list
from nbtasks.widgets.text import lines_of
from nbtasks.widgets.timeline import PictureTimeline, timeline_of

if TYPE_CHECKING:
    from nbtasks.events import Subscription
    from nbtasks.widgets.group_panel import GroupPanel
    from nbtasks.widgets.panel import LivePanel
    from nbtasks.widgets.recurring_panel import RecurringPanel
    from nbtasks.widgets.schedule_list import Repeats, ScheduleBoard
    from nbtasks.widgets.task_table import LiveTable

    AllView: TypeAlias = LiveTable | PictureTable | ScheduleBoard | PictureTimeline
    Panel: TypeAlias = LivePanel | GroupPanel | RecurringPanel | PicturePanel

__all__ = ["Panels"]


class Panels:
    """The panels and tables of this notebook, by the cell that each is shown in. Any thread may use it.

    `retry` runs a task once more, in its own cell.
    """

    def __init__(
        self, manager: TaskManager, kernel: Kernel, retry: Callable[[Task], object], settings: Settings
    ) -> None:
        self._manager = manager
        self._kernel = kernel
        self._retry = retry
        self._settings = settings
        self._live: LiveWriter | None = None
        self._notices: Notices | None = None
        self._subscription: Subscription | None = None
        self._waits = False
        self._lock = threading.Lock()
        self._by_cell: dict[str, list[Panel]] = {}
        self._runs: dict[str, str | None] = {}
        """Of the last panel in each cell, the run of the cell that it was shown in."""
        self._tables: dict[str, AllView] = {}

    def use_widgets(self, cell: LaunchingCell) -> bool:
        """Whether a panel in `cell` is made of widgets: where front ends show them, or as NBTASKS_WIDGETS says."""
        wanted = os.environ.get("NBTASKS_WIDGETS")
        return self._kernel.exists and (cell.cell_id is not None if wanted is None else wanted != "0")

    def show(self, task: Task | RecurringTask, cell: LaunchingCell, *, alone: bool = False) -> None:
        """Show a panel of `task` under `cell`; a panel that an earlier run of the cell left there is closed.

        Tasks that are shown in the same run of a cell share one panel, unless one is to be `alone`.
        """
        if not self._kernel.exists:
            print(shown_of(task, datetime.now(UTC)).text())
            return
        place, run = cell.place, cell.request_id
        if isinstance(task, Task) and not alone and run is not None and self._runs.get(place) == run:
            shared = next((panel for panel in self._by_cell.get(place, []) if _may_share(panel)), None)
            if shared is not None:
                self._share(shared, task, cell)
                return
        panel = self._writer().add(task, lambda: self._put(task, cell))
        self._close_earlier(place)
        with self._lock:
            self._runs[place] = run
            self._by_cell.setdefault(place, []).append(panel)

    def show_table(self, cell: LaunchingCell) -> None:
        """Show the task table in `cell`; one that an earlier run of the cell left there is closed."""
        if not self._kernel.exists:
            print(task_list(self._manager.list_tasks()))
        else:
            self._keep_table(self._writer().add(None, lambda: self._put_table(cell)), cell)

    def show_timeline(self, cell: LaunchingCell, span: timedelta) -> None:
        """Show the timeline of the last `span` in `cell`."""
        if not self._kernel.exists:
            print(timeline_of(self._manager, span).text())
        else:
            self._keep_table(self._writer().add(None, lambda: self._put_timeline(cell, span)), cell)

    def show_schedules(self, cell: LaunchingCell, chosen: Sequence[RecurringTask] | None, repeats: Repeats) -> None:
        """Show the controls of these schedules, or of all, in `cell`; as text where widgets cannot show."""
        if not self.use_widgets(cell):
            shown = self._manager.list_recurring_tasks() if chosen is None else chosen
            print(schedule_list(shown, datetime.now(UTC)))
        else:
            self._keep_table(self._writer().add(None, lambda: self._put_board(cell, chosen, repeats)), cell)

    @contextmanager
    def while_waiting(self, tasks: Sequence[Task]) -> Iterator[None]:
        """In a terminal that can, the panel of the task, or the table of several, stands below what is written.

        Only for the foreground; and a wait inside this one shows nothing of its own.
        """
        own = threading.current_thread() is threading.main_thread() and current_task() is None
        if self._waits or self._kernel.exists or not own:
            yield
            return
        terminal = terminal_of(sys.stdout) if tasks else None
        self._waits = True
        try:
            with nullcontext() if terminal is None else BottomLines(terminal, partial(lines_of, tasks)):
                yield
        finally:
            self._waits = False

    def settle(self, task: Task) -> None:
        """Return when the panels of `task` show how it is now; in a terminal, print that."""
        if not self._kernel.exists:
            print(shown_of(task, datetime.now(UTC)).text())
        if self._live is not None:
            with self._lock:
                panels = [panel for panels in self._by_cell.values() for panel in panels if task in _tasks_of(panel)]
            for panel in panels:
                self._live.run(panel.refresh)

    def header(self, task: Task | RecurringTask, cell: LaunchingCell) -> tuple[str, dict[str, Any]] | None:
        """The message that shows the panel of `task` in `cell` anew, after the cell was cleared."""
        for panel in reversed(self._by_cell.get(cell.place, [])):
            if task in (tasks := _tasks_of(panel)):
                return "display_data", _content(panel.bundle(), _display_id(tasks[0], cell))
        return None

    def close(self) -> None:
        """Flush the last changes and stop writing; what is shown stays as it is."""
        if self._live is not None and self._subscription is not None:
            self._subscription.close()
            self._live.close()
            self._live = None

    def _writer(self) -> LiveWriter:
        with self._lock:
            if self._live is None:
                live = self._live = LiveWriter(self._manager)
                notices = self._notices = Notices(self._settings, live.touch)
                live.add(notices, lambda: notices)
                self._subscription = self._manager.add_event_callback(
                    notices.ended, events=[EventType.COMPLETED, EventType.FAILED]
                )
            return self._live

    def _put_table(self, cell: LaunchingCell) -> LiveTable | PictureTable:
        """Make the table and show it, on the writer's thread."""
        display_id = f"nbtasks-table-{cell.request_id}"
        table: LiveTable | PictureTable
        if self.use_widgets(cell):
            from nbtasks.widgets.task_table import LiveTable

            live = self._writer()
            table = LiveTable(self._manager, live.touch, lambda: live.changes, self._retry)
        else:
            table = PictureTable(self._manager)
            table.replace = lambda data: self._kernel.send(cell, "update_display_data", _content(data, display_id))
        self._kernel.send(cell, "display_data", _content(table.bundle(), display_id))
        return table

    def _put_timeline(self, cell: LaunchingCell, span: timedelta) -> PictureTimeline:
        display_id = f"nbtasks-timeline-{cell.request_id}"
        if self.use_widgets(cell):
            from nbtasks.widgets.timeline_view import LiveTimeline

            timeline: PictureTimeline = LiveTimeline(self._manager, self._writer().touch, span)
        else:
            timeline = PictureTimeline(self._manager, span)
            timeline.replace = lambda data: self._kernel.send(cell, "update_display_data", _content(data, display_id))
        self._kernel.send(cell, "display_data", _content(timeline.bundle(), display_id))
        return timeline

    def _put_board(
        self, cell: LaunchingCell, chosen: Sequence[RecurringTask] | None, repeats: Repeats
    ) -> ScheduleBoard:
        from nbtasks.widgets.schedule_list import ScheduleBoard

        board = ScheduleBoard(self._manager, self._writer().touch, repeats, chosen)
        self._kernel.send(cell, "display_data", {"data": board.bundle(), "metadata": {}})
        return board

    def _keep_table(self, table: AllView, cell: LaunchingCell) -> None:
        place = cell.place
        self._close_earlier(place)
        with self._lock:
            self._tables[place] = table

    def _put(self, task: Task | RecurringTask, cell: LaunchingCell) -> Panel:
        """Make the panel and show it, on the writer's thread: its models are open before the view is sent."""
        display_id = _display_id(task, cell)

        def put_in_its_place(picture: PanelPicture) -> None:
            picture.again, picture.command = _is_in_its_cell(task, cell), _retry_command(task)
            self._replace([task], cell, display_id, picture)

        panel: Panel
        if not self.use_widgets(cell):
            panel = PicturePanel(task, shown_of)
        else:
            from nbtasks.widgets.panel import LivePanel
            from nbtasks.widgets.recurring_panel import RecurringPanel

            assert self._live is not None
            assert self._notices is not None
            kind: Any = RecurringPanel if isinstance(task, RecurringTask) else LivePanel
            told = task.template if isinstance(task, RecurringTask) else task
            panel = kind(task, self._manager, wake=self._live.touch, beside=self._notices.beside(told))
        self._kernel.send(cell, "display_data", _content(panel.bundle(), display_id))
        panel.replace = put_in_its_place
        return panel

    def _share(self, panel: Panel, task: Task, cell: LaunchingCell) -> None:
        """Let `panel` show `task` too: the panel of one task makes room for one of several."""
        from nbtasks.widgets.group_panel import GroupPanel
        from nbtasks.widgets.recurring_panel import RecurringPanel

        live = self._writer()
        if isinstance(panel, GroupPanel):
            panel.join(task)
            live.watch(task, panel)
            return
        assert not isinstance(panel, RecurringPanel | PicturePanel)
        first = panel.task
        group = live.add(task, lambda: self._put_group(panel, task, cell))
        live.watch(first, group)
        live.remove(first, panel)
        with self._lock:
            panels = self._by_cell.setdefault(cell.place, [])
            panels[:] = [group if other is panel else other for other in panels]

    def _put_group(self, first: LivePanel, second: Task, cell: LaunchingCell) -> GroupPanel:
        """Make the panel of both and put it in the place of the first one's, on the writer's thread."""
        from nbtasks.widgets.group_panel import GroupPanel

        live, display_id = self._writer(), _display_id(first.task, cell)
        group = GroupPanel([first.task, second], self._manager, live.touch, lambda: live.changes, self._retry)
        if not group.take_place_of(first):
            self._kernel.send(cell, "update_display_data", _content(group.bundle(), display_id))
        group.replace = lambda picture: self._replace(group.tasks, cell, display_id, picture)
        return group

    def _replace(self, tasks: Iterable[Any], cell: LaunchingCell, display_id: str, picture: PanelPicture) -> None:
        """Put a picture in the place of a panel, once its page has been told of the tasks' end."""

        def send() -> None:
            self._kernel.send(cell, "update_display_data", _content(picture.bundle(), display_id))

        assert self._notices is not None
        self._notices.when_told([task for task in tasks if isinstance(task, Task)], send)

    def _close_earlier(self, place: str) -> None:
        live = self._writer()
        with self._lock:
            panels = self._by_cell.pop(place, [])
            over = [panel for panel in panels if all(map(_is_over, _tasks_of(panel)))]
            if left := [panel for panel in panels if panel not in over]:
                self._by_cell[place] = left
            table = self._tables.pop(place, None)
        for panel in over:
            for task in _tasks_of(panel):
                live.remove(task, panel)
            live.run(panel.close)
        if table is not None:
            live.remove(None, table)
            live.run(table.close)


def _tasks_of(panel: Panel) -> list[Any]:
    """The task, tasks or recurring task that it shows."""
    return list(panel.tasks) if hasattr(panel, "tasks") else [panel.task]


def _may_share(panel: Panel) -> bool:
    """Whether it is made of widgets and shows tasks, not a recurring one."""
    return hasattr(panel, "widget") and all(isinstance(task, Task) for task in _tasks_of(panel))


def _is_over(task: Task | RecurringTask) -> bool:
    return task.removed if isinstance(task, RecurringTask) else task.state.is_final


def _is_in_its_cell(task: Task | RecurringTask, cell: LaunchingCell) -> bool:
    """Whether to run `cell` again is to run the task again."""
    own: LaunchingCell | None = getattr(task, "cell", None)
    return own is not None and own.cell_id is not None and own.cell_id == cell.cell_id


def _retry_command(task: Task | RecurringTask) -> str:
    """The line that runs `task` again; nothing where there is none."""
    from nbtasks.widgets.task_table import may_run_again

    told = isinstance(task, Task) and may_run_again(task) and len(task.name.split()) == 1
    return f"%bgtask retry {task.name}" if told else ""


def _display_id(task: Task | RecurringTask, cell: LaunchingCell) -> str:
    return f"nbtasks-{task.id}-{cell.request_id}"


def _content(data: dict[str, Any], display_id: str) -> dict[str, Any]:
    return {"data": data, "metadata": {}, "transient": {"display_id": display_id}}
