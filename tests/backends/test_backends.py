"""Backends `loop` and `thread`: closed loops, reuse of threads, contexts of work."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from nbtasks import TaskFailedError, TaskManager
from nbtasks.backends.base import Attempt, Backend
from nbtasks.backends.loop import LoopBackend
from nbtasks.backends.thread import ThreadBackend
from nbtasks.callables import Once
from nbtasks.task import Outcome, Task
from tests.core.clocks import wait_until


class Noted(Attempt):
    """An attempt of which only the end is noted."""

    def finished(self, outcome: Outcome) -> None:
        self.outcome = outcome


def attempt(backend: Backend, function: Callable[..., Any], loop: asyncio.AbstractEventLoop | None = None) -> Noted:
    return Noted(Task(name="t"), function, (), backend, contextvars.copy_context(), loop)


@pytest.fixture
def own_loop() -> Any:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


# -- loops --------------------------------------------------------------------------------------------------------


def test_without_a_loop_or_on_a_closed_one_nothing_starts(own_loop: asyncio.AbstractEventLoop) -> None:
    backend = LoopBackend()
    with pytest.raises(TaskFailedError, match="'t' cannot run: there is no event loop for it"):
        backend.start(attempt(backend, asyncio.sleep))
    own_loop.close()
    on_closed = attempt(backend, asyncio.sleep, own_loop)
    with pytest.raises(TaskFailedError, match="'t' cannot run: Event loop is closed"):
        backend.start(on_closed)
    backend.interrupt(on_closed)
    backend.interrupt(attempt(backend, asyncio.sleep))
    assert not hasattr(on_closed, "outcome")


async def test_work_on_the_loop_is_interrupted_from_the_loop_itself_whether_it_has_begun_or_not() -> None:
    backend = LoopBackend()
    for turns in (0, 2):
        one = attempt(backend, partial(asyncio.sleep, 3600), asyncio.get_running_loop())
        backend.start(one)
        for _ in range(turns):
            await asyncio.sleep(0)
        backend.interrupt(one)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert one.outcome.state == "cancelled"
        backend.interrupt(one)


def test_what_waits_for_a_loop_that_is_closed_meanwhile_fails_and_the_next_one_takes_its_place(
    manager: TaskManager, own_loop: asyncio.AbstractEventLoop
) -> None:
    manager.resize_lane("single", 0)
    tasks = []

    async def create() -> None:
        tasks.extend(manager.create_task(f"t{number}", later, lane="single") for number in range(3))

    async def later() -> int:
        return 1

    own_loop.run_until_complete(create())
    own_loop.close()
    last = manager.create_task("last", lambda: 2, lane="single")
    manager.resize_lane("single", 1)
    assert last.wait(30) == 2
    says = "TaskFailedError: 't{}' cannot run: Event loop is closed"
    assert [task.error for task in tasks] == [says.format(number) for number in range(3)]


async def test_a_task_that_takes_the_place_of_another_runs_in_its_own_context_to_its_end(manager: TaskManager) -> None:
    who = contextvars.ContextVar("who", default="unset")

    async def at_once() -> str:
        who.set("at once")
        return who.get()

    async def waits() -> str:
        seen = [who.get()]
        who.set("waits")
        await asyncio.sleep(0)
        return " then ".join([*seen, who.get()])

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError(who.get())

    async def endless() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            who.set("cleaned up")

    async def swallows() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "swallowed"
        return "never"

    works = (at_once, waits, at_once, fails, at_once, endless, at_once, swallows, at_once)
    tasks = [manager.create_task(work.__name__, work, lane="single") for work in works]
    for task in (tasks[5], tasks[7]):
        while task.state != "running":
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    await manager.wait_all(timeout=30)
    results = [task.result if task.state == "completed" else task.error for task in tasks]
    assert results == [
        "at once", "unset then waits", "at once", "ValueError: unset", "at once", "cancelled", "at once",
        "swallowed", "at once",
    ]  # fmt: skip


async def test_a_future_that_work_returns_is_awaited(manager: TaskManager) -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = manager.create_task("t", lambda: future, backend="loop")
    await asyncio.sleep(0)
    future.set_result(7)
    assert await task == 7


def test_work_whose_loop_is_closed_before_it_begins_is_cancelled(own_loop: asyncio.AbstractEventLoop) -> None:
    backend, coroutine = LoopBackend(), asyncio.sleep(3600)
    one = attempt(backend, Once(coroutine), own_loop)
    backend.start(one)
    own_loop.close()
    assert one.outcome.state == "cancelled" and inspect.getcoroutinestate(coroutine) == "CORO_CLOSED"


async def test_work_is_an_asyncio_task_of_its_name_with_the_stack_of_the_work(manager: TaskManager) -> None:
    inside = asyncio.Event()

    async def outer() -> None:
        await inner()

    async def inner() -> None:
        inside.set()
        await asyncio.sleep(3600)

    task = manager.create_task("load", outer)
    await inside.wait()
    [aio_task] = [aio_task for aio_task in asyncio.all_tasks() if aio_task.get_name() == "load"]
    names, coroutine = [], aio_task.get_coro()
    while inspect.iscoroutine(coroutine):
        names.append(coroutine.__name__)
        coroutine = coroutine.cr_await
    assert names[-3:] == ["outer", "inner", "sleep"]
    task.cancel()
    await manager.wait_all(timeout=30)


# -- threads ------------------------------------------------------------------------------------------------------


def test_a_closed_thread_backend_starts_nothing() -> None:
    backend = ThreadBackend()
    backend.close()
    with pytest.raises(TaskFailedError, match="the thread backend is closed"):
        backend.start(attempt(backend, lambda: 1))


def test_threads_that_have_nothing_to_do_for_long_end_but_for_one() -> None:
    backend = ThreadBackend(idle_seconds=0.01)
    before = set(threading.enumerate())
    together = threading.Barrier(4)
    for _ in range(3):
        backend.call(together.wait)
    together.wait(30)
    wait_until(lambda: len(set(threading.enumerate()) - before) == 1)
    backend.close()
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_an_idle_thread_takes_the_next_job() -> None:
    backend = ThreadBackend()
    threads: list[threading.Thread] = []
    for number in range(1, 6):
        backend.call(lambda: threads.append(threading.current_thread()))
        wait_until(lambda number=number: len(threads) == number and len(backend._idle) == 1)
    assert len(set(threads)) == 1
    backend.close()
    threads[0].join(30)
    assert not threads[0].is_alive()


def test_a_thread_that_becomes_idle_while_the_backend_is_closed_ends() -> None:
    before = set(threading.enumerate())
    for _ in range(100):
        backend, entered = ThreadBackend(), threading.Event()
        backend.call(entered.set)
        entered.wait(30)
        backend.close()
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_jobs_from_many_threads_at_once_run_once_each() -> None:
    backend = ThreadBackend(idle_seconds=0.001)
    before = set(threading.enumerate())
    done: list[int] = []

    def callers(first: int) -> None:
        for number in range(first, first + 300):
            backend.call(partial(done.append, number))
            if number % 7 == 0:
                time.sleep(0.001)  # about as long as the idle ones stay

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=callers, args=(300 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(done) == 2_400)
    finally:
        sys.setswitchinterval(usual)
    assert sorted(done) == list(range(2_400))
    backend.close()
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_a_call_that_fails_is_logged_and_its_thread_lives(caplog: pytest.LogCaptureFixture) -> None:
    backend = ThreadBackend()
    with caplog.at_level(logging.ERROR, "nbtasks"):
        backend.call(lambda: 1 / 0)
        wait_until(lambda: "ZeroDivisionError" in caplog.text)
    names: list[str] = []
    done = threading.Event()
    backend.call(lambda: (names.append(threading.current_thread().name), done.set()))
    assert done.wait(30)
    backend.close()


def test_computing_threads_let_others_run_sooner_while_work_runs() -> None:
    backend = ThreadBackend()
    backend.switch_interval = 0.001
    usual = sys.getswitchinterval()
    one = attempt(backend, sys.getswitchinterval)
    backend.start(one)
    wait_until(lambda: hasattr(one, "outcome"))
    assert one.outcome.result == pytest.approx(0.001)
    wait_until(lambda: sys.getswitchinterval() == usual)
    backend.close()


def test_an_end_that_is_told_twice_is_logged_and_changes_nothing(
    manager: TaskManager, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    task = manager.create_task("t", gate.wait)
    first = task.internals.attempt
    gate.set()
    assert task.wait(30) is True
    first.finished(Outcome(task.state, 5))
    assert task.result is True and "was reported as finished twice" in caplog.text


def test_a_backend_that_starts_what_follows_says_what_stands_in_its_way() -> None:
    class Shut(ThreadBackend):
        def start(self, attempt: Attempt) -> None:
            raise TaskFailedError("shut")

    backend = Shut()
    one = attempt(backend, lambda: 1)
    backend.start_following(one)
    assert one.outcome.state == "failed" and str(one.outcome.exception) == "shut"
    assert repr(one).startswith("<Attempt 0 of <Task 't'")
