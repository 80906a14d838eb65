"""Snapshots as plain text: panels, lists of tasks and schedules, terminal lines."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from nbtasks.formatting import align_columns, one_line, plural
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task
from nbtasks.widgets.snapshot import STATE_STYLES, Snapshot, recurring_state, task_snapshot, until_text

__all__ = ["TASK_COLUMNS", "panel_text", "schedule_list", "task_cells", "task_list", "terminal_lines"]

TASK_COLUMNS = ("name", "state", "lane", "progress", "elapsed", "note")
CELL_CHARACTERS = 80
"""Longer cells of a table are cut."""

_SCHEDULE_COLUMNS = ("name", "schedule", "zone", "state", "next", "runs", "failures", "skipped", "last error")

BAR_CHARACTERS = 60
SMALL_BAR_CHARACTERS = 20
NAME_CHARACTERS = 24
STEPS_PER_SECOND = 4
"""Speed of a bar of unknown length."""
_TERMINAL_ORDER = ("running", "cancelling", "pending", "failed", "cancelled", "completed")


def panel_text(snapshot: Snapshot) -> str:
    """The panel as one line."""
    parts = (f"[{snapshot.status}] {snapshot.title}", snapshot.figures, snapshot.details, snapshot.note)
    return "  ".join(filter(None, parts))


def task_list(tasks: Iterable[Task]) -> str:
    """One line for each task, in the given order, below a line of headings."""
    rows = [task_cells(task) for task in tasks]
    return "\n".join(align_columns([TASK_COLUMNS, *rows])) if rows else "no background tasks"


def task_cells(task: Task) -> tuple[str, ...]:
    """The cells of a task below TASK_COLUMNS."""
    snapshot = task_snapshot(task, datetime.now(UTC), compact=True)
    name, lane, note = (one_line(text, CELL_CHARACTERS) for text in (task.name, task.lane, snapshot.note))
    return name, snapshot.state, lane, snapshot.percent, snapshot.elapsed_text, note


def schedule_list(recurring_tasks: Iterable[RecurringTask], now: datetime) -> str:
    """One line for each recurring task, below a line of headings."""
    rows = [_schedule_cells(recurring, now) for recurring in recurring_tasks]
    return "\n".join(align_columns([_SCHEDULE_COLUMNS, *rows])) if rows else "no schedules"


def _schedule_cells(recurring: RecurringTask, now: datetime) -> tuple[str, ...]:
    until = until_text(recurring, now)
    return (
        recurring.name,
        recurring.expression,
        recurring.timezone,
        "running" if recurring.instances else recurring_state(recurring),
        f"in {until}" if until else "-",
        *map(str, (recurring.total_runs, recurring.total_failures, recurring.total_skipped)),
        (recurring.last_error or "-").splitlines()[0][:CELL_CHARACTERS],
    )


# -- lines of a terminal --------------------------------------------------------------------------------------


def terminal_lines(tasks: Sequence[Task], columns: int, rows: int) -> list[str]:
    """The panel of one task, or the counts and a line for each of several, cut to `rows` and `columns`."""
    now = datetime.now(UTC)
    if len(tasks) == 1:
        lines = _panel_lines(task_snapshot(tasks[0], now), now, columns)
    else:
        lines = _table_lines([task_snapshot(task, now, compact=True) for task in tasks], now, rows)
    return [_cut(line, columns) for line in lines[:rows]]


def _panel_lines(snapshot: Snapshot, now: datetime, columns: int) -> list[str]:
    title = one_line(snapshot.title, max(NAME_CHARACTERS, columns // 2))
    first = f"{STATE_STYLES[snapshot.state].sign} {title}  {snapshot.status}  {snapshot.figures}"
    bar = _bar(snapshot, now, min(BAR_CHARACTERS, columns - 3))
    below = [one_line(text, columns) for text in (snapshot.details, snapshot.note) if text]
    return [first, f"  {bar}", *(f"  {text}" for text in below)]


def _table_lines(snapshots: Sequence[Snapshot], now: datetime, rows: int) -> list[str]:
    """The counts by state, then a line for each task, live ones first."""
    counts = Counter(snapshot.state for snapshot in snapshots)
    counts_text = ", ".join(f"{counts[state]:,} {state}" for state in _TERMINAL_ORDER if counts[state])
    ordered = sorted(snapshots, key=lambda snapshot: _TERMINAL_ORDER.index(snapshot.state))
    left_out = len(ordered) - (rows - 1)
    if left_out > 0:
        ordered = ordered[: rows - 2]
    names = [one_line(snapshot.title, NAME_CHARACTERS) for snapshot in ordered]
    width = max(map(len, names), default=0)
    lines = [f"{plural(len(snapshots), 'task')}: {counts_text}"]
    for name, snapshot in zip(names, ordered, strict=True):
        sign, note = STATE_STYLES[snapshot.state].sign, one_line(snapshot.note, 200)
        bar = _bar(snapshot, now, SMALL_BAR_CHARACTERS)
        lines.append(f"{sign} {name:<{width}}  {snapshot.state:<10}  {bar}  {snapshot.figures}  {note}")
    return [*lines, f"… and {left_out + 1:,} more"] if left_out > 0 else lines


def _bar(snapshot: Snapshot, now: datetime, width: int) -> str:
    """The progress bar; with unknown progress a block that moves to and fro."""
    if snapshot.indeterminate:
        block, way = width // 4, width - width // 4
        position = int(now.timestamp() * STEPS_PER_SECOND) % (2 * way)
        position = min(position, 2 * way - position)
        return "░" * position + "█" * block + "░" * (way - position)
    filled = int(width * (snapshot.progress or 0.0) / 100.0)
    return "█" * filled + "░" * (width - filled)


def _cut(line: str, columns: int) -> str:
    """As much of the line as fits; East Asian characters and emoji are two columns wide."""
    left = columns
    for position, character in enumerate(line):
        left -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if left < 0:
            return line[:position]
    return line.rstrip()
