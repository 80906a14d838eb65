"""Stopping a manager: graceful shutdown, no leftovers, the default manager."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import nbtasks
from nbtasks import Task, TaskManager, WaitTimeoutError
from nbtasks import exceptions as errors
from nbtasks.backends.loop import LoopThread
from tests.core.clocks import wait_until

ROOT = Path(__file__).parent.parent.parent


def spin(inside: threading.Event) -> None:
    inside.set()
    while True:
        pass


def test_leaving_the_block_cancels_what_runs_and_waits_for_it() -> None:
    inside = threading.Event()
    with TaskManager() as manager:
        running = manager.create_task("running", lambda: spin(inside), lane="single")
        pending = manager.create_task("pending", lambda: 1, lane="single")
        assert inside.wait(30)
    assert (running.state, pending.state) == ("cancelled", "cancelled")
    assert running.error == pending.error == "the manager was stopped"
    assert repr(manager) == "<TaskManager: 2 cancelled, stopped>"


async def test_leaving_an_async_block_waits_for_coroutines_too() -> None:
    cleaned_up: list[bool] = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            cleaned_up.append(True)

    async with TaskManager() as manager:
        task = manager.create_task("t", work)
        await asyncio.sleep(0.01)
    assert task.state == "cancelled" and cleaned_up == [True]


def test_a_stopped_manager_takes_no_tasks_and_its_records_remain() -> None:
    with TaskManager() as manager:
        done = manager.create_task("done", lambda: 1)
        done.wait(30)
    coroutine = asyncio.sleep(0)
    for work in (lambda: 1, coroutine):
        with pytest.raises(errors.ManagerStoppedError, match="the manager was stopped: it does not take 'late'"):
            manager.create_task("late", work)
    coroutine.close()
    assert manager.list_tasks() == [done] and done.result == 1
    manager.stop()


def test_threads_end_with_the_manager() -> None:
    before = set(threading.enumerate())
    with TaskManager() as manager:
        manager.add_event_callback(lambda task, event: None)
        for work in (lambda: 1, asyncio.sleep(0)):
            manager.create_task("t", work, timeout=30).wait(30)
        assert {thread.name.rpartition("-")[0] for thread in set(threading.enumerate()) - before} >= {"nbtasks"}
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_stopping_waits_no_longer_than_it_is_told_and_work_that_ends_later_is_recorded() -> None:
    gate = threading.Event()
    manager = TaskManager()
    task = manager.create_task("in C code", gate.wait)
    start = time.monotonic()
    manager.stop(timeout=0.05)
    assert time.monotonic() - start < 4 and task.cancelling
    gate.set()
    wait_until(lambda: task.state == "cancelled")
    wait_until(lambda: manager._threads._closed)


async def test_a_graceful_shutdown_waits_for_all_and_says_what_still_runs() -> None:
    gate = threading.Event()
    with TaskManager() as manager:
        manager.create_task("quick", asyncio.sleep(0.01))
        slow = manager.create_task("slow", gate.wait)
        with pytest.raises(WaitTimeoutError, match=r"still running: 'slow'") as caught:
            await manager.wait_all(timeout=0.1)
        assert caught.value.unfinished == (slow,)
        gate.set()
        await manager.wait_all(timeout=30)
    assert slow.result is True


def test_a_loop_thread_that_is_closed_as_soon_as_it_is_started_ends_and_closes_its_loop() -> None:
    for _ in range(100):
        thread = LoopThread()
        loop = thread.loop()
        thread.close(30)
        assert loop.is_closed()
        thread.close()


def test_coroutines_that_come_too_late_start_no_loop() -> None:
    before = set(threading.enumerate())
    manager = TaskManager()
    manager.stop()
    coroutine = asyncio.sleep(0)
    with pytest.raises(errors.ManagerStoppedError):
        manager.create_task("late", coroutine)
    coroutine.close()
    assert manager.default_loop().is_closed() and set(threading.enumerate()) <= before


def test_async_callbacks_are_told_the_last_events_before_their_loop_goes() -> None:
    received: list[str] = []

    async def callback(task: Task, event: str) -> None:
        await asyncio.sleep(0.01)
        received.append(event)

    with TaskManager() as manager:
        subscription = manager.add_event_callback(callback)
        manager.create_task("t", asyncio.sleep(3600))
    assert subscription.drain(30) and received == ["created", "started", "cancelled"]
    wait_until(lambda: manager.default_loop().is_closed())


def test_a_manager_whose_last_coroutine_ends_while_it_is_stopped_does_not_hang() -> None:
    for _ in range(200):
        manager = TaskManager()
        manager.create_task("t", asyncio.sleep(0.0005))
        manager.create_task("u", asyncio.sleep(0.0001))
        manager.stop()


def test_work_may_stop_its_own_manager() -> None:
    manager = TaskManager()
    task = manager.create_task("t", lambda: manager.stop() or "stopped it")
    wait_until(lambda: task.done)
    assert task.state in ("completed", "cancelled")
    with pytest.raises(errors.ManagerStoppedError):
        manager.create_task("late", lambda: 1)


# -- scripts ------------------------------------------------------------------------------------------------------


async def test_run_tasks_serves_until_the_manager_is_stopped() -> None:
    manager = TaskManager()
    loops: list[asyncio.AbstractEventLoop] = []

    async def work() -> None:
        loops.append(asyncio.get_running_loop())

    def elsewhere() -> None:
        task = manager.create_task("coroutine", work)
        task.wait(30)
        manager.stop()

    serving = asyncio.ensure_future(manager.run_tasks())
    await asyncio.sleep(0)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.wait_for(serving, 30)
    thread.join()
    assert loops == [asyncio.get_running_loop()]


async def test_run_tasks_of_a_stopped_manager_returns_at_once() -> None:
    manager = TaskManager()
    manager.stop()
    await asyncio.wait_for(manager.run_tasks(), 30)


async def test_cancelling_run_tasks_stops_the_manager() -> None:
    manager = TaskManager()
    serving = asyncio.ensure_future(manager.run_tasks())
    await asyncio.sleep(0)
    task = manager.create_task("t", asyncio.sleep(3600))
    await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert task.state == "cancelled"


EXITING = """
import threading, nbtasks
manager = nbtasks.get_manager()
inside = threading.Event()
def work():
    inside.set()
    while True:
        pass
