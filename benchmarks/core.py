"""Costs of a task beside its peers: start, lanes, events, 10,000 tasks.

Wall time; each number is the median of many single ones or the mean of ten thousand. aiojobs is in none of the extras:
its rows are there where it is installed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import statistics
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.rows import Row, in_turns
from nbtasks import EventType, TaskManager

MICRO = 1e6
SINGLES = 500
MANY = 10_000
LIMIT = 10


async def nothing() -> None:
    """Work that does nothing."""


def nothing_plain() -> None:
    """The same for a thread."""


def _has_aiojobs() -> bool:
    return importlib.util.find_spec("aiojobs") is not None


def _aiojobs() -> Any:
    return importlib.import_module("aiojobs")


def start_of_a_coroutine_task() -> Iterator[Row]:
    """From the call to the first line of the work, one at a time, asked for on the loop that runs it."""

    async def starts(ask: Callable[[Callable[[], Coroutine[None, None, None]]], Any], is_async: bool = False) -> float:
        began: list[float] = []

        async def work() -> None:
            began.append(time.perf_counter())

        submitted = []
        for _ in range(SINGLES):
            submitted.append(time.perf_counter())
            kept = await ask(work) if is_async else ask(work)
            for _ in range(4):  # it is over before the next one starts
                await asyncio.sleep(0)
            del kept
        return MICRO * statistics.median(b - a for a, b in zip(submitted, began, strict=True))

    def ours() -> float:
        with TaskManager() as manager:
            return asyncio.run(starts(lambda work: manager.create_task("noted", work)))

    def peer() -> float:
        return asyncio.run(starts(lambda work: asyncio.create_task(work())))

    async def peer_with_jobs() -> float:
        async with _aiojobs().Scheduler(limit=LIMIT) as scheduler:
            return await starts(lambda work: scheduler.spawn(work()), is_async=True)

    name = "start of a coroutine task"
    yield Row(name, *in_turns(ours, peer), beside="asyncio.create_task", at_most=3)
    if _has_aiojobs():  # four microseconds less: a job has neither a record nor a queue to be found in
        yield Row(name, *in_turns(ours, lambda: asyncio.run(peer_with_jobs())), beside="aiojobs", at_most=2)


def start_of_a_thread_task() -> Iterator[Row]:
    """From the call to the first line of the work, one at a time, in a thread that exists already."""

    def starts(ask: Callable[[Callable[[], None]], object]) -> float:
        began: list[float] = []
        over = threading.Semaphore(0)

        def work() -> None:
            began.append(time.perf_counter())
            over.release()

        submitted = []
        for _ in range(SINGLES):
            submitted.append(time.perf_counter())
            kept = ask(work)
            over.acquire()
            time.sleep(0.0002)  # the thread goes idle before it is asked again
            del kept
        return MICRO * statistics.median(b - a for a, b in zip(submitted, began, strict=True))

    with TaskManager() as manager, ThreadPoolExecutor(LIMIT) as pool:
        measured = in_turns(
            lambda: starts(lambda work: manager.create_task("noted", work)), lambda: starts(pool.submit)
        )
    yield Row("start of a thread task", *measured, beside="ThreadPoolExecutor", at_most=1.3)


def ten_thousand_coroutines() -> Iterator[Row]:
    """No-op coroutines, at most ten at once, from the first call until the last is over; per task."""

    def ours() -> float:
        async def run() -> float:
            with TaskManager() as manager:
                start = time.perf_counter()
                for _ in range(MANY):
                    manager.create_task("nothing", nothing, lane="multiple")
                await manager.wait_all()
                return MICRO * (time.perf_counter() - start) / MANY

        return asyncio.run(run())

    def peer() -> float:
        async def run() -> float:
            slot = asyncio.Semaphore(LIMIT)

            async def limited() -> None:
                async with slot:
                    await nothing()

            start = time.perf_counter()
            await asyncio.gather(*(limited() for _ in range(MANY)))
            return MICRO * (time.perf_counter() - start) / MANY

        return asyncio.run(run())

    async def peer_with_jobs() -> float:
        async with _aiojobs().Scheduler(limit=LIMIT, pending_limit=0) as scheduler:
            start = time.perf_counter()
            for _ in range(MANY):
                await scheduler.spawn(nothing())
            await scheduler.wait_and_close()
            return MICRO * (time.perf_counter() - start) / MANY

    name = "10,000 coroutines at limit 10, each"
    # A semaphore keeps no record of what waits at it, and is never asked to cancel or reorder it.
    yield Row(name, *in_turns(ours, peer), beside="semaphore, gather", at_most=2.5)
    if _has_aiojobs():
        yield Row(name, *in_turns(ours, lambda: asyncio.run(peer_with_jobs())), beside="aiojobs", at_most=1)


def ten_thousand_in_threads() -> Iterator[Row]:
    """No-op functions, at most ten at once, from the first call until the last is over; per task."""

    def ours() -> float:
        with TaskManager() as manager:
            start = time.perf_counter()
            for _ in range(MANY):
                manager.create_task("nothing", nothing_plain, lane="multiple")
            manager.wait()
            return MICRO * (time.perf_counter() - start) / MANY

    def peer() -> float:
        with ThreadPoolExecutor(LIMIT) as pool:
            start = time.perf_counter()
            submitted = [pool.submit(nothing_plain) for _ in range(MANY)]
            for future in submitted:
                future.result()
            return MICRO * (time.perf_counter() - start) / MANY

    yield Row("10,000 functions at limit 10, each", *in_turns(ours, peer), beside="ThreadPoolExecutor", at_most=1.1)


def end_to_next_start_in_threads() -> Iterator[Row]:
    """From the last line of one task to the first of the next one in its lane, which has slot for one."""

    def turns(ask: Callable[[Callable[[], None]], object]) -> float:
        marks: list[float] = []
        go, over = threading.Event(), threading.Semaphore(0)

        def work() -> None:
            go.wait()
            marks.append(time.perf_counter())
            over.release()
            marks.append(time.perf_counter())

        kept = [ask(work) for _ in range(SINGLES)]
        go.set()
        for _ in kept:
            over.acquire()
        return _gap(marks)

    def ours() -> float:
        with TaskManager() as manager:
            return turns(lambda work: manager.create_task("noted", work, lane="single"))

    def peer() -> float:
        with ThreadPoolExecutor(1) as pool:
            return turns(pool.submit)

    yield Row("end of a thread task to next start", *in_turns(ours, peer), beside="ThreadPoolExecutor(1)")


def end_to_next_start_on_the_loop() -> Iterator[Row]:
    """The same for coroutines."""

    async def ours() -> float:
        marks: list[float] = []
        with TaskManager() as manager:
            for _ in range(SINGLES):
                manager.create_task("noted", lambda: _marked(marks), lane="single", backend="loop")
            await manager.wait_all()
        return _gap(marks)

    async def peer() -> float:
        marks: list[float] = []
        slot = asyncio.Semaphore(1)

        async def limited() -> None:
            async with slot:
                await _marked(marks)

        await asyncio.gather(*(limited() for _ in range(SINGLES)))
        return _gap(marks)

    measured = in_turns(lambda: asyncio.run(ours()), lambda: asyncio.run(peer()))
    yield Row("end of a coroutine task to next start", *measured, beside="Semaphore(1)")


async def _marked(marks: list[float]) -> None:
    marks.append(time.perf_counter())
    await asyncio.sleep(0)
    marks.append(time.perf_counter())


def _gap(marks: list[float]) -> float:
    """The median time between an end and the next start; `marks` are start, end, start, end, ..."""
    return MICRO * statistics.median(b - a for a, b in zip(marks[1:-1:2], marks[2::2], strict=True))


class _Tally:
    """Callbacks that count their calls on any thread; an event is set after the last."""

    def __init__(self, callbacks: int, calls: int) -> None:
        self._over = threading.Semaphore(0)
        self.callbacks = [self._counting(calls) for _ in range(callbacks)]

    def _counting(self, left: int) -> Callable[..., None]:
        def called(*_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                self._over.release()

        return called

    def wait(self) -> None:
        for _ in self.callbacks:
            self._over.acquire()


def events_to_ten_callbacks() -> Iterator[Row]:
    """Ends of tasks told to ten callbacks, until the last has been told; per call of a callback."""
    tasks, callbacks = 500, 10

    def ours() -> float:
        tally = _Tally(callbacks, tasks)
        with TaskManager() as manager:
            for callback in tally.callbacks:
                manager.add_event_callback(callback, events=[EventType.COMPLETED])
            start = time.perf_counter()
            for _ in range(tasks):
                manager.create_task("nothing", nothing_plain, lane="single")
            tally.wait()
            return MICRO * (time.perf_counter() - start) / (tasks * callbacks)

    def peer() -> float:
        tally = _Tally(callbacks, tasks)
        with ThreadPoolExecutor(1) as pool:
            start = time.perf_counter()
            for _ in range(tasks):
                future = pool.submit(nothing_plain)
                for callback in tally.callbacks:
                    future.add_done_callback(callback)
            tally.wait()
            return MICRO * (time.perf_counter() - start) / (tasks * callbacks)

    yield Row(
        "an event to each of 10 callbacks",
        *in_turns(ours, peer),
        beside="add_done_callback x 10",
        note="the time of the task itself is in both; ours runs each callback on a thread of its own, so that "
        "a slow one delays no other, the peer runs all ten in the worker",
    )


ROWS = [
    start_of_a_coroutine_task,
    start_of_a_thread_task,
    ten_thousand_coroutines,
    ten_thousand_in_threads,
    end_to_next_start_in_threads,
    end_to_next_start_on_the_loop,
    events_to_ten_callbacks,
]
