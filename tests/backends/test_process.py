"""Functions in worker processes: serialization, cancels, dead workers, clean-up."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nbtasks import Task, TaskCancelledError, TaskManager, current_task, track
from nbtasks.backends.base import usage_of
from nbtasks.backends.process import ProcessBackend
from nbtasks.exceptions import NotSendableError, WorkerDiedError
from nbtasks.states import TaskState

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


def wait_until(holds: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskManager]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with TaskManager() as manager:
        yield manager


def backend_of(manager: TaskManager) -> ProcessBackend:
    backend = manager.backends["process"]
    assert isinstance(backend, ProcessBackend)
    return backend


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_closures_lambdas_and_coroutine_functions_run_in_another_process(manager: TaskManager) -> None:
    factor = 3

    async def later() -> int:
        return factor * 2

    tasks = [
        manager.create_task("closure", lambda: (os.getpid(), factor), backend="process"),
        manager.create_task("later", later, backend="process"),
    ]
    pid, seen = tasks[0].wait(60)
    assert (pid != os.getpid(), seen, tasks[1].wait(60)) == (True, 3, 6)


def test_a_worker_that_starts_is_told_until_the_work_begins(manager: TaskManager, tmp_path: Path) -> None:
    opens = tmp_path / "opens"

    def waits() -> None:
        while not opens.exists():
            time.sleep(0.01)

    task = manager.create_task("it", waits, backend="process")
    wait_until(lambda: task.state is TaskState.RUNNING)
    seen = [usage_of(task)]
    wait_until(lambda: seen.append(usage_of(task)) or seen[-1].startswith("process "))
    opens.touch()
    task.wait()
    assert seen[0] == "starting a worker…" and usage_of(task) == ""


def test_the_package_that_a_worker_imports_before_the_work_is_told(
    manager: TaskManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, opens = tmp_path / "slow_package", tmp_path / "opens"
    package.mkdir()
    (package / "__init__.py").write_text("")
    waits = "while not os.path.exists(os.environ['NBTASKS_TEST_OPENS']): time.sleep(0.01)"
    (package / "part.py").write_text(f"import os, time\n{waits}\ndef work(): return 'done'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("NBTASKS_TEST_OPENS", str(package))
    work = importlib.import_module("slow_package.part").work
    monkeypatch.setenv("NBTASKS_TEST_OPENS", str(opens))
    task = manager.create_task("it", work, backend="process")
    wait_until(lambda: usage_of(task) == "importing slow_package…")
    opens.touch()
    assert task.wait(60) == "done" and usage_of(task) == ""


def test_a_task_reports_its_progress_from_the_worker(manager: TaskManager) -> None:
    def work(task: Task) -> bool:
        assert task is current_task()
        for _ in track(range(3)):
            time.sleep(0.06)
        task.progress, task.body = 60, "nearly"
        time.sleep(60)
        return True

    task = manager.create_task("work", work, backend="process")
    wait_until(lambda: task.body == "nearly")
    assert task.progress == 60.0
    task.cancel()
    with pytest.raises(TaskCancelledError):
        task.wait(30)


@dataclass
class Double(Task):
    factor: int = 0

    def run(self) -> tuple[int, str, bool]:
        return 2 * self.factor, self.name, current_task() is self


@dataclass
class Locked(Task):
    latch: object = None

    def run(self) -> None:
        pass


def test_a_bar_of_tqdm_sets_the_progress_from_another_process(manager: TaskManager) -> None:
    def work() -> None:
        from tqdm import tqdm

        with tqdm(total=4, mininterval=0, file=sys.stdout) as bar:
            bar.update(3)
            bar.refresh()
            time.sleep(60)

    task = manager.create_task("bar", work, backend="process")
    wait_until(lambda: task.progress == 75.0)
    task.cancel()
    with pytest.raises(TaskCancelledError):
        task.wait(30)


def test_a_task_class_runs_there_with_its_fields(manager: TaskManager) -> None:
    assert manager.add_task(Double(factor=4, name="twice", backend="process")).wait(60) == (8, "twice", True)


def test_the_error_is_the_workers_with_its_traceback(manager: TaskManager) -> None:
    class OwnError(Exception):
        pass

    def work() -> None:
        raise OwnError("no luck")

    with pytest.raises(OwnError, match="no luck") as caught:
        manager.create_task("work", work, backend="process").wait(60)
    assert "in work" in str(caught.value.__cause__)


def test_an_unpicklable_object_fails_the_task_before_anything_starts(manager: TaskManager) -> None:
    lock = threading.Lock()
    task = manager.create_task("work", lambda: lock, backend="process")
    with pytest.raises(NotSendableError, match="lock"):
        task.wait(60)
    assert backend_of(manager).workers() == []


def test_each_unpicklable_object_is_named_with_its_type_and_where_it_is_used(
    manager: TaskManager, caplog: pytest.LogCaptureFixture
) -> None:
    latch, numbers = threading.Lock(), (n for n in range(3))
    next(numbers)
    reading, writing = os.pipe()

    def inner() -> object:
        return 1, numbers

    def work(stream: Any, *, connection: Any) -> object:
        return (lambda: latch), inner(), stream, connection

    with os.fdopen(reading), os.fdopen(writing, "w") as stream:
        call = functools.partial(work, stream, connection=sqlite3.connect(":memory:"))
        task = manager.create_task("work", call, backend="process")
        manager.wait(task, timeout=60)
    call.keywords["connection"].close()
    assert str(task.exception).removeprefix("not sent to a worker process: ").split("; ") == [
        f"argument 1 of {work.__qualname__} (_io.TextIOWrapper): "
        "an open pipe, terminal or temporary file cannot be sent",
        f"argument connection of {work.__qualname__} (sqlite3.Connection): cannot pickle 'sqlite3.Connection' object",
        f"latch (_thread.lock), which {work.__qualname__}() reads in line {work.__code__.co_firstlineno + 1}: "
        "cannot pickle '_thread.lock' object",
        f"numbers (generator), which {inner.__qualname__}() reads in line {inner.__code__.co_firstlineno + 1}: "
        "cannot pickle a generator that has begun",
    ]
    assert "Traceback" not in caplog.text, "where it was noticed is of no use to anybody"


def test_an_unpicklable_field_of_a_task_class_is_named(manager: TaskManager) -> None:
    task = manager.add_task(Locked(name="it", backend="process", latch=threading.Lock()))
    with pytest.raises(NotSendableError, match=r"latch \(_thread.lock\), a field of Locked: cannot pickle"):
        task.wait(60)


def test_an_unpicklable_result_stays_behind_and_is_reported(
    manager: TaskManager, caplog: pytest.LogCaptureFixture
) -> None:
    task = manager.create_task("work", lambda: threading.Lock(), backend="process")
    assert task.wait(60) is None
    assert "the result (_thread.lock) stayed behind in the worker process" in caplog.text


def test_a_worker_that_dies_fails_its_own_task_within_a_second(manager: TaskManager) -> None:
    def linger(task: Task) -> None:
        task.body = str(os.getpid())
        time.sleep(60)

    victim, other = [manager.create_task(name, linger, backend="process") for name in ("victim", "other")]
    wait_until(lambda: victim.body and other.body)
    start = time.monotonic()
    os.kill(int(victim.body or 0), signal.SIGKILL)
    with pytest.raises(WorkerDiedError, match="killed by SIGKILL"):
        victim.wait(30)
    assert time.monotonic() - start < 1.0
    assert other.state is TaskState.RUNNING


def test_a_worker_that_was_killed_while_idle_costs_nothing(manager: TaskManager) -> None:
    for _ in range(3):
        first = manager.create_task("work", os.getpid, backend="process").wait(60)
        for row in backend_of(manager).workers():
            os.kill(row["pid"], signal.SIGKILL)
        assert manager.create_task("work", os.getpid, backend="process").wait(60) != first


def test_an_exit_code_is_in_the_error(manager: TaskManager) -> None:
    with pytest.raises(WorkerDiedError, match="exited with code 7") as caught:
        manager.create_task("work", lambda: os._exit(7), backend="process").wait(60)
    assert caught.value.returncode == 7


def test_a_cancel_interrupts_a_sleep_at_once(manager: TaskManager) -> None:
    def linger(task: Task) -> None:
        task.body = "begun"
        time.sleep(60)

    task = manager.create_task("work", linger, backend="process")
    wait_until(lambda: task.body == "begun")
    start = time.monotonic()
    task.cancel()
    with pytest.raises(TaskCancelledError):
        task.wait(30)
    assert time.monotonic() - start < 2.0


def test_work_that_ignores_interrupts_is_killed_after_the_grace_time(manager: TaskManager) -> None:
    backend_of(manager).grace = 0.5

    def stubborn(task: Task) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        task.body = str(os.getpid())
        time.sleep(60)

    task = manager.create_task("work", stubborn, backend="process")
    wait_until(lambda: task.body)
    task.cancel()
    assert task.cancelling
    with pytest.raises(TaskCancelledError):
        task.wait(30)
    assert is_gone(int(task.body or 0))


def test_no_more_workers_run_than_the_limit_allows(manager: TaskManager) -> None:
    manager.lanes["multiple"].limit = 10
    backend_of(manager).limit = 2
    tasks = [manager.create_task(str(n), lambda: os.getpid(), lane="multiple", backend="process") for n in range(6)]
    assert len({task.wait(60) for task in tasks}) <= 2


def test_functions_share_workers_and_a_spare_is_kept(manager: TaskManager) -> None:
    pids = {manager.create_task("work", os.getpid, backend="process").wait(60) for _ in range(3)}
    assert len(pids) == 1
    wait_until(lambda: {row["task"] for row in backend_of(manager).workers()} == {"free", "spare"})


def test_nothing_is_left_of_the_workers_when_the_manager_stops(tmp_path: Path, manager: TaskManager) -> None:
    def linger(task: Task) -> None:
        task.body = str(os.getpid())
        time.sleep(60)

    task = manager.create_task("work", linger, backend="process")
    wait_until(lambda: task.body)
    pids = [row["pid"] for row in backend_of(manager).workers()]
    manager.stop()
    wait_until(lambda: all(is_gone(pid) for pid in pids))
    wait_until(lambda: not list(tmp_path.glob("nbtasks-*")))
