"""Memory of 100,000 tasks, and growth of the time per operation.

Where the peer is the same operation among fewer tasks, the ratio is the growth.
"""

from __future__ import annotations

import asyncio
import gc
import math
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.core import MICRO, nothing
from benchmarks.rows import Row, in_turns, seconds
from nbtasks import Task, TaskManager

SIZES = (1_000, 10_000, 100_000)
ROUNDS = 3


def memory_of_a_pending_task() -> Iterator[Row]:
    """Bytes (tracemalloc) of one of 100,000 coroutine functions that wait for their lane."""
    number = SIZES[-1]

    async def ours() -> float:
        with TaskManager(lanes={"shut": 0}) as manager:
            manager.create_task("first", nothing, lane="shut")
            before = _allocated()
            for _ in range(number):
                manager.create_task("waits", nothing, lane="shut")
            grown = _allocated() - before
            manager.resize_lane("shut", None)
            await manager.wait_all()
        return grown / number

    async def peer() -> float:
        slot = asyncio.Semaphore(0)

        async def limited() -> None:
            async with slot:
                await nothing()

        before = _allocated()
        waiting = [asyncio.create_task(limited()) for _ in range(number)]
        await asyncio.sleep(0)
        grown = _allocated() - before
        for aio_task in waiting:
            aio_task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return grown / number

    tracemalloc.start()
    try:
        measured = [asyncio.run(ours())], [asyncio.run(peer())]
    finally:
        tracemalloc.stop()
    yield Row(
        "memory of a pending task",
        *measured,
        beside="coroutine at a semaphore",
        unit="B",
        at_most=0.5,
        note="tracemalloc over 100,000; one round, it does not vary",
    )


def _allocated() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def hundred_thousand_tasks() -> Iterator[Row]:
    """From creation to end of no-op coroutines, at most ten at once; CPU time of the thread, per task."""

    async def each(number: int) -> float:
        with TaskManager() as manager:
            start = time.thread_time()
            for _ in range(number):
                manager.create_task("nothing", nothing, lane="multiple")
            await manager.wait_all()
            return MICRO * (time.thread_time() - start) / number

    def few() -> float:
        return statistics.median(asyncio.run(each(SIZES[0])) for _ in range(10))

    measured = in_turns(lambda: asyncio.run(each(SIZES[-1])), few, rounds=3)
    yield Row("each of 100,000 tasks (CPU)", *measured, beside="of 1,000", at_most=1.3)


def _cancel(manager: TaskManager, task: Task) -> None:
    manager.cancel_task(task)


def _prioritise(manager: TaskManager, task: Task) -> None:
    manager.set_priority(task, task.number % 11 - 5)


def _count(manager: TaskManager, _: Task) -> None:
    manager.get_stats()


LOGARITHMIC = math.log(SIZES[-1]) / math.log(SIZES[0])
CONSTANT = 1.0
NOISE = 1.2
"""Two measurements of one thing differ by as much here: caches hold a thousand tasks, and not a hundred thousand."""

OPERATIONS: list[tuple[str, Callable[[TaskManager, Task], None], float]] = [
    ("get_stats", _count, CONSTANT),
    ("set_priority of a pending task", _prioritise, LOGARITHMIC),
    ("cancel of a pending task", _cancel, LOGARITHMIC),
]


def operations_among_many() -> Iterator[Row]:
    """One operation among pending tasks, for a thousand, ten thousand and a hundred thousand of them."""
    times: dict[tuple[str, int], list[float]] = {(name, size): [] for name, _, _ in OPERATIONS for size in SIZES}
    for _ in range(ROUNDS):
        for size in SIZES:
            for name, microseconds in _operations_among(size).items():
                times[name, size].append(microseconds)
    for name, _, growth in OPERATIONS:
        few, some, most = (times[name, size] for size in SIZES)
        yield Row(
            f"{name}, among 100,000",
            most,
            few,
            beside="among 1,000",
            at_most=round(growth * NOISE, 1),
            note=f"{statistics.median(some):.3g} us among 10,000",
        )


def _operations_among(size: int) -> dict[str, float]:
    """Microseconds of each operation, the median of many, in a manager of its own."""
    chance = random.Random(size)
    with TaskManager(lanes={"shut": 0}, max_succeeded_tasks=None) as manager:
        tasks = [manager.create_task("waits", nothing, chance.randrange(-5, 5), lane="shut") for _ in range(size)]
        gc.collect()
        return {
            name: MICRO
            * statistics.median(seconds(partial(operate, manager, task)) for task in chance.sample(tasks, 500))
            for name, operate, _ in OPERATIONS
        }


ROWS = [memory_of_a_pending_task, hundred_thousand_tasks, operations_among_many]
