"""Panels, tables, timelines and schedule lists in cells, as widgets, HTML or text."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from IPython.display import display

from nbtasks.events import EventType
from nbtasks.history.history import History
from nbtasks.manager import TaskManager
from nbtasks.notebook.cells.cell_task import CellTask
from nbtasks.notebook.kernel import Kernel, LaunchingCell
from nbtasks.notebook.output.terminal import BottomLines, terminal_of
from nbtasks.progress import current_task
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task, can_run_again
from nbtasks.widgets.html import panel_bundle, table_bundle
from nbtasks.widgets.live_writer import LiveWriter, View
from nbtasks.widgets.notifications import Notifications, NotificationSettings
from nbtasks.widgets.run_query import ListAnswer, RunQuery, read_list, run_list_bundle
from nbtasks.widgets.snapshot import Snapshot, group_snapshot, snapshot_of, when_lost
from nbtasks.widgets.static_views import HtmlPanel, HtmlTable, HtmlTimeline
from nbtasks.widgets.text import panel_text, schedule_list, task_list, terminal_lines
from nbtasks.widgets.timeline import timeline_of

if TYPE_CHECKING:
    from nbtasks.events import Subscription
    from nbtasks.widgets.group_panel import GroupPanel
    from nbtasks.widgets.panel import LivePanel
    from nbtasks.widgets.recurring_panel import RecurringPanel
    from nbtasks.widgets.run_list_view import LiveRunList
    from nbtasks.widgets.schedule_list import RepeatableTasks, ScheduleList
    from nbtasks.widgets.task_table import LiveTable

    Panel: TypeAlias = LivePanel | GroupPanel | RecurringPanel | HtmlPanel
    ViewOfAll: TypeAlias = LiveTable | HtmlTable | ScheduleList | LiveRunList | HtmlTimeline

__all__ = ["Panels"]

V = TypeVar("V", bound="ViewOfAll")

Subject: TypeAlias = Task | RecurringTask


@dataclass(slots=True, eq=False)
class _CellPanel:
    """A panel in a cell, and what it shows."""

    view: Panel
    subjects: list[Subject]

    @property
    def finished(self) -> bool:
        """Whether all that it shows is finished."""
        return all(map(_is_finished, self.subjects))

    def last_snapshot(self, now: datetime) -> Snapshot:
        """What it shows when the kernel ends."""
        if len(self.subjects) == 1:
            return when_lost(snapshot_of(self.subjects[0], now))
        tasks = [one for one in self.subjects if isinstance(one, Task)]
        return when_lost(group_snapshot(tasks, now, lost=True))

    @property
    def may_be_shared(self) -> bool:
        """Whether other tasks can join: it is made of widgets and shows no recurring task."""
        return not isinstance(self.view, HtmlPanel) and all(isinstance(one, Task) for one in self.subjects)


class Panels:
    """The panels and other views of this notebook, by cell. Any thread may use it.

    `retry` runs a task again, in its own cell.
    """

    def __init__(
        self, manager: TaskManager, kernel: Kernel, retry: Callable[[Task], object], settings: NotificationSettings
    ) -> None:
        self._manager = manager
        self._kernel = kernel
        self._retry = retry
        self._settings = settings
        self._live: LiveWriter | None = None
        self._notifications: Notifications | None = None
        self._subscription: Subscription | None = None
        self._waiting = False
        self._lock = threading.Lock()
        self._by_cell: dict[str, list[_CellPanel]] = {}
        self._requests: dict[str, str | None] = {}
        """The request in which each cell showed its last panel."""
        self._views_of_all: dict[str, ViewOfAll] = {}
        """By cell."""
        self._last_pictures: dict[str, Callable[[], None]] = {}
        """By cell: sends the last picture of its view of all tasks, when the kernel ends."""

    def use_widgets(self, cell: LaunchingCell) -> bool:
        """Whether views in `cell` are widgets: if its front end shows them, or as NBTASKS_WIDGETS says."""
        setting = os.environ.get("NBTASKS_WIDGETS")
        if setting is None:
            return self._kernel.exists and (cell.cell_id is not None or self._kernel.is_voila)
        return self._kernel.exists and setting != "0"

    # -- panels -----------------------------------------------------------------------------------------------

    def show(
        self, subject: Subject, cell: LaunchingCell, *, alone: bool = False, output_below: bool = True
    ) -> None:
        """Show a panel under `cell`, and close the finished panels of earlier runs of the cell.

        Tasks that are shown in one run of a cell share one panel, unless one is to be `alone`. `output_below`: whether
        the cell shows the output of a cell task, too.
        """
        if not self._kernel.exists:
            print(panel_text(snapshot_of(subject, datetime.now(UTC))))
            return
        key, request = cell.key, cell.request_id
        if isinstance(subject, Task) and not alone and request is not None and self._requests.get(key) == request:
            shared = next((panel for panel in self._by_cell.get(key, []) if panel.may_be_shared), None)
            if shared is not None:
                self._join(shared, subject, cell)
                return
        view = self._writer().add(subject, lambda: self._make_panel(subject, cell, output_below=output_below))
        self._close_earlier(key)
        with self._lock:
            self._requests[key] = request
            self._by_cell.setdefault(key, []).append(_CellPanel(view, [subject]))

    def update(self, task: Task) -> None:
        """Return when the panels of `task` show its current state; in a terminal, print that."""
        if not self._kernel.exists:
            print(panel_text(snapshot_of(task, datetime.now(UTC))))
        with self._lock:
            panels = [one for panels in self._by_cell.values() for one in panels if task in one.subjects]
        for panel in panels:
            self._writer().run(panel.view.refresh)

    def header(self, subject: Subject, cell: LaunchingCell) -> tuple[str, dict[str, Any]] | None:
        """The message that shows the panel again after the output of `cell` was cleared."""
        for panel in reversed(self._by_cell.get(cell.key, [])):
            if subject in panel.subjects:
                return "display_data", _content(
                    panel.view.bundle(), _display_id(panel.subjects[0], cell), panel.subjects
                )
        return None

    def header_if_cleared(self, subject: Subject, cell: LaunchingCell) -> tuple[str, dict[str, Any]] | None:
        """The message that shows the panel again, if a front end has removed it from the output of `cell`."""
        for panel in reversed(self._by_cell.get(cell.key, [])):
            if subject in panel.subjects:
                return self.header(subject, cell) if panel.view.views.take_cleared() else None
        return None

    def _make_panel(self, subject: Subject, cell: LaunchingCell, *, output_below: bool) -> Panel:
        """Make a panel and show it, on the writer's thread: its models are open before the view is sent."""
        display_id = _display_id(subject, cell)

        def replace(snapshot: Snapshot) -> None:
            run_again, command = _is_own_cell(subject, cell), _retry_command(subject)
            bundle = panel_bundle(snapshot, run_again=run_again, command=command)
            self._replace([subject], cell, display_id, bundle)

        view: Panel
        if not self.use_widgets(cell):
            view = HtmlPanel(subject)
        elif isinstance(subject, RecurringTask):
            from nbtasks.widgets.recurring_panel import RecurringPanel

            widgets = self._notification_widgets(subject.template)
            view = RecurringPanel(subject, self._manager, self._writer().touch, widgets)
        else:
            from nbtasks.widgets.panel import LivePanel

            widgets = self._notification_widgets(subject)
            view = LivePanel(subject, self._manager, self._writer().touch, widgets, output_below=output_below)
        self._kernel.send(cell, "display_data", _content(view.bundle(), display_id, [subject]))
        view.replace = replace
        return view

    def _join(self, panel: _CellPanel, task: Task, cell: LaunchingCell) -> None:
        """Show `task` in `panel` too; the panel of one task becomes that of several."""
        from nbtasks.widgets.group_panel import GroupPanel
        from nbtasks.widgets.panel import LivePanel

        live, view = self._writer(), panel.view
        if isinstance(view, GroupPanel):
            live.run(lambda: self._join_group(view, task, cell))
            live.watch(task, view)
        elif isinstance(view, LivePanel):
            first = view.task
            group = live.add(task, lambda: self._make_group(view, task, cell))
            live.watch(first, group)
            live.remove(first, view)
            panel.view = group
        with self._lock:
            panel.subjects.append(task)

    def _join_group(self, group: GroupPanel, task: Task, cell: LaunchingCell) -> None:
        """On the writer's thread: add the task, and show a panel again that a static one has replaced."""
        display_id = _display_id(group.tasks.list_tasks()[0], cell)
        group.join(task)
        if group.replace is None:
            content = _content(group.bundle(), display_id, group.tasks)
            self._kernel.send(cell, "update_display_data", content)
            group.replace = lambda snapshot: self._replace(group.tasks, cell, display_id, panel_bundle(snapshot))

    def _make_group(self, first: LivePanel, second: Task, cell: LaunchingCell) -> GroupPanel:
        """Make the panel of two tasks and put it in place of the first one's, on the writer's thread."""
        from nbtasks.widgets.group_panel import GroupPanel

        live, display_id = self._writer(), _display_id(first.task, cell)
        tasks = [first.task, second]
        group = GroupPanel(tasks, self._manager, live.touch, lambda: live.state_changes, self._retry)
        if not group.take_place_of(first):
            self._kernel.send(cell, "update_display_data", _content(group.bundle(), display_id, tasks))
        group.replace = lambda snapshot: self._replace(group.tasks, cell, display_id, panel_bundle(snapshot))
        return group

    def _notification_widgets(self, task: Task) -> tuple[Any, ...]:
        self._writer()
        assert self._notifications is not None
        return self._notifications.panel_widgets(task)

    def _replace(
        self, subjects: Iterable[Subject], cell: LaunchingCell, display_id: str, bundle: dict[str, Any]
    ) -> None:
        """Replace a panel in its document, once its page has shown the notifications of its tasks."""
        subjects = list(subjects)
        live = not all(map(_is_finished, subjects))

        def send() -> None:
            self._kernel.send(cell, "update_display_data", _content(bundle, display_id, subjects, live=live))

        assert self._notifications is not None
        self._notifications.when_notified([one for one in subjects if isinstance(one, Task)], send)

    # -- views of all tasks -----------------------------------------------------------------------------------

    def show_table(self, cell: LaunchingCell) -> None:
        """Show the task table in `cell`, in place of an earlier view there."""
        if not self._kernel.exists:
            print(task_list(self._manager.list_tasks()))
        else:
            self._add_view_of_all(lambda: self._make_table(cell), cell)
            with self._lock:
                self._last_pictures[cell.key] = lambda: self._send_picture(
                    cell, _table_id(cell), table_bundle(self._manager, lost=True)
                )

    def show_timeline(self, cell: LaunchingCell, span: timedelta | None) -> None:
        """Show the timeline of the last `span`, or since the first start, in place of an earlier view there."""
        if not self._kernel.exists:
            print(timeline_of(self._manager, span).text())
        else:
            view = self._add_view_of_all(lambda: self._make_timeline(cell, span), cell)
            with self._lock:
                self._last_pictures[cell.key] = lambda: self._send_picture(cell, _timeline_id(cell), view.picture())

    def show_schedules(
        self, cell: LaunchingCell, chosen: Sequence[RecurringTask] | None, repeatable: RepeatableTasks
    ) -> None:
        """Show the controls of the chosen schedules, or of all, in `cell`; without widgets as text."""
        if not self.use_widgets(cell):
            schedules = self._manager.list_recurring_tasks() if chosen is None else chosen
            print(schedule_list(schedules, datetime.now(UTC)))
        else:
            self._add_view_of_all(lambda: self._make_schedule_list(cell, chosen, repeatable), cell)

    def show_history(self, cell: LaunchingCell, history: History, query: RunQuery, text: str) -> None:
        """Show the runs that a history has, in place of an earlier view in `cell`.

        `text` is the same for terminals. Raises HistoryError.
        """
        if not self._kernel.exists:
            print(text)
            return
        answer = read_list(history, query)
        if not self.use_widgets(cell):
            self.show_static(run_list_bundle(answer, text))
            return
        view = self._add_view_of_all(lambda: self._make_run_list(cell, history, query, answer, text), cell)
        with self._lock:
            self._last_pictures[cell.key] = lambda: self._send_picture(cell, _history_id(cell), view.picture())

    def show_static(self, bundle: dict[str, Any]) -> None:
        """Show what does not change; in a terminal its text."""
        if self._kernel.exists:
            display(bundle, raw=True)
        else:
            print(bundle["text/plain"])

    def _add_view_of_all(self, make: Callable[[], V], cell: LaunchingCell) -> V:
        view = self._writer().add(None, make)
        self._close_earlier(cell.key)
        with self._lock:
            self._views_of_all[cell.key] = view
        return view

    def _make_table(self, cell: LaunchingCell) -> LiveTable | HtmlTable:
        """Make the table and show it, on the writer's thread."""
        display_id = _table_id(cell)
        table: LiveTable | HtmlTable
        if self.use_widgets(cell):
            from nbtasks.widgets.task_table import LiveTable

            live = self._writer()
            table = LiveTable(self._manager, live.touch, lambda: live.state_changes, self._retry)
        else:
            table = HtmlTable(self._manager)
            table.replace = lambda data: self._kernel.send(cell, "update_display_data", _content(data, display_id))
        self._kernel.send(cell, "display_data", _content(table.bundle(), display_id))
        return table

    def _make_timeline(self, cell: LaunchingCell, span: timedelta | None) -> HtmlTimeline:
        """Make the timeline and show it, on the writer's thread."""
        display_id = _timeline_id(cell)
        if self.use_widgets(cell):
            from nbtasks.widgets.timeline_view import LiveTimeline

            timeline: HtmlTimeline = LiveTimeline(self._manager, self._writer().touch, span)
        else:
            timeline = HtmlTimeline(self._manager, span)
            timeline.replace = lambda data: self._kernel.send(cell, "update_display_data", _content(data, display_id))
        self._kernel.send(cell, "display_data", _content(timeline.bundle(), display_id))
        return timeline

    def _make_run_list(
        self, cell: LaunchingCell, history: History, query: RunQuery, answer: ListAnswer, text: str
    ) -> LiveRunList:
        """Make the list of runs and show it, on the writer's thread."""
        from nbtasks.widgets.run_list_view import LiveRunList

        live = self._writer()
        runs = LiveRunList(history, live.touch, lambda: live.state_changes, query, answer, text)
        self._kernel.send(cell, "display_data", _content(runs.bundle(), _history_id(cell)))
        return runs

    def _make_schedule_list(
        self, cell: LaunchingCell, chosen: Sequence[RecurringTask] | None, repeatable: RepeatableTasks
    ) -> ScheduleList:
        """Make the list of schedules and show it, on the writer's thread."""
        from nbtasks.widgets.schedule_list import ScheduleList

        schedules = ScheduleList(self._manager, self._writer().touch, repeatable, chosen)
        self._kernel.send(cell, "display_data", _content(schedules.bundle(), _schedules_id(cell)))
        return schedules

    # -- views outside the document ---------------------------------------------------------------------------

    def add_view(self, view: View) -> None:
        """Have a view of all tasks refreshed until `remove_view`."""
        self._writer().add(None, lambda: view)

    def touch_view(self, view: View) -> None:
        """Refresh a view that was added."""
        self._writer().touch(view)

    def remove_view(self, view: View) -> None:
        """Refresh the view no more."""
        if self._live is not None:
            self._live.remove(None, view)

    def cell_of(self, subject: Subject) -> str | None:
        """The key of a cell that shows a panel of `subject`."""
        with self._lock:
            found = [key for key, panels in self._by_cell.items() for one in panels if subject in one.subjects]
        return found[-1] if found else None

    # -- the end of the kernel --------------------------------------------------------------------------------

    def show_last(self) -> None:
        """Replace the views by their last pictures: what is not finished now is lost with the kernel."""
        if self._live is not None and not self._live.closed:
            self._live.run(self._send_last)

    def _send_last(self) -> None:
        """On the writer's thread."""
        now = datetime.now(UTC)
        with self._lock:
            panels = [panel for panels in self._by_cell.values() for panel in panels]
            last_pictures = list(self._last_pictures.values())
        for panel in panels:
            panel.view.refresh()
            replace, panel.view.replace = panel.view.replace, None
            if replace is not None:
                replace(panel.last_snapshot(now))
        for send in last_pictures:
            send()

    def _send_picture(self, cell: LaunchingCell, display_id: str, bundle: dict[str, Any]) -> None:
        self._kernel.send(cell, "update_display_data", _content(bundle, display_id))

    # -- the terminal -----------------------------------------------------------------------------------------

    @contextmanager
    def while_waiting(self, tasks: Sequence[Task]) -> Iterator[None]:
        """In a terminal, keep the panel or table of these tasks below the other output.

        Only in the foreground; a wait inside another shows nothing.
        """
        foreground = threading.current_thread() is threading.main_thread() and current_task() is None
        if self._waiting or self._kernel.exists or not foreground:
            yield
            return
        terminal = terminal_of(sys.stdout) if tasks else None
        self._waiting = True
        try:
            with nullcontext() if terminal is None else BottomLines(terminal, partial(terminal_lines, tasks)):
                yield
        finally:
            self._waiting = False

    # -- the writer -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write the last changes and stop the writer; the views stay as they are until `open`."""
        if self._live is not None and self._subscription is not None:
            self._subscription.close()
            self._live.close()

    def open(self) -> None:
        """After `close`, write to the views again."""
        if self._live is not None:
            self._writer()

    def _writer(self) -> LiveWriter:
        """The writer, made or opened again if needed."""
        with self._lock:
            if self._live is None or self._notifications is None:
                live = self._live = LiveWriter(self._manager)
                notifications = self._notifications = Notifications(self._settings, live.touch)
                live.add(notifications, lambda: notifications)
            elif self._live.closed:
                self._live.open()
            else:
                return self._live
            self._subscription = self._manager.add_event_callback(
                self._notifications.finished, events=[EventType.COMPLETED, EventType.FAILED]
            )
            return self._live

    def _close_earlier(self, key: str) -> None:
        """Close the views of all tasks and the finished panels in a cell."""
        live = self._writer()
        with self._lock:
            panels = self._by_cell.pop(key, [])
            finished = [panel for panel in panels if panel.finished]
            if left := [panel for panel in panels if panel not in finished]:
                self._by_cell[key] = left
            view = self._views_of_all.pop(key, None)
            self._last_pictures.pop(key, None)
        for panel in finished:
            for subject in panel.subjects:
                live.remove(subject, panel.view)
            live.run(panel.view.close)
        if view is not None:
            live.remove(None, view)
            live.run(view.close)


