"""How late fires are, beside a bare timer thread that calls the same work itself.

Lateness is from the time of the schedule, by the wall clock, to the first line of the work.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from benchmarks.rows import Row, in_turns
from nbtasks import TaskManager
from nbtasks.schedules import IntervalSchedule

MICRO = 1e6
PERIOD = 0.1
FIRES = 25
ROUNDS = 5
SCHEDULES = 10_000
LONG_PERIOD = 100.0


class _Fires:
    """Notes the moments at which work began, until there are enough."""

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self._over = threading.Event()
        self.late: list[float] = []

    def note(self, late: float) -> None:
        self.late.append(late)
        if len(self.late) >= self._enough:
            self._over.set()

    def median(self) -> float:
        self._over.wait()
        return MICRO * statistics.median(self.late[: self._enough])


def _ours_alone(manager: TaskManager) -> float:
    fires = _Fires(FIRES)
    anchor = time.time()

    def work() -> None:
        fires.note((time.time() - anchor) % PERIOD)

    schedule = IntervalSchedule(timedelta(seconds=PERIOD), datetime.fromtimestamp(anchor, UTC))
    recurring = manager.add_recurring_task(schedule, work)
    late = fires.median()
    recurring.remove()
    return late


def _bare_alone() -> float:
    fires = _Fires(FIRES)
    never = threading.Event()
    anchor = time.time()

    def serve() -> None:
        due = anchor
        while len(fires.late) < FIRES:
            due += PERIOD
            never.wait(max(0.0, due - time.time()))
            fires.note((time.time() - anchor) % PERIOD)

    threading.Thread(target=serve).start()
    return fires.median()


@contextlib.contextmanager
def _busy_thread() -> Iterator[None]:
    """A thread that computes in Python all the while."""
    over = False

    def compute() -> None:
        while not over:
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        over = True
        thread.join()


def lateness_idle() -> Iterator[Row]:
    """Of a schedule that is alone."""
    with TaskManager() as manager:
        measured = in_turns(lambda: _ours_alone(manager), _bare_alone, ROUNDS)
    # Both are far below what a user of schedules notices, who counts in seconds.
    yield Row("a fire is late, idle", *measured, beside="bare timer thread", at_most=8.0)


def lateness_beside_a_busy_thread() -> Iterator[Row]:
    """Of a schedule whose interpreter is busy: each side waits for its turn."""
    with _busy_thread(), TaskManager() as manager:
        measured = in_turns(lambda: _ours_alone(manager), _bare_alone, ROUNDS)
    yield Row("a fire is late, beside a CPU-bound thread", *measured, beside="bare timer thread", at_most=1.2)


def _moments() -> list[float]:
    """When each of many schedules fires first; about a hundred of them fire each second."""
    now, rng = time.time(), random.Random(0)
    return [now + 2.0 + LONG_PERIOD * rng.random() for _ in range(SCHEDULES)]


def _ours_of_many() -> float:
    fires = _Fires(SCHEDULES // 50)

    def work_of(due: float) -> Callable[[], None]:
        return lambda: fires.note(time.time() - due)

    with TaskManager() as manager:
        for due in _moments():
            anchor = datetime.fromtimestamp(due, UTC)
            manager.add_recurring_task(IntervalSchedule(timedelta(seconds=LONG_PERIOD), anchor), work_of(due))
        return fires.median()


def _bare_of_many() -> float:
    fires = _Fires(SCHEDULES // 50)
    never = threading.Event()
    heap = _moments()
    heapq.heapify(heap)

    def serve() -> None:
        while len(fires.late) < SCHEDULES // 50:
            due = heapq.heappop(heap)
            never.wait(max(0.0, due - time.time()))
            fires.note(time.time() - due)
            heapq.heappush(heap, due + LONG_PERIOD)

    threading.Thread(target=serve).start()
    return fires.median()


def lateness_with_ten_thousand_schedules() -> Iterator[Row]:
    """Of the fires of ten thousand schedules, a hundred a second."""
    yield Row(
        "a fire is late, 10,000 schedules",
        *in_turns(_ours_of_many, _bare_of_many, 3),
        beside="bare timer thread",
        at_most=8.0,
    )


ROWS = [lateness_idle, lateness_beside_a_busy_thread, lateness_with_ten_thousand_schedules]
