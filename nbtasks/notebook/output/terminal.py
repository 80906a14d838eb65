"""The lowest lines of a terminal, set apart and kept up to date while a foreground line waits.

Knows nothing of tasks. All else that is written, by whatever thread or process, scrolls in the rest of the screen: the
terminal itself keeps the two apart, so that neither garbles the other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from nbtasks.interrupts import start_thread

__all__ = ["BottomLines", "terminal_of"]

logger = logging.getLogger(__name__)

DRAW_SECONDS = 0.1
LEAST_ROWS = 4
"""Of the screen, which are left to all else."""
MOST_SHARE = 3
"""At most one part in so many of the screen is set apart."""

_SAVE, _RESTORE, _DOWN, _UP = "\x1b7", "\x1b8", "\x1bD", "\x1b[{}A"
_SCROLL_ABOVE, _SCROLL_ALL = "\x1b[1;{}r", "\x1b[r"
_LINE, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[{};1H", "\x1b[K", "\x1b[J"
_NO_WRAP, _WRAP, _PLAIN = "\x1b[?7l", "\x1b[?7h", "\x1b[0m"


def terminal_of(stream: object) -> int | None:
    """The file of the terminal that `stream` writes to; None where it is none, or cannot move its cursor."""
    if os.name != "posix" or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        return None
    try:
        number: int = stream.fileno()  # type: ignore[attr-defined]
        return number if os.isatty(number) else None
    except (AttributeError, OSError, ValueError):  # replaced by something that is no file, or closed
        return None


class BottomLines:
    """While this context lasts, what `read(columns, rows)` gives stands in the lowest lines of the terminal.

    `read` is called on a thread of its own, some times a second, and gives at most `rows` lines of so many `columns`.
    """

    def __init__(self, terminal: int, read: Callable[[int, int], list[str]]) -> None:
        self._terminal = terminal
        self._read = read
        self._over = threading.Event()
        self._size = os.terminal_size((0, 0))
        self._height = 0
        self._drawn: list[str] = []

    def __enter__(self) -> Self:
        self._thread = start_thread(self._serve, "nbtasks-lines")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _serve(self) -> None:
        try:
            while not self._over.wait(DRAW_SECONDS):
                self._draw()
        except OSError:
            logger.debug("the terminal is gone")
        finally:
            self._give_back()

    def _give_back(self) -> None:
        """The whole screen scrolls again, and what stood below is gone."""
        if self._height:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._write(_SAVE + _SCROLL_ALL + _RESTORE + _REST_OF_SCREEN)

    def _draw(self) -> None:
        size, codes = os.get_terminal_size(self._terminal), ""
        if size != self._size:
            if self._height:
                codes = _SAVE + _SCROLL_ALL + _RESTORE + _REST_OF_SCREEN
            self._size, self._height, self._drawn = size, 0, []
        most = min(size.lines - LEAST_ROWS, max(2, size.lines // MOST_SHARE))
        lines = self._read(size.columns, most) if most > 1 else []
        if lines != self._drawn:
            codes += self._make_room(len(lines))
            self._drawn, top = lines, size.lines - self._height
            blank = [""] * (self._height - len(lines))
            placed = [_LINE.format(top + row) + line + _REST_OF_LINE for row, line in enumerate([*lines, *blank], 1)]
            codes += _SAVE + _PLAIN + _NO_WRAP + "".join(placed) + _WRAP + _RESTORE
        if codes:
            self._write(codes)

    def _make_room(self, height: int) -> str:
        """What sets so many lines apart; where more are needed than before, what is on the screen moves up."""
        more = height - self._height
        if more <= 0:
            return ""
        self._height = height
        above = _SCROLL_ABOVE.format(self._size.lines - height)
        # The column stays, for somebody may be in the middle of a line.
        return _DOWN * more + _UP.format(more) + _SAVE + above + _RESTORE

    def _write(self, codes: str) -> None:
        """All at once, so that nobody else's writing comes between."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        data = codes.encode(encoding, "replace")
        while data:
            data = data[os.write(self._terminal, data) :]
