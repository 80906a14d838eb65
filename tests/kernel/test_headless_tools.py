"""nbconvert, papermill and nbval execute notebooks with background cells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.kernel.conftest import kernel_env

pytestmark = pytest.mark.kernel

CELLS = (
    "%load_ext nbtasks\nimport threading\ngo = threading.Event()",
    "%%bgtask exact --wait --quiet\nprint('printed')\ndisplay('shown')\n'result'",
    "%%bgtask late\ngo.wait()\nprint('came late')\nfound = 6 * 7",
    "print('in between'); go.set()",
    "%bgtask wait late",
    "found",
)


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    made = nbformat.v4.new_notebook(cells=cells)
    made.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(made, tmp_path / "in.ipynb")
    return tmp_path / "in.ipynb"


def call(notebook: Path, *arguments: str) -> str:
    """Run a module with this Python; returns its standard output."""
    command = [sys.executable, "-m", *arguments]
    env = {**os.environ, **kernel_env(notebook.parent)}
    done = subprocess.run(
        command, env=env, cwd=notebook.parent, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def plain(outputs: list[nbformat.NotebookNode]) -> list[str]:
    return [o.get("text") or o["data"]["text/plain"] for o in outputs]


def assert_executed(path: Path) -> None:
    outputs = [cell.outputs for cell in nbformat.read(path, as_version=4).cells]
    assert plain(outputs[1]) == ["printed\n", "'shown'", "'result'"]
    assert [output.output_type for output in outputs[1]] == ["stream", "display_data", "execute_result"]
    [late] = plain(outputs[2])
    assert "[completed] late" in late and "came late" in late
    assert plain(outputs[3]) == ["in between\n"] and plain(outputs[5]) == ["42"]


def test_nbconvert_keeps_all_output(notebook: Path) -> None:
    call(notebook, "nbconvert", "--execute", "--to", "notebook", "--output", "out.ipynb", "in.ipynb")
    assert_executed(notebook.with_name("out.ipynb"))


def test_nbconvert_shows_all_output_on_an_html_page(notebook: Path) -> None:
    call(notebook, "nbconvert", "--execute", "--to", "html", "--output", "out.html", "in.ipynb")
    page = notebook.with_name("out.html").read_text()
    assert "came late" in page and "completed" in page


def test_papermill_keeps_all_output(notebook: Path) -> None:
    call(notebook, "papermill", "in.ipynb", "out.ipynb")
    assert_executed(notebook.with_name("out.ipynb"))


def test_nbval_finds_the_same_output_again(notebook: Path) -> None:
    """nbval ignores the cells with a panel, which shows a duration."""
    executed = nbformat.read(notebook, as_version=4)
    for index in (2, 4):
        executed.cells[index].metadata["tags"] = ["nbval-ignore-output"]
    nbformat.write(executed, notebook)
    call(notebook, "nbconvert", "--execute", "--inplace", "in.ipynb")
    assert "6 passed" in call(
        notebook, "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "in.ipynb"
    )
