"""Costs of a call by `manager.as_executor`, beside `ThreadPoolExecutor`.

Wall time per call. Each call is a task, with a record, a state, a place in a lane and a cancel, and a stock future
besides: some ten microseconds more, a hundredth of a function that takes a millisecond. For shorter functions there is
`chunksize`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

from benchmarks.rows import Row, in_turns
from nbtasks import TaskManager

MICRO = 1e6
MANY = 10_000
SINGLES = 1_000
WORKERS = 10


def same(x: int) -> int:
    """Work that does nothing."""
    return x


@contextmanager
def _both() -> Iterator[tuple[Executor, Executor]]:
    with TaskManager() as manager, ThreadPoolExecutor(WORKERS) as peer, manager.as_executor(max_workers=WORKERS) as own:
        yield own, peer


def map_of_ten_thousand() -> Iterator[Row]:
    """From the call until the last result is there."""

    def mapped(executor: Executor, chunksize: int = 1) -> float:
        start = time.perf_counter()
        assert sum(executor.map(same, range(MANY), chunksize=chunksize)) == sum(range(MANY))
        return MICRO * (time.perf_counter() - start) / MANY

    with _both() as (ours, peer):
        single = in_turns(lambda: mapped(ours), lambda: mapped(peer), rounds=15)
        chunks = in_turns(lambda: mapped(ours, 100), lambda: mapped(peer, 100), rounds=15)
    yield Row("executor: map of 10,000, each", *single, beside="ThreadPoolExecutor", at_most=2.5)
    yield Row("executor: the same, chunksize 100", *chunks, beside="ThreadPoolExecutor", at_most=0.5)


def submit_to_result() -> Iterator[Row]:
    """One call at a time, from `submit` until its result is there."""

    def one_by_one(executor: Executor) -> float:
        start = time.perf_counter()
        for number in range(SINGLES):
            executor.submit(same, number).result()
        return MICRO * (time.perf_counter() - start) / SINGLES

    with _both() as (ours, peer):
        measured = in_turns(lambda: one_by_one(ours), lambda: one_by_one(peer), rounds=15)
    yield Row("executor: submit to result", *measured, beside="ThreadPoolExecutor", at_most=2)


ROWS = [map_of_ten_thousand, submit_to_result]
