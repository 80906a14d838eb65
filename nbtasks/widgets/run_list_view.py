"""Live list of the history: names with their last runs; filter, search, details.

Written on the live writer's thread only. Clicks arrive on the front end's thread, and the history is read on a thread
of its own; each sets what it has to say in one assignment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from nbtasks.exceptions import HistoryError
from nbtasks.formatting import one_line
from nbtasks.history.history import History
from nbtasks.history.records import NamedRuns, NamePage
from nbtasks.interrupts import start_thread
from nbtasks.widgets.duration_plot import duration_plot
from nbtasks.widgets.html import message_html
from nbtasks.widgets.live_writer import View
from nbtasks.widgets.run_list import name_cells, record_cells, record_html, statistics_line
from nbtasks.widgets.run_query import (
    PAGE_NAMES,
    PAGE_RUNS,
    ListAnswer,
    OpenAnswer,
    RunQuery,
    read_list,
    read_open,
    run_list_bundle,
)
from nbtasks.widgets.widget_factory import ClickGuard, Pager, StateFilters, WidgetFactory, update, widget_bundle

__all__ = ["LiveRunList"]

READ_SECONDS = 2.0
"""Minimum time between two readings that the user has not asked for."""
READ_TIME_SHARE = 50
"""Minimum time between two such readings, as a multiple of the time that one takes."""
_FILTERS: dict[str | None, str] = {
    None: "Show all names",
    **{
        state: f"Show the names with {state} runs"
        for state in ("running", "pending", "completed", "failed", "cancelled", "lost")
    },
}
_MARGIN = {"margin": "0 6px 4px 0"}


# -- lines ----------------------------------------------------------------------------------------------------


class _Line:
    """A line of the list. All of it is one button, which opens what is below."""

    def __init__(self, factory: WidgetFactory, css_class: str, clicked: Callable[[str], None]) -> None:
        self._guard = ClickGuard()
        self._clicked = clicked
        self._key: str | None = None
        self._cells = factory.html(flex="1 1 auto", min_width="0")
        self._button = factory.button(on_click=self._click)
        self._button.add_class("nbtasks-cover")
        self.widget = factory.row(self._cells, self._button, align_items="center", width="100%")
        self._css_class = css_class

    def show(self, key: str, cells: Iterable[str], label: str, *, opened: bool) -> int:
        """Show the cells of what `key` stands for; returns the number of messages."""
        if key != self._key:
            if self._key is not None:
                self._guard.reused()
            self._key = key
        markup = "".join(f"<span>{cell}</span>" for cell in cells)
        words = f"{'Hide' if opened else 'Show'} {label}"
        classes = ("nbtasks-tr", self._css_class, *(("nbtasks-on",) if opened else ()))
        sent = update(self.widget, _dom_classes=classes)
        sent += update(self._button, description=words, tooltip=words)
        return sent + update(self._cells, value=f'<div class="{self._css_class}-cells">{markup}</div>')

    def _click(self) -> None:
        if self._key is not None and not self._guard.stale:
            self._clicked(self._key)


# -- the list -------------------------------------------------------------------------------------------------


class LiveRunList(View):
    """The live list of a history.

    `state_changes` returns the number of state changes of all tasks.
    """

    def __init__(
        self,
        history: History,
        touch: Callable[[View], None],
        state_changes: Callable[[], int],
        query: RunQuery,
        answer: ListAnswer,
        text: str,
    ) -> None:
        self._history = history
        self._touch = lambda: touch(self)
        self._state_changes = state_changes
        self._text = text
        # Set on the front end's thread.
        self._query = query
        # Set by the reading thread, and while there is none by the writer.
        self._answer: tuple[RunQuery, ListAnswer, OpenAnswer | None] = (query, answer, None)
        self._error = ""
        self._reading = False
        self._failed: RunQuery | None = None
        self._read_at, self._pause = time.monotonic(), READ_SECONDS
        self._changes_read = state_changes()
        self._make_widgets()
        self.refresh()

    def _make_widgets(self) -> None:
        factory = self._factory = WidgetFactory()
        self._filters = StateFilters(
            factory, _FILTERS, lambda state: self._ask(state=state, page=0, opened=None)
        )
        layout = {"width": "260px", **_MARGIN}
        self._search = factory.text("Search", "52px", layout, placeholder="name, error", value=self._query.text)
        self._search.observe(lambda change: self._ask(text=change["new"], page=0, opened=None), names="value")
        self._count = factory.html(margin="0 0 0 8px")
        search = factory.row(self._search, self._count, align_items="center", flex_flow="wrap", padding="0 0 4px 0")
        self._frame = (factory.style_sheet(), self._filters.widget, search)
        self._lines: list[_Line] = []
        self._run_lines: list[_Line] = []
        self._statistics = factory.html(width="100%")
        self._run_column = factory.column(width="100%")
        self._run_pager = Pager(
            factory, lambda by: self._ask(opened_page=max(0, self._query.opened_page + by), run=None)
        )
        self._run_details = factory.html(width="100%", padding="4px 0 4px 14px")
        self._open_part = factory.column(width="100%", padding="4px 0 8px 8px")
        self._open_part.add_class("nbtasks-more")
        self._body = factory.column(width="100%")
        self._note = factory.html()
        self._pager = Pager(factory, self._turn)
        self.widget = factory.column(width="100%", max_width="1100px", padding="0 0 6px 6px")
        self.widget.add_class("nbtasks-table")
        self.widget.add_class("nbtasks-runs")

    # -- the view ---------------------------------------------------------------------------------------------

    @property
    def ticks(self) -> bool:
        """Nothing in it runs."""
        return False

    def refresh(self) -> int:
        """Read the history if it is time to, and write what has changed; returns the number of messages."""
        query = self._query
        self._read_if_due(query)
        shown, answer, opened = self._answer
        sent = self._show_frame(shown, answer.page)
        while len(self._lines) < len(answer.page.names):
            self._lines.append(_Line(self._factory, "nbtasks-run", self._open))
        body: list[Any] = []
        for line, named in zip(self._lines, answer.page.names, strict=False):
            is_open = named.name == shown.opened and opened is not None
            sent += self._show_line(line, named, answer, is_open=is_open)
            body.append(line.widget)
            if is_open and opened is not None:
                sent += self._show_open(shown, opened, named.runs)
                body.append(self._open_part)
        sent += update(self._body, children=tuple(body))
        pages = max(1, -(-answer.page.total // PAGE_NAMES))
        first = shown.page * PAGE_NAMES
        sent += self._pager.show(shown.page, pages, range(first, first + len(answer.page.names)), answer.page.total)
        message = self._error or ("" if body else "nothing is recorded that matches")
        sent += update(self._note, value=message_html(message, "padding:4px 0"))
        pager = (self._pager.widget,) if pages > 1 else ()
        return sent + update(self.widget, children=(*self._frame, self._body, self._note, *pager))

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the live list, with a static one for viewers without widgets."""
        return widget_bundle(self.widget, self.picture())

    def picture(self) -> dict[str, Any]:
        """The mime bundle of the static list of what is shown."""
        return run_list_bundle(self._answer[1], self._text)

    def close(self) -> None:
        """Close the widgets."""
        self._factory.close()

    def _show_frame(self, shown: RunQuery, page: NamePage) -> int:
        numbers = {s: sum(page.states.values()) if s is None else page.states[s] for s in _FILTERS}
        sent = self._filters.show(self._query.state, {state: f"{number:,}" for state, number in numbers.items()})
        names = f"{page.total:,} {'name' if page.total == 1 else 'names'}"
        words = [names, shown.notebook and f"in {one_line(shown.notebook.rpartition('/')[2], 60)}"]
        words += [shown.since and f"of the last {shown.since}", shown.name and f"named {one_line(shown.name, 60)}"]
        return sent + update(self._count, value=message_html(" ".join(filter(None, words))))

    def _show_line(self, line: _Line, named: NamedRuns, answer: ListAnswer, *, is_open: bool) -> int:
        record = answer.newest.get(named.name)
        cells = name_cells(named, None if record is None else record.error)
        return line.show(named.name, cells, f"runs of {one_line(named.name, 80)}", opened=is_open)

    def _show_open(self, shown: RunQuery, opened: OpenAnswer, total: int) -> int:
        """Fill the part below the open line."""
        one = opened.statistics
        figures = "" if one is None else f"<div>{statistics_line(one)}</div>"
        plot = duration_plot(opened.last, None if one is None else one.median)
        sent = update(self._statistics, value=figures + plot)
        while len(self._run_lines) < len(opened.records):
            self._run_lines.append(_Line(self._factory, "nbtasks-record", self._open_run))
        rows: list[Any] = []
        for number, (line, record) in enumerate(zip(self._run_lines, opened.records, strict=False)):
            is_open = record.id == shown.run or (shown.run is None and number == 0)
            began = f"{(record.started_at or record.created_at).astimezone():%Y-%m-%d %H:%M:%S}"
            sent += line.show(record.id, record_cells(record), f"details of the run of {began}", opened=is_open)
            rows.append(line.widget)
            if is_open:
                sent += update(self._run_details, value=record_html(record))
                rows.append(self._run_details)
        sent += update(self._run_column, children=tuple(rows))
        pages = max(1, -(-total // PAGE_RUNS))
        first = shown.opened_page * PAGE_RUNS
        sent += self._run_pager.show(shown.opened_page, pages, range(first, first + len(opened.records)), total)
        pager = (self._run_pager.widget,) if pages > 1 else ()
        return sent + update(self._open_part, children=(self._statistics, self._run_column, *pager))

    # -- reading, on a thread of its own ----------------------------------------------------------------------

    def _read_if_due(self, query: RunQuery) -> None:
        """Read at once what the user asks for, and now and then if states have changed."""
        changes, waited = self._state_changes(), time.monotonic() - self._read_at
        wanted = query not in (self._answer[0], self._failed)
        stale = changes != self._changes_read
        self.refresh_due = stale and not wanted and not self._reading and waited < self._pause
        if self._reading or not (wanted or (stale and not self.refresh_due)):
            return
        self._reading, self._changes_read = True, changes
        start_thread(partial(self._read, query, again=stale), "nbtasks-run-list")

    def _read(self, query: RunQuery, *, again: bool) -> None:
        start = time.monotonic()
        before, answer, _ = self._answer
        try:
            if again or before.of_list != query.of_list:
                answer = read_list(self._history, query)
            self._answer = (query, answer, read_open(self._history, query))
            self._error, self._failed = "", None
        except HistoryError as error:
            self._error, self._failed = str(error), query
        finally:
            self._read_at = time.monotonic()
            self._pause = max(READ_SECONDS, READ_TIME_SHARE * (self._read_at - start))
            self._reading = False
            self._touch()

    # -- clicks, on the front end's thread --------------------------------------------------------------------

    def _ask(self, **changes: Any) -> None:
        self._query = replace(self._query, **changes)
        self._touch()

    def _turn(self, by: int) -> None:
        self._ask(page=max(0, self._query.page + by), opened=None)

    def _turn_runs(self, by: int) -> None:
        self._ask(opened_page=max(0, self._query.opened_page + by), run=None)

    def _open(self, name: str) -> None:
        self._ask(opened=None if self._query.opened == name else name, opened_page=0, run=None)

    def _open_run(self, run: str) -> None:
        _, _, opened = self._answer
        newest = opened.records[0].id if opened is not None and opened.records else None
        is_open = self._query.run == run or (self._query.run is None and run == newest)
        self._ask(run="" if is_open else run)
