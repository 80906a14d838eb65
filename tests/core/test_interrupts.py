"""Interrupts of worker threads: where they are raised, and no trace of them."""

from __future__ import annotations

import asyncio
import itertools
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbtasks import Task, TaskManager
from nbtasks import interrupts as threads
from nbtasks.exceptions import TaskCancelledError
from nbtasks.interrupts import Gate, TaskInterrupt, run_in_own_loop
from tests.core.clocks import wait_until

ROOT = Path(__file__).parent.parent.parent

PROFILE_AFTER = """
import cProfile, threading
from nbtasks.interrupts import Gate, TaskInterrupt
def work(gate, interrupted):
    gate.enter("work")
    if interrupted:
        gate.interrupt("work")
def profiled(interrupted):
    gate = Gate()
    try:
        work(gate, interrupted)
    except TaskInterrupt:
        print("interrupted")
    gate.leave()
    cProfile.Profile().runctx("f()", {"f": lambda: None}, {})
    print("profiled")
thread = threading.Thread(target=profiled, args=(INTERRUPTED,))
thread.start()
thread.join()
"""


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_profiler_ends_after_a_thread_has_closed_its_gate(interrupted: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROFILE_AFTER.replace("INTERRUPTED", str(interrupted))],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=30,
    )
    assert done.stdout.split() == (["interrupted"] if interrupted else []) + ["profiled"]


def in_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_an_interrupt_on_its_way_is_raised_before_the_loop_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised inside asyncio's own code, it would be logged there and lost."""
    raise_in, under_way, began = threads._raise_in, threading.Event(), threading.Event()

    def raise_late(thread_id: int, exception: type[BaseException]) -> None:
        if not under_way.is_set():
            under_way.set()
            began.wait(0.5)  # in vain: the coroutine must not begin
        raise_in(thread_id, exception)

    monkeypatch.setattr(threads, "_raise_in", raise_late)
    outcomes: list[object] = []

    async def work() -> None:
        began.set()

    def worker() -> None:
        gate = Gate()
        try:
            gate.enter("work")
            other = threading.Thread(target=gate.interrupt, args=("work",))
            other.start()
            under_way.wait(30)
            run_in_own_loop(work())
        except TaskInterrupt:
            outcomes.append("interrupted")
        gate.leave()
        other.join()

    in_thread(worker)
    assert outcomes == ["interrupted"] and not began.is_set()


def test_a_stuck_loop_is_interrupted_and_none_that_came_after_it() -> None:
    outcomes: list[object] = []

    def worker() -> None:
        gate = Gate()
        gate.enter("work")
        stuck = gate.on_interrupt = threads._Canceller(gate)
        try:
            assert gate.interrupt_stuck(stuck)
            threads._checkpoint()
        except TaskInterrupt:
            outcomes.append("interrupted")
        gate.on_interrupt = threads._Canceller(gate)
        outcomes.append(gate.interrupt_stuck(stuck))
        threads._checkpoint()
        gate.leave()

    in_thread(worker)
    assert outcomes == ["interrupted", False]


def _lock() -> tuple[Callable[[], object], object]:
    lock = threading.Lock()

    def work() -> None:
        with lock:
            pass

    return work, lock


def _reentrant_lock() -> tuple[Callable[[], object], object]:
    lock = threading.RLock()

    def work() -> None:
        with lock:
            len("")

    return work, lock


def _condition() -> tuple[Callable[[], object], object]:
    condition = threading.Condition()

    def work() -> None:
        with condition:
            pass

    return work, condition


def _queue() -> tuple[Callable[[], object], object]:
    shared: queue.Queue[int] = queue.Queue()

    def work() -> None:
        shared.put(1)
        shared.get()

    return work, shared.mutex


@pytest.mark.parametrize("make", [_lock, _reentrant_lock, _condition, _queue])
def test_a_cancelled_task_leaves_no_lock_locked(manager: TaskManager, make: Callable[[], Any]) -> None:
    work, lock = make()

    def repeat(task: Task) -> None:
        turns = itertools.count()
        while True:
            work()
            task.internals.body = next(turns)  # type: ignore[assignment]

    for _ in range(20):
        task = manager.create_task("locks", repeat)
        wait_until(lambda: isinstance(task.internals.body, int) and task.internals.body > 100)  # noqa: B023
        task.cancel()
        with pytest.raises(TaskCancelledError):
            task.wait(30)
        assert lock.acquire(timeout=5), "the lock is left locked"
        lock.release()


def test_a_task_that_waits_in_an_enter_of_its_own_can_be_cancelled(manager: TaskManager) -> None:
    begun = threading.Event()

    class Slow:
        def __enter__(self) -> None:
            begun.set()
            while True:
                pass

        def __exit__(self, *_: object) -> None:
            pass

    def work() -> None:
        with Slow():
            pass

    task = manager.create_task("slow", work)
    assert begun.wait(30)
    task.cancel()
    with pytest.raises(TaskCancelledError):
        task.wait(30)


def test_a_loop_that_begins_to_wait_while_it_is_taken_for_stuck_is_interrupted(
    manager: TaskManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine it may call back too late, and wait before the exception is set."""
    called, begun = threading.Event(), threading.Event()

    def is_set_soon(_: threading.Event) -> bool:
        called.wait(60)
        time.sleep(0.1)  # it waits again
        return False

    monkeypatch.setattr(threads._LoopInterrupter, "_raise", lambda _: called.set())
    monkeypatch.setattr(threads, "_is_set_soon", is_set_soon)

    async def main() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = manager.create_task("loop", lambda: asyncio.run(main()))
    assert begun.wait(60)
    task.cancel()
    with pytest.raises(TaskCancelledError):
        task.wait(60)


@pytest.mark.parametrize("is_stuck", [False, True])
def test_work_that_runs_an_event_loop_of_its_own_is_cancelled(manager: TaskManager, is_stuck: bool) -> None:
    begun = threading.Event()

    async def main() -> None:
        begun.set()
        while is_stuck:
            pass
        await asyncio.Event().wait()

    task = manager.create_task("loop", lambda: asyncio.run(main()))
    assert begun.wait(60)
    task.cancel()
    with pytest.raises(TaskCancelledError):
        task.wait(60)
    assert manager.create_task("next", lambda: "its thread is free").wait(60) == "its thread is free"


NESTED = """
import asyncio, threading
import nest_asyncio2
from nbtasks import TaskCancelledError, TaskManager

nest_asyncio2.apply(asyncio.new_event_loop())
begun = threading.Event()

async def main():
    begun.set()
    await asyncio.Event().wait()

with TaskManager() as manager:
    task = manager.create_task("loop", lambda: asyncio.run(main()))
    assert begun.wait(60)
    task.cancel()
    try:
        task.wait(60)
    except TaskCancelledError:
        print("cancelled")
"""


def test_a_loop_is_cancelled_also_where_loops_nest() -> None:
    """In a process of its own: `nest_asyncio2` changes asyncio for good."""
    ended = subprocess.run([sys.executable, "-c", NESTED], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.stdout, ended.stderr) == ("cancelled\n", "")
