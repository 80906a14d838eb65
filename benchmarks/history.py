"""What a history costs: tasks dispatched with one beside tasks dispatched without.

The file of the history is in a temporary folder.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rows import Row, in_turns, seconds
from nbtasks import TaskManager
from nbtasks.history.history import History
from nbtasks.widgets.run_query import RunQuery, read_list, run_list_bundle

MICRO = 1e6
MANY = 10_000
FLOOD = 100_000
ROUNDS = 9


async def nothing() -> None:
    """Work that does nothing."""


def nothing_plain() -> None:
    """The same for a thread."""


@contextmanager
def _manager(folder: str, *, kept: bool) -> Iterator[TaskManager]:
    path = Path(folder) / "history.sqlite" if kept else None
    with TaskManager(history=path) as manager:
        manager.create_task("first", nothing_plain).wait()
        if manager.history is not None:
            manager.history.flush()
        yield manager


def _coroutines(number: int, *, kept: bool) -> float:
    async def run(manager: TaskManager) -> float:
        start = time.perf_counter()
        for _ in range(number):
            manager.create_task("nothing", nothing, lane="multiple")
        await manager.wait_all()
        return MICRO * (time.perf_counter() - start) / number

    with tempfile.TemporaryDirectory() as folder, _manager(folder, kept=kept) as manager:
        return asyncio.run(run(manager))


def _threads(number: int, *, kept: bool) -> float:
    with tempfile.TemporaryDirectory() as folder, _manager(folder, kept=kept) as manager:
        start = time.perf_counter()
        for _ in range(number):
            manager.create_task("nothing", nothing_plain, lane="multiple")
        manager.wait()
        return MICRO * (time.perf_counter() - start) / number


def _row(name: str, measure: Callable[..., float], number: int, at_most: float | None, note: str = "") -> Row:
    ours, peer = in_turns(lambda: measure(number, kept=True), lambda: measure(number, kept=False), ROUNDS)
    return Row(name, ours, peer, beside="without", at_most=at_most, note=note)


def ten_thousand() -> Iterator[Row]:
    """No-op tasks, at most ten at once, from the first call until the last is over; per task."""
    yield _row("10,000 coroutines with a history, each", _coroutines, MANY, 1.05)
    yield _row("10,000 in threads with a history, each", _threads, MANY, 1.05)


def without_end() -> Iterator[Row]:
    """Enough no-op tasks that the history is written meanwhile."""
    note = "the history is written meanwhile: all of its work is in this number, and not only what tasks wait for"
    yield _row("100,000 coroutines with a history, each", _coroutines, FLOOD, None, note)
    yield _row("100,000 in threads with a history, each", _threads, FLOOD, None)


@contextmanager
def _recorded(folder: str, number: int) -> Iterator[History]:
    """A history of this many runs of 300 names."""

    def record(n: int) -> tuple[object, ...]:
        state, texts = "failed" if n % 9 == 0 else "completed", (None, "source " * 50, "output " * 50)
        return (n, f"fit {n % 300}", None, "default", state, 1, now - n, now - n, now - n + n % 7, "CellTask", *texts)

    history, now = History(Path(folder) / "history.sqlite", notebook="a.ipynb"), time.time()
    try:
        history.tasks()
        with history._reading() as database:
            database.execute("INSERT INTO kernels VALUES ('k', 0, 'a.ipynb', 0, 1)")
            for first in range(0, number, 10_000):
                rows = [record(n) for n in range(first, min(first + 10_000, number))]
                database.write("k", "a.ipynb", now, {f"p{first}": rows}, [])
        yield history
    finally:
        history.close()


def shown() -> Iterator[Row]:
    """The list of runs of a large history, from the query to the markup, by CPU time."""
    with tempfile.TemporaryDirectory() as folder, _recorded(folder, FLOOD) as history:
        query = RunQuery(notebook="a.ipynb")
        ours, peer = in_turns(
            lambda: MICRO * seconds(lambda: run_list_bundle(read_list(history, query), ""), time.process_time),
            lambda: MICRO * seconds(history.tasks, time.process_time),
            3,
        )
    yield Row("100,000 runs as a list, shown", ours, peer, beside="reading all", at_most=0.5)


ROWS = [ten_thousand, without_end, shown]
