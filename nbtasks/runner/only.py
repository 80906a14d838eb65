"""`nbtasks run --only NAME`: one background cell, and the cells before it.

The cell runs once, without its schedule.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

from nbtasks.exceptions import InvalidValueError, unknown

__all__ = ["cell_name", "only"]

SCHEDULE_OPTIONS = ("--every", "--cron", "--tz", "--max-concurrent", "--if-running")
_MAGIC = re.compile(r"\s*%%bgtask\b([^\n]*)\n?(.*)", re.DOTALL)


def cell_name(source: str) -> str | None:
    """The name after `%%bgtask` in a cell; None if it is no background cell, or has no name."""
    match = _MAGIC.match(source)
    words = _words(match[1]) if match else []
    return words[0] if words and not words[0].startswith("-") else None


def only(notebook: Any, name: str) -> Callable[[Any], str | None]:
    """Return the source to run of each cell: foreground cells before that one, and that one once.

    Raises InvalidValueError if the notebook has no background cell of that name.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    names = [cell_name(cell.source) for cell in cells]
    if name not in names:
        raise InvalidValueError(unknown("background cell", name, [known for known in names if known is not None]))
    last = cells[len(names) - 1 - names[::-1].index(name)]

    def source_of(cell: Any) -> str | None:
        if cell is last:
            return _once(cell.source)
        before = cells.index(cell) < cells.index(last)
        return str(cell.source) if before and not _MAGIC.match(cell.source) else None

    return source_of


def _once(source: str) -> str:
    match = _MAGIC.match(source)
    assert match is not None
    kept, words = [], _words(match[1])
    while words:
        word = words.pop(0)
        if word in SCHEDULE_OPTIONS:
            words[:1] = []
        elif not word.startswith(tuple(f"{option}=" for option in SCHEDULE_OPTIONS)):
            kept.append(word)
    line = " ".join(shlex.quote(word) for word in kept)
    return f"%%bgtask {line} --wait\n{match[2]}"


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise InvalidValueError(f"%%bgtask{line}: {error}") from None
