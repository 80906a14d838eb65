"""The promises of the core, one each: order, lanes, states, cancels, progress, waits, events, bad input."""

from __future__ import annotations

import asyncio
import gc
import logging
import logging.handlers
import math
import queue
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import nbtasks
from nbtasks import EventType, Retry, Task, TaskCancelledError, TaskManager, TaskState, WaitTimeoutError
from nbtasks import exceptions as errors
from nbtasks.states import TRANSITIONS, check_transition


@pytest.fixture
def manager() -> Iterator[TaskManager]:
    with TaskManager() as manager:
        yield manager


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


# -- lanes and order ----------------------------------------------------------------------------------------------


def test_higher_priorities_start_first_and_equal_ones_in_order_of_creation(
    manager: TaskManager, gate: threading.Event
) -> None:
    order: list[str] = []
    manager.create_task("blocks", gate.wait, lane="single")
    for name, priority in (("b", 0), ("a", 5), ("c", 0), ("last", -1)):
        manager.create_task(name, lambda task: order.append(task.name), priority, lane="single")
    gate.set()
    manager.wait(timeout=30)
    assert order == ["a", "b", "c", "last"]


def test_a_change_of_priority_takes_effect_at_once(manager: TaskManager, gate: threading.Event) -> None:
    order: list[str] = []
    manager.create_task("blocks", gate.wait, lane="single")
    tasks = [manager.create_task(n, lambda task: order.append(task.name), lane="single") for n in "abc"]
    assert manager.set_priority(tasks[2], 1) is True
    gate.set()
    manager.wait(timeout=30)
    assert order == ["c", "a", "b"] and manager.set_priority(tasks[2], 1) is False


def test_a_lane_never_runs_more_than_its_limit(manager: TaskManager, gate: threading.Event) -> None:
    tasks = [manager.create_task("t", gate.wait) for _ in range(5)]
    assert [task.state.value for task in tasks] == ["running"] * 3 + ["pending"] * 2
    assert (manager.lanes["default"].running, manager.lanes["default"].pending) == (3, 2)


def test_a_limit_over_all_lanes_holds_and_is_the_default_lanes(gate: threading.Event) -> None:
    with TaskManager(max_concurrent_tasks=2) as manager:
        for lane in ("default", "multiple", "single"):
            manager.create_task("t", gate.wait, lane=lane)
        assert manager.get_stats()["running"] == 2 and manager.lanes["default"].limit == 2
        gate.set()


def test_a_parent_that_waits_for_children_in_its_own_lane_lends_them_its_slot(manager: TaskManager) -> None:
    def parent(task: Task) -> list[int]:
        return [task.create_child("child", lambda n=n: n).wait(30) for n in range(3)]

    assert manager.create_task("parent", parent, lane="single").wait(30) == [0, 1, 2]


def test_after_waits_for_completion_and_a_failure_cancels_what_came_after(
    manager: TaskManager, gate: threading.Event
) -> None:
    first = manager.create_task("first", gate.wait)
    second = manager.create_task("second", lambda: 2, after=first)
    assert second.state == "pending"
    gate.set()
    assert second.wait(30) == 2
    broken = manager.create_task("broken", lambda: 1 / 0)
    third = manager.create_task("third", lambda: 3, after=[broken])
    with pytest.raises(TaskCancelledError, match="'broken', which it was to come after, failed"):
        third.wait(30)


# -- states -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(TaskState))
def test_only_the_transitions_of_the_table_are_allowed(state: TaskState) -> None:
    for target in TaskState:
        if target in TRANSITIONS[state]:
            assert check_transition(state, target) is target
        else:
            with pytest.raises(errors.IllegalTransitionError, match=f"from {state.value} to {target.value}"):
                check_transition(state, target)


def test_the_state_is_set_by_the_manager_alone(manager: TaskManager) -> None:
    task = manager.create_task("t", lambda: None)
    with pytest.raises(AttributeError, match=r"set by the manager alone, not to 'completed'"):
        task.state = "completed"


