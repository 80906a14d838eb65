"""The task table: counts by state that filter, search, sorting, pages of rows, and what steers tasks and lanes.

Written by the live writer's thread only; what a front end asks for is noted on its thread, and done by the manager.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from nbtasks.exceptions import NbtasksError
from nbtasks.manager import TaskManager
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Task, can_run_again
from nbtasks.widgets.details import details_html
from nbtasks.widgets.output_view import OutputView, kept_output
from nbtasks.widgets.pace import reading
from nbtasks.widgets.snapshot import LOOKS, TRACK_COLOUR, Shown, one_line
from nbtasks.widgets.table_query import COLUMNS, PAGE_ROWS, Query, Selection, Source, select
from nbtasks.widgets.widget_factory import Parts, put

__all__ = [
    "TABLE_STYLE",
    "LaneControls",
    "LiveTable",
    "PictureTable",
    "Row",
    "RowActions",
    "cells_html",
    "count_text",
    "may_run_again",
    "message_html",
    "table_bundle",
    "task_list",
]

CHANGED_SECONDS = 0.3
"""So soon after a row was given another task, a click was meant for the one before."""
BUTTONS = 5
"""Places for buttons in a row; Cancel and Retry share one."""
_BUTTON_WIDTH = 30
BUTTONS_WIDTH = BUTTONS * _BUTTON_WIDTH + 6
_COLUMNS = "minmax(120px,1fr) 92px 84px 66px 128px 68px"
TABLE_STYLE = f"""<style>
.nbtasks-table {{ container-type: inline-size; }}
.nbtasks-table .widget-html-content {{ min-width: 0; line-height: 1.5 !important; }}
.nbtasks-table .jupyter-button {{ line-height: 24px; }}
.nbtasks-table .jupyter-button:focus-visible, .nbtasks-table input:focus-visible, .nbtasks-table pre:focus-visible {{
    outline: 2px solid var(--jp-brand-color1, #1976d2) !important; outline-offset: 1px;
}}
.nbtasks-cells {{ display: grid; grid-template-columns: {_COLUMNS}; column-gap: 10px; align-items: center; }}
.nbtasks-cells > * {{ min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
.nbtasks-tr {{ border-top: 1px solid rgba(128,128,128,.25); }}
.nbtasks-tr:hover {{ background: rgba(128,128,128,.08); }}
.nbtasks-head > .jupyter-button {{
    background: none; box-shadow: none; padding: 0; text-align: left; font-size: 12px; opacity: .85;
    color: var(--jp-ui-font-color1, inherit); width: auto !important; justify-self: stretch;
}}
.nbtasks-head > .jupyter-button:nth-child(4), .nbtasks-head > .jupyter-button:nth-child(6) {{ text-align: right; }}
.nbtasks-tr .nbtasks-buttons > .jupyter-button {{
    display: inline-flex; align-items: center; justify-content: center; font-size: 0;
    background: none; box-shadow: none; padding: 0; color: var(--jp-ui-font-color1, inherit);
}}
.nbtasks-buttons > .jupyter-button > i {{ font-size: 14px; margin: 0 !important; }}
.nbtasks-tr .nbtasks-buttons > .jupyter-button:hover {{ background: rgba(128,128,128,.2); }}
.nbtasks-tr .nbtasks-buttons > .jupyter-button.nbtasks-on {{ background: rgba(128,128,128,.3); }}
.nbtasks-tr .nbtasks-priority, .nbtasks-tr .nbtasks-output {{ visibility: hidden; }}
.nbtasks-pending .nbtasks-priority, .nbtasks-writes .nbtasks-output {{ visibility: visible; }}
.nbtasks-over .nbtasks-cancel, .nbtasks-tr:not(.nbtasks-over) .nbtasks-retry {{ display: none !important; }}
.nbtasks-once .nbtasks-retry {{ visibility: hidden; }}
.nbtasks-more {{ border-left: 3px solid {TRACK_COLOUR}; }}
.nbtasks-table .nbtasks-chosen {{ font-weight: bold; box-shadow: inset 0 -2px var(--jp-brand-color1, #1976d2); }}
.nbtasks-table .nbtasks-bare {{ background: none; }}
@container (max-width: 800px) {{
    .nbtasks-cells {{ grid-template-columns: minmax(90px,1fr) 92px 110px 60px; }}
    .nbtasks-cells > :nth-child(3), .nbtasks-cells > :nth-child(4) {{ display: none; }}
}}
@container (max-width: 560px) {{
    .nbtasks-tr {{ height: auto !important; padding: 3px 0; }}
    .nbtasks-tr > .nbtasks-buttons {{ flex: 0 0 106px !important; }}
    .nbtasks-tr .nbtasks-buttons > .jupyter-button {{ width: 26px !important; }}
    .nbtasks-tr:not(.nbtasks-pending) .nbtasks-priority {{ display: none !important; }}
    .nbtasks-pending .nbtasks-output {{ display: none !important; }}
    .nbtasks-head-row > :last-child {{ display: none; }}
    .nbtasks-cells {{ grid-template-columns: minmax(0,1fr) 76px; column-gap: 8px; row-gap: 2px; }}
    .nbtasks-cells > :nth-child(6) {{ text-align: left !important; }}
    .nbtasks-head.nbtasks-cells {{ display: flex !important; }}
}}
</style>"""


class RowActions(Protocol):
    """What the buttons of a row do. Called on any thread."""

    def cancel(self, task: Task) -> None:
        """Ask it to stop."""

    def retry(self, task: Task) -> None:
        """Run it once more."""

    def move(self, task: Task, by: int) -> None:
        """Raise or lower its priority."""

    def open(self, task: Task, what: str) -> None:
        """Show its `details` or its `output` under the row, or no longer."""


class Row:
    """A row for one task at a time."""

    def __init__(self, parts: Parts, actions: RowActions) -> None:
        self.task: Task | None = None
        self._since = 0.0
        self._cells = parts.html(flex="1 1 auto", min_width="0")
        width = {"width": f"{_BUTTON_WIDTH}px"}

        def button(icon: str, css: str, act: Callable[[Task], None]) -> object:
            made = parts.button(icon=icon, on_click=lambda: self._act(act), **width)
            made.add_class(css)
            return made

        self._up = button("arrow-up", "nbtasks-priority", lambda task: actions.move(task, 1))
        self._down = button("arrow-down", "nbtasks-priority", lambda task: actions.move(task, -1))
        self._cancel = button("times", "nbtasks-cancel", actions.cancel)
        self._retry = button("repeat", "nbtasks-retry", actions.retry)
        self._output = button("terminal", "nbtasks-output", lambda task: actions.open(task, "output"))
        self._details = button("info-circle", "nbtasks-details", lambda task: actions.open(task, "details"))
        buttons = parts.row(
            *(self._up, self._down, self._cancel, self._retry, self._output, self._details),
            flex=f"0 0 {BUTTONS_WIDTH}px",
            justify_content="flex-end",
            margin="0 0 0 auto",
        )
        buttons.add_class("nbtasks-buttons")
        self.widget = parts.row(self._cells, buttons, align_items="center", height="32px", width="100%")

    def show(self, task: Task, now: datetime, opened: str | None) -> int:
        """Show `task`; of the parts under the row, `opened` is shown. How many messages that took."""
        shown = Shown.of(task, now, whole=False)
        name = shown.title[:80]
        sent = 0
        if task is not self.task:
            self._since = time.monotonic() if self.task is not None else 0.0
            self.task = task
            for button, words in (
                (self._up, f"Raise the priority of {name}"),
                (self._down, f"Lower the priority of {name}"),
                (self._cancel, f"Cancel {name}"),
                (self._retry, f"Run {name} again"),
                (self._output, f"Output of {name}"),
                (self._details, f"Details of {name}"),
            ):
                # The words name the button, though only its icon is seen (see TABLE_STYLE).
                sent += put(button, tooltip=words, description=words)
        classes = ["nbtasks-tr", f"nbtasks-{'over' if shown.over else shown.state}"]
        if kept_output(task) is not None:
            classes.append("nbtasks-writes")
        if shown.over and not may_run_again(task):
            classes.append("nbtasks-once")
        sent += put(self.widget, _dom_classes=tuple(classes))
        sent += put(self._output, _dom_classes=_classes("output", on=opened == "output"))
        sent += put(self._details, _dom_classes=_classes("details", on=opened == "details"))
        sent += put(self._cancel, disabled=shown.state == "cancelling")
        return sent + put(self._cells, value=cells_html(task, shown))

    def _act(self, act: Callable[[Task], None]) -> None:
        if self.task is not None and time.monotonic() - self._since >= CHANGED_SECONDS:
            act(self.task)


def may_run_again(task: Task) -> bool:
    """Whether there is something left to run: a function's task has let go of it once it has completed."""
    return can_run_again(task)


def _classes(name: str, *, on: bool) -> tuple[str, ...]:
    return (f"nbtasks-{name}", "nbtasks-on") if on else (f"nbtasks-{name}",)


def cells_html(task: Task, shown: Shown) -> str:
    """What is told of a task in a row: name and note, state, lane, priority, progress, time."""
    sign, words, colour = LOOKS[shown.state]
    title, note = html.escape(shown.title[:200]), html.escape(one_line(shown.note, 200))
    progress = "" if shown.progress is None and not shown.indeterminate else _progress_html(shown)
    number = "text-align:right;font-variant-numeric:tabular-nums"
    return (
        f'<div class="nbtasks-cells"><span title="{title}"><span style="color:{colour}" aria-hidden="true">{sign}'
        f'</span> <bdi style="font-weight:bold">{title}</bdi>{f" <bdi>{note}</bdi>" if note else ""}</span>'
        f"<span>{words}</span><span>{html.escape(task.lane[:80])}</span>"
        f'<span style="{number}">{task.priority}</span><span>{progress}</span>'
        f'<span style="{number}">{shown.elapsed_text}</span></div>'
    )


def _progress_html(shown: Shown) -> str:
    width, pale = (100.0, ";opacity:.35") if shown.indeterminate else (shown.progress or 0.0, "")
    bar = f"height:6px;border-radius:3px;flex:1 1 auto;overflow:hidden;background:{TRACK_COLOUR}"
    return (
        f'<span style="display:flex;align-items:center"><span style="{bar}"><span style="display:block;height:6px;'
        f'width:{width:.1f}%;background:{LOOKS[shown.state][2]}{pale}"></span></span>'
        '<span style="flex:0 0 42px;text-align:right;font-variant-numeric:tabular-nums">'
        f"{shown.percent or '…'}</span></span>"
    )


_NO_LIMIT = "no limit"


@dataclass(frozen=True, slots=True)
class _LaneRow:
    use: Any
    field: Any
    widget: Any


class LaneControls:
    """One line for each lane. A limit is a whole number, or "no limit"."""

    def __init__(self, parts: Parts, manager: TaskManager, say: Callable[[str], None]) -> None:
        self._parts = parts
        self._manager = manager
        self._say = say
        self._rows: dict[str, _LaneRow] = {}
        self.widget = parts.column(padding="4px 0 6px 8px")
        self.widget.add_class("nbtasks-more")

    def refresh(self) -> int:
        """Show the lanes as they are now; how many messages that took."""
        lanes = self._manager.lanes
        for name in lanes:
            if name not in self._rows:
                self._rows[name] = self._make(name)
        sent = put(self.widget, children=tuple(self._rows[name].widget for name in lanes))
        for name, lane in lanes.items():
            row = self._rows[name]
            use = f"{lane.running} running" + (f" · {lane.pending} pending" if lane.pending else "")
            sent += put(row.use, value=f"<span>{html.escape(use)}</span>")
            limit = _NO_LIMIT if lane.limit is None else str(lane.limit)
            sent += put(row.field, value=limit)
        return sent

    def _make(self, name: str) -> _LaneRow:
        field = self._parts.text(
            f"Limit of {name[:40]}", "140px", {"width": "250px", "max_width": "100%"}, continuous_update=False
        )
        field.observe(lambda change: self._set(name, str(change["new"])), names="value")
        use = self._parts.html(margin="0 0 0 12px")
        return _LaneRow(use, field, self._parts.row(field, use, align_items="center"))

    def _set(self, name: str, text: str) -> None:
        """Called where the field changed, by the user or by `refresh`."""
        lane = self._manager.lanes.get(name)
        wanted = text.strip().casefold()
        if lane is None or wanted == (_NO_LIMIT if lane.limit is None else str(lane.limit)):
            return
        if wanted in ("", "none", _NO_LIMIT):
            limit = None
        elif wanted.isdecimal() and wanted.isascii():
            limit = int(wanted)
        else:
            self._say(f"a lane's limit is a whole number from 0 on, or {_NO_LIMIT!r}; not {text[:40]!r}")
            return
        try:
            self._manager.resize_lane(name, limit)
        except NbtasksError as error:
            self._say(str(error))
        else:
            self._say("")


_COLUMNS_table_shown = ("name", "state", "lane", "progress", "elapsed", "note")
MOST_ROWS = 50
"""How many tasks a picture of the table has, the newest."""
MOST_CHARACTERS = 80
PICTURE_SECONDS = 1.0
"""How long one picture of the table stands at least."""


def count_text(state: str | None, count: int, *, chosen: bool) -> str:
    """What a filter reads: "✓ running 3"."""
    return f"{'✓ ' if chosen else ''}{state or 'all'} {count:,}"


def message_html(message: str, *, empty: bool) -> str:
    """What was done or is wrong, or that there is nothing to show; said aloud by screen readers."""
    said = message or ("no tasks to show" if empty else "")
    return f'<div role="status" style="padding:4px 0">{html.escape(said)}</div>' if said else ""


def task_list(tasks: Iterable[Task]) -> str:
    """One line for each task, in their order, under a line of headings."""
    rows = [_COLUMNS_table_shown, *map(_cells, tasks)]
    if len(rows) == 1:
        return "no background tasks"
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS_table_shown))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def table_bundle(manager: TaskManager) -> dict[str, Any]:
    """The mime bundle of the table as it is now: of very many tasks the newest."""
    stats = manager.get_stats()
    tasks = manager.list_tasks()[-MOST_ROWS:]
    left_out = stats["total"] - len(tasks)
    counts = ", ".join(f"{count:,} {name}" for name, count in stats.items() if name != "total" and count)
    more = f"\n({left_out:,} older ones are not listed)" if left_out > 0 else ""
    plain = task_list(tasks) + more
    return {"text/html": _html(tasks, counts + more), "text/plain": plain}


class PictureTable:
    """The table where widgets cannot show: a picture that is replaced in its document; a view for the live writer."""

    def __init__(self, manager: TaskManager) -> None:
        self.replace: Callable[[dict[str, Any]], None] | None = None
        """Puts a new bundle in the place of the last one."""
        self._manager = manager
        self._bundle = table_bundle(manager)
        self._drawn_at = time.monotonic()
        self._owes = False

    @property
    def ticks(self) -> bool:
        """Times run while a task does."""
        return self._owes or len(self._manager.active_tasks) > 0

    def refresh(self) -> int:
        """Replace the picture if it differs, at most once a second."""
        self._owes = time.monotonic() - self._drawn_at < PICTURE_SECONDS
        if self._owes or self.replace is None:
            return 0
        bundle, self._drawn_at = table_bundle(self._manager), time.monotonic()
        if bundle == self._bundle:
            return 0
        self._bundle = bundle
        self.replace(bundle)
        return 1

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the picture as it was last drawn."""
        return self._bundle

    def close(self) -> None:
        """There is nothing to close: the picture stays."""
        self.replace = None


def _html(tasks: list[Task], counts: str) -> str:
    head = "".join(f'<th style="text-align:left;padding:2px 10px 2px 0">{name}</th>' for name in _COLUMNS_table_shown)
    body = []
    for task in reversed(tasks):
        cells = list(_cells(task))
        sign, _, colour = LOOKS[cells[1]]
        cells = [html.escape(cell) for cell in cells]
        cells[0] = f'<span style="color:{colour}" aria-hidden="true">{sign}</span> <bdi><b>{cells[0]}</b></bdi>'
        row = "".join(f'<td style="text-align:left;padding:2px 10px 2px 0">{cell}</td>' for cell in cells)
        body.append(f"<tr>{row}</tr>")
    if not tasks:
        return '<div class="nbtasks-table">no background tasks</div>'
    return (
        f'<div class="nbtasks-table" style="font-size:13px"><div>{html.escape(counts)}</div>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _cells(task: Task) -> tuple[str, ...]:
    shown = Shown.of(task, datetime.now(UTC), whole=False)
    name, lane, note = (one_line(text, MOST_CHARACTERS) for text in (task.name, task.lane, shown.note))
    return name, shown.state, lane, shown.percent, shown.elapsed_text, note


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
