"""Cancelling: `cancelling` until the work has stopped, and only then `cancelled`."""

from __future__ import annotations

import asyncio
import threading

import pytest

from nbtasks import Task, TaskCancelledError, TaskManager
from tests.core.clocks import wait_until


def spin(inside: threading.Event) -> None:
    inside.set()
    while True:
        pass


@pytest.mark.parametrize("how", ["task", "id"])
def test_cancelling_a_pending_task_is_done_at_once(manager: TaskManager, gate: threading.Event, how: str) -> None:
    manager.create_task("blocks", gate.wait, lane="single")
    task = manager.create_task("waits", lambda: 1, lane="single")
    assert (task.cancel() if how == "task" else manager.cancel_task(task.id)) is True
    assert (task.state, task.error, task.attempts) == ("cancelled", "cancelled", 0)
    assert task.started_at is None and task.completed_at is not None and task.result is None


def test_what_is_unknown_or_over_cannot_be_cancelled(manager: TaskManager) -> None:
    task = manager.create_task("t", lambda: 1)
    task.wait(30)
    assert task.cancel() is False and manager.cancel_task("unknown") is False and task.state == "completed"


def test_a_busy_thread_is_stopped(manager: TaskManager) -> None:
    inside = threading.Event()
    task = manager.create_task("busy", lambda: spin(inside))
    assert inside.wait(30) and task.cancel() is True
    with pytest.raises(TaskCancelledError):
        task.wait(30)
    assert task.state == "cancelled" and task.cancel() is False


async def test_a_coroutine_is_stopped_where_it_awaits(manager: TaskManager) -> None:
    cleaned_up = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned_up.append(True)

    task = manager.create_task("t", work)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(TaskCancelledError):
        await task
    assert cleaned_up == [True]


async def test_a_coroutine_object_that_never_began_is_cancelled_and_closed(manager: TaskManager) -> None:
    task = manager.create_task("t", asyncio.sleep(3600))
    task.cancel()
    with pytest.raises(TaskCancelledError):
        await task
    manager.resize_lane("single", 0)
    waiting = manager.create_task("waits", asyncio.sleep(3600), lane="single")
    waiting.cancel()  # a warning that it was never awaited would fail this test
    assert waiting.state == "cancelled"


def test_running_work_reads_cancelling_until_it_has_really_stopped(manager: TaskManager, gate: threading.Event) -> None:
    inside = threading.Event()

    def work() -> None:
        try:
            spin(inside)
        finally:
            gate.wait(30)

    task = manager.create_task("t", work)
    assert inside.wait(30) and task.cancel() is True
    assert task.cancelling and task.state == "running" and repr(task).endswith("cancelling>")
    assert task.cancel_requested_at >= task.started_at and manager.lanes["default"].running == 1
    gate.set()
    with pytest.raises(TaskCancelledError):
        task.wait(30)
    assert task.state == "cancelled" and not task.cancelling


def test_work_that_cannot_be_stopped_yet_still_reads_cancelling(
    manager: TaskManager, gate: threading.Event
) -> None:
    task = manager.create_task("in C code", gate.wait)
    requested = [task.cancel() and task.cancel_requested_at for _ in range(3)]
    assert task.cancelling and len(set(requested)) == 1  # the first counts: since when it is waited for
    gate.set()
    manager.wait(task, timeout=30)
    assert task.state == "cancelled"


async def test_a_coroutine_that_swallows_its_cancellation_and_returns_is_completed(manager: TaskManager) -> None:
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


def test_a_function_that_swallows_its_cancellation_and_returns_is_completed(manager: TaskManager) -> None:
    inside = threading.Event()

    def stubborn() -> str:
        try:
            spin(inside)
        except BaseException:
            return "finished all the same"

    task = manager.create_task("t", stubborn)
    assert inside.wait(30) and task.cancel()
    assert task.wait(30) == "finished all the same" and task.state == "completed"


def test_work_that_raises_something_else_when_it_is_cancelled_has_failed(manager: TaskManager) -> None:
    inside = threading.Event()

    def work() -> None:
        try:
            spin(inside)
        finally:
            raise ValueError("while it cleaned up")

    task = manager.create_task("t", work)
    assert inside.wait(30) and task.cancel()
    with pytest.raises(ValueError, match="while it cleaned up"):
        task.wait(30)


def test_work_that_does_not_stop_is_asked_again_by_another_cancel(manager: TaskManager) -> None:
    inside, swallowed = threading.Event(), threading.Event()

    def work() -> None:
        try:
            spin(inside)
        except BaseException:
            swallowed.set()
        while True:
            pass

    task = manager.create_task("t", work)
    assert inside.wait(30) and task.cancel() and swallowed.wait(30)
    assert task.cancelling
    wait_until(lambda: task.cancel() is False or task.state == "cancelled")
    assert task.state == "cancelled"


def test_a_task_may_cancel_itself(manager: TaskManager) -> None:
    def work(task: Task) -> None:
        task.cancel()
        while True:
            pass

    task = manager.create_task("t", work)
    manager.wait(task, timeout=30)
    assert task.state == "cancelled"


def test_the_next_task_on_the_thread_of_a_cancelled_one_is_not_hit(manager: TaskManager) -> None:
    for _ in range(50):
        inside = threading.Event()
        task = manager.create_task("busy", lambda inside=inside: spin(inside), lane="single")
        following = manager.create_task("next", lambda: sum(range(1_000)), lane="single")
        assert inside.wait(30)
        task.cancel()
        task.cancel()
        assert following.wait(30) == 499_500 and task.state == "cancelled"


class Lingering:
    """Goes away slowly, and nothing that is raised meanwhile gets through."""

    def __init__(self, going: threading.Event) -> None:
        self.going = going

    def __del__(self) -> None:
        self.going.set()
        while True:
            pass


@pytest.mark.parametrize("timeout", [None, 1.0])
def test_an_interrupt_that_the_interpreter_swallows_is_not_lost(
    manager: TaskManager, timeout: float | None
) -> None:
    going = threading.Event()

    def work() -> None:
        Lingering(going)
        while True:
            pass

    task = manager.create_task("t", work, timeout=timeout)
    assert going.wait(30)
    if timeout is None:
        task.cancel()
    manager.wait(task, timeout=30)
    assert task.state == ("cancelled" if timeout is None else "failed")
