"""`manager.map` and the list of tasks that it returns."""

from __future__ import annotations

import pytest

from nbtasks import TaskList, TaskManager, WaitTimeoutError
from nbtasks.exceptions import WorkError


@pytest.fixture
def manager():
    with TaskManager() as manager:
        yield manager


def inverse(number):
    return 1 / number


async def negative(number):
    return -number


async def test_results_come_in_order_and_errors_apart(manager):
    tasks = manager.map(inverse, [1, 2, 0, 4], lane="multiple")
    assert [task.name for task in tasks] == ["inverse-1", "inverse-2", "inverse-3", "inverse-4"]
    assert tasks[1].heading == "inverse(2)"
    assert await tasks == [1.0, 0.5, None, 0.25] == tasks.results
    assert list(tasks.errors) == [2] and isinstance(tasks.errors[2], ZeroDivisionError)
    assert repr(tasks) == "<TaskList: 3 completed, 1 failed>"
    assert tasks.done and isinstance(tasks[1:], TaskList) and len(tasks[1:]) == 3


async def test_coroutine_functions_run_on_the_loop(manager):
    tasks = manager.map(negative, range(30), name="n")
    assert await tasks == [-number for number in range(30)]
    assert {task.backend for task in tasks} == {"loop"}


def test_waiting_blocks_and_has_a_limit(manager):
    tasks = manager.map(inverse, [4, 0])
    assert tasks.wait() == [0.25, None]
    import threading

    never = threading.Event()
    held = manager.map(lambda _: never.wait(60), [1, 2], lane="multiple")
    with pytest.raises(WaitTimeoutError):
        held.wait(0.01)
    assert held.cancel() == 2
    never.set()
    assert held.wait() == held.results


def test_wrong_work_and_options_start_nothing(manager):
    with pytest.raises(WorkError, match="map takes a function and items, not 3"):
        manager.map(3, [1])
    with pytest.raises(Exception, match="unknown lane 'fast'"):
        manager.map(inverse, [1], lane="fast")
    assert manager.list_tasks() == []
    assert manager.map(inverse, []).wait() == []
