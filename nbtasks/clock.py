"""Clocks, and the timer: one thread that calls callbacks at their time."""

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

# The clock that counts while the machine sleeps. On macOS it is the one that `time.monotonic` does not use; on Windows
# `time.monotonic` itself counts then.
_COUNTS_SLEEP: int | None = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC if sys.platform == "darwin" else None)


class Clock(Protocol):
    """A source of time: aware UTC for records, monotonic seconds for durations.

    It may also have a method `time()`, which returns `now()` in seconds since 1970. It is read for each new task.
    """

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""


@runtime_checkable
class DrivenClock(Clock, Protocol):
    """A clock that a test moves, and that then runs due timers (`nbtasks.testing`)."""

    def attach(self, timer: Timer) -> None:
        """Call `timer.run_due()` whenever the clock is moved."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return datetime.now(UTC)

    def elapsed(self) -> float:
        """Return seconds that never go back, sleep of the machine included where the system counts it."""
        return time.clock_gettime(_COUNTS_SLEEP) if _COUNTS_SLEEP is not None else time.monotonic()

    # Without a wrapper: they are called for each new task.
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


def epoch_seconds(clock: Clock) -> Callable[[], float]:
    """Return a function that returns the time of `clock` in seconds since 1970."""
    time: Callable[[], float] | None = getattr(clock, "time", None)
    return time if time is not None else lambda: clock.now().timestamp()


class TimerHandle:
    """A callback of the timer and its time."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Do not call the callback, unless it is running already. Atomic and idempotent."""
        self.callback = None


class Timer:
    """Calls callbacks at their monotonic time, on one daemon thread.

    The first callback starts the thread. Callbacks must be quick, because each delays the next ones. Their errors are
    logged. `_condition` guards the heap, the thread and the closed flag; callbacks run outside it.
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
        """Call `callback` once `clock.monotonic()` has reached `when`. Any thread."""
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
        """Call the due callbacks in order; return the time of the next one, or None."""
        while True:
            with self._condition:
                callback = self._pop_due()
                if callback is None:
                    return self._heap[0][0] if self._heap else None
            try:
                callback()
            except BaseException:  # the next ones are called all the same
                logger.exception("%r, called by the timer, failed", callback)

    def close(self) -> None:
        """Call no more callbacks, and end the thread."""
        with self._condition:
            self._closed = True
            self._heap.clear()
            self._condition.notify()

    def _pop_due(self) -> Callable[[], object] | None:
        """Under the lock: take the next due callback, and drop cancelled ones before it."""
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
        """Under the lock: drop cancelled entries, at amortized constant cost for each call."""
        self._heap = [entry for entry in self._heap if entry[2].callback is not None]
        heapq.heapify(self._heap)
        self._tidy_at = 2 * len(self._heap) + 64

    def _serve(self) -> None:
        while True:
            try:
                self.run_due()
            except Exception:  # what is due stays due
                logger.exception("the timer failed")
            with self._condition:
                if self._closed:
                    return
                seconds = self._heap[0][0] - self.clock.monotonic() if self._heap else None
                if seconds is None or seconds > 0:
                    self._condition.wait(seconds if seconds is None else min(seconds, threading.TIMEOUT_MAX))
