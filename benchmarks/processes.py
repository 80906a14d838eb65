"""The cost of work in a process, beside other libraries.

Everything is timed from outside: from the call to the result.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.notebook import ROUND_TRIPS, notebook_kernel
from benchmarks.rows import Row, in_turns
from nbtasks import TaskManager
from tests.kernel.driver import KernelDriver

ARRAY_BYTES = 500_000_000
FRAME_BYTES = 200_000_000
TEXT_BYTES = 69
"""What a text of 12 letters takes in a frame."""
BUSY_CELLS = 4


def start_of_a_function() -> Iterator[Row]:
    """From the call to the result of a function that does nothing: with no worker yet, and with one."""
    from loky import get_reusable_executor

    def cold() -> float:
        with TaskManager() as manager:
            return _ours(manager, None)

    def cold_peer() -> float:
        executor = get_reusable_executor(max_workers=1)
        try:
            return _timed(lambda: executor.submit(_same, None).result())
        finally:
            executor.shutdown(wait=True, kill_workers=True)

    yield Row("a function in a process, cold", *in_turns(cold, cold_peer, 3), beside="loky", unit="ms")
    with TaskManager() as manager:
        executor = get_reusable_executor(max_workers=1)
        yield Row(
            "the same, warm",
            *in_turns(lambda: _ours(manager, None), lambda: _timed(lambda: executor.submit(_same, None).result())),
            beside="loky",
            unit="ms",
        )
        executor.shutdown(wait=True, kill_workers=True)


# How peers of ours run something in a process from a cell: what comes before, what starts a process, what uses it.
_PEERS = {
    "loky": (
        "from loky import get_reusable_executor\ndef nothing(): pass",
        "executor = get_reusable_executor(max_workers=1)\nexecutor.submit(nothing).result()",
        "executor.submit(nothing).result()",
        "executor.shutdown(wait=True, kill_workers=True)",
    ),
    "ipyparallel": (
        "import ipyparallel\ncluster = ipyparallel.Cluster(n=1, log_level=50)",
        "cluster.start_and_connect_sync()[:].execute('pass', block=True)",
        "%%px\npass",
        "cluster.stop_cluster_sync()",
    ),
}
_CELL = "%%bgtask {} --backend process --quiet --wait\npass"


def start_of_a_cell() -> Iterator[Row]:
    """The time of a cell in a process: the first one of a kernel, and later ones with a warm worker.

    Ours gets a process of its own each time, the peers' one serves all.
    """

    def first() -> float:
        with notebook_kernel() as kernel:
            return _cell_ms(kernel, _CELL.format("first"))

    def first_of_the_peer(before: str, starts: str, ends: str) -> float:
        with notebook_kernel() as kernel:
            kernel.run(before).check()
            taken = _cell_ms(kernel, starts)
            kernel.run(ends).check()
            return taken

    for peer, (before, starts, _, ends) in _PEERS.items():
        theirs = functools.partial(first_of_the_peer, before, starts, ends)
        yield Row("a cell in a process, cold", *in_turns(first, theirs, 3), beside=peer, unit="ms")
    with notebook_kernel() as kernel:
        kernel.run(_CELL.format("first")).check()

        def later() -> float:
            spare = "'spare' in str(nbtasks.get_manager().backends['process'].workers())"
            kernel.wait_until(lambda: kernel.value(spare), what="the spare worker")
            return _cell_ms(kernel, _CELL.format("later"))

        for peer, (before, starts, uses, ends) in _PEERS.items():
            kernel.run(before).check()
            kernel.run(starts).check()
            theirs = functools.partial(_cell_ms, kernel, uses)
            yield Row("the same, warm", *in_turns(later, theirs, 5), beside=peer, unit="ms")
            kernel.run(ends).check()


def _cell_ms(kernel: KernelDriver, code: str) -> float:
    return _timed(lambda: kernel.run(code).check())


def there_and_back() -> Iterator[Row]:
    """A big array and a big frame, to a process and back."""
    import numpy as np
    import pandas as pd
    from loky import get_reusable_executor

    array = np.random.default_rng(0).random(ARRAY_BYTES // 8)
    columns = {f"c{n}": array[n::20][: FRAME_BYTES // 80] for n in range(10)}
    texts = [f"name{number:08d}" for number in range(FRAME_BYTES // TEXT_BYTES // 2)]
    half = {f"c{n}": array[n::20][: len(texts)] for n in range(TEXT_BYTES // 8)}
    values = {
        f"an array of {ARRAY_BYTES / 1e6:.0f} MB": array,
        f"a frame of {FRAME_BYTES / 1e6:.0f} MB": pd.DataFrame(columns),
        "the same, half of it texts": pd.DataFrame({**half, "text": texts}),
    }
    with TaskManager() as manager, ProcessPoolExecutor(1) as pool:
        loky = get_reusable_executor(max_workers=1)
        _ours(manager, None)
        for what, value in values.items():
            for beside, executor, aim in (("ProcessPoolExecutor", pool, 0.3), ("loky", loky, None)):
                executor.submit(_same, None).result()
                ours = functools.partial(_ours, manager, value)
                yield Row(
                    f"{what} there and back",
                    *in_turns(ours, functools.partial(_theirs, executor, value), 3),
                    beside=beside,
                    unit="ms",
                    at_most=aim,
                )
        loky.shutdown(wait=True, kill_workers=True)


def quickness_of_the_notebook() -> Iterator[Row]:
    """The round trip of an empty foreground cell while four process cells run, beside an idle notebook."""
    with notebook_kernel() as kernel:
        kernel.run("nbtasks.get_manager().lanes['default'].limit = 8").check()

        def trip() -> float:
            return sum(_timed(lambda: kernel.run("").check()) for _ in range(ROUND_TRIPS)) / ROUND_TRIPS

        def busy() -> float:
            with contextlib.ExitStack() as stack:
                for number in range(BUSY_CELLS):
                    kernel.run(
                        f"%%bgtask busy{number} --backend process --quiet\nfrom nbtasks import current_task\n"
                        "current_task().body = 'in'\nwhile True: pass"
                    ).check()
                    stack.callback(
                        lambda n=number: kernel.run(f"busy{n}.cancel(); nbtasks.get_manager().wait(busy{n})")
                    )
                    kernel.wait_until(lambda n=number: kernel.value(f"busy{n}.body") == "in", what="the cell")
                return trip()

        yield Row(
            "an empty foreground cell, four process cells computing",
            *in_turns(busy, trip, 3),
            beside="idle",
            unit="ms",
            at_most=1.3,
        )


def _same(value: Any) -> Any:
    return value


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def _ours(manager: TaskManager, value: Any) -> float:
    return _timed(lambda: manager.create_task("same", functools.partial(_same, value), backend="process").wait())


def _theirs(executor: Any, value: Any) -> float:
    return _timed(lambda: executor.submit(_same, value).result())


ROWS = [start_of_a_function, start_of_a_cell, there_and_back, quickness_of_the_notebook]
