"""GIL fairness: let other threads run while coroutines keep an event loop busy.

A thread that waits for the GIL requests it once a whole switch interval has passed without a release. A loop that
iterates every fraction of a millisecond releases it in each iteration, for some microseconds, and has it back before
the other thread is awake: panels, output and threads stood still for up to five seconds.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref

__all__ = ["GilYielder", "yielding_gil"]

YIELD_SECONDS = 0.0002
"""Long enough for another thread to wake up, and for those that wait behind it."""
_BUSY_SECONDS = 0.02
"""Between two pauses of a busy loop: they cost a hundredth of its time, and others run fifty times a second."""
_BUSY_SHARE = 0.04
"""A loop is busy if it uses more of one core. Where other programs compute, one that never waits gets little more."""
_IDLE_SECONDS = 0.25
"""Between two checks of a loop that was not busy."""


class _LastUsed(threading.local):
    yielder: GilYielder | None = None


_last_used = _LastUsed()


def yielding_gil(loop: asyncio.AbstractEventLoop) -> GilYielder:
    """Context manager: pause `loop`, on whose thread it is entered, now and then while it is busy."""
    yielder = _last_used.yielder
    if yielder is None or yielder.loop() is not loop:
        yielder = _last_used.yielder = GilYielder(loop)
    return yielder


class GilYielder:
    """Sleeps briefly on the thread of a loop if it is busy. See `yielding_gil`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        self._entered = 0
        self._checked_at = self._cpu_at_check = 0.0
        self.is_checking = False
        """Whether a check is scheduled."""

    def __enter__(self) -> None:
        self._entered += 1
        if not self.is_checking:
            self.is_checking = True
            self._check_after(_BUSY_SECONDS)

    def __exit__(self, *_: object) -> None:
        self._entered -= 1

    def _check(self) -> None:
        if not self._entered:
            self.is_checking = False
            return
        is_busy = time.thread_time() - self._cpu_at_check > (time.monotonic() - self._checked_at) * _BUSY_SHARE
        if is_busy:
            time.sleep(YIELD_SECONDS)
        self._check_after(_BUSY_SECONDS if is_busy else _IDLE_SECONDS)

    def _check_after(self, seconds: float) -> None:
        loop = self.loop()
        if loop is not None:
            self._checked_at, self._cpu_at_check = time.monotonic(), time.thread_time()
            loop.call_later(seconds, self._check)
