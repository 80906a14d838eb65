"""Waiting: by `await` and blocking, for one task, several or all."""

from __future__ import annotations

import _thread
import asyncio
import signal
import threading
import time
from functools import partial

import pytest

from nbtasks import Task, TaskCancelledError, TaskFailedError, TaskManager, WaitTimeoutError
from nbtasks import exceptions as errors
from tests.core.clocks import wait_until


async def test_a_wait_gives_the_result_or_raises_the_error(manager: TaskManager) -> None:
    done, failed = manager.create_task("done", lambda: 42), manager.create_task("failed", lambda: {}["x"])
    assert await done == 42 and await done == 42
    with pytest.raises(KeyError, match="x"):
        await failed
    assert (failed.state, failed.error) == ("failed", "KeyError: 'x'")


def test_the_same_from_plain_code(manager: TaskManager) -> None:
    done, failed = manager.create_task("done", lambda: 42), manager.create_task("failed", lambda: {}["x"])
    assert done.wait(30) == 42 and done.wait() == 42
    with pytest.raises(KeyError, match="x"):
        failed.wait(30)


async def test_a_wait_for_a_cancelled_task_is_a_named_error(manager: TaskManager, gate: threading.Event) -> None:
    manager.create_task("blocks", gate.wait, lane="single")
    task = manager.create_task("t", lambda: 1, lane="single")
    task.cancel()
    with pytest.raises(TaskCancelledError, match="'t' was cancelled"):
        await task
    with pytest.raises(TaskCancelledError, match="'t' was cancelled"):
        task.wait()


def test_what_ended_the_work_but_is_no_ordinary_exception_is_the_cause_of_one(manager: TaskManager) -> None:
    def leaves() -> None:
        raise SystemExit("leaving")

    with pytest.raises(TaskFailedError, match="'t' failed: SystemExit: leaving") as caught:
        manager.create_task("t", leaves).wait(30)
    assert isinstance(caught.value.__cause__, SystemExit)


def test_a_result_asked_for_too_early_is_a_named_error(manager: TaskManager, gate: threading.Event) -> None:
    task = manager.create_task("t", gate.wait)
    with pytest.raises(errors.ResultNotReadyError, match="'t' is running: its result comes when it has completed"):
        _ = task.result


# -- time limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["task", "manager", "named"])
def test_a_wait_that_takes_too_long_tells_what_still_runs(
    manager: TaskManager, gate: threading.Event, how: str
) -> None:
    task = manager.create_task("slow", gate.wait, lane="single")
    wait = {"task": task.wait, "manager": manager.wait, "named": partial(manager.wait, task.id)}[how]
    with pytest.raises(WaitTimeoutError, match=r"timed out after 0\.01 s; still running: 'slow'") as caught:
        wait(timeout=0.01)
    assert caught.value.unfinished == (task,) and isinstance(caught.value, TimeoutError)
    assert task.state == "running"


async def test_wait_all_with_a_time_limit_tells_what_still_runs(manager: TaskManager, gate: threading.Event) -> None:
    tasks = [manager.create_task(f"t{number}", gate.wait) for number in range(8)]
    message = "timed out after 0.01 s; still running: 't0', 't1', 't2'; still pending: 't3', 't4' and 3 more"
    with pytest.raises(WaitTimeoutError, match=message) as caught:
        await manager.wait_all(timeout=0.01)
    assert caught.value.unfinished == tuple(tasks)
    gate.set()
    await manager.wait_all(timeout=30)


# -- all ----------------------------------------------------------------------------------------------------------


async def test_wait_all_returns_when_all_that_was_pending_or_running_is_over(manager: TaskManager) -> None:
    tasks = [manager.create_task("t", lambda: 1) for _ in range(8)]
    tasks.append(manager.create_task("failed", lambda: 1 / 0))
    tasks.append(manager.create_task("coroutine", asyncio.sleep(0.01)))
    await manager.wait_all(timeout=30)
    assert all(task.done for task in tasks) and len(manager.active_tasks) == 0
    await manager.wait_all()


