"""Costs of a background cell in a real kernel, beside the foreground and a thread.

All of it is measured from the front end. CPU time is that of the kernel's process.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Row, in_turns
from tests.kernel.conftest import kernel_env
from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load

CELLS = 5
LINES_SHOWN = 1_000
LINES_FLOOD = 20_000
FLOOD_SECONDS = 5
ROUND_TRIPS = 25
SETTLE_SECONDS = 0.3
"""After this time nothing that was printed is still on its way."""

_names = (f"b{number}" for number in itertools.count(1))


def printed_line() -> Iterator[Row]:
    """CPU of the whole kernel for one printed line, less that of as many cells that print nothing."""
    with notebook_kernel() as kernel:
        for lines, what in (
            (LINES_SHOWN, "a printed line (CPU)"),
            (LINES_FLOOD, f"the same, of {LINES_FLOOD:,} at once (CPU)"),
        ):
            cells = CELLS if lines == LINES_SHOWN else 1

            def cost(first_line: str, lines: int = lines, cells: int = cells) -> float:
                code = f"{first_line}\nfor i in range({lines}): print(i)"
                printing, empty = (_cpu_seconds(kernel, code, cells) for code in (code, f"{first_line}\npass"))
                return 1e6 * (printing - empty) / (lines * cells)

            yield Row(
                what,
                *in_turns(lambda cost=cost: cost("%%bgtask --quiet"), lambda cost=cost: cost("")),  # type: ignore[misc]
                beside="in the foreground",
                at_most=1.2,
            )


def _cpu_seconds(kernel: KernelDriver, code: str, cells: int) -> float:
    """CPU seconds of the kernel for `cells` runs of a cell, one after the other, until all output is sent."""
    before = kernel.value("__import__('time').process_time()")
    for _ in range(cells):
        name = next(_names)
        cell = kernel.start_cell(code.replace("%%bgtask", f"%%bgtask {name}"))
        if "%%bgtask" in code:
            _wait_over(kernel, name)
        cell.check()
    time.sleep(SETTLE_SECONDS)
    after = kernel.value("__import__('time').process_time()")
    return float(after) - float(before)


def _wait_over(kernel: KernelDriver, name: str) -> None:
    kernel.run(f"%bgtask wait {name}").check()


def flood() -> Iterator[Row]:
    """All messages on iopub, panels' included, in the busiest second, once the panels are open."""
    for tasks in (1, 5):
        with notebook_kernel() as kernel:
            kernel.run("stop = threading.Event()").check()
            printing = "while not stop.is_set(): print('a line as long as lines of logs are')"
            names = [next(_names) for _ in range(tasks)]
            for name in names:
                kernel.run(f"%%bgtask {name} --lane multiple\n{printing}").check()
            time.sleep(1)
            start = time.monotonic()
            time.sleep(FLOOD_SECONDS)
            with kernel.changed:
                sent = [m.at - start for m in kernel.messages if m.channel == "iopub" and m.at >= start]
            kernel.run("stop.set()").check()
            for name in names:
                _wait_over(kernel, name)
        seconds = [sum(second <= at < second + 1 for at in sent) for second in range(FLOOD_SECONDS)]
        yield Row(
            "messages in a flood" if tasks == 1 else f"messages in a flood of {tasks} tasks",
            [float(max(seconds))],
            unit="a second",
            at_most=20,
            note=f"second by second {seconds}",
        )


def round_trip() -> Iterator[Row]:
    """From sending `pass` until it is done, while a CPU-bound loop runs in a background cell."""
    work = "n = 0\nwhile not stop.is_set(): n += 1"
    with notebook_kernel() as kernel:
        kernel.run("stop = threading.Event()\nspin = 'n = 0\\nwhile not stop.is_set(): n += 1'").check()

        def task() -> float:
            name = next(_names)
            kernel.run("stop.clear()").check()
            kernel.run(f"%%bgtask {name} --quiet\n{work}").check()
            trips = _round_trips(kernel)
            kernel.run("stop.set()").check()
            _wait_over(kernel, name)
            return trips

        def thread() -> float:
            kernel.run(
                "stop.clear()\nt = threading.Thread(target=exec, args=(spin, {'stop': stop}))\nt.start()"
            ).check()
            trips = _round_trips(kernel)
            kernel.run("stop.set()\nt.join()").check()
            return trips

        ours, beside_thread = in_turns(task, thread, rounds=5)
        again, idle = in_turns(task, lambda: _round_trips(kernel), rounds=3)
    name = "round trip of a cell while a task computes"
    yield Row(name, ours, beside_thread, beside="plain thread", unit="ms", at_most=0.5)
    yield Row(name, again, idle, beside="idle kernel", unit="ms")


def _round_trips(kernel: KernelDriver) -> float:
    """The median of some, in milliseconds."""
    trips = []
    for _ in range(ROUND_TRIPS):
        start = time.perf_counter()
        kernel.run("pass").check()
        trips.append(1e3 * (time.perf_counter() - start))
    return statistics.median(trips)


@contextlib.contextmanager
def notebook_kernel() -> Iterator[KernelDriver]:
    """A kernel of its own, with the extension loaded."""
    with tempfile.TemporaryDirectory() as folder:
        env = kernel_env(Path(folder))
        profile = Path(env["IPYTHONDIR"]) / "profile_default"
        profile.mkdir()
        profile.joinpath("ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 'ERROR'\n")
        with KernelDriver(env, Path(folder)) as kernel:
            yield load(kernel)


ROWS = [printed_line, flood, round_trip]
