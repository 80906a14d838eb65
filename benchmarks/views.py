"""Benchmarks of progress and views, beside tqdm and rich.

Loops are timed in the kernel, messages are counted at the front end.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, in_turns
from tests.kernel.conftest import kernel_env
from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load

STEPS = 500_000
SECONDS = 5.0
SETTLE_SECONDS = 3.0
"""After this time what opened the views is sent and paid for."""
TASKS, RUNNING, MANY = 10_000, 100, 100_000

_names = (f"v{number}" for number in itertools.count(1))

# Each returns nanoseconds a step, less those of a loop that does nothing, on the thread that it is called on.
LOOPS = f"""
import time
from nbtasks import current_task, track
from tqdm import tqdm
from tqdm.notebook import tqdm as notebook_tqdm
def seconds(loop):
    start = time.thread_time()
    loop()
    return time.thread_time() - start
def bare():
    for _ in range({STEPS}): pass
def over(items):
    for _ in items: pass
def a_step(loop):
    return 1e9 * (seconds(loop) - seconds(bare)) / {STEPS}
def reports():
    task = current_task()
    for _ in range({STEPS}): task.progress = 50.0
def stores():
    class Plain: pass
    plain = Plain()
    for _ in range({STEPS}): plain.progress = 50.0
def sets():
    bar = notebook_tqdm(total=1000)
    start = time.thread_time()
    for number in range(1000):
        bar.n = number
        bar.refresh()
    return 1e9 * (time.thread_time() - start) / 1000
def updates():
    bar = notebook_tqdm(total={STEPS})
    for _ in range({STEPS}): bar.update()
    bar.close()
def rich_loop():
    import io
    from rich.console import Console
    from rich.progress import track as rich_track
    over(rich_track(range({STEPS}), console=Console(file=io.StringIO(), force_terminal=True)))
def tracked(): over(track(range({STEPS})))
def notebook_bar(): over(notebook_tqdm(range({STEPS})))
def plain_bar(): over(tqdm(range({STEPS}), file=open('/dev/null', 'w')))
def unbridged():
    from nbtasks.notebook.extension import loaded
    patches = [patch for patch in loaded(get_ipython()).patches if patch.owner is tqdm]
    assert len(patches) == 3
    for patch in patches: patch.revert()
    try:
        return a_step(plain_bar)
    finally:
        for patch in patches: patch.apply()
"""
LOADED = f"""
import asyncio, threading
manager, stop = get_manager(), threading.Event()
manager.max_succeeded_tasks = None
manager.resize_lane('multiple', {RUNNING})
async def reports():
    task, count = current_task(), 0
    while not stop.is_set():
        for _ in range(10):
            count += 1
            task.progress = count % 100
        await asyncio.sleep(0.01)
def begin():
    stop.clear()
    tasks = [manager.create_task(f'busy {{n}}', reports, lane='multiple') for n in range({RUNNING})]
    [manager.create_task(f'waits {{n}}', stop.wait, lane='single') for n in range({TASKS - RUNNING})]
    return tasks