def test_wait_all_does_not_wait_for_what_comes_later(manager: TaskManager, gate: threading.Event) -> None:
    first = threading.Event()
    manager.create_task("t", first.wait)
    waited = threading.Event()

    def waits() -> None:
        manager.wait(timeout=30)
        waited.set()

    thread = threading.Thread(target=waits)
    thread.start()
    wait_until(lambda: manager._dispatcher.waiters.watermarks)
    later = manager.create_task("later", gate.wait)
    first.set()
    assert waited.wait(30) and later.state == "running"
    thread.join()


async def test_a_task_that_waits_for_all_does_not_wait_for_itself(manager: TaskManager) -> None:
    async def closing(task: Task) -> int:
        await manager.wait_all(timeout=30)
        return manager.get_stats()["running"]

    manager.create_task("other", asyncio.sleep(0.01))
    assert await manager.create_task("closing", closing) == 1


def test_waiting_for_named_tasks_raises_none_of_their_errors(manager: TaskManager) -> None:
    failed, done = manager.create_task("failed", lambda: 1 / 0), manager.create_task("done", lambda: 1)
    manager.wait(failed, done.id, timeout=30)
    assert failed.done and done.done
    with pytest.raises(errors.UnknownTaskError, match="this manager has no task 'unknown'"):
        manager.wait("unknown")


# -- loops --------------------------------------------------------------------------------------------------------


async def test_a_blocking_wait_keeps_the_loop_of_its_thread_turning(manager: TaskManager) -> None:
    async def work() -> int:
        await asyncio.sleep(0.01)
        return 42

    task = manager.create_task("t", work)
    assert task.wait(30) == 42
    with pytest.raises(WaitTimeoutError):
        manager.create_task("slow", asyncio.sleep(3600)).wait(0.02)


async def test_a_blocking_wait_wakes_for_a_coroutine_that_starts_on_its_loop_meanwhile(manager: TaskManager) -> None:
    async def on_the_loop() -> int:
        await asyncio.sleep(0.01)
        return 7

    def plain() -> int:
        time.sleep(0.05)  # until the loop's thread is asleep
        return manager.create_task("coroutine", on_the_loop).wait(30)

    assert manager.create_task("thread", plain).wait(30) == 7


async def test_a_blocking_wait_that_takes_too_long_while_its_loop_sleeps_is_over_in_time(
    manager: TaskManager, gate: threading.Event
) -> None:
    with pytest.raises(WaitTimeoutError):
        manager.create_task("t", gate.wait).wait(0.02)


async def test_cancelling_who_waits_leaves_the_task_running(manager: TaskManager, gate: threading.Event) -> None:
    task = manager.create_task("t", gate.wait)

    async def waits() -> None:
        await task

    aio_task = asyncio.ensure_future(waits())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    aio_task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await aio_task
    assert task.state == "running" and task.cancel_requested_at is None
    gate.set()
    assert await task is True


# Without a system call to interrupt: as one that arrives just before the sleep begins.
@pytest.mark.parametrize("wakes", [True, False], ids=["asleep", "falling-asleep"])
def test_an_interrupt_ends_the_wait_and_leaves_the_task_running(
    manager: TaskManager, gate: threading.Event, wakes: bool
) -> None:
    main = threading.main_thread().ident
    task = manager.create_task("t", gate.wait)

    def interrupt() -> None:
        wait_until(lambda: task.internals.relations is not None and task.internals.relations.waiters)
        time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGINT) if wakes else _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        task.wait()
    thread.join()
    assert task.state == "running" and not task.internals.relations.waiters
    gate.set()
    assert task.wait(30) is True