def test_a_record_has_its_times_in_order_and_aware(manager: TaskManager) -> None:
    task = manager.create_task("t", lambda: 1, tags=["x"], parameters={"a": 1})
    task.wait(30)
    assert task.created_at <= task.started_at <= task.completed_at and task.created_at.tzinfo is not None
    record = task.as_dict()
    assert (record["state"], record["progress"], record["result"], record["tags"]) == ("completed", 100.0, 1, ["x"])


def test_a_failure_is_logged_with_its_traceback_and_raised_where_it_is_waited_for(
    manager: TaskManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    monkeypatch.setattr(handler, "prepare", lambda record: record)
    monkeypatch.setattr(logging.getLogger("nbtasks"), "handlers", [handler])
    task = manager.create_task("broken", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        task.wait(30)
    assert (task.state, task.error) == (TaskState.FAILED, "ZeroDivisionError: division by zero")
    record = records.get(timeout=30)
    assert "'broken' failed" in record.getMessage() and record.exc_info is not None


# -- cancelling ---------------------------------------------------------------------------------------------------


def test_cancelling_a_pending_task_is_done_at_once(manager: TaskManager, gate: threading.Event) -> None:
    manager.create_task("blocks", gate.wait, lane="single")
    task = manager.create_task("waits", lambda: 1, lane="single")
    assert task.cancel() is True and task.state == "cancelled" and task.cancel() is False


def test_running_work_reads_cancelling_until_it_has_really_stopped(manager: TaskManager, gate: threading.Event) -> None:
    inside = threading.Event()

    def work() -> None:
        try:
            inside.set()
            while True:
                pass
        finally:
            gate.wait(30)

    task = manager.create_task("t", work)
    inside.wait(30)
    assert task.cancel() is True
    assert task.cancelling and task.state == "running" and "cancelling" in repr(task)
    gate.set()
    with pytest.raises(TaskCancelledError):
        task.wait(30)
    assert task.state == "cancelled" and not task.cancelling


async def test_work_that_swallows_its_cancellation_and_returns_is_completed(manager: TaskManager) -> None:
    inside = asyncio.Event()

    async def stubborn() -> str:
        try:
            inside.set()
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "finished all the same"
        return "never"

    task = manager.create_task("t", stubborn)
    await inside.wait()
    task.cancel()
    assert await task == "finished all the same" and task.state == "completed"


async def test_cancelling_who_waits_leaves_the_task_running(manager: TaskManager, gate: threading.Event) -> None:
    task = manager.create_task("t", gate.wait)

    async def waits() -> None:
        await task

    aio_task = asyncio.ensure_future(waits())
    await asyncio.sleep(0)
    aio_task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await aio_task
    assert task.state == "running"
    gate.set()
    assert await task is True


async def test_a_coroutine_that_never_began_is_cancelled(manager: TaskManager) -> None:
    task = manager.create_task("t", asyncio.sleep(3600))
    task.cancel()
    with pytest.raises(TaskCancelledError):
        await task


def test_cancelling_a_parent_cancels_its_children(manager: TaskManager, gate: threading.Event) -> None:
    parent = manager.create_task("parent", gate.wait)
    child = parent.create_child("child", gate.wait)
    other = manager.create_task("other", gate.wait)
    parent.cancel()
    assert child.cancel_requested_at is not None and other.cancel_requested_at is None


# -- progress -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "read"), [(40, 40.0), (0, 0.0), (-1, None), (math.nan, None), (None, None), (100, 100.0)]
)
def test_progress_is_a_float_from_0_to_100_or_unknown(manager: TaskManager, given: Any, read: float | None) -> None:
    seen = manager.create_task("t", lambda task: setattr(task, "progress", given) or task.progress).wait(30)
    assert seen == read


def test_progress_out_of_range_is_clamped_with_a_warning(manager: TaskManager) -> None:
    def work(task: Task) -> float | None:
        with pytest.warns(UserWarning, match="400"):
            task.progress = 400
        return task.progress

    assert manager.create_task("t", work).wait(30) == 100.0


def test_track_moves_the_task_and_nested_ones_do_not(manager: TaskManager) -> None:
    def work(task: Task) -> list[float | None]:
        seen = []
        for _ in nbtasks.track(range(2)):
            for _ in nbtasks.track(range(3)):
                pass
            seen.append(task.progress)
        return seen

    assert manager.create_task("t", work).wait(30) == [0.0, 50.0]
    assert list(nbtasks.track([1, 2])) == [1, 2]


# -- waiting ------------------------------------------------------------------------------------------------------


def test_a_wait_that_takes_too_long_tells_what_still_runs(manager: TaskManager, gate: threading.Event) -> None:
    task = manager.create_task("slow", gate.wait)
    with pytest.raises(WaitTimeoutError, match=r"'slow' \(running\)") as caught:
        manager.wait(timeout=0.01)
    assert caught.value.unfinished == (task,)


async def test_a_blocking_wait_keeps_the_loop_of_its_thread_turning(manager: TaskManager) -> None:
    async def work() -> int:
        await asyncio.sleep(0.01)
        return 42

    assert manager.create_task("t", work).wait(30) == 42


async def test_wait_all_returns_when_all_is_over(manager: TaskManager) -> None:
    tasks = [manager.create_task("t", lambda: 1) for _ in range(8)]
    await manager.wait_all(timeout=30)
    assert all(task.done for task in tasks) and len(manager.active_tasks) == 0


def test_a_result_asked_for_too_early_is_a_named_error(manager: TaskManager, gate: threading.Event) -> None:
    with pytest.raises(errors.ResultNotReadyError, match="'t' is running"):
        _ = manager.create_task("t", gate.wait).result


# -- events -------------------------------------------------------------------------------------------------------


def test_events_come_in_order_and_by_default_only_changes_of_state(manager: TaskManager) -> None:
    told: list[str] = []
    subscription = manager.add_event_callback(lambda task, event: told.append(event))
    manager.create_task("t", lambda task: setattr(task, "progress", 5)).wait(30)
    assert subscription.drain(30) and told == ["created", "started", "completed"]


def test_progress_is_told_on_request_with_the_last_value_before_the_end(manager: TaskManager) -> None:
    told: list[tuple[str, float | None]] = []

    def work(task: Task) -> None:
        for number in range(1_000):
            task.progress = number / 10
        raise ValueError

    subscription = manager.add_event_callback(
        lambda task, event: told.append((event, task.progress)), events=["progress", "failed"]
    )
    manager.wait(manager.create_task("t", work), timeout=30)
    assert subscription.drain(30)
    assert told[-1] == ("failed", 99.9) and told[-2][0] == "progress" and len(told) < 50


def test_a_callback_that_fails_or_hangs_harms_nobody(manager: TaskManager, gate: threading.Event) -> None:
    told: list[EventType] = []

    def fails(task: Task, event: EventType) -> None:
        raise RuntimeError("a callback's own fault")

    manager.add_event_callback(fails)
    manager.add_event_callback(lambda task, event: gate.wait())
    subscription = manager.add_event_callback(lambda task, event: told.append(event))
    assert manager.create_task("t", lambda: 1).wait(30) == 1
    assert subscription.drain(30) and told[-1] == "completed"


def test_a_closed_subscription_is_told_nothing(manager: TaskManager) -> None:
    told: list[EventType] = []
    with manager.add_event_callback(lambda task, event: told.append(event)):
        pass
    manager.create_task("t", lambda: 1).wait(30)
    assert told == []


# -- keeping and forgetting ---------------------------------------------------------------------------------------


def test_the_newest_completed_tasks_are_kept_and_failed_ones_never_pruned() -> None:
    with TaskManager(max_succeeded_tasks=2) as manager:
        for number in range(5):
            manager.create_task(f"t{number}", lambda: 1).wait(30)
        manager.wait(manager.create_task("broken", lambda: 1 / 0), timeout=30)
        assert [task.name for task in manager.list_tasks()] == ["t3", "t4", "broken"]
        assert manager.get_stats() == {
            "total": 3, "pending": 0, "running": 0, "completed": 2, "failed": 1, "cancelled": 0,
        }  # fmt: skip


def test_a_completed_task_lets_go_of_its_work(manager: TaskManager) -> None:
    class Big:
        def __call__(self) -> int:
            return 1

    big = Big()
    gone = weakref.ref(big)
    task = manager.create_task("t", big)
    del big
    assert task.wait(30) == 1
    manager.wait(timeout=30)
    gc.collect()
    assert gone() is None


def test_a_subclass_is_a_dataclass_with_its_own_fields_and_run(manager: TaskManager) -> None:
    @dataclass
    class Sum(Task):
        numbers: list[int]
        lane = "single"

        def run(self) -> int:
            self.progress = 50
            return sum(self.numbers)

    task = manager.add_task(Sum([1, 2, 3], name="sum"))
    assert task.wait(30) == 6 and task.lane == "single" and task in {task}
    assert manager.search_tasks(task_type="Sum", numbers=[1, 2, 3]) == [task]


def test_a_retry_is_a_new_attempt_of_the_same_task(manager: TaskManager) -> None:
    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        return "third"

    task = manager.create_task("t", flaky, retry=Retry(attempts=3, delay=0.001))
    assert task.wait(30) == "third" and task.attempts == 3


def test_a_time_out_fails_the_attempt(manager: TaskManager) -> None:
    def endless() -> None:
        while True:
            pass

    with pytest.raises(errors.TaskTimeoutError, match=r"longer than its time-out of 0\.02 s"):
        manager.create_task("t", endless, timeout=0.02).wait(30)


# -- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"lane": "fast"}, errors.UnknownLaneError, "'fast'.*default, multiple, single"),
        ({"backend": "gpu"}, errors.UnknownBackendError, "'gpu'.*loop, thread"),
        ({"priority": "high"}, errors.PriorityError, "'high'"),
        ({"timeout": -1}, errors.TimeoutValueError, "-1"),
        ({"work": 5}, errors.WorkError, "5"),
        ({"name": ""}, errors.InvalidValueError, "''"),
        ({"after": "nobody"}, errors.UnknownTaskError, "'nobody'"),
        ({"tags": [1]}, errors.InvalidValueError, "1"),
        ({"retry": 3}, errors.RetryError, "3"),
    ],
)
def test_bad_input_is_a_named_error_and_nothing_is_started(
    manager: TaskManager, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        manager.create_task(**{"name": "t", "work": lambda: 1, **arguments})
    assert manager.list_tasks() == []


def test_what_was_added_before_what_has_no_run_and_what_is_no_callback_are_refused(manager: TaskManager) -> None:
    task = manager.create_task("t", lambda: 1)
    with pytest.raises(errors.AlreadyAddedError):
        manager.add_task(task)

    @dataclass
    class NoRun(Task):
        pass

    with pytest.raises(errors.WorkError, match="NoRun has no run"):
        manager.add_task(NoRun(name="n"))
    with pytest.raises(errors.WorkError, match="must be callable"):
        manager.add_event_callback("not a function")
    with pytest.raises(errors.UnknownEventError, match="'finished'"):
        manager.add_event_callback(print, events=["finished"])
    with pytest.raises(errors.UnknownStateError, match="'done'"):
        manager.search_tasks(state="done")
    with pytest.raises(errors.LaneError, match="-1"):
        manager.add_lane("own", -1)


def test_a_stopped_manager_takes_no_tasks_and_leaves_nothing_running(gate: threading.Event) -> None:
    with TaskManager() as manager:
        inside = threading.Event()

        def work() -> None:
            inside.set()
            while True:
                pass

        running = manager.create_task("t", work)
        inside.wait(30)
    assert running.state == "cancelled"
    with pytest.raises(errors.ManagerStoppedError):
        manager.create_task("late", lambda: 1)
