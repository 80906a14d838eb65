"""`FakeClock`: a clock that a test moves."""

from __future__ import annotations

import weakref
from datetime import UTC, datetime, timedelta

from nbtasks.clock import Timer

__all__ = ["FakeClock"]

_START = datetime(2024, 1, 1, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until it is moved: `TaskManager(clock=FakeClock())`.

    Timeouts, retries and all other timer callbacks run inside `advance`, on the thread that calls it, in order, each
    at its own time. `start` is the aware time at which the clock begins.
    """

    def __init__(self, start: datetime = _START) -> None:
        if start.tzinfo is None:
            raise ValueError(f"start must be an aware datetime, not {start!r}")
        self._start = start.astimezone(UTC)
        self._elapsed = 0.0
        self._leapt = 0.0
        self._timers: weakref.WeakSet[Timer] = weakref.WeakSet()

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return self._start + timedelta(seconds=self._elapsed + self._leapt)

    def time(self) -> float:
        """Return the current time in seconds since 1970."""
        return self.now().timestamp()

    def monotonic(self) -> float:
        """Return the seconds since the start, without leaps."""
        return self._elapsed

    def attach(self, timer: Timer) -> None:
        """Run the due callbacks of this timer whenever the clock advances."""
        self._timers.add(timer)

    def advance(self, seconds: float) -> None:
        """Move the time forward, and run the callbacks that become due."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds!r}; see `leap`")
        end = self._elapsed + seconds
        while (due := self._run_due()) is not None and due <= end:
            self._elapsed = max(self._elapsed, due)
        self._elapsed = end
        self._run_due()

    def leap(self, seconds: float) -> None:
        """Set the wall clock forward or back without advancing: as by hand, or by sleep of the machine."""
        self._leapt += seconds

    def _run_due(self) -> float | None:
        times = [when for timer in list(self._timers) if (when := timer.run_due()) is not None]
        return min(times, default=None)
