"""What a manager does as a `concurrent.futures.Executor`."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, InvalidStateError, as_completed, wait
from pathlib import Path

import pytest

from nbtasks import Retry, TaskManager, TaskState, WaitTimeoutError, current_task
from nbtasks.exceptions import (
    InvalidValueError,
    LaneError,
    ManagerStoppedError,
    NbtasksError,
    UnknownLaneError,
    WorkError,
)
from tests.matrix import find_python

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def manager():
    with TaskManager() as manager:
        yield manager


@pytest.fixture
def executor(manager):
    with manager.as_executor(max_workers=4) as executor:
        yield executor


@pytest.fixture
def gate():
    """Holds up the calls that wait for it, until the test is over at the latest."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.mark.long
def test_cpythons_own_tests_of_executors_pass():
    found = find_python("3.13")
    python = None if found is None or found.root is not None else found.path
    has_tests = [str(python), "-c", "import test.test_concurrent_futures.executor"]
    if python is None or subprocess.run(has_tests, capture_output=True, check=False).returncode:
        pytest.skip("they come with the `test` package of CPython 3.13, which this machine lacks")
    runs = {
        case: subprocess.Popen(
            [python, "-m", "unittest", "-v", f"tests.core.cpython_executors.{case}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for case in ("CallTest", "WaitTest", "AsCompletedTest", "ShutdownTest")
    }
    reports = {case: run.communicate()[0] for case, run in runs.items()}
    assert {case: reports[case][-4000:] for case, run in runs.items() if run.returncode} == {}
    assert sum(text.count("... ") for text in reports.values()) >= 33, "a family of tests was not found"


def test_each_call_is_a_task_that_is_called_like_its_function(manager, executor):
    future = executor.submit(divmod, 17, 5)
    assert future.result(10) == (3, 2)
    assert future.task in manager.list_tasks()
    assert (future.task.name, future.task.state, future.task.result) == ("divmod", "completed", (3, 2))


@pytest.mark.parametrize("name", [None, "", 7])
def test_a_callable_without_a_name_of_its_own_gives_the_call_that_of_its_class(executor, name):
    class Doubled:
        def __call__(self, x):
            return 2 * x

    double = Doubled()
    if name is not None:
        double.__name__ = name
    future = executor.submit(double, 4)
    assert future.result() == 8
    assert future.task.name == "Doubled"


def test_a_call_in_a_lane_that_was_removed_is_refused_and_holds_up_no_shutdown(manager):
    manager.add_lane("short", 1)
    executor = manager.as_executor(lane="short")
    manager.remove_lane("short")
    with pytest.raises(UnknownLaneError, match="short"):
        executor.submit(divmod, 7, 2)
    executor.shutdown()
    assert manager.list_tasks() == []


def test_a_call_knows_its_task(executor):
    def work(body):
        current_task().body = body
        return current_task().id

    future = executor.submit(work, "half-way")
    assert future.result(10) == future.task.id
    assert future.task.body == "half-way"


def test_a_coroutine_functions_future_has_what_it_returns_in_the_end(executor):
    async def later(x):
        await asyncio.sleep(0)
        return x, threading.current_thread().name

    assert executor.submit(later, 7).result(10) == (7, "nbtasks-loop")


def test_no_more_calls_run_at_once_than_it_has_workers(manager, gate):
    with manager.as_executor(max_workers=2) as executor:
        futures = [executor.submit(gate.wait, 10) for _ in range(5)]
        assert [future.running() for future in futures] == [True, True, False, False, False]
        gate.set()
        assert wait(futures, timeout=10).not_done == set()


def test_a_lane_of_its_own_is_gone_when_it_was_shut_down(manager):
    before = set(manager.lanes)
    with manager.as_executor(max_workers=2) as executor:
        executor.submit(str)
        assert set(manager.lanes) > before
    assert set(manager.lanes) == before


def test_executors_of_one_lane_share_its_limit_with_all_its_tasks(manager, gate):
    manager.create_task("first", lambda: gate.wait(10), lane="single")
    with manager.as_executor(lane="single") as executor:
        future = executor.submit(str)
        assert future.task.state == "pending"
        gate.set()
        assert future.result(10) == ""


def test_its_options_hold_for_each_call(manager):
    tries = []

    def work():
        tries.append(current_task().priority)
        raise OSError("no")

    with manager.as_executor(priority=7, retry=Retry(attempts=2, delay=0.001), tags="calls") as executor:
        future = executor.submit(work)
        assert isinstance(future.exception(10), OSError)
    assert tries == [7, 7]
    assert manager.search_tasks(tags="calls") == [future.task]


def test_a_call_that_takes_longer_than_its_time_out_fails(manager):
    def work():
        while True:
            pass

    with manager.as_executor(timeout=0.05) as executor:
        assert isinstance(executor.submit(work).exception(10), TimeoutError)


def test_cancel_takes_back_what_has_not_begun_and_nothing_else(manager, gate):
    with manager.as_executor(max_workers=1) as executor:
        running, pending = executor.submit(gate.wait, 10), executor.submit(str)
        assert (running.cancel(), pending.cancel(), pending.cancel()) == (False, True, True)
        assert pending.cancelled() and pending.done() and pending.task.state == "cancelled"
        with pytest.raises(CancelledError):
            pending.result(10)
        gate.set()
        assert running.result(10) is True


def test_by_its_task_a_running_call_is_stopped(executor):
    started = threading.Event()

    def work():
        started.set()
        while True:
            pass

    future = executor.submit(work)
    assert started.wait(10)
    assert future.task.cancel()
    with pytest.raises(CancelledError):
        future.result(10)
    assert future.cancelled()


def test_a_failure_is_raised_where_the_result_is_asked_for_and_not_logged_besides(executor, caplog):
    with caplog.at_level(logging.DEBUG, "nbtasks"):
        future = executor.submit(divmod, 1, 0)
        with pytest.raises(ZeroDivisionError):
            future.result(10)
    assert (future.task.state, caplog.records) == ("failed", [])


def test_a_result_that_takes_too_long_is_a_timeout_and_the_call_continues(executor, gate):
    future = executor.submit(gate.wait, 10)
    with pytest.raises(TimeoutError, match=r"timed out after 0\.01 s; still running: 'wait'"):
        future.result(0.01)
    gate.set()
    assert future.result(10) is True


def test_who_waits_for_a_call_that_is_tried_again_waits_for_its_last_try(manager):
    tries = []

    def work():
        tries.append(1)
        if len(tries) < 3:
            raise OSError("once more")
        return len(tries)

    with manager.as_executor(retry=Retry(attempts=3, delay=0.02)) as executor:
        assert executor.submit(work).result(30) == 3


def test_results_live_no_longer_than_their_futures(manager, executor):
    class Big:
        pass

    future = executor.submit(Big)
    kept = weakref.ref(future.result(10))
    assert kept() is not None
    del future
    gc.collect()
    assert kept() is None


def test_errors_live_no_longer_than_their_futures(manager, executor):
    class TroubleError(Exception):
        pass

    def work():
        raise TroubleError("deep")

    future = executor.submit(work)
    kept = weakref.ref(future.exception(10))
    del future
    gc.collect()
    assert kept() is None
    assert [task.error for task in manager.list_tasks("failed")] == ["TroubleError: deep"]


def test_who_has_the_task_has_its_result_too(executor):
    task = executor.submit(divmod, 17, 5).task
    assert task.wait(10) == (3, 2)
    assert task.result == (3, 2)


def test_a_call_that_waits_for_a_call_lends_it_its_slot(manager):
    def outer(executor):
        return executor.submit(divmod, 17, 5).result(10)

    with manager.as_executor(max_workers=1) as executor:
        assert executor.submit(outer, executor).result(10) == (3, 2)


async def test_a_result_of_the_loop_that_asks_keeps_that_loop_turning(manager):
    async def work():
        await asyncio.sleep(0.001)
        return 7

    with manager.as_executor(backend="loop") as executor:
        assert executor.submit(work).result(10) == 7
        executor.submit(work)  # and so does the end of the `with`


async def test_asyncio_awaits_its_futures(executor):
    assert await asyncio.wrap_future(executor.submit(divmod, 17, 5)) == (3, 2)
    assert await asyncio.get_running_loop().run_in_executor(executor, divmod, 9, 4) == (2, 1)


def test_callbacks_are_called_whatever_another_one_does(executor, caplog):
    reports = []
    future = executor.submit(str)
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(reports.append)
    executor.shutdown()
    assert reports == [future]


def test_a_shutdown_waits_for_callbacks_too(manager, gate):
    executor = manager.as_executor(max_workers=1)
    begun, over = threading.Event(), []
    future = executor.submit(gate.wait, 30)
    future.add_done_callback(lambda _: (begun.set(), may_end.wait(30), over.append("callback")))
    may_end = threading.Event()
    gate.set()
    assert begun.wait(30) and future.result(30)
    closing = threading.Thread(target=lambda: (executor.shutdown(), over.append("shutdown")))
    closing.start()
    manager.wait(future.task)
    may_end.set()
    closing.join(30)
    assert over == ["callback", "shutdown"]


def test_map_gives_its_calls_in_chunks(manager):
    with manager.as_executor(max_workers=2) as executor:
        assert list(executor.map(pow, range(10), [2] * 10, chunksize=4)) == [x**2 for x in range(10)]
    assert [task.name for task in manager.list_tasks()] == ["pow"] * 3


def test_map_awaits_coroutines_in_chunks_too(executor):
    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    assert list(executor.map(double, range(5), chunksize=2)) == [0, 2, 4, 6, 8]


def test_what_map_has_not_begun_is_taken_back_when_a_result_takes_too_long(manager, gate):
    with manager.as_executor(max_workers=1) as executor:
        begun = []
        results = executor.map(lambda x: (begun.append(x), gate.wait(10)), range(5), timeout=0.05)
        with pytest.raises(TimeoutError):
            next(results)
        gate.set()
    assert begun == [0]
    assert manager.get_stats()["cancelled"] == 4


def test_shutdown_takes_back_what_has_not_begun_if_asked(manager, gate):
    executor = manager.as_executor(max_workers=1)
    running, pending = executor.submit(gate.wait, 10), executor.submit(str)
    executor.shutdown(wait=False, cancel_futures=True)
    assert (running.running(), pending.cancelled()) == (True, True)
    gate.set()
    executor.shutdown()
    assert running.result(0) is True


def test_calls_go_on_after_a_shutdown_that_does_not_wait(manager, gate):
    executor = manager.as_executor(max_workers=1)
    futures = [executor.submit(gate.wait, 10) for _ in range(3)]
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(str)
    gate.set()
    assert [future.result() for future in as_completed(futures, timeout=10)] == [True] * 3


def test_a_manager_that_stops_cancels_its_calls_and_takes_no_more(gate):
    manager = TaskManager()
    executor = manager.as_executor(max_workers=1)
    started = threading.Event()

    def work():
        started.set()
        while True:
            pass

    futures = [executor.submit(work), executor.submit(str)]
    assert started.wait(10)
    manager.stop()
    assert [future.cancelled() for future in futures] == [True, True]
    with pytest.raises(ManagerStoppedError):
        executor.submit(str)
    executor.shutdown()


def test_a_shutdown_that_is_asked_for_in_a_call_of_its_own_is_a_clear_error(executor):
    with pytest.raises(NbtasksError, match="deadlock"):
        executor.submit(executor.shutdown).result(10)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lane": "nowhere"}, InvalidValueError, "unknown lane 'nowhere'"),
        ({"backend": "nowhere"}, InvalidValueError, "unknown backend 'nowhere'"),
        ({"max_workers": 0}, InvalidValueError, "max_workers must be greater than 0, not 0"),
        ({"max_workers": 2.5}, InvalidValueError, "max_workers must be a whole number, not 2.5"),
        ({"max_workers": 2, "lane": "single"}, InvalidValueError, "a lane or max_workers, not both"),
        ({"priority": "high"}, InvalidValueError, "priority must be a whole number"),
        ({"timeout": -1}, InvalidValueError, "timeout must be a number of seconds, more than 0"),
        ({"retry": 3}, InvalidValueError, "retry must be a Retry"),
        ({"workers": 3}, TypeError, "workers"),
    ],
)
def test_wrong_options_are_refused_and_leave_nothing_behind(manager, options, error, message):
    lanes = set(manager.lanes)
    with pytest.raises(error, match=message):
        manager.as_executor(**options)
    assert set(manager.lanes) == lanes


