"""Faults of workers: killed processes and kernels, a full disk, lost clusters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc"),
]
KILLS = 100


@pytest.fixture
def notebook(start_kernel, tmp_path: Path) -> KernelDriver:  # type: ignore[no-untyped-def]
    (tmp_path / "tmp").mkdir()
    return load(start_kernel(TMPDIR=str(tmp_path / "tmp")))


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid: int | None) -> list[int]:
    """Its running child processes."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.long
@pytest.mark.timeout(900)
def test_workers_killed_at_random_moments_leave_nothing_behind(notebook: KernelDriver, tmp_path: Path) -> None:
    notebook.run(
        "import os, random, signal, time\nimport numpy as np\nrandom.seed(0)\n"
        "manager = get_manager()\nbackend = manager.backends['process']\nmanager.prune()\n"
        "big = np.ones(1_000_000)\nchance = random.Random(1)\n"
        "def work(): return (big * 2).sum()\nstates = []"
    ).check()
    for _ in range(KILLS // 10):
        notebook.run(
            "for _ in range(10):\n"
            "    task = manager.create_task('victim', work, backend='process')\n"
            "    time.sleep(chance.random() * 1.2)\n"
            "    for row in backend.workers():\n"
            "        if chance.random() < 0.7: os.kill(row['pid'], signal.SIGKILL)\n"
            "    manager.wait(task, timeout=60)\n"
            "    assert task.state.value == 'completed' or 'Worker' in task.error, task.error\n"
            "    states.append(task.state.value)",
            timeout=300,
        ).check()
    assert notebook.value("len(states)") == KILLS
    assert notebook.value("float(manager.create_task('last', work, backend='process').wait(60))") == 2_000_000
    notebook.run("backend.pool.close()").check()
    wait_gone([], tmp_path / "tmp", parent=notebook.pid)


def wait_gone(pids: list[int], folder: Path, parent: int | None = None) -> None:
    """Wait until these processes, or all children of one, have ended and left no folder."""
    end = time.monotonic() + 60
    while (there := [pid for pid in pids if is_there(pid)] + children_of(parent)) or list(folder.glob("nbtasks-*")):
        assert time.monotonic() < end, (there, list(folder.iterdir()))
        time.sleep(0.05)
    assert not list(Path("/dev/shm").glob("*nbtasks*"))


def test_a_cell_that_forks_ends_with_its_own_result(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it --backend process --quiet --wait\nimport os, multiprocessing\n"
        "pid = os.fork()\nif pid == 0: os._exit(5)\ncode = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "def double(n): return 2 * n\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool: doubled = pool.map(double, range(3))\n"
        "del pool"
    ).check()
    assert notebook.value("(code, doubled)") == (5, [0, 2, 4])


def test_a_cell_that_ignores_interrupts_is_killed_and_cancelled(notebook: KernelDriver) -> None:
    notebook.run("get_manager().backends['process'].grace = 0.5").check()
    cell = notebook.run(
        "%%bgtask it --backend process --quiet\nimport time\nprint('begun')\n"
        "while True:\n    try: time.sleep(60)\n    except KeyboardInterrupt: pass"
    ).check()
    cell.wait_output("begun")
    notebook.run("it.cancel(); assert it.cancelling").check()
    wait_over(notebook, "it")
    assert notebook.value("it.state.value") == "cancelled"


def test_a_full_disk_fails_the_task_and_the_next_one_runs(notebook: KernelDriver, tmp_path: Path) -> None:
    """All that a worker needs of the disk is a folder for its sockets: names and results never touch it."""
    notebook.run(
        "import errno, os\nfrom pathlib import Path\nopened = os.open\n"
        "def full(path, flags, *rest, **options):\n"
        "    if 'nbtasks-' in str(path) and flags & os.O_CREAT:\n"
        "        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "    return opened(path, flags, *rest, **options)\nos.open = full"
    ).check()
    cell = notebook.run("%%bgtask it --backend process --quiet\n1").check()
    wait_over(notebook, "it")
    expected = "TaskFailedError: a worker process cannot be started: [Errno 28] No space left on device"
    assert notebook.value("it.error") == expected
    assert "jupyter_client" not in cell.text, "where it was noticed is of no use to anybody"
    assert not list((tmp_path / "tmp").glob("nbtasks-*"))
    notebook.run("os.open = opened").check()
    notebook.run("%%bgtask it --backend process --quiet --wait\nfound = 1").check()
    assert notebook.value("found") == 1


def test_workers_and_their_folders_end_with_a_killed_kernel(notebook: KernelDriver, tmp_path: Path) -> None:
    cell = notebook.run(
        "%%bgtask it --backend process --quiet\nimport subprocess\n"
        "child = subprocess.Popen(['sleep', '600'])\nprint('child', child.pid, flush=True)\nwhile True: pass"
    ).check()
    cell.wait_output("child ")
    notebook.run(
        "pool = get_manager().backends['process']\nget_manager().create_task('f', int, backend='process').wait()"
    )
    kinds = "{row['task'] for row in pool.workers()}"
    notebook.wait_until(lambda: notebook.value(kinds) == {"it", "free", "spare"}, what="workers of all kinds")
    pids = [int(cell.stdout.split()[1]), *notebook.value("[row['pid'] for row in pool.workers()]")]
    os.kill(notebook.pid, signal.SIGKILL)
    wait_gone(pids, tmp_path / "tmp")


def test_a_killed_dask_scheduler_fails_the_tasks_that_ran_there(notebook: KernelDriver, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    file = tmp_path / "scheduler.json"
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
         "--no-dashboard", "--scheduler-file", str(file)]
    )  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--no-dashboard",
         "--host", "127.0.0.1", "--nthreads", "2"]
    )  # fmt: skip
    try:
        notebook.run(
            f"import distributed, time\nclient = distributed.Client(scheduler_file={str(file)!r}, timeout=60)\n"
            "client.wait_for_workers(1, timeout=60)",
            timeout=150,
        ).check()
        cell = notebook.run("%%bgtask it --backend dask --quiet\nprint('begun')\ntime.sleep(600)").check()
        cell.wait_output("begun")
        scheduler.kill()
        wait_over(notebook, "it")
        assert notebook.value("it.state.value") == "failed"
        assert "lost the work" in notebook.value("it.error")
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


def test_a_cell_whose_dask_worker_is_killed_runs_again_and_reports_it(notebook: KernelDriver, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    once = tmp_path / "once"
    notebook.run(
        "import distributed\n"
        "client = distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address='127.0.0.1:0')",
        timeout=300,
    ).check()
    cell = notebook.run(
        "%%bgtask it --backend dask --quiet\nimport os, time\nfrom pathlib import Path\n"
        f"once = Path({str(once)!r})\n"
        "if not once.exists():\n    once.touch()\n    print('its worker is', os.getppid(), flush=True)\n"
        "    time.sleep(600)\nfound = 'again'"
    ).check()
    cell.wait_output("its worker is")
    os.kill(int(cell.stdout.split()[-1]), signal.SIGKILL)
    wait_over(notebook, "it")
    assert notebook.value("(it.state.value, found)") == ("completed", "again")
    cell.wait_output("was lost: it runs again on")
