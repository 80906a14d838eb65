"""IPython in a real pseudo-terminal: types lines, reads what is printed."""

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
    """The screen of a terminal, after everything that was written to it."""

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        import pyte  # most terminals of the tests have no screen

        self.size = (rows, columns)
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=1)
        self._stream = pyte.Stream(self._screen)

    def write(self, text: str) -> None:
        """Write to the screen; called by pexpect."""
        self._stream.feed(text)

    def flush(self) -> None:
        """Do nothing: `write` changes the screen at once."""

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the screen."""
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
    """IPython in a terminal, as a context manager; its prompts show when it is ready.

    With a `screen` the terminal can move its cursor.
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
        """Type a line or a cell; returns what is printed until the next prompt."""
        printed, lines = "", code.splitlines()
        while True:
            self._child.sendline(lines.pop(0) if lines else "")  # empty lines end a cell of several
            ready: bool = self._child.expect([CONTINUATION, PROMPT]) == 1
            printed += self._child.before
            if ready and not lines:
                return printed.replace("\r\n", "\n").strip()

    def read_until(self, text: str) -> None:
        """Wait until the text is printed, without typing anything."""
        self._child.expect_exact(text)

    def run_until(self, code: str, text: str) -> str:
        """Type a line or a cell, and wait until the text is printed; returns what is printed up to then."""
        printed = self.run(code)
        if text not in printed:
            self.read_until(text)
            printed += self._child.before + text
        return printed.replace("\r\n", "\n")

    def start(self, line: str) -> None:
        """Type a line, without waiting."""
        self._child.sendline(line)

    def wait_seen(self, seen: Callable[[list[str]], bool], what: str) -> list[str]:
        """Read until `seen` is true of the lines of the screen; returns the lines."""
        assert self.screen is not None
        deadline = time.monotonic() + TIME_LIMIT
        while not seen(lines := self.screen.lines):
            if time.monotonic() > deadline:
                raise AssertionError("\n".join([f"{what} was not seen on the screen:", *lines]))
            with contextlib.suppress(pexpect.TIMEOUT):
                self._child.read_nonblocking(4096, timeout=0.2)
        return lines

    def wait_prompt(self) -> list[str]:
        """Read until the last line of the screen is a prompt; returns the lines."""
        return self.wait_seen(
            lambda lines: bool(lines) and re.fullmatch(PROMPT.strip(), lines[-1]) is not None, "a prompt"
        )

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        assert self.screen is not None
        self.screen.resize(rows, columns)
        self._child.setwinsize(rows, columns)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._child.sendintr()

    def interrupt_once(self, line: str, text: str) -> str:
        """Type a line, and Ctrl-C when it has printed the text; returns what is printed after that."""
        self._child.sendline(line)
        self.read_until(text)
        self._child.sendintr()
        self._child.expect(PROMPT)
        printed: str = self._child.before
        return printed

    def exit(self, timeout: float = TIME_LIMIT) -> int | None:
        """Type `exit`; returns the exit code. Raises if IPython does not exit in time."""
        self._child.sendline("exit")
        self._child.expect(pexpect.EOF, timeout=timeout)
        self._child.close()
        code: int | None = self._child.exitstatus
        return code
