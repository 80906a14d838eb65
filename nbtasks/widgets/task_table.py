"""Live task table: filter, search, sort and steer tasks, and set limits of lanes.

Written on the live writer's thread only. Clicks arrive on the front end's thread: they store what the user wants, and
call the manager.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from html import escape
from typing import Any, Protocol

from nbtasks.exceptions import NbtasksError
from nbtasks.formatting import plural
from nbtasks.manager import TaskManager
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Task, can_run_again
from nbtasks.widgets.details import details_html
from nbtasks.widgets.history_rows import HistoryRows
from nbtasks.widgets.html import message_html, row_html, table_bundle
from nbtasks.widgets.live_writer import View
from nbtasks.widgets.output_view import OutputView, kept_output
from nbtasks.widgets.snapshot import FINAL_STATES, Snapshot, progress_state, task_snapshot
from nbtasks.widgets.table_query import COLUMNS, Page, Query, TaskSource, run_query
from nbtasks.widgets.widget_factory import (
    ClickGuard,
    Confirmation,
    Pager,
    StateFilters,
    WidgetFactory,
    update,
    widget_bundle,
)

__all__ = ["LaneControls", "LiveTable", "Row", "RowActions"]

QUERY_SECONDS = 0.5
"""Minimum time between two queries that the user has not asked for: rows must keep their places to be aimed at."""
QUERY_TIME_SHARE = 50
"""Minimum time between two such queries, as a multiple of the time that one takes."""

BUTTON_WIDTH = 30
BUTTONS_WIDTH = 5 * BUTTON_WIDTH + 6
"""Cancel and Retry share a place."""
NO_LIMIT = "no limit"
_FILTERS: dict[str | None, str] = {
    None: "Show all tasks",
    **{state: f"Show the {state} tasks" for state in ("running", "pending", *FINAL_STATES)},
}
_TEXT_COLUMNS = ("task", "state", "lane")
_MARGIN = {"margin": "0 6px 4px 0"}


# -- rows -----------------------------------------------------------------------------------------------------


class RowActions(Protocol):
    """What the buttons of a row do. Called on any thread."""

    def cancel(self, task: Task) -> None:
        """Cancel the task."""

    def retry(self, task: Task) -> None:
        """Run the task again."""

    def change_priority(self, task: Task, by: int) -> None:
        """Raise or lower the priority."""

    def toggle(self, task: Task, part: str) -> None:
        """Open or close the `details` or the `output` below the row."""


class Row:
    """A row that shows one task at a time."""

    def __init__(self, factory: WidgetFactory, actions: RowActions) -> None:
        self.task: Task | None = None
        self._guard = ClickGuard()
        self._cells = factory.html(flex="1 1 auto", min_width="0")

        def button(icon: str, css_class: str, act: Callable[[Task], None]) -> Any:
            made = factory.button(icon=icon, on_click=lambda: self._act(act), width=f"{BUTTON_WIDTH}px")
            made.add_class(css_class)
            return made

        self._up = button("arrow-up", "nbtasks-priority", lambda task: actions.change_priority(task, 1))
        self._down = button("arrow-down", "nbtasks-priority", lambda task: actions.change_priority(task, -1))
        self._cancel = button("times", "nbtasks-cancel", actions.cancel)
        self._retry = button("repeat", "nbtasks-retry", actions.retry)
        self._output = button("terminal", "nbtasks-output", lambda task: actions.toggle(task, "output"))
        self._details = button("info-circle", "nbtasks-details", lambda task: actions.toggle(task, "details"))
        buttons = factory.row(
            *(self._up, self._down, self._cancel, self._retry, self._output, self._details),
            flex=f"0 0 {BUTTONS_WIDTH}px",
            justify_content="flex-end",
            margin="0 0 0 auto",
        )
        buttons.add_class("nbtasks-buttons")
        self.widget = factory.row(self._cells, buttons, align_items="center", height="32px", width="100%")

    def show(self, task: Task, now: datetime, open_part: str | None) -> int:
        """Show `task`, with `open_part` opened below the row; returns the number of messages."""
        snapshot = task_snapshot(task, now, compact=True)
        sent = 0
        if task is not self.task:
            if self.task is not None:
                self._guard.reused()
            self.task = task
            sent += self._name_buttons(snapshot.title[:80])
        sent += update(self.widget, _dom_classes=_row_classes(task, snapshot))
        sent += update(self._output, _dom_classes=_part_classes("output", on=open_part == "output"))
        sent += update(self._details, _dom_classes=_part_classes("details", on=open_part == "details"))
        return sent + update(self._cells, value=row_html(task, snapshot))

    def _name_buttons(self, name: str) -> int:
        names = (
            (self._up, f"Raise the priority of {name}"),
            (self._down, f"Lower the priority of {name}"),
            (self._cancel, f"Cancel {name}"),
            (self._retry, f"Run {name} again"),
            (self._output, f"Output of {name}"),
            (self._details, f"Details of {name}"),
        )
        # The description names the button for screen readers; only its icon is visible (see style.css).
        return sum(update(button, tooltip=words, description=words) for button, words in names)

    def _act(self, act: Callable[[Task], None]) -> None:
        if self.task is not None and not self._guard.stale:
            act(self.task)


def _row_classes(task: Task, snapshot: Snapshot) -> tuple[str, ...]:
    classes = ["nbtasks-tr", f"nbtasks-{'finished' if snapshot.finished else snapshot.state}"]
    if kept_output(task) is not None:
        classes.append("nbtasks-writes")
    if snapshot.finished and not can_run_again(task):
        classes.append("nbtasks-once")
    return tuple(classes)


def _part_classes(name: str, *, on: bool) -> tuple[str, ...]:
    return (f"nbtasks-{name}", "nbtasks-on") if on else (f"nbtasks-{name}",)


# -- lanes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _LaneRow:
    usage: Any
    limit: Any
    widget: Any


class LaneControls:
    """The lanes, with limits to change: whole numbers or "no limit"."""

    def __init__(self, factory: WidgetFactory, manager: TaskManager, show_message: Callable[[str], None]) -> None:
        self._factory = factory
        self._manager = manager
        self._show_message = show_message
        self._rows: dict[str, _LaneRow] = {}
        self.widget = factory.column(padding="4px 0 6px 8px")
        self.widget.add_class("nbtasks-more")

    def refresh(self) -> int:
        """Show the lanes as they are now; returns the number of messages."""
        lanes = self._manager.lanes
        for name in lanes:
            if name not in self._rows:
                self._rows[name] = self._make_row(name)
        sent = update(self.widget, children=tuple(self._rows[name].widget for name in lanes))
        for name, lane in lanes.items():
            row = self._rows[name]
            usage = f"{lane.running} running" + (f" · {lane.pending} pending" if lane.pending else "")
            sent += update(row.usage, value=f"<span>{escape(usage)}</span>")
            sent += update(row.limit, value=_limit_text(lane.limit))
        return sent

    def _make_row(self, name: str) -> _LaneRow:
        layout = {"width": "250px", "max_width": "100%"}
        limit = self._factory.text(f"Limit of {name[:40]}", "140px", layout, continuous_update=False)
        limit.observe(lambda change: self._set_limit(name, str(change["new"])), names="value")
        usage = self._factory.html(margin="0 0 0 12px")
        return _LaneRow(usage, limit, self._factory.row(limit, usage, align_items="center"))

    def _set_limit(self, name: str, text: str) -> None:
        """Called when the field has changed, by the user or by `refresh`."""
        lane = self._manager.lanes.get(name)
        wanted = text.strip().casefold()
        if lane is None or wanted == _limit_text(lane.limit):
            return
        if wanted in ("", "none", NO_LIMIT):
            limit = None
        elif wanted.isdecimal() and wanted.isascii():
            limit = int(wanted)
        else:
            self._show_message(
                f"the limit of a lane must be a whole number from 0 on, or {NO_LIMIT!r}, not {text[:40]!r}"
            )
            return
        try:
            self._manager.resize_lane(name, limit)
        except NbtasksError as error:
            self._show_message(str(error))
        else:
            self._show_message("")


def _limit_text(limit: int | None) -> str:
    return NO_LIMIT if limit is None else str(limit)


# -- the table ------------------------------------------------------------------------------------------------


class LiveTable(View):
    """The live table of a manager's tasks.

    `state_changes` returns the number of state changes of all tasks; `retry` runs a task again; `source` has the tasks,
    if they are not all of the manager's.
    """

    watches_progress = True

    def __init__(
        self,
        manager: TaskManager,
        touch: Callable[[View], None],
        state_changes: Callable[[], int],
        retry: Callable[[Task], object],
        source: TaskSource | None = None,
    ) -> None:
        self._manager = manager
        self._source: TaskSource = manager if source is None else source
        self._touch = lambda: touch(self)
        self._state_changes = state_changes
        self._retry = retry
        # Set on the front end's thread, each in one assignment.
        self._query = Query()
        self._open: tuple[Task, str] | None = None
        """The task whose details or output are open, and which of the two."""
        self._message = ""
        self._lanes_open = False
        self._cancel_confirmation = Confirmation()
        # The state of what is shown.
        self._answered: Query | None = None
        self._changes_seen = -1
        self._next_query = float("-inf")
        self._page = Page()
        self._output: OutputView | None = None
        self._details_shown: object = None
        self._make_widgets()
        self.refresh()

    # -- widgets ----------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        factory = self._factory = WidgetFactory()
        self._filters = StateFilters(factory, _FILTERS, lambda state: self._ask(state=state, page=0))
        layout = {"width": "260px", **_MARGIN}
        self._search = factory.text("Search", "52px", layout, placeholder="name, lane, tag, error")
        self._search.observe(lambda change: self._ask(text=change["new"], page=0), names="value")
        self._lanes_button = factory.button("Lanes", "Show the lanes and their limits", self._toggle_lanes, **_MARGIN)
        self._prune = factory.button("Prune", "Remove finished tasks", self._prune_finished, **_MARGIN)
        self._cancel_all = factory.button(
            "Cancel all", "Cancel all pending and running tasks", self._cancel_live, **_MARGIN
        )
        self._lanes = LaneControls(factory, self._manager, self._show_message)
        self._rows: list[Row] = []
        self._body = factory.column(width="100%")
        self._body.add_class("nbtasks-body")
        self._grid = factory.column(width="100%")
        self._grid.add_class("nbtasks-grid")
        self._details = factory.html(padding="4px 0 8px 8px")
        self._details.add_class("nbtasks-more")
        self._note = factory.html()
        self._pager = Pager(factory, self._turn)
        self.widget = factory.view("nbtasks-table")
        self._frame = self._make_frame()
        self._past = self._make_past()
        self._heads: dict[str, Any] = {}
        self._head_row = self._make_heads()

    def _make_frame(self) -> tuple[Any, ...]:
        """The widgets above the rows."""
        factory = self._factory
        tools = factory.row(self._lanes_button, self._prune, self._cancel_all, flex_flow="wrap")
        search = factory.row(
            self._search, tools, flex_flow="wrap", justify_content="space-between", width="100%", padding="0 0 4px 0"
        )
        return (factory.style_sheet(), self._filters.widget, search)

    def _make_past(self) -> HistoryRows | None:
        """The tasks that only the history has; None in a table of some tasks."""
        return HistoryRows(self._factory, self._manager, self._touch)

    def _make_heads(self) -> tuple[Any, ...]:
        """The row of column heads."""
        factory = self._factory
        self._heads = {
            name: factory.button(name, on_click=partial(self._sort, name)) for name in COLUMNS
        }
        columns = [factory.row(button) for button in self._heads.values()]
        heads = factory.row(*columns, flex="1 1 auto", min_width="0", display="grid")
        heads.add_class("nbtasks-cells")
        heads.add_class("nbtasks-heads")
        row = factory.row(heads, factory.html(flex=f"0 0 {BUTTONS_WIDTH}px"), align_items="center", width="100%")
        row.add_class("nbtasks-heads-row")
        return (row,)

    # -- the view ---------------------------------------------------------------------------------------------

    @property
    def ticks(self) -> bool:
        """Times of visible tasks run, or the table has something to query, to show or to take back."""
        return (
            self._changes_seen != self._state_changes()
            or self._cancel_confirmation.pending
            or (self._output is not None and self._output.refresh_due)
            or any(task.state in LIVE_STATES for task in self._page.tasks)
        )

    def progress_state(self) -> object:
        """That of the visible tasks."""
        return [progress_state(task) for task in self._page.tasks]

    def refresh(self) -> int:
        """Write what has changed; returns the number of messages."""
        now, opened = datetime.now(UTC), self._open
        self._run_query(now)
        sent = self._show_counts() + self._show_open_part(opened)
        body: list[Any] = []
        for row, task in zip(self._rows, self._page.tasks, strict=False):
            part = opened[1] if opened is not None and opened[0] is task else None
            sent += row.show(task, now, part)
            body += [row.widget, *self._part_widgets(part)]
        if self._lanes_open:
            sent += self._lanes.refresh()
        sent += update(self._body, children=tuple(body))
        message = self._message or ("no tasks to show" if self._page.total == 0 else "")
        sent += update(self._note, value=message_html(message, "padding:4px 0"))
        sent += self._pager.show(self._page.number, self._page.pages, self._page.rows, self._page.total)
        lanes = (self._lanes.widget,) if self._lanes_open else ()
        heads = self._head_row if body else ()
        pager = (self._pager.widget,) if self._page.pages > 1 else ()
        past: tuple[Any, ...] = ()
        if self._past is not None:
            sent += self._past.refresh()
            past = (self._past.widget,) if self._past.widget.children else ()
        sent += update(self._grid, children=(*heads, self._body))
        children = (*self._frame, *lanes, self._grid, self._note, *pager, *past)
        return sent + update(self.widget, children=children)

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the live table, with a static one for viewers without widgets."""
        return widget_bundle(self.widget, table_bundle(self._manager))

    def close(self) -> None:
        """Close the widgets."""
        self._factory.close()

    def query_again(self) -> None:
        """Query with the next flush: tasks were added or their order has changed. Any thread."""
        self._changes_seen, self._next_query = -1, float("-inf")
        self._touch()

    def _run_query(self, now: datetime) -> None:
        """Query at once if the user asks for other tasks; otherwise now and then, if states have changed."""
        query, changes, start = self._query, self._state_changes(), time.monotonic()
        may_query = start >= self._next_query or not self._page.tasks
        self.refresh_due = query == self._answered and changes != self._changes_seen and not may_query
        if query == self._answered and not (may_query and self._may_differ(query, changes)):
            return
        self._page = run_query(self._source, query, now)
        self._answered, self._changes_seen = query, changes
        if self._page.number != query.page and self._query is query:
            self._query = self._answered = replace(query, page=self._page.number)
        self._next_query = start + max(QUERY_SECONDS, QUERY_TIME_SHARE * (time.monotonic() - start))
        while len(self._rows) < len(self._page.tasks):
            self._rows.append(Row(self._factory, self))

    def _may_differ(self, query: Query, changes: int) -> bool:
        """Whether the answer may have changed. (A new priority of a pending task is no event.)"""
        pending = any(task.state is TaskState.PENDING for task in self._page.tasks)
        return changes != self._changes_seen or query.column in ("progress", "time") or pending

    def _show_counts(self) -> int:
        stats = self._source.get_stats()
        counts = {state: self._count_text(stats, state or "total") for state in _FILTERS}
        sent = self._filters.show(self._query.state, counts)
        for name, button in self._heads.items():
            arrow, order = "", ""
            if self._query.column == name:
                arrow, order = (" ▼", ", now descending") if self._query.descending else (" ▲", ", now ascending")
            sent += update(button, description=name + arrow, tooltip=f"Sort by {name}{order}")
        finished = sum(stats[state] for state in FINAL_STATES)
        live = stats["total"] - finished
        self._cancel_confirmation.expire()
        pending = self._cancel_confirmation.pending
        label = f"Really cancel {live:,}?" if pending else "Cancel all"
        style = "danger" if pending else ""
        sent += update(self._cancel_all, description=label, disabled=not live, button_style=style)
        sent += update(self._prune, disabled=not finished)
        return sent + update(self._lanes_button, description="Hide lanes" if self._lanes_open else "Lanes")

    def _count_text(self, stats: Mapping[str, int], name: str) -> str:
        """The number of tasks; while the search has a text, how many of them match: "4 of 15"."""
        found = self._page.found
        return f"{stats[name]:,}" if found is None else f"{found[name]:,} of {stats[name]:,}"

    def _show_open_part(self, opened: tuple[Task, str] | None) -> int:
        """Fill the part that is open below a row; returns the number of messages."""
        if opened is None:
            return 0
        task, part = opened
        if part == "output":
            output = kept_output(task)
            if output is None:
                return 0
            if self._output is None:
                self._output = OutputView(self._factory, output)
            self._output.refresh(output, on=True, final=task.done)
            return 1
        state = (task, task.state, task.priority, task.attempts, task.started_at)
        if self._details_shown == state:
            return 0
        self._details_shown = state
        return update(self._details, value=details_html(task, self._manager.past_attempts(task)))

    def _part_widgets(self, part: str | None) -> tuple[Any, ...]:
        if part == "details":
            return (self._details,)
        return (self._output.widget,) if part == "output" and self._output is not None else ()

    # -- clicks, on the front end's thread --------------------------------------------------------------------

    def cancel(self, task: Task) -> None:
        """Cancel the task."""
        if not task.cancelling:
            self._manager.cancel_task(task)
        self._touch()

    def retry(self, task: Task) -> None:
        """Run the task again."""
        try:
            self._retry(task)
        except NbtasksError as error:
            self._show_message(str(error))
        else:
            self._show_message("")

    def change_priority(self, task: Task, by: int) -> None:
        """Raise or lower the priority."""
        self._manager.set_priority(task, task.priority + by)
        self.query_again()

    def toggle(self, task: Task, part: str) -> None:
        """Open or close the `details` or the `output` below the row."""
        self._details_shown = None
        self._open = None if self._open == (task, part) else (task, part)
        self._touch()

    def _ask(self, **changes: Any) -> None:
        self._query = replace(self._query, **changes)
        self._open = None
        self._touch()

    def _sort(self, column: str) -> None:
        """Sort by the column; the second click reverses the order, the third restores the usual one."""
        query, descending = self._query, column not in _TEXT_COLUMNS
        if query.column != column:
            self._ask(column=column, descending=descending, page=0)
        elif query.descending == descending:
            self._ask(descending=not descending, page=0)
        else:
            self._ask(column=None, descending=True, page=0)

    def _turn(self, by: int) -> None:
        self._ask(page=max(0, self._query.page + by))

    def _toggle_lanes(self) -> None:
        self._lanes_open = not self._lanes_open
        self._touch()

    def _prune_finished(self) -> None:
        count = sum(self._manager.prune(state) for state in FINAL_STATES)
        self._show_message(f"pruned {plural(count, 'task')}")

    def _cancel_live(self) -> None:
        """Cancel all live tasks with the second click."""
        if self._cancel_confirmation.click():
            tasks = list(self._source.active_tasks)
            for task in tasks:
                self._manager.cancel_task(task)
            self._show_message(f"cancelling {plural(len(tasks), 'task')}")
        self._touch()

    def _show_message(self, message: str) -> None:
        self._message = message
        self._touch()
