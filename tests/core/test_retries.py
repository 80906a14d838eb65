"""Retries, and timeouts of each attempt."""

from __future__ import annotations

import random
import threading
from datetime import timedelta
from typing import Any

import pytest

from nbtasks import EventType, Retry, Task, TaskCancelledError, TaskManager, TaskTimeoutError
from nbtasks import exceptions as errors
from nbtasks.testing import EventRecorder, FakeClock
from tests.core.clocks import wait_until


class Flaky:
    """Work that fails `times` times."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self.calls = 0
        self._times = times
        self._error = error or ConnectionError("no such luck")

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error
        return f"call {self.calls}"


# -- retries ------------------------------------------------------------------------------------------------------


def test_a_retry_is_a_new_attempt_of_the_same_task(manager: TaskManager) -> None:
    with EventRecorder(manager) as recorder:
        task = manager.create_task("t", Flaky(2), retry=Retry(attempts=3, delay=0.001))
        assert task.wait(30) == "call 3" and task.attempts == 3 and task.exception is None
        recorder.wait_for("completed", task)
        received = [event.value for event in recorder.of(task)]
        assert received == ["created", "started", "retrying", "started", "retrying", "started", "completed"]
    assert manager.list_tasks() == [task]


def test_the_last_attempts_error_is_the_tasks(manager: TaskManager) -> None:
    work = Flaky(5)
    task = manager.create_task("t", work, retry=Retry(attempts=2, delay=0.001))
    with pytest.raises(ConnectionError, match="no such luck"):
        task.wait(30)
    assert (task.state, task.attempts, work.calls) == ("failed", 2, 2)


def test_only_the_errors_that_are_named_are_retried(manager: TaskManager) -> None:
    policy = Retry(attempts=3, delay=0.001, on=(OSError, KeyError))
    for error, calls in ((ConnectionError(), 2), (KeyError("x"), 2), (ValueError(), 1)):
        work = Flaky(1, error)
        task = manager.create_task("t", work, retry=policy)
        manager.wait(task, timeout=30)
        assert (work.calls, task.state.value) == (calls, "completed" if calls == 2 else "failed")


def test_coroutine_functions_are_retried(manager: TaskManager) -> None:
    work = Flaky(1)

    async def later() -> str:
        return work()

    assert manager.create_task("t", later, retry=Retry(attempts=2, delay=0.001)).wait(30) == "call 2"


def test_the_waits_before_retries_grow_by_the_backoff() -> None:
    clock = FakeClock()
    with TaskManager(clock=clock) as manager, EventRecorder(manager) as recorder:
        task = manager.create_task("t", Flaky(3), retry=Retry(attempts=4, delay=10, backoff=3))
        started = []
        for attempt, seconds in enumerate((10, 30, 90), 1):
            wait_until(lambda attempt=attempt: recorder.of(task).count(EventType.RETRYING) == attempt)
            started.append(task.started_at)
            clock.advance(seconds - 0.1)
            assert (task.state, task.attempts) == ("pending", attempt)
            clock.advance(0.1)
        assert task.wait(30) == "call 4"
        gaps = [b - a for a, b in zip(started, [*started[1:], task.started_at], strict=True)]
        assert [gap.total_seconds() for gap in gaps] == [10, 30, 90]


def test_jitter_adds_a_random_share() -> None:
    policy = Retry(delay=1, backoff=1, jitter=2)
    waits = [policy.seconds_before_next(1, random.Random(seed)) for seed in range(100)]
    assert min(waits) >= 1 and max(waits) <= 3 and max(waits) - min(waits) > 1


@pytest.mark.parametrize("backoff", [2, 2.0, 1e200, 10**300])
def test_a_delay_grows_to_the_longest_one_and_no_further(backoff: float) -> None:
    policy, rng = Retry(attempts=5_000, delay=1.0, backoff=backoff), random.Random(0)
    waits = [policy.seconds_before_next(made, rng) for made in (1, 2, 1_024, 1_025, 4_999, 10**9)]
    assert waits == [1.0, min(backoff, 3600.0), *[3600.0] * 4]
    assert Retry(backoff=backoff, max_delay=5).seconds_before_next(1_100, rng) == 5.0


def test_no_delay_stays_none_and_a_long_one_stays_long() -> None:
    rng = random.Random(0)
    assert Retry(attempts=5_000, delay=0).seconds_before_next(4_999, rng) == 0.0
    assert [Retry(delay=7200).seconds_before_next(made, rng) for made in (1, 1_100)] == [7200.0, 7200.0]


def test_more_attempts_than_a_float_can_double(manager: TaskManager) -> None:
    work = Flaky(10_000)
    task = manager.create_task("poll", work, retry=Retry(attempts=1_100, delay=0.0))
    with pytest.raises(ConnectionError):
        task.wait(60)
    assert (work.calls, task.state, task.attempts) == (1_100, "failed", 1_100)
    assert manager.create_task("next", lambda: 42).wait(30) == 42


def test_a_task_that_waits_for_its_retry_takes_no_slot_and_says_why_it_waits(manager: TaskManager) -> None:
    with EventRecorder(manager) as recorder:
        task = manager.create_task("t", Flaky(1), retry=Retry(attempts=2, delay=3600), lane="single")
        recorder.wait_for("retrying", task)
        assert (task.state, task.error) == ("pending", "ConnectionError: no such luck")
        assert manager.create_task("next", lambda: 1, lane="single").wait(30) == 1
        assert task.cancel() is True and task.state == "cancelled"
    with pytest.raises(TaskCancelledError):
        task.wait(30)


def test_a_cancelled_attempt_is_not_retried(manager: TaskManager) -> None:
    inside = threading.Event()

    def work() -> None:
        inside.set()
        while True:
            pass

    task = manager.create_task("t", work, retry=Retry(attempts=3, delay=0.001, on=BaseException))
    assert inside.wait(30)
    task.cancel()
    manager.wait(task, timeout=30)
    assert (task.state, task.attempts) == ("cancelled", 1)


def test_progress_starts_again_with_each_attempt(manager: TaskManager) -> None:
    seen: list[float | None] = []

    def work(task: Task) -> None:
        seen.append(task.progress)
        task.progress = 50
        if len(seen) == 1:
            raise ConnectionError

    manager.create_task("t", work, retry=Retry(attempts=2, delay=0.001)).wait(30)
    assert seen == [None, None]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"attempts": 0}, "attempts must be a whole number from 1 on, not 0"),
        ({"attempts": True}, "not True"),
        ({"attempts": 2.5}, r"not 2\.5"),
        ({"delay": -1}, "delay must be a number from 0 on, not -1"),
        ({"delay": "1s"}, "not '1s'"),
        ({"backoff": 0.5}, r"backoff must be a number from 1 on, not 0\.5"),
        ({"jitter": float("inf")}, "jitter must be a number from 0 on, not inf"),
        ({"max_delay": -1}, "max_delay must be a number from 0 on, not -1"),
        ({"delay": 10**400}, "delay must be a number from 0 on, not 1000"),
        ({"on": "OSError"}, "on must name exception classes, not 'OSError'"),
        ({"on": (OSError, 5)}, "not 5"),
    ],
)
def test_a_policy_that_makes_no_sense_is_a_named_error(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.RetryError, match=says):
        Retry(**fields)


# -- time-outs ----------------------------------------------------------------------------------------------------


def endless() -> None:
    while True:
        pass


@pytest.mark.parametrize("timeout", [0.02, timedelta(milliseconds=20)])
def test_a_time_out_fails_the_attempt(manager: TaskManager, timeout: float | timedelta) -> None:
    task = manager.create_task("slow", endless, timeout=timeout)
    with pytest.raises(TaskTimeoutError, match=r"'slow' ran longer than its timeout of 0\.02 s"):
        task.wait(30)
    assert task.state == "failed" and isinstance(task.exception, TimeoutError)


async def test_a_time_out_fails_a_coroutine(manager: TaskManager) -> None:
    import asyncio

    with pytest.raises(TaskTimeoutError):
        await manager.create_task("slow", asyncio.sleep(3600), timeout=0.02)


def test_a_time_out_counts_from_the_start(gate: threading.Event) -> None:
    clock = FakeClock()
    with TaskManager(clock=clock) as manager:
        manager.create_task("blocks", gate.wait, lane="single")
        task = manager.create_task("waits", lambda: 1, lane="single", timeout=5)
        clock.advance(3600)
        assert task.state == "pending"
        gate.set()
        assert task.wait(30) == 1


def test_each_attempt_has_the_whole_time_and_a_time_out_is_retried(gate: threading.Event) -> None:
    clock = FakeClock()
    begun: list[float] = []

    def work() -> str:
        begun.append(clock.monotonic())
        if len(begun) == 1:
            endless()
        gate.wait(30)
        return "in time"

    with TaskManager(clock=clock) as manager, EventRecorder(manager) as recorder:
        task = manager.create_task("t", work, timeout=60, retry=Retry(attempts=2, delay=10, on=TimeoutError))
        wait_until(lambda: len(begun) == 1)
        clock.advance(60)
        recorder.wait_for("retrying", task)
        clock.advance(10)
        wait_until(lambda: len(begun) == 2)
        clock.advance(59)
        gate.set()
        assert task.wait(30) == "in time" and begun == [0, 70]


def test_a_time_out_that_the_work_swallows_has_not_stopped_it() -> None:
    clock, begun = FakeClock(), threading.Event()

    def stubborn() -> str:
        try:
            begun.set()
            endless()
        except BaseException:
            return "finished all the same"

    with TaskManager(clock=clock) as manager:
        task = manager.create_task("t", stubborn, timeout=5)
        assert begun.wait(60)  # a busy machine may take longer than a short timeout to begin
        clock.advance(5)
        assert task.wait(60) == "finished all the same"


def test_a_cancel_before_the_time_out_is_a_cancel(manager: TaskManager) -> None:
    task = manager.create_task("t", endless, timeout=3600)
    task.cancel()
    manager.wait(task, timeout=30)
    assert task.state == "cancelled"