"""


def a_report() -> Iterator[Row]:
    """`task.progress = x` with an open panel: the bare call. See `reports.py` for its cost to work."""
    with _loops() as run:
        ours, peer = in_turns(lambda: run("reports"), lambda: run("updates"), rounds=5)
        note = "one call after the other and nothing else: see `one of 1,000 reports a second` for what work notices"
        beside = "update() of tqdm.notebook"
        yield Row("task.progress = x alone", ours, peer, beside=beside, unit="ns", at_most=0.1, note=note)
        ours, peer = in_turns(lambda: run("reports"), lambda: run("sets", whole=True), rounds=5)
        yield Row("task.progress = x alone", ours, peer, beside="bar.n = x; bar.refresh()", unit="ns", at_most=0.1)
        ours, peer = in_turns(lambda: run("reports"), lambda: run("stores"), rounds=5)
        yield Row("task.progress = x alone", ours, peer, beside="a store to a plain attribute", unit="ns")


def a_step() -> Iterator[Row]:
    """One step of a loop that tells how far it is, while a panel shows it."""
    with _loops() as run:
        ours, peer = in_turns(lambda: run("tracked"), lambda: run("notebook_bar"), rounds=5)
        yield Row("a step of track()", ours, peer, beside="tqdm.notebook", unit="ns", at_most=0.3)
        ours, peer = in_turns(lambda: run("tracked"), lambda: run("rich_loop"), rounds=5)
        yield Row("a step of track()", ours, peer, beside="rich.progress.track", unit="ns")


def bridge() -> Iterator[Row]:
    """One step of a bar of tqdm that drives a task, beside the same bar without the bridge."""
    with _loops() as run:
        ours, peer = in_turns(lambda: run("plain_bar"), lambda: run("unbridged", whole=True), rounds=7)
    yield Row("a step of tqdm that drives a task", ours, peer, beside="tqdm alone", unit="ns", at_most=1.03)


def messages() -> Iterator[Row]:
    """Messages on iopub: eleven views of a hundred tasks that report all the time, and ten bars of tqdm."""
    with _notebook() as kernel:
        kernel.run(LOADED + "tasks = begin()").check()
        for number in range(10):
            kernel.run(f"tasks[{number}]").check()
        kernel.run("%bgtask").check()
        time.sleep(SETTLE_SECONDS)
        ours = _messages(kernel)
        kernel.run("stop.set()").check()
    with _notebook() as kernel:
        kernel.run("stop, bars = threading.Event(), threading.Barrier(11)\nfrom tqdm.notebook import tqdm").check()
        kernel.run(
            "def spin():\n    bar = tqdm(total=10**9)\n    bars.wait()\n    while not stop.wait(0.001): bar.update()\n"
            "for _ in range(10): threading.Thread(target=spin).start()\nbars.wait()"
        ).check()
        time.sleep(SETTLE_SECONDS)
        peer = _messages(kernel)
        kernel.run("stop.set()").check()
    yield Row("messages of eleven views", [ours], unit="a second", at_most=12)
    yield Row("messages of eleven views", [ours], [peer], beside="ten bars of tqdm.notebook", unit="a second")


def cpu() -> Iterator[Row]:
    """CPU that ten panels and the table add to a kernel in which a hundred tasks report without end."""
    with _notebook() as kernel:
        kernel.run(LOADED + "tasks = begin()").check()
        time.sleep(SETTLE_SECONDS)
        alone = _cpu(kernel)
        for number in range(10):
            kernel.run(f"tasks[{number}]").check()
        kernel.run("%bgtask").check()
        time.sleep(SETTLE_SECONDS)
        rounds = [100 * _views_cpu(kernel) for _ in range(3)]
        both = _cpu(kernel)
        kernel.run("stop.set()").check()
    note = f"of the writing thread; the kernel took {100 * alone:.0f}% of a core before, {100 * both:.0f}% with them"
    yield Row("CPU of eleven views", rounds, unit="% of a core", at_most=5, note=note)


def opening() -> Iterator[Row]:
    """From asking for the table until it is sent, with very many tasks."""
    with _notebook() as kernel:
        kernel.run(
            "stop = threading.Event()\nfor n in range(" + str(MANY) + "): "
            "get_manager().create_task(f't{n}', stop.wait, lane='single')"
        ).check()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            kernel.run("%bgtask").check()
            times.append(time.perf_counter() - start)
        kernel.run("get_manager().resize_lane('single', 0); stop.set()").check()
        kernel.kill()
    yield Row(f"opening the table of {MANY:,} tasks", times, unit="s", at_most=0.5)


def _messages(kernel: KernelDriver) -> float:
    """How many arrive in a second."""
    start = time.monotonic()
    time.sleep(SECONDS)
    with kernel.changed:
        return sum(m.channel == "iopub" and start <= m.at < start + SECONDS for m in kernel.messages) / SECONDS


def _cpu(kernel: KernelDriver) -> float:
    """CPU seconds of the kernel's process in a second."""
    return _growth(lambda: float(kernel.value("__import__('time').process_time()")))


def _views_cpu(kernel: KernelDriver) -> float:
    """CPU seconds of the thread that writes the views, in a second."""
    extension = "__import__('nbtasks.notebook.extension', fromlist=['_']).loaded(get_ipython())"
    find = f"{extension}.session.panels._live"
    return _growth(lambda: float(kernel.value(f"{find}.run(__import__('time').thread_time)")))


def _growth(read: Any) -> float:
    start, before = time.monotonic(), read()
    time.sleep(SECONDS)
    return float((read() - before) / (time.monotonic() - start))


class _loops:  # noqa: N801 - used like a function
    """A kernel that times LOOPS, each in a background cell with a panel."""

    def __enter__(self) -> Any:
        self._folder = tempfile.TemporaryDirectory()
        self._kernel = KernelDriver(kernel_env(Path(self._folder.name)), Path(self._folder.name))
        load(self._kernel.__enter__()).run(LOOPS).check()
        return self._run

    def __exit__(self, *error: object) -> None:
        self._kernel.__exit__(*error)
        self._folder.cleanup()

    def _run(self, loop: str, *, whole: bool = False) -> float:
        """Nanoseconds a step; `whole`: the function does the timing itself."""
        name = next(_names)
        self._kernel.run(f"%%bgtask {name}\n{loop}() if {whole} else a_step({loop})").check()
        self._kernel.run(f"%bgtask wait {name}").check()
        return float(self._kernel.value(f"{name}.result"))


class _notebook(_loops):  # noqa: N801 - used like a function
    """A kernel with the extension loaded."""

    def __enter__(self) -> KernelDriver:
        super().__enter__()
        return self._kernel


ROWS = [a_report, a_step, bridge, messages, cpu, opening]
