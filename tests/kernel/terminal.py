"""IPython's terminal, real, in a pseudo-terminal: lines go in, what it prints comes out.

Must not know nbtasks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pexpect

__all__ = ["Terminal"]

TIME_LIMIT = 60
PROMPT, CONTINUATION = r"In \[\d+\]: ", r" {3,}\.\.\.: "


class Terminal:
    """One IPython in a terminal, with plain prompts, which say when it is ready. Also a context manager."""

    def __init__(self, env: Mapping[str, str], cwd: Path) -> None:
        self._child: Any = pexpect.spawn(
            sys.executable,
            ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit"],
            env={**env, "TERM": "dumb"},
            cwd=os.fspath(cwd),
            encoding="utf-8",
            timeout=TIME_LIMIT,
            dimensions=(50, 200),
            echo=False,
        )

    def __enter__(self) -> Self:
        self._child.expect(PROMPT)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._child.close(force=True)

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