def test_wrong_calls_are_refused_with_nothing_started(manager, executor):
    with pytest.raises(WorkError, match="submit takes a function and its arguments, not 'pow'"):
        executor.submit("pow", 1, 2)
    with pytest.raises(WorkError, match="map takes a function and what to call it with, not None"):
        executor.map(None, [1])
    with pytest.raises(InvalidValueError, match="chunksize must be a whole number from 1 on, not 0"):
        executor.map(str, [1], chunksize=0)
    assert manager.list_tasks() == []


def test_a_future_is_settled_by_the_manager_alone(executor, gate):
    future = executor.submit(gate.wait, 10)
    for change in (lambda: future.set_result(1), lambda: future.set_exception(OSError())):
        with pytest.raises(InvalidStateError, match="follows its task"):
            change()
    assert future.task.state is TaskState.RUNNING


def test_an_interpreter_that_exits_waits_for_calls_but_not_for_ever(tmp_path):
    script = """
import threading, time
from nbtasks import get_manager
executor = get_manager().as_executor(max_workers=2)
executor.submit(threading.Event().wait)
executor.submit(lambda: (time.sleep(0.5), print("whole", flush=True)))
"""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    cut_off = "nbtasks: the end of the process has cut off 1 unfinished task: 'wait' (running)\n"
    assert (done.stdout, done.stderr) == ("whole\n", cut_off)
    assert time.monotonic() - start > 2, "the call that never ends was given up at once"


def test_it_says_what_it_is(manager, gate):
    executor = manager.as_executor("single")
    future = executor.submit(gate.wait, 10)
    assert repr(executor) == "<TaskExecutor in the lane 'single': 1 unfinished, open>"
    assert repr(future) == f"<TaskFuture of {future.task!r}>"
    with pytest.raises(WaitTimeoutError):
        manager.wait(future.task, timeout=0.01)
    gate.set()
    executor.shutdown()
    assert repr(executor) == "<TaskExecutor in the lane 'single': 0 unfinished, shut down>"


def test_its_own_lane_cannot_be_removed_under_it(manager, gate):
    with manager.as_executor(max_workers=1) as executor:
        future = executor.submit(gate.wait, 10)
        with pytest.raises(LaneError, match="in use"):
            manager.remove_lane(future.task.lane)
        gate.set()
