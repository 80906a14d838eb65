"""IPython's terminal, real, in a pseudo-terminal: lines go in, what it prints comes out.

Must not know nbtasks.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import pexpect

__all__ = ["Screen", "Terminal"]

TIME_LIMIT = 60
PROMPT, CONTINUATION = r"In \[\d+\]: ", r" {3,}\.\.\.: "


class Screen:
    """What one sees in a terminal of so many rows and columns to which all of this was written."""

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        import pyte  # most terminals of the tests have no screen

        self.size = (rows, columns)
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=1)
        self._stream = pyte.Stream(self._screen)

    def write(self, text: str) -> None:
        """Written by the child."""
        self._stream.feed(text)

    def flush(self) -> None:
        """It is there at once."""

    def resize(self, rows: int, columns: int) -> None:
        """The corner of the window was dragged."""
        self.size = (rows, columns)
        self._screen.resize(rows, columns)

    @property
    def lines(self) -> list[str]:
        """The lines, without the empty ones at the end."""
        lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines


class Terminal:
    """One IPython in a terminal, with plain prompts, which say when it is ready. Also a context manager.

    A `screen` makes it a terminal that can move its cursor, and is what one then sees there.
    """

    def __init__(self, env: Mapping[str, str], cwd: Path, screen: Screen | None = None) -> None:
        self._child: Any = pexpect.spawn(
            sys.executable,
            ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit"],
            env={**env, "TERM": "dumb" if screen is None else "xterm-256color"},
            cwd=os.fspath(cwd),
            encoding="utf-8",
            timeout=TIME_LIMIT,
            dimensions=(50, 200) if screen is None else screen.size,
            echo=screen is not None,
        )
        self._child.logfile_read = screen
        self.screen = screen

    def __enter__(self) -> Self:
        self._child.expect(PROMPT)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if not self._child.closed:
            self._child.kill(signal.SIGKILL)
            self._child.wait()
            self._child.close()

    def run(self, code: str) -> str:
        """Type a line or a cell; what was printed until the next prompt."""
        printed, lines = "", code.splitlines()
        while True:
            self._child.sendline(lines.pop(0) if lines else "")  # empty lines end a cell of several
            ready: bool = self._child.expect([CONTINUATION, PROMPT]) == 1
            printed += self._child.before
            if ready and not lines:
                return printed.replace("\r\n", "\n").strip()

    def read_until(self, text: str) -> None:
        """Wait until something is printed without anything being typed."""
        self._child.expect_exact(text)

    def start(self, line: str) -> None:
        """Type a line, and wait for nothing."""
        self._child.sendline(line)

    def wait_seen(self, seen: Callable[[list[str]], bool], what: str) -> list[str]:
        """Read until `seen` is true of the lines of the screen; returns them."""
        assert self.screen is not None
        deadline = time.monotonic() + TIME_LIMIT
        while not seen(lines := self.screen.lines):
            if time.monotonic() > deadline:
                raise AssertionError("\n".join([f"{what} was not seen on the screen:", *lines]))
            with contextlib.suppress(pexpect.TIMEOUT):
                self._child.read_nonblocking(4096, timeout=0.2)
        return lines

    def wait_prompt(self) -> list[str]:
        """Read until there is a new prompt in the lowest line that is written on; returns the lines of the screen."""
        return self.wait_seen(
            lambda lines: bool(lines) and re.fullmatch(PROMPT.strip(), lines[-1]) is not None, "a prompt"
        )

    def resize(self, rows: int, columns: int) -> None:
        """As one who drags the corner of its window."""
        assert self.screen is not None
        self.screen.resize(rows, columns)
        self._child.setwinsize(rows, columns)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._child.sendintr()

    def interrupt_once(self, line: str, text: str) -> str:
        """Type a line, and Ctrl-C when it has printed the text; what is printed from there until the next prompt."""
        self._child.sendline(line)
        self.read_until(text)
        self._child.sendintr()
        self._child.expect(PROMPT)
        printed: str = self._child.before
        return printed

    def exit(self, timeout: float = TIME_LIMIT) -> int | None:
        """Type `exit`; the exit code. Raises if it does not end by itself in time."""
        self._child.sendline("exit")
        self._child.expect(pexpect.EOF, timeout=timeout)
        self._child.close()
        code: int | None = self._child.exitstatus
        return code
