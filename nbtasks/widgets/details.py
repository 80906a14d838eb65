"""All that is to be told of one task, as HTML: times, source, error with traceback, names, attempts.

Knows nothing of widgets. Everything of the user is escaped, and shortened where it is long.
"""

from __future__ import annotations

import html
import sys
import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from nbtasks.task import PastAttempt, Task
from nbtasks.widgets.snapshot import clock_text, plain_text

__all__ = ["details_html", "size_text"]

MOST_NAMES = 40
MOST_CHARACTERS = 10_000
_OWN_CODE = str(Path(__file__).parent.parent)
_CODE = (
    "margin:2px 0 8px;padding:6px 8px;max-height:220px;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;"
    "font-size:12px;line-height:1.4;background:rgba(128,128,128,.1)"
)


def details_html(task: Task, past: Sequence[PastAttempt] = ()) -> str:
    """What there is to tell of `task` now; `past` are its attempts that failed and were followed by others."""
    parts = [_facts(task)]
    if task.exception is not None:
        parts.append(_section("Error", _traceback(task.exception)))
    elif task.error:
        parts.append(_section("Reason", task.error))
    source = getattr(task, "source", None)
    if isinstance(source, str):
        parts.append(_section("Source", source))
    names = getattr(task, "namespace", None)
    if isinstance(names, dict) and (listed := _names(names)):
        parts.append(_section("Names", "\n".join(listed)))
    if past:
        parts.append(_section("Attempts", "\n".join(map(_attempt, past))))
    return f'<div style="font-size:13px;line-height:1.5">{"".join(parts)}</div>'


def _facts(task: Task) -> str:
    facts = {
        "id": task.id,
        "lane": task.lane,
        "priority": str(task.priority),
        "backend": task.backend or "",
        "created": _clock(task.created_at),
        "started": _clock(task.started_at),
        "over": _clock(task.completed_at),
        "attempts": str(task.attempts),
        "parent": task.parent_id or "",
        "after": ", ".join(map(str, task.after)) if not isinstance(task.after, str | Task) else str(task.after),
        "tags": ", ".join(task.tags),
    }
    said = (
        f'<span style="overflow-wrap:anywhere"><span style="opacity:.75">{name}</span> '
        f"{html.escape(_short(value, 200))}</span>"
        for name, value in facts.items()
        if value
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:0 16px;margin-bottom:6px">{"".join(said)}</div>'


def _attempt(past: PastAttempt) -> str:
    took = clock_text(int((past.ended_at - past.started_at).total_seconds()))
    return f"{past.number}: {_clock(past.started_at)}, failed after {took}: {_short(past.error, 200)}"


def _section(title: str, text: str) -> str:
    # A pre that scrolls must be reachable by the keyboard.
    shown = html.escape(_short(plain_text(text), MOST_CHARACTERS))
    return f'<div>{title}</div><pre tabindex="0" aria-label="{title}" role="region" style="{_CODE}">{shown}</pre>'


def _traceback(error: BaseException) -> str:
    """The traceback without the frames of nbtasks itself."""
    told = traceback.TracebackException.from_exception(error)
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if not frame.filename.startswith(_OWN_CODE)]
    )
    return "".join(told.format()).rstrip()


def _names(names: dict[str, Any]) -> list[str]:
    own = {
        name: value
        for name, value in names.items()
        if not name.startswith("_") and not isinstance(value, ModuleType | FunctionType | type)
    }
    lines = [f"{name}: {size_text(value)}" for name, value in list(own.items())[:MOST_NAMES]]
    return [*lines, f"… and {len(own) - MOST_NAMES} more"] if len(own) > MOST_NAMES else lines


def size_text(value: Any) -> str:
    """What kind of object it is, its shape or length, and its size in memory: "DataFrame 100 x 3, 2.5 KB"."""
    shape, size = "", 0
    try:
        found = getattr(value, "shape", None)
        if isinstance(found, tuple):
            shape = " x ".join(str(part) for part in found)
        elif isinstance(value, str | bytes | list | tuple | dict | set | frozenset):
            shape = f"of {len(value):,}"
        nbytes = getattr(value, "nbytes", None)
        size = nbytes if isinstance(nbytes, int) else sys.getsizeof(value)
    except Exception:  # noqa: BLE001 - the object's own code; its kind is told all the same
        return type(value).__name__
    return f"{type(value).__name__} {shape}".rstrip() + f", {_bytes(size)}"


def _bytes(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _clock(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most].rstrip() + " …"
