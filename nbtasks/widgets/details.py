"""Details of one task as HTML: times, source, traceback, names, attempts.

Text of the user is escaped, and cut if it is long.
"""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from nbtasks.formatting import clock, plain_text, shortened, size
from nbtasks.task import PastAttempt, Task
from nbtasks.widgets.html import copy_button_html

__all__ = ["details_html", "section_html", "value_text"]

NAMES = 40
"""Maximum number of names."""
SECTION_CHARACTERS = 10_000
FACT_CHARACTERS = 200
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
"""What `sys.getsizeof` counts of these is without what they contain."""
_PACKAGE = str(Path(__file__).parent.parent)
_CODE_STYLE = (
    "margin:2px 0 8px;padding:6px 8px;max-height:220px;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;"
    "font-size:12px;line-height:1.4;background:rgba(128,128,128,.1)"
)


def details_html(task: Task, past: Sequence[PastAttempt] = ()) -> str:
    """The details of `task` now; `past` are the attempts that failed and were retried."""
    parts = [_facts_html(task)]
    if task.exception is not None:
        parts.append(section_html("Error", _traceback_text(task.exception)))
    elif task.error:
        parts.append(section_html("Reason", task.error))
    cell = task.cell_details()
    if cell is not None:
        parts.append(section_html("Source", cell.source))
        if names := _name_lines(cell.namespace):
            parts.append(section_html("Names", "\n".join(names)))
    if past:
        parts.append(section_html("Attempts", "\n".join(map(_attempt_line, past))))
    return f'<div style="font-size:13px;line-height:1.5">{"".join(parts)}</div>'


def _facts_html(task: Task) -> str:
    facts = {
        "id": task.id,
        "lane": task.lane,
        "priority": str(task.priority),
        "backend": task.backend or "",
        "created": _time_text(task.created_at),
        "started": _time_text(task.started_at),
        "finished": _time_text(task.completed_at),
        "attempts": str(task.attempts),
        "parent": task.parent_id or "",
        "after": ", ".join(map(str, task.after)) if not isinstance(task.after, str | Task) else str(task.after),
        "tags": ", ".join(task.tags),
    }
    items = (
        f'<span style="overflow-wrap:anywhere"><span style="opacity:.75">{name}</span> '
        f"{escape(shortened(value, FACT_CHARACTERS))}</span>"
        for name, value in facts.items()
        if value
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:0 16px;margin-bottom:6px">{"".join(items)}</div>'


def section_html(title: str, text: str, *, copy: bool = True) -> str:
    """A text that scrolls under its title, and a button that copies it."""
    text = escape(shortened(plain_text(text), SECTION_CHARACTERS))
    button = f" {copy_button_html(title.lower())}" if copy else ""
    # An element that scrolls must be reachable by the keyboard.
    pre = f'<pre tabindex="0" aria-label="{title}" role="region" style="{_CODE_STYLE}">{text}</pre>'
    return f'<div class="nbtasks-section"><div>{title}{button}</div>{pre}</div>'


def _traceback_text(error: BaseException) -> str:
    """The traceback without the frames of nbtasks itself."""
    report = traceback.TracebackException.from_exception(error)
    report.stack = traceback.StackSummary.from_list(
        [frame for frame in report.stack if not frame.filename.startswith(_PACKAGE)]
    )
    return "".join(report.format()).rstrip()


def _attempt_line(past: PastAttempt) -> str:
    took = clock(int((past.ended_at - past.started_at).total_seconds()))
    return (
        f"{past.number}: {_time_text(past.started_at)}, failed after {took}: {shortened(past.error, FACT_CHARACTERS)}"
    )


def _name_lines(namespace: dict[str, Any]) -> list[str]:
    values = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and not isinstance(value, ModuleType | FunctionType | type)
    }
    lines = [f"{name}: {value_text(value)}" for name, value in list(values.items())[:NAMES]]
    return [*lines, f"… and {len(values) - NAMES} more"] if len(values) > NAMES else lines


def value_text(value: Any) -> str:
    """Type, shape or length, and size in memory of an object, if known: "DataFrame 100 x 3, 2.5 kB"."""
    shape = ""
    try:
        dimensions = getattr(value, "shape", None)
        if isinstance(dimensions, tuple):
            shape = " x ".join(map(str, dimensions))
        elif isinstance(value, str | bytes | list | tuple | dict | set | frozenset):
            shape = f"of {len(value):,}"
        memory = _bytes_of(value)
    except Exception:  # noqa: BLE001 - the object's own code; its type is shown all the same
        return type(value).__name__
    return f"{type(value).__name__} {shape}".rstrip() + ("" if memory is None else f", {size(memory)}")


def _bytes_of(value: Any) -> int | None:
    """Its size in memory; None for objects that do not count what they refer to, such as lists and models."""
    nbytes = getattr(value, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    own: Any = type(value).__sizeof__
    return None if own is object.__sizeof__ or isinstance(value, _CONTAINERS) else sys.getsizeof(value)


def _time_text(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
