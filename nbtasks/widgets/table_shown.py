"""The task table where no widgets show: as HTML and as plain text; and small texts of the live one.

Knows nothing of widgets.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from nbtasks.manager import TaskManager
from nbtasks.task import Task
from nbtasks.widgets.shown import LOOKS, Shown, one_line

__all__ = ["PictureTable", "count_text", "message_html", "table_bundle", "task_list"]

_COLUMNS = ("name", "state", "lane", "progress", "elapsed", "note")
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
    rows = [_COLUMNS, *map(_cells, tasks)]
    if len(rows) == 1:
        return "no background tasks"
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
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
    head = "".join(f'<th style="text-align:left;padding:2px 10px 2px 0">{name}</th>' for name in _COLUMNS)
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
