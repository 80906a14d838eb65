"""`nbtasks.testing`: the check of backends, the fake clock, the event recorder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from nbtasks import EventType, TaskManager, TaskTimeoutError, WaitTimeoutError
from nbtasks.backends.base import Attempt, Backend
from nbtasks.backends.loop import LoopBackend
from nbtasks.backends.process import ProcessBackend
from nbtasks.backends.thread import ThreadBackend
from nbtasks.exceptions import InvalidValueError
from nbtasks.states import TaskState
from nbtasks.task import Outcome
from nbtasks.testing import BACKEND_CHECKS, EventRecorder, FakeClock, check_backend
from tests.core.clocks import wait_until

BUSY_MACHINE = 60.0
"""Patience for our own backends: the start of a worker process takes long while other programs compute."""

# -- backends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", BACKEND_CHECKS)
@pytest.mark.parametrize(
    ("make_backend", "coroutines"),
    [
        (ThreadBackend, False),
        (ThreadBackend, True),
        (LoopBackend, True),
        (ProcessBackend, False),
        (ProcessBackend, True),
    ],
    ids=["thread", "thread-coroutines", "loop", "process", "process-coroutines"],
)
def test_our_backends_pass_the_check(make_backend: Callable[[], Backend], coroutines: bool, check: str) -> None:
    check_backend(make_backend, coroutines=coroutines, checks=[check], patience=BUSY_MACHINE)


class Deaf(ThreadBackend):
    """Interrupts nothing."""

    def interrupt(self, attempt: Attempt) -> None:
        attempt.interrupted = True


class Hasty(ThreadBackend):
    """Says that work has stopped as soon as it was asked to."""

    def interrupt(self, attempt: Attempt) -> None:
        super().interrupt(attempt)
        attempt.finished(Outcome(TaskState.CANCELLED))


class Forgetful(ThreadBackend):
    """Loses results, errors and what is current."""

    def start(self, attempt: Attempt) -> None:
        def run() -> None:
            with suppress(BaseException):
                attempt.function(*attempt.args)
            attempt.finished(Outcome(TaskState.COMPLETED))

        threading.Thread(target=run, daemon=True).start()


@pytest.mark.parametrize(
    ("make_backend", "check", "says"),
    [
        (Forgetful, "results", "work that returned 7 gave None"),
        (Forgetful, "errors", "work that raised ended as Outcome.*'completed'"),
        (Forgetful, "progress", "half way"),
        (Forgetful, "retries", "after 1 attempts"),
        (Deaf, "interrupts", "'linger' was never reported as finished"),
        (Deaf, "early_interrupts", "'linger' was never reported as finished"),
        (Hasty, "slow_cancels", "while its work cleaned up after a cancel, it was .*: cancelled"),
    ],
)
def test_a_backend_that_does_less_does_not_pass(make_backend: Callable[[], Backend], check: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_backend(make_backend, checks=[check], patience=0.5)


def test_a_check_that_there_is_not_is_a_named_error() -> None:
    with pytest.raises(InvalidValueError, match=r"unknown check of backends 'speed'.*results"):
        check_backend(ThreadBackend, checks=["speed"])


# -- the driven clock ---------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def manager(clock: FakeClock) -> Iterator[TaskManager]:
    with TaskManager(clock=clock) as manager:
        yield manager


def test_the_time_of_a_driven_clock_passes_when_it_is_told_to(clock: FakeClock) -> None:
    before = clock.now()
    clock.advance(90)
    assert (clock.now() - before).total_seconds() == clock.monotonic() == 90
    clock.leap(-3600)
    assert (clock.now() - before).total_seconds() == 90 - 3600 and clock.monotonic() == 90
    assert clock.time() == clock.now().timestamp()


def test_a_driven_clock_takes_neither_naive_times_nor_steps_back(clock: FakeClock) -> None:
    with pytest.raises(ValueError, match=r"aware datetime, not datetime\.datetime\(2024, 1, 1"):
        FakeClock(datetime(2024, 1, 1))  # noqa: DTZ001 - the value that is refused
    with pytest.raises(ValueError, match="time does not go back: -1"):
        clock.advance(-1)


def test_records_have_the_time_of_the_managers_clock(manager: TaskManager, clock: FakeClock) -> None:
    clock.advance(60)
    task = manager.create_task("t", lambda: 1)
    task.wait(30)
    moment = datetime(2024, 1, 1, 0, 1, tzinfo=UTC)
    assert task.created_at == task.started_at == task.completed_at == moment


def test_a_time_out_waits_for_the_driven_clock(manager: TaskManager, clock: FakeClock) -> None:
    def endless() -> None:
        while True:
            pass

    task = manager.create_task("t", endless, timeout=3600)
    clock.advance(3599)
    assert task.state == "running"
    clock.advance(1)
    with pytest.raises(TaskTimeoutError, match="3600 s"):
        task.wait(30)


# -- the recorder of events ---------------------------------------------------------------------------------------


def test_a_recorder_keeps_events_in_order_and_finds_them() -> None:
    with TaskManager() as manager, EventRecorder(manager) as recorder:
        first = manager.create_task("first", lambda: 1)
        first.wait(30)
        second = manager.create_task("second", lambda: 1 / 0)
        manager.wait(second, timeout=30)
        assert recorder.wait_for("failed") is second and recorder.wait_for("started", first) is first
        assert recorder.of(first) == ["created", "started", "completed"]
        assert [task.name for task, _ in recorder.events] == ["first"] * 3 + ["second"] * 3
        recorder.check_legal()


def test_a_recorder_says_what_did_not_happen() -> None:
    with TaskManager() as manager, EventRecorder(manager) as recorder:
        task = manager.create_task("t", lambda: 1)
        with pytest.raises(WaitTimeoutError, match=r"no event 'failed' of <Task 't' .*> within 0\.01 s"):
            recorder.wait_for("failed", task, timeout=0.01)
        with pytest.raises(WaitTimeoutError, match="no event 'failed' of any task"):
            recorder.wait_for("failed", timeout=0.01)


def test_a_recorder_finds_an_illegal_order() -> None:
    with TaskManager() as manager, EventRecorder(manager) as recorder:
        task = manager.create_task("t", lambda: 1)
        task.wait(30)
        recorder.wait_for("completed", task)
        manager.bus.publish(task, EventType.STARTED)
        wait_until(lambda: len(recorder.of(task)) == 4)
        with pytest.raises(AssertionError, match="started after completed of <Task 't'"):
            recorder.check_legal()
