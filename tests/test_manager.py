"""What the manager does with tasks, seen from outside."""

from __future__ import annotations

import asyncio
import threading

import pytest

from nbtasks import TaskCancelledError, TaskManager, TaskState, current_task, track


@pytest.fixture
def manager():
    with TaskManager() as manager:
        yield manager


def test_a_plain_function_runs_in_a_thread_and_gives_its_result(manager):
    task = manager.create_task("plain", lambda: threading.current_thread().name)
    assert task.wait(5).startswith("nbtasks-worker-")


async def test_a_coroutine_runs_on_the_running_loop(manager):
    async def work():
        return asyncio.get_running_loop()

    assert await manager.create_task("coroutine", work) is asyncio.get_running_loop()


def test_a_coroutine_runs_on_a_private_loop_thread_where_no_loop_runs(manager):
    async def work():
        return threading.current_thread().name

    assert manager.create_task("coroutine", work).wait(5) == "nbtasks-loop"


def test_an_awaitable_that_a_plain_function_returns_is_awaited(manager):
    async def later():
        return 7

    assert manager.create_task("both", lambda: later()).wait(5) == 7


def test_work_raises_where_it_is_waited_for(manager):
    task = manager.create_task("wrong", lambda: {}["x"])
    with pytest.raises(KeyError):
        task.wait(5)
    assert (task.state, task.error) == ("failed", "KeyError: 'x'")


def test_a_busy_thread_is_cancelled(manager):
    started = threading.Event()

    def work():
        started.set()
        while True:
            pass

    task = manager.create_task("busy", work)
    assert started.wait(5)
    assert task.cancel()
    with pytest.raises(TaskCancelledError):
        task.wait(5)
    assert task.state is TaskState.CANCELLED
    assert not task.cancel()


def test_children_in_the_lane_of_their_parents_do_not_deadlock(manager):
    def parent(task):
        return task.create_child("child", lambda: 7).wait()

    assert manager.create_task("parent", parent, lane="single").wait(5) == 7


def test_track_drives_the_progress_of_the_current_task(manager):
    seen = []

    def work():
        for _ in track(range(4)):
            seen.append(current_task().progress)

    manager.create_task("tracked", work).wait(5)
    assert seen[0] == 0.0
    assert seen == sorted(seen)


def test_stats_count_by_state(manager):
    manager.create_task("one", lambda: 1).wait(5)
    assert manager.get_stats() == {
        "total": 1, "pending": 0, "running": 0, "completed": 1, "failed": 0, "cancelled": 0
    }  # fmt: skip
