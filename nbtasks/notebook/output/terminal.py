"""Status lines at the bottom of a terminal, updated while a foreground line waits.

The terminal's scroll region excludes them, so that other output scrolls above, from whichever thread or process it
comes. (`rich.live` sees only what goes through `sys.stdout`: it overwrites lines that a child process writes, and adds
a line break after text that is written without one.)
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
SCROLLING_ROWS = 4
"""How many rows are left to other output at least."""
LARGEST_SHARE = 3
"""At most the third part of the screen has status lines."""

_SAVE, _RESTORE, _DOWN, _UP = "\x1b7", "\x1b8", "\x1bD", "\x1b[{}A"
_SCROLL_ABOVE, _SCROLL_ALL = "\x1b[1;{}r", "\x1b[r"
_LINE, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[{};1H", "\x1b[K", "\x1b[J"
_NO_WRAP, _WRAP, _PLAIN = "\x1b[?7l", "\x1b[?7h", "\x1b[0m"


def terminal_of(stream: object) -> int | None:
    """The descriptor of the terminal of `stream`; None if it is none, or one that cannot move its cursor."""
    if os.name != "posix" or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        return None
    try:
        number: int = stream.fileno()  # type: ignore[attr-defined]
        return number if os.isatty(number) else None
    except (AttributeError, OSError, ValueError):  # not a file, or closed
        return None


class BottomLines:
    """Shows the lines of `read(columns, rows)` at the bottom of a terminal.

    A context manager. `read` is called ten times a second on another thread; it returns at most `rows` lines of at most
    `columns` characters.
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
            self._remove()

    def _remove(self) -> None:
        """Remove the lines; the whole screen scrolls again."""
        if self._height:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._write(_SAVE + _SCROLL_ALL + _RESTORE + _REST_OF_SCREEN)

    def _draw(self) -> None:
        size, codes = os.get_terminal_size(self._terminal), ""
        if size != self._size:
            if self._height:
                codes = _SAVE + _SCROLL_ALL + _RESTORE + _REST_OF_SCREEN
            self._size, self._height, self._drawn = size, 0, []
        most = min(size.lines - SCROLLING_ROWS, max(2, size.lines // LARGEST_SHARE))
        lines = self._read(size.columns, most) if most > 1 else []
        if lines != self._drawn:
            codes += self._reserve(len(lines))
            self._drawn, top = lines, size.lines - self._height
            blank = [""] * (self._height - len(lines))
            placed = [_LINE.format(top + row) + line + _REST_OF_LINE for row, line in enumerate([*lines, *blank], 1)]
            codes += _SAVE + _PLAIN + _NO_WRAP + "".join(placed) + _WRAP + _RESTORE
        if codes:
            self._write(codes)

    def _reserve(self, height: int) -> str:
        """Codes that exclude this many lines from scrolling; if more than before, other output moves up."""
        more = height - self._height
        if more <= 0:
            return ""
        self._height = height
        above = _SCROLL_ABOVE.format(self._size.lines - height)
        # The cursor keeps its column: other output may be in the middle of a line.
        return _DOWN * more + _UP.format(more) + _SAVE + above + _RESTORE

    def _write(self, codes: str) -> None:
        """Write the codes in one call, so that no other output comes between them."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        data = codes.encode(encoding, "replace")
        while data:
            data = data[os.write(self._terminal, data) :]
