"""Lets other threads have the interpreter while coroutines keep a loop busy.

A thread that waits for the interpreter asks for it once a whole switch interval has passed without a release. A loop
that turns every fraction of a millisecond releases it at each turn, for some microseconds, and has it back before the
other is awake: panels, output and threads stood still for as long as five seconds.

Must not know what runs on the loop.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from weakref import WeakKeyDictionary

__all__ = ["Breather", "breathing"]

BREATH_SECONDS = 0.0002
"""Long enough for another thread to wake up, and for those that wait behind it."""
_BUSY_SECONDS = 0.02
"""From one breath to the next: it costs a hundredth of the loop's time, and others come fifty times a second."""
_IDLE_SECONDS = 0.25
"""How soon a loop that has had time to spare is looked at again."""

_breathers: WeakKeyDictionary[asyncio.AbstractEventLoop, Breather] = WeakKeyDictionary()


def breathing(loop: asyncio.AbstractEventLoop) -> Breather:
    """While one is within this, others get their turn if `loop`, on whose thread it is entered, is busy."""
    breather = _breathers.get(loop)
    if breather is None:
        breather = _breathers[loop] = Breather(loop)
    return breather


class Breather:
    """Looks now and then how busy the thread of a loop is. All of it happens on that thread; see `breathing`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._within = 0
        self._looks = False
        self._at = self._spent = 0.0

    def __enter__(self) -> None:
        self._within += 1
        if not self._looks:
            self._looks = True
            self._look_after(_BUSY_SECONDS)

    def __exit__(self, *_: object) -> None:
        self._within -= 1

    def _look(self) -> None:
        if not self._within:
            self._looks = False
            return
        is_busy = time.thread_time() - self._spent > (time.monotonic() - self._at) / 2
        if is_busy:
            time.sleep(BREATH_SECONDS)
        self._look_after(_BUSY_SECONDS if is_busy else _IDLE_SECONDS)

    def _look_after(self, seconds: float) -> None:
        loop = self._loop()
        if loop is not None:
            self._at, self._spent = time.monotonic(), time.thread_time()
            loop.call_later(seconds, self._look)
