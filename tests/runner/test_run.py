"""`nbtasks run`: notebooks in real kernels, started, stopped and killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from nbtasks.history.history import History

LOAD = "%load_ext nbtasks\nimport os, time, threading, pathlib"
LIMIT = 120.0


class Run:
    """One `nbtasks run` of a notebook, in a folder and with a history of its own."""

    def __init__(self, folder: Path, cells: list[str]) -> None:
        self.path = folder / "it.ipynb"
        self.folder = folder
        made = [new_code_cell(source) for source in cells]
        for cell in made:
            if cell.source.startswith("# parameters"):
                cell.metadata["tags"] = ["parameters"]
        nbformat.write(new_notebook(cells=made), self.path)
        self.history = folder / "history.sqlite"
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *options: str) -> subprocess.Popen[str]:
        env = {**os.environ, "NBTASKS_HISTORY": str(self.history), "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime")}
        command = [sys.executable, "-m", "nbtasks", "run", str(self.path), *options]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env, cwd=self.folder)
        self.processes.append(process)
        return process

    def finish(self, *options: str) -> tuple[int, str]:
        """Run it to its end: exit code, and what it printed."""
        process = self.start(*options)
        _, printed = process.communicate(timeout=LIMIT)
        return process.returncode, printed

    def texts(self, path: Path | None = None) -> list[str]:
        """The text of the outputs of each cell, as the file has it now."""
        notebook = nbformat.read(path or self.path, as_version=4)
        nbformat.validate(notebook)
        return ["".join(map(text_of, cell.outputs)) for cell in notebook.cells]

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            if process.stderr is not None and not process.stderr.closed:
                process.communicate()


def text_of(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    return str(output.data.get("text/plain", "")) + "\n"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def make(*cells: str) -> Run:
        runs.append(Run(tmp_path, [LOAD, *cells]))
        return runs[-1]

    yield make
    for one in runs:
        one.end()


def until(holds: Callable[[], Any], seconds: float = LIMIT) -> Any:
    """What `holds` returns, as soon as it is true."""
    limit = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < limit, "not in time"
        time.sleep(0.05)
    return found


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def kernel_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The kernel of a run."""
    return until(lambda: psutil.Process(process.pid).children())[0]


def test_it_stays_for_tasks_and_writes_what_they_print(run):
    slow = "%%bgtask slow\nfor i in range(3):\n    print('step', i)\n    time.sleep(0.2)\n'the end'"
    it = run(slow, "print('after')")
    assert it.finish() == (0, "")
    _, slow, after = it.texts()
    assert "[completed] slow" in slow and "step 0\nstep 1\nstep 2\n" in slow and "'the end'" in slow
    assert after == "after\n"


def test_a_notebook_without_the_extension_runs_too(run):
    it = run()
    it.path.write_text(nbformat.writes(new_notebook(cells=[new_code_cell("6 * 7")])))
    assert it.finish() == (0, "") and it.texts() == ["42\n"]


def test_a_cell_that_fails_ends_the_run(run):
    it = run("1 / 0", "print('never')")
    code, printed = it.finish()
    assert code == 1 and "cell 2 of 3 failed: ZeroDivisionError" in printed
    assert it.texts()[1:] == ["ZeroDivisionError: division by zero", ""]


def test_a_task_that_fails_fails_the_run(run):
    it = run("%%bgtask bad\ntime.sleep(0.5)\nraise OSError('disk')", "print('after')")
    code, printed = it.finish()
    assert code == 1 and "task 'bad' failed" in printed
    assert "OSError: disk" in it.texts()[1] and it.texts()[2] == "after\n"


def test_parameters_are_set_after_the_tagged_cell_and_output_goes_elsewhere(run):
    it = run("# parameters\na, b = 1, 'x'", "print(a, b)")
    before = it.path.read_text()
    target = it.folder / "out.ipynb"
    assert it.finish("--parameters", "a=[1, 2]", "--parameters", "b=plain text", "--output", str(target)) == (0, "")
    assert it.texts(target)[-1] == "[1, 2] plain text\n" and it.path.read_text() == before


def test_only_one_background_cell_runs_once_after_the_cells_before_it(run):
    it = run(
        "factor = 3",
        "%%bgtask other --every 1h\nprint('other')",
        '%%bgtask wanted --cron "0 8 * * *" --tz Europe/Paris\nprint(factor * 14)',
        "print('after')",
    )
    assert it.finish("--only", "wanted") == (0, "")
    assert it.texts()[2] == "" and "42\n" in it.texts()[3] and it.texts()[4] == ""
    code, printed = it.finish("--only", "wantd")
    assert code == 2 and "did you mean 'wanted'" in printed


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--kernel", "no-such"], "there is no kernel 'no-such'"),
        (["--parameters", "a"], "NAME=VALUE"),
        (["--output", "/no/such/folder/x.ipynb"], "cannot be written"),
        (["--port", "80"], "--serve"),
    ],
)
def test_what_cannot_be_run_is_told_and_nothing_starts(run, options, problem):
    it = run("print(1)")
    code, printed = it.finish(*options)
    assert code == 2 and problem in printed and it.texts() == ["", ""]


