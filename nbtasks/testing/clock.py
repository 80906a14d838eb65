"""`FakeClock`: a clock that a test drives.

Must not know what waits for its time.
"""

from __future__ import annotations

import weakref
from datetime import UTC, datetime, timedelta

from nbtasks.clock import Timer

__all__ = ["FakeClock"]

_START = datetime(2024, 1, 1, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until it is moved: `TaskManager(clock=FakeClock())`.

    Time-outs, retries and all else that waits for its time happen inside `advance`, on the thread that calls it, in
    order, each at its own moment. `start` is the aware moment at which it begins.
    """

    def __init__(self, start: datetime = _START) -> None:
        if start.tzinfo is None:
            raise ValueError(f"start must be an aware datetime, not {start!r}")
        self._start = start.astimezone(UTC)
        self._elapsed = 0.0
        self._leapt = 0.0
        self._timers: weakref.WeakSet[Timer] = weakref.WeakSet()

    def now(self) -> datetime:
        """The moment, aware, in UTC."""
        return self._start + timedelta(seconds=self._elapsed + self._leapt)

    def time(self) -> float:
        """The same moment in seconds since 1970."""
        return self.now().timestamp()

    def monotonic(self) -> float:
        """Seconds since the start; leaps do not count."""
        return self._elapsed

    def attach(self, timer: Timer) -> None:
        """Let this timer run what has become due as the time moves on."""
        self._timers.add(timer)

    def advance(self, seconds: float) -> None:
        """Let `seconds` go by."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds!r}; see `leap`")
        end = self._elapsed + seconds
        while (due := self._run_due()) is not None and due <= end:
            self._elapsed = max(self._elapsed, due)
        self._elapsed = end
        self._run_due()

    def leap(self, seconds: float) -> None:
        """Set the wall clock forward, or back, with no time going by: as by hand, or while the machine slept."""
        self._leapt += seconds

    def _run_due(self) -> float | None:
        times = [when for timer in list(self._timers) if (when := timer.run_due()) is not None]
        return min(times, default=None)
