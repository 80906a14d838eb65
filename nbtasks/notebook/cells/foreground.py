"""`Foreground`: which foreground cell runs."""

from __future__ import annotations

import threading

__all__ = ["Foreground"]


class Foreground:
    """Which foreground cell runs, as the shell's events tell.

    `lock`, which is re-entrant, guards it. A commit of names holds it too: no cell begins or ends meanwhile.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._depth = 0
        self._cell: object = None

    @property
    def runs(self) -> bool:
        """Whether a foreground cell runs now."""
        return self._depth > 0

    @property
    def cell(self) -> object:
        """What identifies the foreground cell that runs now; None if none runs."""
        return self._cell if self._depth else None

    def began(self, cell: object) -> bool:
        """A foreground cell begins; False if it runs within another one.

        `cell` identifies the request, so that nested runs count as one.
        """
        with self.lock:
            # A request whose end was not reported delays commits until the next request, not for ever.
            self._depth = self._depth + 1 if self._depth and self._cell == cell else 1
            self._cell = cell
            return self._depth == 1

    def ended(self) -> bool:
        """A foreground cell ended; whether none runs any more."""
        with self.lock:
            self._depth = max(0, self._depth - 1)
            return not self._depth

    def left(self) -> None:
        """The running foreground cell was sent to the background."""
        with self.lock:
            self._depth = 0
