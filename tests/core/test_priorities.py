"""Priorities: order of pending tasks; a change takes effect at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from nbtasks import Task, TaskManager
from nbtasks import exceptions as errors


def noted(order: list[str]) -> Callable[[Task], None]:
    return lambda task: order.append(task.name)


def test_higher_priorities_start_first_and_equal_ones_in_order_of_creation(
    manager: TaskManager, gate: threading.Event
) -> None:
    order: list[str] = []
    manager.create_task("blocks", gate.wait, lane="single")
    for name, priority in (("b", 0), ("a", 5), ("c", 0), ("last", -1), ("a2", 5)):
        manager.create_task(name, noted(order), priority, lane="single")
    gate.set()
    manager.wait(timeout=30)
    assert order == ["a", "a2", "b", "c", "last"]


@pytest.mark.parametrize("how", ["manager", "id", "task"])
def test_a_change_of_priority_takes_effect_at_once(manager: TaskManager, gate: threading.Event, how: str) -> None:
    order: list[str] = []
    manager.create_task("blocks", gate.wait, lane="single")
    tasks = [manager.create_task(name, noted(order), lane="single") for name in "abc"]
    if how == "task":
        tasks[2].priority = 1
    else:
        assert manager.set_priority(tasks[2] if how == "manager" else tasks[2].id, 1) is True
    gate.set()
    manager.wait(timeout=30)
    assert order == ["c", "a", "b"] and tasks[2].priority == 1


def test_a_priority_can_change_again_and_again(manager: TaskManager, gate: threading.Event) -> None:
    order: list[str] = []
    manager.create_task("blocks", gate.wait, lane="single")
    tasks = [manager.create_task(str(number), noted(order), lane="single") for number in range(50)]
    for turn in range(20):
        for number, task in enumerate(tasks):
            manager.set_priority(task, (number * 7 + turn) % 50)
    gate.set()
    manager.wait(timeout=30)
    assert order == [task.name for task in sorted(tasks, key=lambda task: -task.priority)]


def test_only_what_is_pending_has_a_place_that_can_change(manager: TaskManager, gate: threading.Event) -> None:
    task = manager.create_task("t", gate.wait)
    assert manager.set_priority(task, 1) is False and manager.set_priority("unknown", 1) is False
    with pytest.raises(errors.ReadOnlyError, match="cannot change priority of 't': it is running, not pending"):
        task.priority = 1
    gate.set()
    task.wait(30)
    assert manager.set_priority(task, 1) is False and task.priority == 0


def test_what_waits_for_other_tasks_has_its_priority_when_it_comes_to_its_lane(
    manager: TaskManager, gate: threading.Event
) -> None:
    order: list[str] = []
    first = manager.create_task("first", gate.wait)
    hold = threading.Event()
    manager.create_task("blocks", hold.wait, lane="single")
    manager.create_task("before", noted(order), lane="single")
    later = manager.create_task("later", noted(order), lane="single", after=first)
    assert manager.set_priority(later, 9) is True
    gate.set()
    first.wait(30)
    hold.set()
    manager.wait(timeout=30)
    assert order == ["later", "before"]


def test_a_priority_is_any_whole_number(manager: TaskManager) -> None:
    class Whole:
        """As the whole numbers of numpy are."""

        def __index__(self) -> int:
            return 4

    task = manager.create_task("t", lambda: 1, Whole())  # type: ignore[arg-type]
    assert task.priority == 4 and type(task.priority) is int
