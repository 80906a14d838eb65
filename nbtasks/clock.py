"""The time, and the one thread that does things when their time has come.

Must know nothing of tasks: it calls what it is given.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from nbtasks.interrupts import start_thread

__all__ = ["Clock", "DrivenClock", "SystemClock", "Timer", "TimerHandle", "epoch_seconds"]

logger = logging.getLogger(__name__)

# Linux has a clock for it; on macOS it is the one that is not `time.monotonic`; elsewhere that goes on by itself.
_SLEEPLESS: int | None = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC if sys.platform == "darwin" else None)


class Clock(Protocol):
    """Tells the time: aware UTC for records, monotonic seconds for durations.

    It may also have a `time()`: the same as `now()` in seconds since 1970, and quicker, for each task asks for it.
    """

    def now(self) -> datetime:
        """The moment, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary start."""


@runtime_checkable
class DrivenClock(Clock, Protocol):
    """A clock that moves only when it is told to, and then runs what has become due (see `nbtasks.testing`)."""

    def attach(self, timer: Timer) -> None:
        """Remember a timer whose `run_due()` is to be called as the time moves on."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The moment, aware, in UTC."""
        return datetime.now(UTC)

    def elapsed(self) -> float:
        """Seconds that never go back, and go on while the machine sleeps, where the system counts them."""
        return time.clock_gettime(_SLEEPLESS) if _SLEEPLESS is not None else time.monotonic()

    # Bound as they are: each new task asks for the time.
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


def epoch_seconds(clock: Clock) -> Callable[[], float]:
    """What tells the time of `clock` in seconds since 1970."""
    time: Callable[[], float] | None = getattr(clock, "time", None)
    return time if time is not None else lambda: clock.now().timestamp()


class TimerHandle:
    """One thing to be done at its time; `cancel()` takes it back."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Do it no more, unless it is being done already. Atomic; as often as one likes."""
        self.callback = None


class Timer:
    """Calls callbacks at their monotonic time, on one daemon thread that is started by the first of them.

    Callbacks must be quick: each delays those that follow. One that raises is logged. `_condition` guards the heap, the
    thread and the closed flag; callbacks run outside it.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._condition = threading.Condition(threading.Lock())
        self._heap: list[tuple[float, int, TimerHandle]] = []
        self._numbers = itertools.count()
        self._tidy_at = 64
        self._thread: threading.Thread | None = None
        self._closed = False
        self._driven = isinstance(clock, DrivenClock)
        if isinstance(clock, DrivenClock):
            clock.attach(self)

    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        """Call `callback` when `clock.monotonic()` has reached `when`; at once, if it has. Any thread."""
        handle = TimerHandle(when, callback)
        with self._condition:
            if self._closed:
                handle.cancel()
                return handle
            if len(self._heap) >= self._tidy_at:
                self._drop_cancelled()
            heapq.heappush(self._heap, (when, next(self._numbers), handle))
            if not self._driven and self._heap[0][2] is handle:
                if self._thread is None:
                    self._thread = start_thread(self._serve, "nbtasks-timer")
                self._condition.notify()
        return handle

    def call_later(self, seconds: float, callback: Callable[[], object]) -> TimerHandle:
        """Call `callback` after `seconds`."""
        return self.call_at(self.clock.monotonic() + seconds, callback)

    def run_due(self) -> float | None:
        """Call what is due, in order; the time at which the next is due, or None if nothing waits."""
        while True:
            with self._condition:
                callback = self._pop_due()
                if callback is None:
                    return self._heap[0][0] if self._heap else None
            try:
                callback()
            except Exception:  # the next ones are not to suffer for it
                logger.exception("%r, called by the timer, failed", callback)

    def close(self) -> None:
        """Call nothing any more, and end the thread."""
        with self._condition:
            self._closed = True
            self._heap.clear()
            self._condition.notify()

    def _pop_due(self) -> Callable[[], object] | None:
        """Under the lock: take the next thing that is due, letting cancelled ones fall."""
        while self._heap:
            when, _, handle = self._heap[0]
            callback = handle.callback
            if callback is not None and when > self.clock.monotonic():
                return None
            heapq.heappop(self._heap)
            if callback is not None:
                handle.callback = None
                return callback
        return None

    def _drop_cancelled(self) -> None:
        """Under the lock: keep the heap in proportion to what waits. Its cost is spread over the calls before it."""
        self._heap = [entry for entry in self._heap if entry[2].callback is not None]
        heapq.heapify(self._heap)
        self._tidy_at = 2 * len(self._heap) + 64

    def _serve(self) -> None:
        while True:
            self.run_due()
            with self._condition:
                if self._closed:
                    return
                seconds = self._heap[0][0] - self.clock.monotonic() if self._heap else None
                if seconds is None or seconds > 0:
                    self._condition.wait(seconds if seconds is None else min(seconds, threading.TIMEOUT_MAX))
