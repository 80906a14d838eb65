"""Context variables set by cells, such as numpy's print options, for later cells.

A background cell runs in its own context, in which the variables that it sets would be lost. In the foreground they are
set for later cells. So a completed cell commits them, as it commits its names.
"""

from __future__ import annotations

import contextvars
import threading
from typing import Any

__all__ = ["Changes", "NotebookVariables", "changes_since", "take_over"]

Changes = dict["contextvars.ContextVar[Any]", tuple[Any, Any]]
"""The value of each variable before and after."""

_ABSENT: Any = object()


def changes_since(before: contextvars.Context) -> Changes:
    """Return the variables that differ in this context from `before`, except for those of nbtasks."""
    return {
        variable: (before.get(variable, _ABSENT), value)
        for variable, value in contextvars.copy_context().items()
        if before.get(variable, _ABSENT) is not value and not variable.name.startswith("nbtasks_")
    }


def take_over(changes: Changes) -> None:
    """Set the variables in this context, except for those that were changed meanwhile."""
    for variable, (before, now) in changes.items():
        if variable.get(_ABSENT) is before:
            variable.set(now)


class NotebookVariables:
    """Variables of completed cells, to be set in the foreground by its next cell.

    `_lock` guards `_waiting`. Any thread may call `commit`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Changes = {}

    def commit(self, changes: Changes) -> None:
        """Have the foreground take over `changes` when its next cell begins."""
        with self._lock:
            for variable, (before, now) in changes.items():
                self._waiting[variable] = (self._waiting.get(variable, (before, now))[0], now)

    def foreground_began(self) -> None:
        """Set the committed variables in the context of the cell that begins."""
        with self._lock:
            changes, self._waiting = self._waiting, {}
        take_over(changes)