def _is_finished(subject: Subject) -> bool:
    return subject.removed if isinstance(subject, RecurringTask) else subject.done


def _is_own_cell(subject: Subject, cell: LaunchingCell) -> bool:
    """Whether running `cell` again runs the task again."""
    return isinstance(subject, CellTask) and subject.cell.cell_id is not None and subject.cell.cell_id == cell.cell_id


def _retry_command(subject: Subject) -> str:
    """The line that runs the task again; empty if there is none."""
    has_one = isinstance(subject, Task) and can_run_again(subject) and len(subject.name.split()) == 1
    return f"%bgtask retry {subject.name}" if has_one else ""


def _display_id(subject: Subject, cell: LaunchingCell) -> str:
    return f"nbtasks-{subject.id}-{cell.request_id}"


def _table_id(cell: LaunchingCell) -> str:
    return f"nbtasks-table-{cell.request_id}"


def _timeline_id(cell: LaunchingCell) -> str:
    return f"nbtasks-timeline-{cell.request_id}"


def _schedules_id(cell: LaunchingCell) -> str:
    return f"nbtasks-schedules-{cell.request_id}"


def _history_id(cell: LaunchingCell) -> str:
    return f"nbtasks-history-{cell.request_id}"


def _content(
    data: dict[str, Any], display_id: str, tasks: Iterable[Subject] = (), *, live: bool = True
) -> dict[str, Any]:
    """The content of a display; the document keeps its id and its tasks in the metadata."""
    own = {"display_id": display_id, "tasks": [task.id for task in tasks], "live": live}
    return {"data": data, "metadata": {"nbtasks": own}, "transient": {"display_id": display_id}}
