"""Processes of kernels: start, death, interrupt, and clean-up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from nbtasks.exceptions import TaskFailedError, WorkerDiedError
from nbtasks.workers import worker_side
from nbtasks.workers.kernel_process import Worker, python_kernel

ENDLESS = [sys.executable, "-c", "import time\nprint('up', flush=True)\ntime.sleep(600)"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_kernel_answers_and_leaves_nothing_behind(folder: Path) -> None:
    worker = Worker(python_kernel(worker_side.__name__))
    assert worker.wait_ready()
    request = worker.send("kernel_info_request", {})
    kinds: set[str] = set()
    while "kernel_info_reply" not in kinds:
        kinds |= {message.kind for message in worker.receive(10) if message.answers == request}
    pid = worker.pid
    assert pid is not None
    worker.end()
    worker.end()
    assert not worker.alive
    assert list(folder.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_program_that_does_not_exist_is_a_named_error(folder: Path) -> None:
    with pytest.raises(TaskFailedError, match=r"a worker process cannot be started: .*no-such-program"):
        Worker(KernelSpec(argv=["/no-such-program", "{connection_file}"]))
    assert list(folder.iterdir()) == []


def test_the_log_of_a_kernel_that_ends_while_it_starts_is_in_the_error() -> None:
    worker = Worker(KernelSpec(argv=[sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"]))
    with pytest.raises(WorkerDiedError, match=r"exited with code 3; it said:\nno such luck") as caught:
        worker.wait_ready()
    assert caught.value.returncode == 3
    worker.end()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is polled")
def test_the_death_of_a_process_is_seen_at_once() -> None:
    worker = Worker(KernelSpec(argv=ENDLESS))
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerDiedError, match="killed by SIGKILL") as caught:
        worker.receive(600)
    assert caught.value.returncode == -signal.SIGKILL
    worker.end()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")
def test_the_processes_that_a_worker_has_started_end_with_it(tmp_path: Path) -> None:
    script = "import subprocess, sys\np = subprocess.Popen(['sleep', '600'])\nprint(p.pid, flush=True)"
    worker = Worker(KernelSpec(argv=[sys.executable, "-c", script]))
    with pytest.raises(WorkerDiedError, match=r"exited with code 0; it said:\n(\d+)") as caught:
        worker.receive(600)
    child = int(str(caught.value).rpartition("\n")[2])
    end = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "Z (zombie)" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    worker.end()


async def test_a_worker_is_interrupted_from_a_thread_whose_loop_is_running() -> None:
    worker = Worker(KernelSpec(argv=ENDLESS))
    while "up" not in (worker.folder / "log").read_text():
        await asyncio.sleep(0.01)
    worker.interrupt()
    with pytest.raises(WorkerDiedError, match="KeyboardInterrupt"):
        worker.receive(600)
    worker.end()


class Recording(LocalProvisioner):
    """A provisioner of another package."""

    signals: ClassVar[list[int]] = []

    async def send_signal(self, signum: int) -> None:
        self.signals.append(signum)
        await super().send_signal(signum)


def test_the_provisioner_that_a_kernel_names_starts_and_interrupts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = KernelProvisionerFactory.instance()
    here = EntryPoint("recording", f"{__name__}:Recording", factory.GROUP_NAME)
    monkeypatch.setitem(factory.provisioners, "recording", here)
    spec = KernelSpec(argv=ENDLESS, metadata={"kernel_provisioner": {"provisioner_name": "recording"}})
    worker = Worker(spec)
    while "up" not in (worker.folder / "log").read_text():
        time.sleep(0.01)
    worker.interrupt()
    assert Recording.signals == [signal.SIGINT]
    with pytest.raises(WorkerDiedError, match="KeyboardInterrupt"):
        worker.receive(600)
    worker.end()
