"""Programs that run notebooks: what docs/how-to/programs.md says, measured."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from tests.kernel.conftest import kernel_env

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "programs.md"
NBCLIENT = """
import nbformat, nbclient
notebook = nbformat.read("in.ipynb", as_version=4)
try:
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": "."}}).execute()
finally:
    nbformat.write(notebook, "out.ipynb")
"""
PLOOMBER = "from ploomber_engine.cli import cli; cli(['in.ipynb', 'out.ipynb'])"
CONVERT = ["nbconvert", "--execute", "--to", "notebook", "--output", "out.ipynb", "in.ipynb"]


@dataclass(frozen=True)
class Program:
    """A command that runs `in.ipynb`, and the notebook that it saves."""

    command: list[str]
    saved: str = "out.ipynb"
    needs: str = "nbclient"


PROGRAMS = {
    "nbclient": Program(["-c", NBCLIENT]),
    "jupyter execute": Program(
        ["-m", "jupyter", "execute", "--startup_timeout=300", "--output", "out.ipynb", "in.ipynb"]
    ),
    "jupyter nbconvert": Program(["-m", *CONVERT]),
    "jupyter nbconvert --allow-errors": Program(["-m", *CONVERT, "--allow-errors"]),
    "papermill": Program(["-m", "papermill", "in.ipynb", "out.ipynb"]),
    "jupytext": Program(["-m", "jupytext", "--execute", "--output", "out.ipynb", "in.ipynb"]),
    "jupytext of a text notebook": Program(["-m", "jupytext", "--execute", "--output", "out.ipynb", "in.md"]),
    "pytest --nbmake": Program(
        ["-m", "pytest", "-s", "-p", "no:cacheprovider", "--nbmake", "--overwrite", "in.ipynb"], "in.ipynb", "nbmake"
    ),
    "pytest --nbval-lax": Program(
        ["-m", "pytest", "-s", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env", "in.ipynb"], "", "nbval"
    ),
    "ploomber-engine": Program(["-c", PLOOMBER], needs="ploomber_engine"),
    "ipython notebook.ipynb": Program(["-m", "IPython", "in.ipynb"], ""),
    "nbtasks run": Program(["-m", "nbtasks", "run", "in.ipynb", "--output", "out.ipynb"]),
}
# `make test` has one program of each kind: nbclient's, IPython, ours; and papermill in the tests of single rules.
OFTEN = ("jupyter nbconvert", "ipython notebook.ipynb", "nbtasks run")
EACH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.long]) for name in PROGRAMS]
)
LOAD = "%load_ext nbtasks\n%config BackgroundTasks.exit_grace = 0\nimport time"
LATE = "%%bgtask late\ntime.sleep(3)\nprint('came', 'late')\nopen('written', 'w').close()"
WHOLE = [LOAD, LATE, "%%bgtask endless --detach\nwhile True: time.sleep(0.01)", "print('the last cell')"]
FAILS = [LOAD, "%%bgtask broken\ntime.sleep(1)\n1 / 0", "print('the last cell')"]


class Run:
    """A finished run of a notebook by a program."""

    def __init__(self, folder: Path, program: Program, *sources: str) -> None:
        if importlib.util.find_spec(program.needs) is None:
            pytest.skip(f"{program.needs} is not installed")
        self.folder = folder
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        made.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
        nbformat.write(made, folder / "in.ipynb")
        if "in.md" in program.command:
            subprocess.run([sys.executable, "-m", "jupytext", "--to", "md", "in.ipynb"], cwd=folder, check=True)
            (folder / "in.ipynb").unlink()
        done = subprocess.run(
            [sys.executable, *program.command],
            env={**os.environ, **kernel_env(folder), "PLOOMBER_STATS_ENABLED": "false"},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        self.code, self.printed = done.returncode, done.stdout + done.stderr
        self.saved = folder / program.saved if program.saved else None

    def outputs(self) -> list[list[nbformat.NotebookNode]] | None:
        """The outputs of each cell in the saved notebook; None if none was saved."""
        if self.saved is None or not self.saved.exists():
            return None
        notebook = nbformat.read(self.saved, as_version=4)
        return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def row(name: str) -> list[str]:
    """What the page says of a program."""
    rows = [[part.strip() for part in line.strip("|\n").split("|")] for line in PAGE.read_text().splitlines()]
    [found] = [parts for parts in rows if parts[0] == name]
    return found[1:]


def text(outputs: list[nbformat.NotebookNode]) -> str:
    return "".join(o.get("text") or o.get("ename") or o["data"]["text/plain"] for o in outputs)


def test_the_page_has_all_programs() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines[1:]] == list(PROGRAMS)


@EACH
def test_the_last_cell_waits_and_what_is_cut_off_is_named(tmp_path: Path, name: str) -> None:
    run = Run(tmp_path, PROGRAMS[name], *WHOLE)
    assert run.code == 0, run.printed
    waits, _, _, cut_off = row(name)
    assert waits == ("yes" if (tmp_path / "written").exists() else "no")
    is_on_stderr = "cut off 1 unfinished task: 'endless'" in run.printed or "cut off: 1 active task" in run.printed
    assert is_on_stderr == cut_off.startswith("on stderr")
    outputs = run.outputs()
    if outputs is None or name == "ploomber-engine":
        assert cut_off in ("on stderr", "not named: the kernel is killed")
        return
    assert "[completed] late" in text(outputs[1]) and "came late" in text(outputs[1]), outputs
    is_named = "endless was still running when cell [4] ended" in text(outputs[2])
    assert cut_off == ("on stderr and in the notebook" if is_named else "on stderr")


@EACH
def test_a_background_cell_that_fails_fails_the_run(tmp_path: Path, name: str) -> None:
    run = Run(tmp_path, PROGRAMS[name], *FAILS)
    _, end, saved, _ = row(name)
    if end == "`CellExecutionError`":
        assert run.code == 1 and "nbclient.exceptions.CellExecutionError" in run.printed
    else:
        assert end == f"exit code {run.code}", run.printed
    outputs = run.outputs()
    has_error = outputs is not None and any("ZeroDivisionError" in text(one) for one in outputs)
    assert saved == ("yes" if has_error else "nothing is saved") and (has_error or outputs is None or not run.saved)
    if run.code:
        assert "ZeroDivisionError" in run.printed or name == "nbtasks run"


@pytest.mark.parametrize("setting", ["--detach", "%config BackgroundTasks.wait_at_end = False"])
def test_a_run_neither_waits_nor_fails_where_that_is_turned_off(tmp_path: Path, setting: str) -> None:
    option, load = (setting, LOAD) if setting == "--detach" else ("", f"{LOAD}\n{setting}")
    fails, endless = f"%%bgtask fails {option}\n1 / 0", f"%%bgtask endless {option}\nwhile True: time.sleep(0.01)"
    run = Run(tmp_path, PROGRAMS["papermill"], load, fails, endless, "while not fails.done: time.sleep(0.01)")
    assert run.code == 0 and "cut off 1 unfinished task: 'endless'" in run.printed
    outputs = run.outputs()
    assert outputs is not None and "ZeroDivisionError" in text(outputs[1])


def test_a_cell_that_is_not_the_last_does_not_wait_and_a_later_one_sees_the_error(tmp_path: Path) -> None:
    cells = [
        f"{LOAD}\nimport threading\ngo = threading.Event()",
        "%%bgtask broken\ngo.wait()\n1 / 0",
        "go.set()\ntry: await broken\nexcept ZeroDivisionError: print('seen')",
        "def link():\n    time.sleep(2)\n    open('linked', 'w').close()",
        "%%bgtask chain\ntime.sleep(0.2)\nget_manager().create_task('link', link)",
    ]
    run = Run(tmp_path, PROGRAMS["papermill"], "from nbtasks import get_manager", *cells)
    assert run.code == 0 and (tmp_path / "linked").exists(), run.printed
    outputs = run.outputs()
    assert outputs is not None and text(outputs[3]) == "seen\n" and "cut off" not in run.printed


def test_a_cancelled_cell_fails_the_run(tmp_path: Path) -> None:
    cell = "%%bgtask endless\nwhile True: time.sleep(0.01)"
    cancel = "import threading\nthreading.Timer(1, endless.cancel).start()"
    run = Run(tmp_path, PROGRAMS["papermill"], LOAD, cell, cancel)
    assert run.code == 1 and "'endless' was cancelled" in run.printed
