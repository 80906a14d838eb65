"""Work: what may be given, how it is called, and where it runs."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import operator
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from nbtasks import Retry, Task, TaskManager
from nbtasks import exceptions as errors
from tests.core.clocks import wait_until


class Callable:
    """An object that can be called."""

    def __call__(self, task: Task) -> str:
        return task.name

    def method(self) -> str:
        return "a method"

    async def later(self) -> str:
        return "a coroutine method"


class AsyncCallable:
    async def __call__(self) -> str:
        return "called asynchronously"


async def a_coroutine(value: Any = 7) -> Any:
    await asyncio.sleep(0)
    return value


def optional(flag: bool = False) -> bool:
    return flag


def optional_task(task: Task | None = None) -> bool:
    return task is not None


def anything(*args: Any) -> int:
    return len(args)


def by_keyword(**kwargs: Any) -> int:
    return len(kwargs)


def with_keyword_default(task: Task, *, verbose: bool = False) -> str:
    return task.name


# -- how it is called ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("work", "result"),
    [
        (lambda: 1, 1),
        (lambda task: task.name, "t"),
        (lambda whatever: whatever.name, "t"),
        (optional, False),
        (optional_task, True),
        (anything, 1),
        (by_keyword, 0),
        (with_keyword_default, "t"),
        (functools.partial(operator.add, 1, 2), 3),
        (functools.partial(lambda task, n: (task.name, n), n=2), ("t", 2)),
        (Callable(), "t"),
        (Callable().method, "a method"),
        (dict, {}),
        (a_coroutine, 7),
        (functools.partial(a_coroutine, 8), 8),
        (Callable().later, "a coroutine method"),
        (AsyncCallable(), "called asynchronously"),
        (lambda: a_coroutine(9), 9),
    ],
)
def test_work_takes_the_task_or_nothing(manager: TaskManager, work: Any, result: Any) -> None:
    assert manager.create_task("t", work).wait(30) == result


def test_a_coroutine_object_is_work_too(manager: TaskManager) -> None:
    assert manager.create_task("t", a_coroutine(5)).wait(30) == 5


def two(first: int, second: int) -> None:
    """Needs more than the task."""


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> Any:
    yield 1


class Kind(Task):
    def run(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (5, "work must be a function, a coroutine function or a coroutine object, not 5"),
        ("print", "not 'print'"),
        (None, "not None"),
        (two, "two needs first, second: work takes the task, or nothing"),
        (lambda *, needed: needed, "needs needed"),
        (generator, "generator is a generator function"),
        (async_generator, "async_generator is a generator function"),
        (Kind, r"Kind is a Task class: manager\.add_task"),
        (Kind(name="mine"), r"<Kind 'mine' .*> is a task already: manager\.add_task"),
    ],
)
def test_what_cannot_be_run_is_refused(manager: TaskManager, work: Any, says: str) -> None:
    with pytest.raises(errors.WorkError, match=says):
        manager.create_task("t", work)
    assert manager.list_tasks() == []


def test_a_coroutine_object_cannot_be_retried(manager: TaskManager) -> None:
    coroutine = a_coroutine()
    with pytest.raises(errors.RetryError, match="'once': a coroutine object runs once"):
        manager.create_task("once", coroutine, retry=Retry())
    coroutine.close()
    assert manager.list_tasks() == []


# -- where it runs ------------------------------------------------------------------------------------------------


def where() -> tuple[str, bool]:
    return threading.current_thread().name, asyncio._get_running_loop() is not None


async def where_later() -> tuple[str, bool]:
    return where()


@pytest.mark.parametrize(
    ("work", "backend", "thread", "on_a_loop"),
    [
        (where, None, "nbtasks-worker", False),
        (where, "thread", "nbtasks-worker", False),
        (where, "loop", "nbtasks-loop", True),
        (where_later, None, "nbtasks-loop", True),
        (where_later, "loop", "nbtasks-loop", True),
        (where_later, "thread", "nbtasks-worker", True),
    ],
)
def test_functions_go_to_a_thread_and_coroutines_to_the_loop_unless_it_is_said_otherwise(
    manager: TaskManager, work: Any, backend: str | None, thread: str, on_a_loop: bool
) -> None:
    task = manager.create_task("t", work, backend=backend)
    name, loop = task.wait(30)
    assert name.startswith(thread) and loop is on_a_loop
    assert task.backend == (backend or ("thread" if work is where else "loop"))


async def test_a_coroutine_runs_on_the_running_loop(manager: TaskManager) -> None:
    async def work() -> Any:
        return asyncio.get_running_loop()

    loop = asyncio.get_running_loop()
    assert await manager.create_task("t", work) is loop
    assert await manager.create_task("t", lambda: work()) is loop  # awaited there, as part of the task


async def test_a_coroutine_of_another_thread_runs_on_the_loop_that_the_manager_was_given() -> None:
    loop = asyncio.get_running_loop()

    async def work() -> Any:
        return asyncio.get_running_loop()

    with TaskManager(loop=loop) as manager:
        created: list[Task] = []
        thread = threading.Thread(target=lambda: created.append(manager.create_task("t", work)))
        thread.start()
        thread.join()
        assert await created[0] is loop


def test_an_awaitable_that_a_plain_function_returns_is_part_of_the_work(manager: TaskManager) -> None:
    async def fails() -> None:
        raise ValueError("in the second half")

    with pytest.raises(ValueError, match="in the second half"):
        manager.create_task("t", lambda: fails()).wait(30)
    slow = manager.create_task("slow", lambda: asyncio.sleep(3600))
    while slow.internals.attempt.backend.name != "loop":
        pass
    assert slow.cancel() and not manager.wait(slow, timeout=30) and slow.state == "cancelled"


def test_coroutines_in_threads_have_loops_of_their_own_and_are_cancelled_there(manager: TaskManager) -> None:
    inside = threading.Event()

    async def work() -> None:
        inside.set()
        await asyncio.sleep(3600)

    task = manager.create_task("t", work, backend="thread")
    assert inside.wait(30)
    task.cancel()
    manager.wait(task, timeout=30)
    assert task.state == "cancelled"


def test_a_coroutine_that_computes_in_a_thread_is_stopped_all_the_same(manager: TaskManager) -> None:
    inside = threading.Event()

    async def work() -> None:
        inside.set()
        while True:
            pass

    task = manager.create_task("t", work, backend="thread")
    assert inside.wait(30)
    task.cancel()
    manager.wait(task, timeout=30)
    assert task.state == "cancelled"


async def test_coroutines_in_threads_clean_up_whatever_was_done_to_asyncio(manager: TaskManager) -> None:
    manager.create_task("nested", asyncio.sleep(0)).wait(30)  # a wait that replaces `asyncio.run`
    cleaned_up: list[asyncio.AbstractEventLoop] = []

    async def left_behind() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned_up.append(asyncio.get_running_loop())

    async def work() -> None:
        asyncio.get_running_loop().kept = asyncio.ensure_future(left_behind())
        await asyncio.sleep(0)

    await manager.create_task("t", work, backend="thread")
    assert len(cleaned_up) == 1 and cleaned_up[0].is_closed()


def test_work_runs_in_the_context_of_who_created_it(manager: TaskManager) -> None:
    who = contextvars.ContextVar("who", default="none")
    token = who.set("creator")
    tasks = [manager.create_task("t", who.get), manager.create_task("t", a_coroutine_that_reads(who))]
    who.reset(token)
    assert [task.wait(30) for task in tasks] == ["creator"] * 2


async def a_coroutine_that_reads(variable: contextvars.ContextVar[str]) -> str:
    return variable.get()


# -- fire and forget ----------------------------------------------------------------------------------------------


async def test_a_coroutine_object_is_started_and_tracked_with_one_call(manager: TaskManager) -> None:
    done: list[int] = []

    async def job(number: int) -> None:
        await asyncio.sleep(0.001)
        done.append(number)

    for number in range(5):
        manager.create_task(f"job {number}", job(number), lane="multiple")
    assert len(manager.active_tasks) == 5
    await manager.wait_all(timeout=30)
    assert sorted(done) == [0, 1, 2, 3, 4] and len(manager.active_tasks) == 0


async def test_a_task_without_references_is_not_garbage_collected(manager: TaskManager) -> None:
    ends: list[str] = []
    futures: list[asyncio.Future[None]] = []

    async def job() -> None:
        futures.append(asyncio.get_running_loop().create_future())  # nothing but the task waits for it
        try:
            await futures[0]
            ends.append("completed")
        except BaseException as error:
            ends.append(repr(error))
            raise

    manager.create_task("job", job())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for _ in range(3):
        gc.collect()
    assert ends == [] and manager.get_stats()["running"] == 1
    futures[0].set_result(None)
    await manager.wait_all(timeout=30)
    assert ends == ["completed"]


def test_a_failure_without_a_waiter_is_logged_with_its_traceback(
    manager: TaskManager, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks() -> None:
        raise RuntimeError("deep inside")

    manager.create_task("broken", breaks)
    manager.wait(timeout=30)
    wait_until(lambda: caplog.records)
    [record] = [record for record in caplog.records if record.name == "nbtasks"]
    assert record.levelname == "ERROR" and record.getMessage() == "task 'broken' failed: RuntimeError: deep inside"
    assert record.exc_info is not None and "in breaks" in caplog.text


def test_functions_of_one_decorator_take_the_task_or_not_each_for_itself(manager: TaskManager) -> None:
    def decorated(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            return function(*args)

        return call

    works = [decorated(lambda: "nothing"), decorated(lambda task: task.name), decorated(lambda: "nothing again")]
    assert [manager.create_task("t", work).wait(30) for work in works] == ["nothing", "t", "nothing again"]
