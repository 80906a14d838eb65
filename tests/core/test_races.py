"""Many threads at once: one final state per task, events in a legal order."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator

import pytest

from nbtasks import EventType, Task, TaskManager, TaskState
from nbtasks.states import FINAL_STATES

FINALS = {EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED}


@pytest.fixture(autouse=True)
def short_switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def is_legal(events: list[EventType]) -> bool:
    """Created first; started at most once and before the end; one end, which is the last."""
    if events[0] is not EventType.CREATED or events[-1] not in FINALS:
        return False
    middle = events[1:-1]
    if middle not in ([], [EventType.STARTED]):
        return False
    return bool(middle) or events[-1] is EventType.CANCELLED


def test_a_thousand_tasks_from_eight_threads_with_random_cancels() -> None:
    received: dict[Task, list[EventType]] = defaultdict(list)
    running: dict[str, int] = defaultdict(int)
    most: dict[str, int] = defaultdict(int)
    with TaskManager(max_succeeded_tasks=None) as manager:

        def tell(task: Task, event: EventType) -> None:  # the work cannot count: a cancel interrupts it anywhere
            if event is EventType.STARTED:
                running[task.lane] += 1
                most[task.lane] = max(most[task.lane], running[task.lane])
            elif EventType.STARTED in received[task]:
                running[task.lane] -= 1
            received[task].append(event)

        subscription = manager.add_event_callback(tell)

        def work(task: Task) -> str:
            for _ in range(random.randrange(200)):
                task.progress = 50
            if random.random() < 0.1:
                raise ValueError(task.name)
            return task.name

        async def slow(task: Task) -> str:
            await asyncio.sleep(random.random() / 500)
            return task.name

        def create(worker: int) -> None:
            mine = []
            for number in range(125):
                lane = random.choice(["single", "multiple", "default"])
                kind = slow if random.random() < 0.3 else work
                mine.append(manager.create_task(f"{worker}-{number}", kind, random.randrange(5), lane=lane))
                if random.random() < 0.4:
                    manager.cancel_task(random.choice(mine))
                if random.random() < 0.2:
                    manager.set_priority(random.choice(mine), random.randrange(5))

        workers = [threading.Thread(target=create, args=(worker,)) for worker in range(8)]
        for thread in workers:
            thread.start()
        for thread in workers:
            thread.join()
        manager.wait(timeout=60)
        tasks = manager.list_tasks()
        stats = manager.get_stats()
        assert subscription.drain(timeout=60)

    assert len(tasks) == 1_000 and all(task.state in FINAL_STATES for task in tasks)
    assert stats["total"] == 1_000 and stats["pending"] == stats["running"] == 0
    assert {task: received[task] for task in tasks if not is_legal(received[task])} == {}
    assert all(received[task][-1] == task.state.value for task in tasks)
    assert all(task.result == task.name for task in tasks if task.state is TaskState.COMPLETED)
    assert most["single"] == 1 and most["default"] <= 3 and most["multiple"] <= 10 and not any(running.values())


def test_a_cancel_that_meets_the_end_leaves_the_worker_and_the_lock_whole() -> None:
    with TaskManager(lanes={"default": 4}, max_succeeded_tasks=None) as manager:
        for _ in range(300):
            entered = threading.Event()

            def work(entered: threading.Event = entered) -> int:
                entered.set()
                return sum(range(200))

            task = manager.create_task("short", work)
            entered.wait()
            task.cancel()
        manager.wait(timeout=60)
        assert {task.state for task in manager.list_tasks()} <= {TaskState.COMPLETED, TaskState.CANCELLED}
        assert manager.create_task("after", lambda: 42).wait(timeout=60) == 42


def test_waits_and_ends_from_many_threads_lose_no_wake_up() -> None:
    with TaskManager(lanes={"default": 8}) as manager:
        results: list[int] = []

        def waits(number: int) -> None:
            for turn in range(60):
                task = manager.create_task("turn", lambda turn=turn: turn)
                results.append(task.wait(timeout=60) - turn)

        threads = [threading.Thread(target=waits, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
        assert results == [0] * 480


def test_a_task_made_while_others_are_told_of_an_end_runs_once() -> None:
    """Decisions made under the lock are carried out by one thread only."""
    runs: list[str] = []
    over = threading.Event()

    class Noted(Task):
        def run(self) -> None:
            raise ValueError("on purpose")

        def on_failure(self) -> None:
            manager.create_task("made meanwhile", lambda: runs.append("once")).wait(5)
            over.set()

    with TaskManager() as manager:
        manager.add_task(Noted())
        assert over.wait(5)
        manager.wait()
    assert runs == ["once"]
