"""How a task gets on, in words: its rate, the time left, nested loops, attempts and children.

Knows nothing of widgets.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from nbtasks.dependencies import live_children
from nbtasks.progress import Meter, meters_of
from nbtasks.states import TaskState
from nbtasks.task import Task

__all__ = ["Pace", "attempt_text", "children_text", "count_text", "process_text", "rate_text", "reading"]

LOOPS = 4
"""How many nested loops are told at most."""
FIRST_SECONDS = 1.0
"""Sooner after the start, progress that is set by hand says nothing of how long the rest will take."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a running task goes. What cannot be told is empty or None."""

    rate: str = ""
    left: int | None = None
    """Whole seconds."""
    loops: str = ""
    progress: float | None = None
    """That of the loop which drives the task: as it is now, where the task's own is told now and then."""

    @classmethod
    def of(cls, task: Task) -> Pace:
        """That of `task` now."""
        now, meters = time.monotonic(), meters_of(task)[:LOOPS]
        told = " · ".join(count_text(meter) for meter in meters)
        # One loop whose length is known and that has no name says no more than the bar does.
        if len(meters) == 1 and meters[0].total and not meters[0].description:
            told = ""
        driver = next((meter for meter in meters if meter.total), None)
        inner = meters[-1] if meters else None
        rate = None if inner is None else inner.rate(now)
        left = _seconds_left(task) if driver is None else driver.seconds_left(now)
        return cls(
            "" if rate is None or inner is None else rate_text(rate, inner.unit),
            None if left is None or left > 1e9 else round(left),
            told,
            None if driver is None or not driver.total else min(100.0, 100.0 * driver.count / driver.total),
        )


def reading(task: Task) -> tuple[object, ...]:
    """What the work itself tells of how far it is: two that are equal say the same. Quick to take."""
    counts = [meter.count for meter in meters_of(task)] if task.state is TaskState.RUNNING else None
    return (task.progress, task.heading, task.body, id(task.img), task.cancelling, counts)


def count_text(meter: Meter) -> str:
    """Where a loop is: "epoch 3/10", or "1,234 it" where its length is unknown."""
    count = f"{meter.count:,.10g}"
    words = f"{count}/{meter.total:,.10g}" if meter.total else f"{count} {meter.unit}"
    return f"{meter.description} {words}" if meter.description else words


def rate_text(rate: float, unit: str) -> str:
    """The rate in words: "33 file/s", or "2.1 s/file" where one takes longer; two digits, so that it stands still."""
    if rate >= 1:
        return f"{_two_digits(rate)} {unit}/s"
    return f"{_two_digits(1 / rate)} s/{unit}"


def attempt_text(task: Task) -> str:
    """Which one it is in, "attempt 2 of 3", once there was a first that failed and may be followed by another."""
    waits = task.state is TaskState.PENDING
    if task.retry is None or task.attempts + waits < 2:
        return ""
    return f"attempt {task.attempts + waits} of {task.retry.attempts}"


def process_text(task: Task) -> str:
    """What the process that the task runs in uses, if it is not this one: "process 1234: 94 MB, 0.6 s of CPU"."""
    attempt = task.internals.attempt
    text: str = "" if attempt is None else attempt.backend.usage(attempt)
    return text


def children_text(task: Task) -> str:
    """Its children that run, wait or have failed: "2 running, 1 failed"."""
    counts = Counter(child.state.value for child in live_children(task))
    return ", ".join(f"{counts[state]:,} {state}" for state in ("running", "pending") if counts[state])


def _seconds_left(task: Task) -> float | None:
    """From progress that was set by hand, as if it grew evenly."""
    start, progress = task.internals.started_at, task.progress
    elapsed = 0.0 if start is None else time.time() - start
    if not progress or elapsed < FIRST_SECONDS:
        return None
    return elapsed * (100.0 - progress) / progress


def _two_digits(value: float) -> str:
    if value < 10:
        return f"{value:.1f}"
    scale = 10 ** max(0, len(str(int(value))) - 2)
    return f"{int(value / scale) * scale:,}"
