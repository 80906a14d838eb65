"""Foreground cells that were sent to the background, by context.

Such a cell has begun in a context of its own, which only its own code can change. It is known by the request in
it, which ipykernel keeps in a context variable, and which asyncio tasks and threads of the cell have copied.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

__all__ = ["AwayCell", "add_away_cell", "away_cell", "remove_away_cell"]

_cells: dict[str, AwayCell] = {}
"""By the id of the request. Replaced as a whole, so that any thread may read it."""
_request: ContextVar[dict[str, Any]] | None = None


class AwayCell:
    """What belongs to one cell that was sent to the background.

    `streams` and `plots` are of the classes in `patches/`; `values` has the attributes of shared objects, such as the
    shell's execution count, that are this cell's own.
    """

    def __init__(
        self, request_id: str, parent: dict[str, Any], sink: Any, threads: Iterable[threading.Thread] = ()
    ) -> None:
        self.request_id = request_id
        self.parent = parent
        self.sink = sink
        self.streams: Any = None
        self.plots: Any = None
        self.values: dict[str, Any] = {}
        self.threads = weakref.WeakSet(threads)
        """Threads that the cell had started before, in an empty context."""


def away_cell() -> AwayCell | None:
    """The cell that was sent to the background and that the calling code belongs to; None for other code."""
    cells = _cells
    if not cells or _request is None:
        return None
    request = _request.get(None)
    if request is not None:
        return cells.get((request.get("header") or {}).get("msg_id", ""))
    # `threading.current_thread` would make an object for a thread of C code, which reads `sys.stderr`, which asks here.
    thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]
    return next((cell for cell in cells.values() if thread is not None and thread in cell.threads), None)


def add_away_cell(
    cell: AwayCell,
    request: ContextVar[dict[str, Any]],
    hook: dict[str, Any],
    hook_traits: dict[str, Any],
    *,
    has_result: bool,
) -> None:
    """Have `away_cell` find the cell, and move to it what the displayhook has of it.

    `request` is the context variable with the request that a cell belongs to. `hook` and `hook_traits` have the
    displayhook's attribute `msg` and trait `exec_result`, which is this cell's if it `has_result`.
    """
    global _cells, _request
    _request = request
    cells, values = {**_cells, cell.request_id: cell}, cell.values
    # The cell is still running: no other thread may run between these lines. The interpreter lets one do so only at
    # calls and at jumps back, and there is none here.
    values["msg"] = hook["msg"]
    if has_result:
        values["exec_result"] = hook_traits["exec_result"]
    _cells = cells
    hook["msg"] = None
    if has_result:
        hook_traits["exec_result"] = None


def remove_away_cell(cell: AwayCell) -> None:
    """The cell has ended."""
    global _cells
    _cells = {request_id: other for request_id, other in _cells.items() if other is not cell}
