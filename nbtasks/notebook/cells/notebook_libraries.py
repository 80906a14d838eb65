"""The notebook's per-thread settings of libraries, committed as names are.

Only the foreground's thread can read and set those of the foreground. So they are taken there when a cell is launched
or has ended, and what background cells have set is set there when the next cell begins, or ends its wait.
"""

from __future__ import annotations

import threading
from typing import Any

from nbtasks import thread_state
from nbtasks.thread_state import Changes, State

__all__ = ["NotebookLibraries"]


class NotebookLibraries:
    """The settings of the foreground's thread. `_lock` guards all fields."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: State = {}
        self._waiting: Changes = {}
        # The last value that a cell has committed: between two cells the later commit wins.
        self._committed: dict[tuple[str, str], Any] = {}

    def note(self) -> None:
        """Take the settings of this thread, on which a foreground cell runs or has run."""
        state = thread_state.capture()
        with self._lock:
            self._state = state

    def snapshot(self) -> State:
        """The notebook's settings as they are now, commits that wait for a boundary included."""
        with self._lock:
            due = self._due(self._state, self._waiting)
            return thread_state.merged(self._state, due) if due else self._state

    def commit(self, changes: Changes) -> None:
        """Have the foreground take over `changes` when its next cell begins."""
        if changes:
            with self._lock:
                for key, (before, now) in changes.items():
                    self._waiting[key] = (self._waiting.get(key, (before, now))[0], now)

    def foreground_began(self) -> None:
        """Set what waits, on the foreground's thread."""
        with self._lock:
            changes, self._waiting = self._waiting, {}
        self.take_over(changes)

    def take_over(self, changes: Changes) -> None:
        """Set `changes` on the foreground's thread, except settings that have been changed meanwhile."""
        if not changes:
            return
        state = thread_state.capture_all()
        with self._lock:
            due = self._due(state, changes)
            self._committed |= due
        thread_state.apply(due)
        self.note()

    def _due(self, state: State, changes: Changes) -> dict[tuple[str, str], Any]:
        """Those of the changes that the notebook takes over."""
        return {
            key: now
            for key, (before, now) in changes.items()
            if thread_state.same_in(state, key, before)
            or (key in self._committed and thread_state.same_in(state, key, self._committed[key]))
        }
