"""How a manager comes to have a history, as a mixin.

Must not know the manager that it is mixed into. The rest of this package is imported on first use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbtasks.threads import uninterrupted

if TYPE_CHECKING:
    from nbtasks.history.history import History

__all__ = ["HistoryMethods"]

WRITE_SECONDS = 2.0
"""How long the end of a manager waits at most for the history to be written."""


class HistoryMethods:
    """Keeps a history, or none."""

    _history: History | None = None

    def _note_with(self, note: Callable[[Any], object] | None) -> None:
        """Have `note` called with each task and recurring task that changes, and with those that live now."""
        raise NotImplementedError

    @property
    def history(self) -> History | None:
        """The record of tasks and schedules that outlives the process, if one is kept: `manager.history.tasks(...)`.

        Set it, to a History or to the path of its file, to have one kept from now on.
        """
        return self._history

    @history.setter
    @uninterrupted
    def history(self, history: History | str | os.PathLike[str] | None) -> None:
        if isinstance(history, str | os.PathLike):
            from nbtasks.history.history import History

            history = History(history)
        before, self._history = self._history, history
        self._note_with(None if history is None else history.note)
        if before is not None:
            before.close()