def test_sigterm_ends_it_with_the_schedule_and_the_file_is_complete(run):
    it = run("%%bgtask tick --every 1s\nprint('tick')", "open('begun', 'w').close()")
    process = it.start()
    until(lambda: "tick\n" in it.texts()[1])
    process.terminate()
    assert process.wait(LIMIT) == 0
    assert "tick" in it.texts()[1]


def test_sigterm_interrupts_a_cell(run):
    it = run("open('begun', 'w').close()\ntime.sleep(600)", "print('never')")
    process = it.start()
    until((it.folder / "begun").exists)
    process.terminate()
    assert process.wait(LIMIT) == 1
    assert "KeyboardInterrupt" in it.texts()[1] and it.texts()[2] == ""


def test_a_kernel_that_dies_is_followed_by_another_and_the_schedule_continues(run):
    note = "pathlib.Path('log').open('a').write(f'{os.getpid()}\\n')"
    it = run(f"%%bgtask tick --every 1s\n{note}")
    process = it.start()
    log = it.folder / "log"
    until(lambda: len(lines(log)) >= 2)
    first = kernel_of(process)
    first.kill()
    until(lambda: len(set(lines(log))) == 2)
    history = History(it.history)
    until(lambda: [one for one in history.schedules() if one.details["total_runs"] > len(lines(log)) - 2 > 1])
    assert len(history.schedules()) == 1
    history.close()
    process.terminate()
    printed = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 0 and "the kernel died; restarting in 1 s" in printed
    assert lines(log) == sorted(lines(log), key=lines(log).index)


@pytest.mark.long
def test_a_kernel_that_dies_at_once_again_and_again_is_given_up(run):
    it = run("os.kill(os.getpid(), 9)")
    process = it.start()
    code, printed = process.wait(LIMIT * 2), process.stderr.read()
    assert code == 1 and "not restarted" in printed and printed.count("restarting in") == 5
    assert "the kernel died" in it.texts()[1]


@pytest.mark.long
def test_no_two_runs_of_a_notebook_at_once(run):
    it = run("%%bgtask tick --every 1s\nprint('tick')")
    first = it.start()
    until(lambda: "tick\n" in it.texts()[1])
    code, printed = it.finish()
    assert code == 2 and "another nbtasks run" in printed
    assert first.poll() is None


@pytest.mark.long
def test_a_notebook_that_is_open_elsewhere_is_not_written(run, monkeypatch):
    it = run("print('ran')")
    monkeypatch.setenv("NBTASKS_HISTORY", str(it.history))
    open_elsewhere = History(it.history, notebook=str(it.path))
    open_elsewhere.flush()
    try:
        code, printed = it.finish()
        assert code == 2 and "is open in another kernel" in printed and it.texts() == ["", ""]
        target = it.folder / "out.ipynb"
        code, printed = it.finish("--output", str(target))
        assert code == 0 and "schedules that run there are left to it" in printed
        assert it.texts(target)[1] == "ran\n"
    finally:
        open_elsewhere.close()


def test_the_tasks_are_served(run):
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    it = run("%%bgtask waits\nwhile not os.path.exists('go'): time.sleep(0.01)")
    process = it.start("--serve")
    assert process.stderr is not None
    address = re.search(r"http://\S+", process.stderr.readline())
    assert address is not None
    with httpx.Client(follow_redirects=True) as client:
        base = str(client.get(address[0]).url)
        tasks = until(lambda: client.get(f"{base}api/tasks").json()["tasks"])
        assert [task["name"] for task in tasks] == ["waits"]
    (it.folder / "go").touch()
    process.communicate(timeout=LIMIT)
    assert process.returncode == 0


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_killed_at_random_the_file_is_valid_and_nothing_runs_twice(run):
    """Kill the run or its kernel twenty times; one process logs each second of the schedule."""
    import random

    chance = random.Random(20)
    note = "pathlib.Path('log').open('a').write(f'{int(time.time())} {os.getpid()}\\n')"
    it = run(f"%%bgtask tick --cron '* * * * * *'\n{note}")
    log = it.folder / "log"
    process = it.start()
    for _ in range(20):
        seen = len(lines(log))
        until(lambda seen=seen: len(lines(log)) > seen)
        time.sleep(chance.random() * 2)
        if chance.random() < 0.5:
            for child in psutil.Process(process.pid).children():
                child.kill()
        else:
            process.kill()
            process.communicate()
            process = it.start()
        json.loads(it.path.read_text())
        it.texts()
    seen = len(lines(log))
    until(lambda: len(lines(log)) > seen)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LIMIT)
    seconds = [line.split()[0] for line in lines(log)]
    assert len(seconds) == len(set(seconds))