def test_so_does_one_that_comes_as_the_loop_of_the_wait_falls_asleep(manager: TaskManager) -> None:
    async def main() -> None:
        task = manager.create_task("t", asyncio.Event().wait)

        def interrupt() -> None:
            wait_until(lambda: task.internals.relations is not None and task.internals.relations.waiters)
            time.sleep(0.05)
            _thread.interrupt_main()

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            task.wait()
        thread.join()
        assert task.state == "running" and task.cancel()
        with pytest.raises(TaskCancelledError):
            await task

    loop = asyncio.new_event_loop()  # `asyncio.run` would turn the interrupt into a cancel
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_an_interrupt_ends_the_wait_and_not_what_the_loop_of_the_wait_runs(manager: TaskManager) -> None:
    computes, may_stop = threading.Event(), threading.Event()
    main_thread = threading.main_thread().ident

    async def work() -> str:
        while not may_stop.is_set():
            computes.set()
            time.sleep(0.05)  # it lets the other thread in, and so is where the interrupt comes
            await asyncio.sleep(0)
        return "its end"

    def interrupt() -> None:
        computes.wait(30)
        signal.pthread_kill(main_thread, signal.SIGINT)

    async def main() -> None:
        task = manager.create_task("t", work)
        computes.clear()  # what came before the wait is not what is asked for
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            task.wait()
        thread.join()
        assert task.state == "running" and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        may_stop.set()
        assert await task == "its end"

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_second_interrupt_reaches_work_that_never_lets_the_loop_turn(manager: TaskManager) -> None:
    computes = threading.Event()
    main_thread = threading.main_thread().ident

    async def work() -> None:
        await asyncio.sleep(0)
        computes.set()
        while True:
            pass

    def interrupt_twice() -> None:
        computes.wait(30)
        signal.pthread_kill(main_thread, signal.SIGINT)
        wait_until(lambda: getattr(signal.getsignal(signal.SIGINT), "__self__").received)  # noqa: B009
        signal.pthread_kill(main_thread, signal.SIGINT)

    async def main() -> None:
        task = manager.create_task("t", work)
        thread = threading.Thread(target=interrupt_twice)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            task.wait()
        thread.join()
        assert task.state == "failed" and isinstance(task.exception, KeyboardInterrupt)

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_many_wait_for_one(manager: TaskManager, gate: threading.Event) -> None:
    task = manager.create_task("t", gate.wait)
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(task.wait(30))) for _ in range(20)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(30)
    assert results == [True] * 20


def test_a_task_that_waits_is_cancelled_all_the_same(manager: TaskManager, gate: threading.Event) -> None:
    waiting = threading.Event()

    def parent(task: Task) -> None:
        child = task.create_child("child", gate.wait)
        waiting.set()
        child.wait()

    task = manager.create_task("parent", parent)
    assert waiting.wait(30)
    task.cancel(children=False)
    with pytest.raises(TaskCancelledError):
        task.wait(30)
    assert manager.lanes["default"].paused == 0


def test_what_work_leaves_behind_and_still_waits_lends_no_slot(manager: TaskManager, gate: threading.Event) -> None:
    import contextvars

    other = manager.create_task("other", gate.wait, lane="multiple")
    threads: list[threading.Thread] = []

    def work(task: Task) -> None:
        context = contextvars.copy_context()
        threads.append(threading.Thread(target=context.run, args=(other.wait, 30)))
        threads[0].start()
        wait_until(lambda: manager.lanes["single"].paused == 1)

    manager.create_task("t", work, lane="single").wait(30)
    assert manager.lanes["single"].paused == 0 and other.internals.wanted == 0
    gate.set()
    threads[0].join(30)
    assert manager._dispatcher.lanes.paused == 0


def test_wait_all_waits_for_an_older_record_that_is_added_meanwhile(
    manager: TaskManager, gate: threading.Event
) -> None:
    class Late(Task):
        def run(self) -> None:
            gate.wait(30)

    older = Late()
    first = threading.Event()
    manager.create_task("t", first.wait)
    waited = threading.Event()
    thread = threading.Thread(target=lambda: (manager.wait(timeout=30), waited.set()))
    thread.start()
    wait_until(lambda: manager._dispatcher.waiters.watermarks)
    manager.add_task(older)
    first.set()
    assert not waited.wait(0.05)
    gate.set()
    assert waited.wait(30)
    thread.join()


def test_a_task_may_wait_for_one_of_another_manager(manager: TaskManager) -> None:
    with TaskManager() as other:
        elsewhere = other.create_task("elsewhere", lambda: 7)
        assert manager.create_task("t", lambda: elsewhere.wait(30), lane="single").wait(30) == 7
        assert manager.lanes["single"].paused == 0
