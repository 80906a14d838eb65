"""One task as a panel, and several as a table, in a few lines of text that are as wide as a terminal.

Knows nothing of how they get onto a screen, nor of widgets.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from nbtasks.task import Task
from nbtasks.widgets.snapshot import LOOKS, Shown, one_line

__all__ = ["lines_of"]

BAR_CHARACTERS = 60
SMALL_BAR = 20
NAME_CHARACTERS = 24
STEPS_A_SECOND = 4
"""How often a bar of unknown length moves on."""
_ORDER = ("running", "cancelling", "pending", "failed", "cancelled", "completed")


def lines_of(tasks: Sequence[Task], columns: int, rows: int) -> list[str]:
    """At most `rows` lines of at most `columns` characters: of one task its panel, else a line for each task."""
    now = datetime.now(UTC)
    if len(tasks) == 1:
        lines = _panel(Shown.of(tasks[0], now), now, columns)
    else:
        lines = _table([Shown.of(task, now, whole=False) for task in tasks], now, rows)
    return [_cut(line, columns) for line in lines[:rows]]


def _panel(shown: Shown, now: datetime, columns: int) -> list[str]:
    title = one_line(shown.title, max(NAME_CHARACTERS, columns // 2))
    first = f"{LOOKS[shown.state][0]} {title}  {shown.words}  {shown.figures}"
    below = [one_line(text, columns) for text in (shown.where, shown.note) if text]
    return [first, "  " + _bar(shown, now, min(BAR_CHARACTERS, columns - 3)), *("  " + text for text in below)]


def _table(all_shown: list[Shown], now: datetime, rows: int) -> list[str]:
    """How many there are in each state, and a line for each, those that are not over first."""
    counts = Counter(shown.state for shown in all_shown)
    told = ", ".join(f"{counts[state]:,} {state}" for state in _ORDER if counts[state])
    ordered = sorted(all_shown, key=lambda shown: _ORDER.index(shown.state))
    left_out = len(ordered) - (rows - 1)
    if left_out > 0:
        ordered = ordered[: rows - 2]
    names = [one_line(shown.title, NAME_CHARACTERS) for shown in ordered]
    width = max(map(len, names), default=0)
    lines = [f"{len(all_shown):,} tasks: {told}"]
    for name, shown in zip(names, ordered, strict=True):
        note = one_line(shown.note, 200)
        bar = _bar(shown, now, SMALL_BAR)
        lines.append(f"{LOOKS[shown.state][0]} {name:<{width}}  {shown.state:<10}  {bar}  {shown.figures}  {note}")
    return [*lines, f"… and {left_out + 1:,} more"] if left_out > 0 else lines


def _bar(shown: Shown, now: datetime, width: int) -> str:
    """Full as far as it is known to be; of a running task of which nobody knows, a piece that moves to and fro."""
    if shown.indeterminate:
        piece, way = width // 4, width - width // 4
        at = int(now.timestamp() * STEPS_A_SECOND) % (2 * way)
        at = min(at, 2 * way - at)
        return "░" * at + "█" * piece + "░" * (way - at)
    full = int(width * (shown.progress or 0.0) / 100.0)
    return "█" * full + "░" * (width - full)


def _cut(line: str, columns: int) -> str:
    """As much of the line as fits; characters of East Asia and emoji take two columns."""
    left = columns
    for position, character in enumerate(line):
        left -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if left < 0:
            return line[:position]
    return line.rstrip()
