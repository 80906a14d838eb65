"""A clock that tests move, and backends whose work takes no time or the clock's."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from nbtasks.backends.base import Attempt, Backend
from nbtasks.clock import Timer
from nbtasks.states import TaskState
from nbtasks.task import Outcome

START = datetime(2024, 1, 1, tzinfo=UTC)


class MovedClock:
    """Wall time, monotonic time, and elapsed time with the machine's sleep."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic = 1_000.0
        self._elapsed = 5_000.0
        self._timers: list[Timer] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def elapsed(self) -> float:
        return self._elapsed

    def attach(self, timer: Timer) -> None:
        self._timers.append(timer)

    def advance(self, seconds: float | timedelta) -> None:
        """Move all times forward, and run due callbacks at their time."""
        end = self._monotonic + _seconds(seconds)
        while (when := self._run_due()) <= end:
            self._pass(when - self._monotonic)
        self._pass(end - self._monotonic)

    def sleep(self, seconds: float | timedelta) -> None:
        """The machine sleeps: no callback runs, and monotonic time stands still."""
        self._now += timedelta(seconds=_seconds(seconds))
        self._elapsed += _seconds(seconds)

    def set(self, forward: timedelta) -> None:
        """Set the wall clock forward or back, as a user may."""
        self._now += forward

    def _run_due(self) -> float:
        """Run due callbacks; return the time of the next one."""
        return min((when for timer in self._timers if (when := timer.run_due()) is not None), default=float("inf"))

    def _pass(self, seconds: float) -> None:
        self._monotonic += seconds
        self._elapsed += seconds
        self._now += timedelta(seconds=seconds)


def _seconds(span: float | timedelta) -> float:
    return span.total_seconds() if isinstance(span, timedelta) else span


class InlineBackend(Backend):
    """Runs plain work in the thread that starts it."""

    name: ClassVar[str] = "inline"

    def start(self, attempt: Attempt) -> None:
        try:
            outcome = Outcome(TaskState.COMPLETED, attempt.context.run(attempt.function, *attempt.args))
        except Exception as error:
            outcome = Outcome(TaskState.FAILED, None, error)
        attempt.finished(outcome)

    def interrupt(self, attempt: Attempt) -> None:
        """Nothing: work is over before anybody can ask."""

    def close(self) -> None:
        """Nothing to let go."""


class LastingBackend(Backend):
    """Runs plain work at once; its attempt ends later, by the clock.

    The work returns the duration in seconds. If it is negative, the attempt takes that long and fails.
    """

    name: ClassVar[str] = "lasting"

    def __init__(self, clock: MovedClock) -> None:
        self.live: list[tuple[float, Attempt, Outcome]] = []
        self.ended: list[Outcome] = []
        self._clock = clock
        clock.attach(self)  # type: ignore[arg-type]  # it has what the clock asks of a timer

    def start(self, attempt: Attempt) -> None:
        seconds = attempt.context.run(attempt.function, *attempt.args)
        error = ValueError("no data") if seconds < 0 else None
        outcome = Outcome(TaskState.FAILED if error else TaskState.COMPLETED, None, error)
        self.live.append((self._clock.monotonic() + abs(seconds), attempt, outcome))

    def run_due(self) -> float | None:
        """End attempts whose time is over; return the time of the next one."""
        now = self._clock.monotonic()
        for one in sorted((one for one in self.live if one[0] <= now), key=lambda one: one[0]):
            self.live.remove(one)
            self.ended.append(one[2])
            one[1].finished(one[2])
        return min((end for end, _, _ in self.live), default=None)

    def interrupt(self, attempt: Attempt) -> None:
        """Do nothing: the attempt lasts until its end."""

    def close(self) -> None:
        """Nothing to let go."""


def wait_until(holds: Callable[[], object], seconds: float = 30) -> None:
    """Look again and again, for what no event tells."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.002)
