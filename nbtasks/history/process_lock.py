"""File locks by which one process sees whether another is still running.

The system releases the lock when the process ends, however that happens, and no other process can acquire it before: a
process that is only slow, or in another container, is not taken for dead.
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


__all__ = ["ProcessLock", "is_alive"]


class ProcessLock:
    """A lock on a file, held until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        try:
            _lock(self._file)
        except OSError:
            self._file.close()
            raise

    def release(self) -> None:
        """Release the lock and delete the file."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def is_alive(path: Path, pid: int) -> bool:
    """Whether a process holds the lock at `path`; if there is no file, whether the process exists."""
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
    except (OSError, OverflowError):  # it exists, and belongs to another user
        return True
    return True
