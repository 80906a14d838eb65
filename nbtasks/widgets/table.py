"""The task table: counts by state that filter, search, sorting, pages of rows, and what steers tasks and lanes.

Written by the live writer's thread only; what a front end asks for is noted on its thread, and done by the manager.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from nbtasks.exceptions import NbtasksError
from nbtasks.manager import TaskManager
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Task
from nbtasks.widgets.details import details_html
from nbtasks.widgets.lane_controls import LaneControls
from nbtasks.widgets.output_view import OutputView, kept_output
from nbtasks.widgets.pace import reading
from nbtasks.widgets.parts import Parts, put
from nbtasks.widgets.selection import COLUMNS, PAGE_ROWS, Query, Selection, Source, select
from nbtasks.widgets.table_row import BUTTONS_WIDTH, TABLE_STYLE, Row
from nbtasks.widgets.table_shown import count_text, message_html, table_bundle

__all__ = ["LiveTable"]

VIEW_TYPE = "application/vnd.jupyter.widget-view+json"
_OVER = ("completed", "failed", "cancelled")
_FILTERS = (None, "running", "pending", *_OVER)
CONFIRM_SECONDS = 6.0
LOOK_SECONDS = 0.5
"""How often at most the table looks by itself which tasks belong on its page: rows must stand still to be aimed at."""
LOOK_SHARE = 50
"""How many times longer than looking through all tasks took, the table waits before it looks again by itself."""


class LiveTable:
    """The live table of a manager's tasks; a view for the live writer.

    `changes` counts the changes of state of all tasks; `retry` runs a task once more; `source` has the tasks, if they
    are not all of the manager's.
    """

    def __init__(
        self,
        manager: TaskManager,
        wake: Callable[[LiveTable], None],
        changes: Callable[[], int],
        retry: Callable[[Task], object],
        source: Source | None = None,
    ) -> None:
        self._manager = manager
        self._source: Source = source or manager
        self._wake = lambda: wake(self)
        self._changes = changes
        self._retry = retry
        # What the front end asks for; each is written whole, on its thread.
        self._query = Query()
        self._opened: tuple[Task, str] | None = None
        self._message = ""
        self._cancel_until = float("-inf")
        # What is shown.
        self.owes = False
        self._answered: Query | None = None
        self._seen = -1
        self._look_at = float("-inf")
        self._selection = Selection((), 0, 0, 1)
        self._output: OutputView | None = None
        self._told: object = None
        self._make()
        self.refresh()

    def _make(self) -> None:
        parts = self._parts = Parts()
        gap = {"margin": "0 6px 4px 0"}
        self._filters = {
            state: parts.button(
                on_click=partial(self._ask, state=state, page=0),
                tooltip=f"Show the {state} tasks" if state else "Show all tasks",
                **gap,
            )
            for state in _FILTERS
        }
        self._search = parts.text("Search", "52px", {"width": "260px", **gap}, placeholder="name, lane, tag, error")
        self._search.observe(lambda change: self._ask(text=change["new"], page=0), names="value")
        self._lanes_button = parts.button("Lanes", "Show the lanes and their limits", self._toggle_lanes, **gap)
        self._prune = parts.button("Prune", "Forget the tasks that are over", self._prune_all, **gap)
        self._cancel_all = parts.button("Cancel all", "Cancel all pending and running tasks", self._cancel_live, **gap)
        self._lanes = LaneControls(parts, self._manager, self._say)
        self._lanes_shown = False
        self._heads = {
            name: parts.button(name, f"Sort by {name}", partial(self._sort, name), height="24px") for name in COLUMNS
        }
        head = parts.row(*self._heads.values(), flex="1 1 auto", min_width="0", display="grid")
        head.add_class("nbtasks-cells")
        head.add_class("nbtasks-head")
        self._head = parts.row(head, parts.html(flex=f"0 0 {BUTTONS_WIDTH}px"), align_items="center", width="100%")
        self._head.add_class("nbtasks-head-row")
        self._rows: list[Row] = []
        self._body = parts.column(width="100%")
        self._details = parts.html(padding="4px 0 8px 8px")
        self._details.add_class("nbtasks-more")
        self._note = parts.html()
        self._back = parts.button("Previous", "The page before", lambda: self._turn(-1), margin="0 8px 0 0")
        self._on = parts.button("Next", "The page after", lambda: self._turn(1), margin="0 0 0 8px")
        self._where = parts.html()
        self._pager = parts.row(self._back, self._where, self._on, align_items="center", padding="6px 0 0 0")
        self.widget = parts.column(width="100%", max_width="1100px", padding="0 0 6px 6px")
        self.widget.add_class("nbtasks-table")
        self.heads_shown = True
        self._frame = self._make_frame()

    def _make_frame(self) -> tuple[Any, ...]:
        """What stands above the rows."""
        parts = self._parts
        tools = parts.row(self._lanes_button, self._prune, self._cancel_all, flex_flow="wrap")
        top = parts.row(*self._filters.values(), flex_flow="wrap", width="100%")
        search = parts.row(
            self._search, tools, flex_flow="wrap", justify_content="space-between", width="100%", padding="0 0 4px 0"
        )
        return (parts.html(TABLE_STYLE, display="none"), top, search)

    # -- what a view is ---------------------------------------------------------------------------------------

    @property
    def ticks(self) -> bool:
        """Times run while a task that is shown does; and there may be more to look at, or to take back."""
        return (
            self._seen != self._changes()
            or self._cancel_until > float("-inf")
            or (self._output is not None and self._output.due)
            or any(task.state in LIVE_STATES for task in self._selection.tasks)
        )

    def reading(self) -> object:
        """What the work says of itself."""
        return [reading(task) for task in self._selection.tasks]

    def refresh(self) -> int:
        """Write to the widgets what differs from what they show; how many messages that took."""
        now = datetime.now(UTC)
        self._look(now)
        sent = self._show_counts()
        for row, task in zip(self._rows, self._selection.tasks, strict=False):
            opened = self._opened[1] if self._opened is not None and self._opened[0] is task else None
            sent += row.show(task, now, opened)
        sent += self._show_opened()
        if self._lanes_shown:
            sent += self._lanes.refresh()
        below = self._opened_widget()
        body: list[Any] = []
        for row, task in zip(self._rows, self._selection.tasks, strict=False):
            body.append(row.widget)
            if self._opened is not None and self._opened[0] is task and below is not None:
                body.append(below)
        sent += put(self._body, children=tuple(body))
        sent += put(self._note, value=message_html(self._message, empty=self._selection.total == 0))
        frame = [*self._frame, *([self._lanes.widget] if self._lanes_shown else [])]
        frame += [self._head] if body and self.heads_shown else []
        return sent + put(
            self.widget,
            children=(*frame, self._body, self._note, *self._pages()),
        )

    def bundle(self) -> dict[str, Any]:
        """The mime bundle that shows the live table, with its picture for viewers that show no widgets."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return {VIEW_TYPE: view, **table_bundle(self._manager)}

    def close(self) -> None:
        """Close the widgets, on the writer's thread."""
        if self._output is not None:
            self._output.close()
        self._parts.close()

    # -- what is shown ----------------------------------------------------------------------------------------

    def look_again(self) -> None:
        """There may be other tasks to show, or in another order: look before long. Any thread."""
        self._seen, self._look_at = -1, float("-inf")
        self._wake()

    def _look(self, now: datetime) -> None:
        """Look through the tasks where the user asks for others, or, now and then, where states changed."""
        query, changes, start = self._query, self._changes(), time.monotonic()
        moves = changes != self._seen or query.column in ("progress", "time") or self._has_pending()
        may_look = start >= self._look_at or not self._selection.tasks
        self.owes = query == self._answered and changes != self._seen and not may_look
        if query == self._answered and not (moves and may_look):
            return
        self._selection = select(self._source, query, now)
        self._answered, self._seen = query, changes
        if self._selection.page != query.page and self._query is query:
            self._query = self._answered = replace(query, page=self._selection.page)
        self._look_at = start + max(LOOK_SECONDS, LOOK_SHARE * (time.monotonic() - start))
        while len(self._rows) < len(self._selection.tasks):
            self._rows.append(Row(self._parts, self))

    def _has_pending(self) -> bool:
        """Whether a change of priority, which is no event, may have moved a row."""
        return any(task.state is TaskState.PENDING for task in self._selection.tasks)

    def _show_counts(self) -> int:
        stats, sent = self._source.get_stats(), 0
        for state, button in self._filters.items():
            chosen = self._query.state == state
            sent += put(
                button,
                description=count_text(state, stats["total" if state is None else state], chosen=chosen),
                _dom_classes=("nbtasks-chosen",) if chosen else (),
            )
        for name, button in self._heads.items():
            way = "" if self._query.column != name else " ▼" if self._query.descending else " ▲"
            sent += put(button, description=name + way)
        over = sum(stats[state] for state in _OVER)
        live = stats["total"] - over
        asked = time.monotonic() < self._cancel_until
        if not asked:
            self._cancel_until = float("-inf")
        words = f"Really cancel {live:,}?" if asked else "Cancel all"
        sent += put(self._cancel_all, description=words, disabled=not live, button_style="danger" if asked else "")
        words = "Hide lanes" if self._lanes_shown else "Lanes"
        return sent + put(self._prune, disabled=not over) + put(self._lanes_button, description=words)

    def _pages(self) -> tuple[Any, ...]:
        chosen = self._selection
        first = chosen.page * PAGE_ROWS
        text = f"{first + 1:,} to {first + len(chosen.tasks):,} of {chosen.total:,}"
        put(self._where, value=f"<span>{text}</span>")
        put(self._back, disabled=chosen.page == 0)
        put(self._on, disabled=chosen.page == chosen.pages - 1)
        return (self._pager,) if chosen.pages > 1 else ()

    def _opened_widget(self) -> Any:
        if self._opened is None:
            return None
        return self._details if self._opened[1] == "details" else self._output and self._output.widget

    def _show_opened(self) -> int:
        """Fill the part under the row that is opened."""
        opened = self._opened
        if opened is None:
            return 0
        task, what = opened
        if what == "output":
            output = kept_output(task)
            if output is None:
                return 0
            if self._output is None:
                self._output = OutputView(output)
            if self._output.output is not output:
                self._output.output = output
                self._output.refresh(on=True, final=True)
            self._output.refresh(on=True, final=task.done)
            return 1
        told = (task, task.state, task.priority, task.attempts, task.started_at)
        if self._told != told:
            self._told = told
            return put(self._details, value=details_html(task, self._manager.past_attempts(task)))
        return 0

    # -- what the user asks for; on the front end's thread ----------------------------------------------------

    def cancel(self, task: Task) -> None:
        """Ask it to stop."""
        self._manager.cancel_task(task)
        self._wake()

    def retry(self, task: Task) -> None:
        """Run it once more."""
        try:
            self._retry(task)
        except NbtasksError as error:
            self._say(str(error))
        else:
            self._say("")

    def move(self, task: Task, by: int) -> None:
        """Raise or lower its priority."""
        self._manager.set_priority(task, task.priority + by)
        self.look_again()

    def open(self, task: Task, what: str) -> None:
        """Show its details or output under its row, or no longer."""
        self._told = None
        self._opened = None if self._opened == (task, what) else (task, what)
        self._wake()

    def _ask(self, **changes: Any) -> None:
        self._query = replace(self._query, **changes)
        self._opened = None
        self._wake()

    def _sort(self, column: str) -> None:
        """By that column; again: the other way round; and again: as they came."""
        query = self._query
        if query.column != column:
            self._ask(column=column, descending=column not in ("task", "state", "lane"), page=0)
        elif query.descending == (column not in ("task", "state", "lane")):
            self._ask(descending=not query.descending, page=0)
        else:
            self._ask(column=None, descending=True, page=0)

    def _turn(self, by: int) -> None:
        self._ask(page=max(0, self._query.page + by))

    def _toggle_lanes(self) -> None:
        self._lanes_shown = not self._lanes_shown
        self._wake()

    def _prune_all(self) -> None:
        count = sum(self._manager.prune(state) for state in _OVER)
        self._say(f"{count:,} task{'' if count == 1 else 's'} forgotten")

    def _cancel_live(self) -> None:
        """The first click asks, the second one does it."""
        if time.monotonic() >= self._cancel_until:
            self._cancel_until = time.monotonic() + CONFIRM_SECONDS
        else:
            self._cancel_until = float("-inf")
            tasks = list(self._source.active_tasks)
            for task in tasks:
                self._manager.cancel_task(task)
            self._say(f"asked {len(tasks):,} task{'' if len(tasks) == 1 else 's'} to stop")
        self._wake()

    def _say(self, message: str) -> None:
        self._message = message
        self._wake()
