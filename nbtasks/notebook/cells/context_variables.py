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
_times_set: contextvars.ContextVar[int] = contextvars.ContextVar("nbtasks_times_set", default=-1)


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
    """What cells have set, for the foreground, which alone can set it in its context.

    A foreground cell that awaits runs in a copy of that context, and what is set there is gone with it. So what was set
    is set once more, until a cell begins in whose context it has arrived. `_lock` guards all fields. Any thread may
    call `commit`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Changes = {}
        self._set: Changes = {}
        self._times = 0

    def commit(self, changes: Changes) -> None:
        """Have the foreground take over `changes` when its next cell begins."""
        with self._lock:
            _add(self._waiting, changes)

    def foreground_began(self) -> None:
        """Set what waits, in the context of the cell that begins."""
        with self._lock:
            if _times_set.get() == self._times:  # it has arrived
                self._set = {}
            _add(self._set, self._waiting)
            self._waiting = {}
            if not self._set:
                return
            self._times += 1
            _times_set.set(self._times)
            changes = self._set.copy()
        take_over(changes)


def _add(changes: Changes, later: Changes) -> None:
    for variable, (before, now) in later.items():
        changes[variable] = (changes.get(variable, (before, now))[0], now)
