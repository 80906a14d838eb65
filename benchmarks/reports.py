"""Costs of progress reports to the work that makes them, beside tqdm.notebook.

A hundred or a thousand reports a second, shown by a real kernel, in which CPU time is read.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rows import Row
from tests.kernel.conftest import kernel_env
from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load

ROUNDS = 5
SECONDS = 5
RATES = (100, 1_000)
"""Reports a second of work."""
STEPS = 60_000
"""Of all the work, which takes a minute; it is left before its end."""
AT_ONCE = 10

_names = (f"r{number}" for number in itertools.count(1))

# Microseconds of CPU that a report costs: on the thread of the work, beside calls that report nothing and come in turns
# with it, and of the whole process. What opens the views comes before. Work is CPU, counted exactly and taken off, so
# that it does not matter how quick the machine is.
REPORTS = f"""
import threading, time
from nbtasks import current_task, get_manager
from tqdm.notebook import tqdm
go, manager = threading.Event(), get_manager()
manager.resize_lane('default', {AT_ONCE})
def works(report, rate, seconds):
    clock, spent, worked, whole = time.thread_time, [0.0, 0.0], 0.0, time.process_time()
    nothing, count = not_reporting(), rate * seconds
    for number in range(2 * count):
        start = clock()
        end = start + 0.5 / rate
        while (now := clock()) < end: pass
        (report if number % 2 else nothing)()
        over = clock()
        spent[number % 2] += over - now
        worked += now - start
    return [1e6 * (spent[1] - spent[0]) / count, 1e6 * (time.process_time() - whole - worked) / count]
def reporter(task):
    steps = iter(range(10**9))
    def report(): task.progress = next(steps) / {STEPS / 100}
    return report
def not_reporting():
    steps = iter(range(10**9))
    def report(): next(steps) / {STEPS / 100}
    return report
def one(report, rate):
    works(report, rate, 1)
    return works(report, rate, {SECONDS})
def many(reports):
    for seconds in (1, {SECONDS}):
        count, whole, end = 0, time.process_time(), time.monotonic() + seconds
        while time.monotonic() < end:
            for report in reports:
                for _ in range(10): report()
            count += 10 * len(reports)
            time.sleep(0.01)
    return 1e6 * (time.process_time() - whole) / count
"""


def one() -> Iterator[Row]:
    """Between two pieces of work, in a cell whose one panel, or bar, shows it."""
    with _notebook() as kernel:
        for rate in RATES:
            yield from _one(kernel, rate)


def _one(kernel: KernelDriver, rate: int) -> Iterator[Row]:
    bare, ours, peer = [], [], []
    for _ in range(ROUNDS):
        bare.append(kernel.value(f"one(not_reporting(), {rate})"))
        name = next(_names)
        kernel.run(f"%%bgtask {name}\none(reporter(current_task()), {rate})").check()
        kernel.run(f"%bgtask wait {name}").check()
        ours.append(kernel.value(f"{name}.result"))
        kernel.run(f"found = one(tqdm(total={STEPS}).update, {rate})").check()
        peer.append(kernel.value("found"))
    beside = "update() of tqdm.notebook"
    to_the_work = [[n for n, _ in rows] for rows in (ours, peer)]
    note = "CPU on the thread that works"
    yield Row(f"one of {rate:,} reports a second, to the work", *to_the_work, beside=beside, at_most=0.1, note=note)
    in_all = [[n - least for (_, n), (_, least) in zip(rows, bare, strict=True)] for rows in (ours, peer)]
    note = "CPU of the whole kernel, messages of one panel or bar included"
    yield Row(f"one of {rate:,} reports a second, in all", *in_all, beside=beside, note=note)


def ten() -> Iterator[Row]:
    """The same for ten panels, or bars, at once."""
    with _notebook() as kernel:
        bare, ours, peer = [], [], []
        for _ in range(ROUNDS):
            bare.append(kernel.value(f"many([not_reporting() for _ in range({AT_ONCE})])"))
            kernel.run(f"tasks = [manager.create_task('t', go.wait) for _ in range({AT_ONCE})]").check()
            for number in range(AT_ONCE):
                kernel.run(f"tasks[{number}]").check()
            ours.append(kernel.value("many([reporter(task) for task in tasks])"))
            kernel.run("go.set(); manager.wait(); go.clear()").check()
            kernel.run(f"found = many([tqdm(total={STEPS}).update for _ in range({AT_ONCE})])").check()
            peer.append(kernel.value("found"))
    yield Row(
        "a report of one of ten, in all",
        [row - least for row, least in zip(ours, bare, strict=True)],
        [row - least for row, least in zip(peer, bare, strict=True)],
        beside="update() of tqdm.notebook",
        at_most=0.1,
        note="CPU of the whole kernel, where each of ten makes 1,000 a second; panels share their messages",
    )


@contextmanager
def _notebook() -> Iterator[KernelDriver]:
    """A kernel with the extension and REPORTS in it."""
    with tempfile.TemporaryDirectory() as folder, KernelDriver(kernel_env(Path(folder)), Path(folder)) as kernel:
        load(kernel).run(REPORTS).check()
        yield kernel


ROWS = [one, ten]
