"""Context variables that cells set, such as numpy's print options or the context of `decimal`, treated as names are.

A background cell runs in a context of its own, so what it sets there would be gone with it, where in the foreground
later cells have it. Knows nothing of tasks.
"""

from __future__ import annotations

import contextvars
import threading
from typing import Any

__all__ = ["Changes", "NotebookVariables", "changes_since", "take_over"]

Changes = dict["contextvars.ContextVar[Any]", tuple[Any, Any]]
"""For each variable that was set: what it was before, and what it is now."""

_ABSENT: Any = object()


def changes_since(before: contextvars.Context) -> Changes:
    """What code has set in this context since it was like `before`; not our own variables."""
    return {
        variable: (before.get(variable, _ABSENT), value)
        for variable, value in contextvars.copy_context().items()
        if before.get(variable, _ABSENT) is not value and not variable.name.startswith("nbtasks_")
    }


def take_over(changes: Changes) -> None:
    """Set the variables in this context, apart from those that were set to something else meanwhile."""
    for variable, (before, now) in changes.items():
        if variable.get(_ABSENT) is before:
            variable.set(now)


class NotebookVariables:
    """What completed cells have set, for the foreground, which alone can set it in its context.

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
        """Set what waits, in the context of the cell that begins."""
        with self._lock:
            changes, self._waiting = self._waiting, {}
        take_over(changes)