manager.create_task("endless", work)
manager.create_task("in C code", threading.Event().wait)
inside.wait()
print("left")
"""


def test_an_interpreter_that_exits_does_not_wait_for_tasks() -> None:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", EXITING], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert done.stdout == "left\n" and time.monotonic() - start < 30


# -- the one manager ----------------------------------------------------------------------------------------------


@pytest.fixture
def no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbtasks.manager._default_manager", None)


@pytest.mark.usefixtures("no_manager")
def test_there_is_one_manager_made_on_first_use() -> None:
    manager = nbtasks.get_manager(max_succeeded_tasks=3)
    assert nbtasks.get_manager() is manager and manager.max_succeeded_tasks == 3
    with pytest.raises(nbtasks.InvalidValueError, match=r"a manager already; .* given max_succeeded_tasks now"):
        nbtasks.get_manager(max_succeeded_tasks=4)
    loop = asyncio.new_event_loop()
    assert nbtasks.get_manager(loop=loop) is manager and manager.loop is loop
    loop.close()
    assert manager.create_task("t", asyncio.sleep(0, 7)).wait(30) == 7  # a closed loop is none
    manager.stop()
    again = nbtasks.get_manager()
    assert again is not manager and again.create_task("t", lambda: 1).wait(30) == 1
    again.stop()


@pytest.mark.usefixtures("no_manager")
def test_threads_that_ask_at_once_get_the_same_manager() -> None:
    managers: set[TaskManager] = set()
    together = threading.Barrier(8)

    def ask() -> None:
        together.wait(30)
        managers.add(nbtasks.get_manager())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(managers) == 1
    managers.pop().stop()


def test_a_task_of_one_manager_is_unknown_to_another(manager: TaskManager) -> None:
    task: Task = manager.create_task("t", lambda: 1)
    with TaskManager() as other:
        assert other.get_task(task) is None and other.remove_task(task) is False
        with pytest.raises(errors.UnknownTaskError):
            other.create_task("after", lambda: 1, after=task)
