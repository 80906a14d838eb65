"""Whether the process that wrote a part of the history still lives: it holds a lock on a file of its own until it ends.

Must not know what is in the history. A lock is let go by the system with its process, however that ends, and nobody
else can get it before: no process is taken for dead that is only slow, or in another container.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

else:

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


__all__ = ["Life", "is_alive"]


class Life:
    """The lock of this process on the file at `path`, held from the making on until `end` or the process's own end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        try:
            _lock(self._file)
        except OSError:
            self._file.close()
            raise

    def end(self) -> None:
        """Let go, and leave no file behind."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def is_alive(path: Path, pid: int) -> bool:
    """Whether a process holds the lock at `path`; where somebody deleted the file, whether that process exists."""
    try:
        with path.open("r+b") as file:
            try:
                _lock(file)
            except OSError:
                return True
            return False
    except FileNotFoundError:
        return _exists(pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it exists, and is somebody else's
        return True
    return True
