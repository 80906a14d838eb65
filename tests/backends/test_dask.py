"""Functions on a Dask cluster: found, given by address, or started; lost workers."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbtasks import Task, TaskManager
from nbtasks.backends.dask import DaskBackend
from nbtasks.exceptions import InvalidValueError, NotSendableError, TaskFailedError, WorkerDiedError
from nbtasks.testing import BACKEND_CHECKS, check_backend

dask: Any = pytest.importorskip("dask")
distributed: Any = pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.filterwarnings("default"),  # Dask's own
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]


def cluster(n_workers: int = 2, threads: int = 4) -> Any:
    return distributed.LocalCluster(n_workers=n_workers, threads_per_worker=threads, dashboard_address="127.0.0.1:0")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with cluster() as started, distributed.Client(started) as client:
        yield client


@pytest.fixture
def manager() -> Iterator[TaskManager]:
    with TaskManager(lanes={"many": 32}) as manager:
        yield manager


def backend_of(manager: TaskManager) -> DaskBackend:
    backend = manager.backends["dask"]
    assert isinstance(backend, DaskBackend)
    return backend


@pytest.mark.parametrize("check", BACKEND_CHECKS)
@pytest.mark.parametrize("coroutines", [False, True], ids=["functions", "coroutines"])
def test_it_passes_the_check_of_backends(client: Any, coroutines: bool, check: str) -> None:
    check_backend(DaskBackend, coroutines=coroutines, checks=[check], patience=60.0)


def test_functions_run_in_the_clusters_workers_and_print_here(
    client: Any, manager: TaskManager, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> str:
        print("said there")
        return str(distributed.get_worker().address)

    assert manager.create_task("work", work, backend="dask").wait(60) in client.scheduler_info()["workers"]
    assert "said there" in capsys.readouterr().out


@pytest.mark.long
def test_a_thousand_tasks_are_held_by_their_lane(client: Any, manager: TaskManager) -> None:
    tasks = [manager.create_task(str(n), lambda: 1, lane="many", backend="dask") for n in range(1000)]
    most = 0
    while any(not task.done for task in tasks[-32:]):
        counts = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
        most = max(most, counts)
    manager.wait(*tasks)
    assert 0 < most <= 64  # at most as many again may be over and not yet forgotten


def test_big_results_come_back(client: Any, manager: TaskManager) -> None:
    assert manager.create_task("work", lambda: b"x" * 5_000_000, backend="dask").wait(60) == b"x" * 5_000_000


def test_an_unpicklable_object_fails_the_task_before_anything_is_submitted(client: Any, manager: TaskManager) -> None:
    latch = threading.Lock()
    with pytest.raises(NotSendableError, match=r"latch \(_thread.lock\)"):
        manager.create_task("work", lambda: latch, backend="dask").wait(60)


def test_a_lost_worker_is_reported_and_the_work_runs_again(
    client: Any, manager: TaskManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    once = tmp_path / "once"

    def work() -> str:
        if not once.exists():
            once.touch()
            time.sleep(0.5)  # the worker's last words are on their way
            os.kill(os.getpid(), signal.SIGKILL)
        return "again"

    with caplog.at_level(logging.WARNING, "nbtasks"):
        assert manager.create_task("work", work, backend="dask").wait(60) == "again"
    assert "was lost: it runs again on" in caplog.text


def test_without_dask_the_error_is_one_line(manager: TaskManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(TaskFailedError, match=r"pip install distributed"):
        manager.create_task("work", lambda: 1, backend="dask").wait(60)


@pytest.mark.parametrize("wrong", [42, ("127.0.0.1", 8786), b"tcp://127.0.0.1:8786"], ids=repr)
def test_connect_refuses_other_types(manager: TaskManager, wrong: object) -> None:
    with pytest.raises(InvalidValueError, match=r"takes a distributed.Client, an address or None, not"):
        backend_of(manager).connect(wrong)


@pytest.mark.parametrize("address", ["nowhere", "tcp://127.0.0.1:1"])
def test_an_address_without_a_scheduler_is_a_named_error(manager: TaskManager, address: str) -> None:
    backend_of(manager).connect(address)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": 0.1}),
        pytest.raises(TaskFailedError, match=f"there is no Dask cluster at {address}: "),
    ):
        manager.create_task("work", lambda: 1, backend="dask").wait(60)


def test_a_closed_client_is_a_named_error(client: Any, manager: TaskManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "status", "closed")
    backend_of(manager).connect(client)
    with pytest.raises(TaskFailedError, match="the Dask client was closed"):
        manager.create_task("work", lambda: 1, backend="dask").wait(60)


def test_a_cluster_is_reached_by_its_address_and_its_loss_is_an_error(manager: TaskManager) -> None:
    with cluster(1, 1) as started:
        backend_of(manager).connect(started.scheduler_address)

        def work(task: Task) -> None:
            task.body = "begun"
            time.sleep(60)

        task = manager.create_task("work", work, backend="dask")
        end = time.monotonic() + 60
        while task.body != "begun":
            assert time.monotonic() < end
            time.sleep(0.01)
    with pytest.raises(WorkerDiedError, match="lost the work"):
        task.wait(60)


@pytest.mark.long
def test_a_local_cluster_is_started_where_there_is_none_and_ends_with_the_manager(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none() -> None:
        raise ValueError("no client")

    monkeypatch.setattr(distributed, "default_client", none)
    with TaskManager() as manager:
        pid = manager.create_task("work", os.getpid, backend="dask").wait(120)
        assert pid != os.getpid()
    end = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
