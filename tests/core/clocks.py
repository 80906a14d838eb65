"""A clock that a test moves, whose times can come apart, and backends whose work takes no time or the clock's."""

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
    """The time on the wall, monotonic time, and elapsed time, which goes on while the machine sleeps."""

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
        """Let time pass, and what becomes due happen at its moment."""
        end = self._monotonic + _seconds(seconds)
        while (when := self._run_due()) <= end:
            self._pass(when - self._monotonic)
        self._pass(end - self._monotonic)

    def sleep(self, seconds: float | timedelta) -> None:
        """The machine sleeps: nothing happens, and monotonic time stands still."""
        self._now += timedelta(seconds=_seconds(seconds))
        self._elapsed += _seconds(seconds)

    def set(self, forward: timedelta) -> None:
        """Somebody sets the clock on the wall, forward or back."""
        self._now += forward

    def _run_due(self) -> float:
        """Do what is due; when the next is."""
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
    """Runs plain work where it is started; the attempt then lasts, by the clock, as many seconds as the work returns.

    What it returns below zero lasts so long too, and fails.
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
        """End what is over; when the next one is."""
        now = self._clock.monotonic()
        for one in sorted((one for one in self.live if one[0] <= now), key=lambda one: one[0]):
            self.live.remove(one)
            self.ended.append(one[2])
            one[1].finished(one[2])
        return min((end for end, _, _ in self.live), default=None)

    def interrupt(self, attempt: Attempt) -> None:
        """Nothing: it goes on to its end."""

    def close(self) -> None:
        """Nothing to let go."""


def wait_until(holds: Callable[[], object], seconds: float = 30) -> None:
    """Look again and again, for what no event tells."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.002)
