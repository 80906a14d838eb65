"""Pages of pruned tasks below the task table, from the history.

Used on the live writer's thread only; a click may come on any thread, and the history is read on a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from nbtasks.exceptions import HistoryError
from nbtasks.formatting import clock, one_line
from nbtasks.history.records import TaskRecord
from nbtasks.interrupts import start_thread
from nbtasks.manager import TaskManager
from nbtasks.widgets.html import error_html
from nbtasks.widgets.snapshot import STATE_STYLES
from nbtasks.widgets.widget_factory import Pager, WidgetFactory, update

__all__ = ["PAGE_RECORDS", "HistoryRows"]

PAGE_RECORDS = 20
MOST_RECORDS = 10_000


class HistoryRows:
    """The tasks of this notebook that the manager has pruned, from its history.

    `_records` and `_error` are set by the reading thread, each in one assignment.
    """

    def __init__(self, factory: WidgetFactory, manager: TaskManager, touch: Callable[[], None]) -> None:
        self._manager = manager
        self._touch = touch
        self._page = 0
        self._records: Sequence[TaskRecord] | None = None
        self._error = ""
        self._count = factory.html(margin="0 8px 0 0")
        self._switch = factory.toggle("Show", "Show the tasks that only the history still has", self._switched)
        head = factory.row(self._count, self._switch, align_items="center", padding="6px 0 0 0")
        self._body = factory.html(width="100%")
        self._pager = Pager(factory, self._turn)
        self._head = head
        self.widget = factory.column(width="100%")

    def refresh(self) -> int:
        """Show how many there are and, if switched on, a page of them; returns the number of messages."""
        pruned = self._manager.pruned_tasks
        if not pruned or self._manager.history is None:
            return update(self.widget, children=())
        sent = update(self._count, value=f"<span>{pruned:,} more in the history</span>")
        if not self._switch.value:
            return sent + update(self.widget, children=(self._head,))
        records = self._records
        if self._error or records is None:
            text = error_html(self._error) if self._error else "<span>reading…</span>"
            return sent + update(self._body, value=text) + update(self.widget, children=(self._head, self._body))
        pages = max(1, -(-len(records) // PAGE_RECORDS))
        self._page = max(0, min(self._page, pages - 1))
        first = self._page * PAGE_RECORDS
        shown = records[first : first + PAGE_RECORDS]
        sent += update(self._body, value="".join(map(_row_html, shown)))
        sent += self._pager.show(self._page, pages, range(first, first + len(shown)), len(records))
        pager = (self._pager.widget,) if pages > 1 else ()
        return sent + update(self.widget, children=(self._head, self._body, *pager))

    def _switched(self) -> None:
        self._page = 0
        if self._switch.value:
            self._records, self._error = None, ""
            start_thread(self._read, "nbtasks-history-rows")
        self._touch()

    def _read(self) -> None:
        """Read the records, newest first, without the tasks that the table itself has."""
        history = self._manager.history
        if history is None:
            return
        present = {task.id for task in self._manager.list_tasks()}
        try:
            records = history.tasks(notebook=history.notebook, limit=MOST_RECORDS)
        except HistoryError as error:
            self._error = str(error)
        else:
            self._records = [record for record in reversed(records) if record.id not in present]
        self._touch()

    def _turn(self, by: int) -> None:
        self._page += by
        self._touch()


def _row_html(record: TaskRecord) -> str:
    """One record, in the columns of the table."""
    style = STATE_STYLES[record.state.value]
    title, error = escape(one_line(record.name, 200)), escape(one_line(record.error or "", 200))
    began = f"{(record.started_at or record.created_at).astimezone():%Y-%m-%d %H:%M:%S}"
    cells: tuple[Any, ...] = (
        f'<span style="color:{style.colour}" aria-hidden="true">{style.sign}</span> '
        f'<bdi style="font-weight:bold">{title}</bdi>{f" <bdi>{error}</bdi>" if error else ""}',
        record.state.value,
        escape(record.lane[:80]),
        "",
        began,
        "" if record.duration is None else clock(record.duration),
    )
    row = "".join(f"<span>{cell}</span>" for cell in cells)
    return f'<div class="nbtasks-cells nbtasks-tr" style="line-height:28px">{row}</div>'
