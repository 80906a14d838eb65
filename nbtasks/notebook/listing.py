"""Tasks as a table of plain text. Knows tasks only."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from nbtasks.task import Task
from nbtasks.widgets.shown import Shown

__all__ = ["task_list"]

_COLUMNS = ("name", "state", "lane", "progress", "elapsed", "note")


def task_list(tasks: Iterable[Task]) -> str:
    """One line for each task, oldest first, under a line of headings."""
    now = datetime.now(UTC)
    rows = [_COLUMNS]
    for task in tasks:
        shown = Shown.of(task, now)
        rows.append((task.name, shown.state, task.lane, shown.percent, shown.elapsed_text, _first_line(shown.note)))
    if len(rows) == 1:
        return "no background tasks"
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _first_line(text: str) -> str:
    return text.splitlines()[0][:80] if text else ""
