"""The cost of lanes on a Dask cluster, beside `Client.map`."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.rows import Row, in_turns
from nbtasks import TaskManager

TASKS = 1_000


def _one(_: object = None) -> int:
    return 1


def a_thousand_short_tasks() -> Iterator[Row]:
    """From the first call to the last result here, on a local cluster of two workers."""
    import distributed

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
        TaskManager(lanes={"cluster": 64}, max_succeeded_tasks=None) as manager,
    ):

        def ours() -> float:
            start = time.perf_counter()
            tasks = [manager.create_task("one", _one, lane="cluster", backend="dask") for _ in range(TASKS)]
            assert sum(task.wait() for task in tasks) == TASKS
            return time.perf_counter() - start

        def peer() -> float:
            start = time.perf_counter()
            assert sum(client.gather(client.map(_one, range(TASKS), pure=False))) == TASKS
            return time.perf_counter() - start

        yield Row(
            f"{TASKS:,} short tasks on a Dask cluster", *in_turns(ours, peer, 5), beside="map", unit="s", at_most=1.3
        )


ROWS = [a_thousand_short_tasks]
