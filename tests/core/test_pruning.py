"""Pruning, automatic and on request, and the memory that finished tasks release."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from nbtasks import Task, TaskManager
from nbtasks import exceptions as errors
from nbtasks.testing import EventRecorder, FakeClock
from tests.core.clocks import wait_until


def names(manager: TaskManager, state: str | None = None) -> list[str]:
    return [task.name for task in manager.list_tasks(state)]


def is_gone(reference: weakref.ref[Any]) -> bool:
    """Whether nothing holds it any more; the thread that ran the work may, for a moment."""
    gc.collect()
    return reference() is None


def completed(manager: TaskManager, *task_names: str) -> list[Task]:
    """Tasks that complete one after the other."""
    tasks = []
    for name in task_names:
        tasks.append(manager.create_task(name, lambda: 1))
        tasks[-1].wait(30)
    return tasks


# -- by itself ----------------------------------------------------------------------------------------------------


def test_the_newest_completed_tasks_are_kept() -> None:
    with TaskManager(max_succeeded_tasks=2) as manager:
        completed(manager, "a", "b", "c", "d")
        assert names(manager) == ["c", "d"]


def test_ten_are_kept_unless_it_is_said_otherwise(manager: TaskManager) -> None:
    assert manager.max_succeeded_tasks == 10
    completed(manager, *(str(number) for number in range(12)))
    assert names(manager) == [str(number) for number in range(2, 12)]


def test_the_oldest_goes_first_by_its_time_of_completion_not_of_creation() -> None:
    with TaskManager(max_succeeded_tasks=2) as manager:
        gate = threading.Event()
        slow = manager.create_task("slow", gate.wait)
        completed_after = [manager.create_task(name, lambda: 1) for name in ("quick", "quicker")]
        for task in completed_after:
            task.wait(30)
        gate.set()
        slow.wait(30)
        assert names(manager) == ["slow", "quicker"]


def test_cancelled_tasks_are_counted_apart() -> None:
    with TaskManager(max_succeeded_tasks=2) as manager:
        manager.resize_lane("single", 0)
        waiting = [manager.create_task(f"cancelled {n}", lambda: 1, lane="single") for n in range(4)]
        for task in waiting:
            task.cancel()
        completed(manager, "a", "b")
        assert names(manager, "cancelled") == ["cancelled 2", "cancelled 3"]
        assert names(manager, "completed") == ["a", "b"]


def test_failed_pending_and_running_tasks_are_never_pruned_by_themselves(gate: threading.Event) -> None:
    with TaskManager(max_succeeded_tasks=0) as manager:
        manager.create_task("running", gate.wait, lane="single")
        manager.create_task("pending", gate.wait, lane="single")
        for number in range(20):
            manager.wait(manager.create_task(f"failed {number}", lambda: 1 / 0), timeout=30)
        completed(manager, "completed")
        assert names(manager, "completed") == []
        assert len(names(manager, "failed")) == 20 and len(manager.active_tasks) == 2
        gate.set()


def test_none_keeps_all() -> None:
    with TaskManager(max_succeeded_tasks=None) as manager:
        completed(manager, *"abcdefghijklmnop")
        assert "".join(names(manager)) == "abcdefghijklmnop"


def test_the_number_is_changed_at_run_time_and_takes_effect_at_once(manager: TaskManager) -> None:
    completed(manager, "a", "b", "c", "d")
    manager.max_succeeded_tasks = 1
    assert names(manager) == ["d"]
    manager.max_succeeded_tasks = None
    completed(manager, *(str(number) for number in range(12)))
    assert len(names(manager)) == 13


def test_a_completed_record_without_a_time_of_completion_goes(manager: TaskManager) -> None:
    a, _ = completed(manager, "a", "b")
    a.internals.completed_at = None
    manager.max_succeeded_tasks = 5
    assert names(manager) == ["b"]


def test_pruning_is_told(manager: TaskManager) -> None:
    with EventRecorder(manager) as recorder:
        a, _ = completed(manager, "a", "b")
        manager.max_succeeded_tasks = 1
        assert recorder.wait_for("pruned") is a
        recorder.check_legal()


# -- on request ---------------------------------------------------------------------------------------------------


def test_remove_task_forgets_one_that_is_over(manager: TaskManager, gate: threading.Event) -> None:
    [task] = completed(manager, "t")
    running = manager.create_task("running", gate.wait)
    assert manager.remove_task(task.id) is True and manager.remove_task(task) is False
    assert manager.remove_task(running) is False and manager.remove_task("unknown") is False
    assert names(manager) == ["running"]


def test_prune_forgets_the_completed_and_cancelled_or_one_state(manager: TaskManager, gate: threading.Event) -> None:
    completed(manager, "a", "b")
    manager.wait(manager.create_task("failed", lambda: 1 / 0), timeout=30)
    manager.create_task("running", gate.wait, lane="single")
    manager.create_task("waiting", gate.wait, lane="single").cancel()
    assert manager.prune() == 3 and names(manager) == ["failed", "running"]
    assert manager.prune("failed") == 1 and manager.prune() == 0


def test_prune_takes_an_age() -> None:
    clock = FakeClock()
    with TaskManager(clock=clock) as manager:
        completed(manager, "old")
        clock.advance(60)
        undated, _ = completed(manager, "undated", "new")
        undated.internals.completed_at = None
        clock.advance(10)
        assert manager.prune(older_than=71) == 1 and names(manager) == ["old", "new"]
        assert manager.prune(older_than=timedelta(seconds=30)) == 1 and names(manager) == ["new"]


@pytest.mark.parametrize("state", ["pending", "running", ["completed", "running"]])
def test_only_what_is_over_can_be_pruned(manager: TaskManager, state: Any) -> None:
    with pytest.raises(errors.InvalidValueError, match=r"only finished tasks can be pruned, not .*ing"):
        manager.prune(state)


# -- handles and what they hold -----------------------------------------------------------------------------------


def test_a_handle_remains_valid_after_its_task_was_pruned(manager: TaskManager) -> None:
    task = manager.create_task("t", lambda: 42)
    manager.wait(timeout=30)
    manager.prune()
    assert manager.get_task(task.id) is None
    assert task.wait(1) == task.result == 42 and task.state == "completed" and task.as_dict()["result"] == 42
    assert task.cancel() is False


def test_the_registry_keeps_no_handle_alive_that_was_pruned(manager: TaskManager) -> None:
    task = manager.create_task("t", lambda: 1)
    task.wait(30)
    gone = weakref.ref(task)
    manager.prune()
    del task
    wait_until(partial(is_gone, gone))


class Big:
    """Work, or a result, that one would not keep for nothing."""

    def __call__(self) -> int:
        return 1


def test_a_completed_task_lets_go_of_its_work(manager: TaskManager) -> None:
    big = Big()
    gone = weakref.ref(big)
    task = manager.create_task("t", big)
    del big
    assert task.wait(30) == 1
    wait_until(partial(is_gone, gone))


def test_release_drops_the_result_and_the_exception_and_keeps_the_record(manager: TaskManager) -> None:
    task = manager.create_task("t", Big)
    gone = weakref.ref(task.wait(30))
    failed = manager.create_task("failed", lambda: 1 / 0)
    manager.wait(timeout=30)
    task.release()
    failed.release()
    wait_until(partial(is_gone, gone))
    assert (task.state, task.result) == ("completed", None)
    assert failed.exception is None and failed.error == "ZeroDivisionError: division by zero"


@dataclass
class Holding(Task):
    held: list[int] = field(default_factory=list)

    def run(self) -> None:
        self.held.append(1)

    def on_release(self) -> None:
        self.held.clear()
        raise RuntimeError("a kind's own fault")


def test_a_kind_of_task_is_told_to_let_go_when_it_is_pruned_and_its_faults_stay_its_own(
    manager: TaskManager, caplog: pytest.LogCaptureFixture
) -> None:
    task = manager.add_task(Holding(name="t"))
    task.wait(30)
    assert task.held == [1]
    manager.prune()
    assert task.held == [] and "on_release failed" in caplog.text
