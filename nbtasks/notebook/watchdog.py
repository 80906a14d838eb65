"""Watchdog process: terminates programs of background cells after the kernel.

Such programs are in process groups of their own, which neither an interrupt nor the end of the kernel reaches. The
watchdog is this file, run by itself: it imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import select
import signal
import subprocess
import sys
import threading
import time

__all__ = ["Watchdog"]

GRACE_SECONDS = 2.0
"""How long a program may take to end after it was terminated, before it is killed."""
_CHECK_SECONDS = 1.0
_POLL_SECONDS = 0.02


class Watchdog:
    """Starts the watchdog with the first program.

    Any thread may call it, a worker thread only if shielded.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the process
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """End this process group with this process."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                # In an empty context: it is no program of the task.
                self._process = contextvars.Context().run(_start)
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it was killed
                self._process.stdin.write(b"%d\n" % group)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(os.getpid())],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def main() -> None:
    """Wait until the process whose id is given has ended, then end the groups whose ids came on stdin."""
    groups = _groups_at_end_of(int(sys.argv[1]))
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 0.0)):
        for group in groups:
            _signal(group, number)
            _signal(group, signal.SIGCONT)
        end = time.monotonic() + seconds
        while (groups := {group for group in groups if _signal(group, 0)}) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)


def _groups_at_end_of(parent: int) -> set[int]:
    groups: set[int] = set()
    rest = b""
    while True:
        ended = os.getppid() != parent  # also checked, as a forked child may hold the pipe open
        if select.select([0], [], [], 0 if ended else _CHECK_SECONDS if groups else None)[0]:
            read = os.read(0, 65536)  # also after the end: that may come before this process has begun
            if not read:
                break
            *lines, rest = (rest + read).split(b"\n")
            groups.update(map(int, lines))
        elif ended:
            break
        else:
            groups = {group for group in groups if _signal(group, 0)}
    return groups


def _signal(group: int, number: int) -> bool:
    """Send a signal to a process group; False if there is no such group."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
