"""Whole notebooks as tasks, in real kernels."""

from __future__ import annotations

import json
import sys
import threading

import nbformat
import pytest

from nbtasks import TaskCancelledError
from nbtasks.actions import run_notebook
from nbtasks.exceptions import ActionError, InvalidValueError, MissingPackageError

pytestmark = pytest.mark.kernel


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook of these code cells; one that begins with `# parameters` is tagged so."""

    def write(*sources):
        made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
        made.cells.append(nbformat.v4.new_markdown_cell("# Report"))
        for source in sources:
            cell = nbformat.v4.new_code_cell(source)
            if source.startswith("# parameters"):
                cell.metadata["tags"] = ["parameters"]
            made.cells.append(cell)
        nbformat.write(made, tmp_path / "report.ipynb")
        return tmp_path / "report.ipynb"

    return write


def results(made) -> list[str]:
    return [out["data"]["text/plain"] for cell in made.cells for out in cell.get("outputs", ()) if "data" in out]


def test_a_notebook_runs_whole_with_parameters(start, notebook, tmp_path):
    source = notebook("# parameters\nyear, names = 1999, []", "import os\nyear + 1", "names", "os.getcwd()")
    before = source.read_bytes()
    values = {"year": 2024, "names": ["a", float("inf"), {"b": (1,)}, None]}
    task = start(run_notebook, source, tmp_path / "done.ipynb", values)
    made = task.wait(120)
    assert results(made) == ["2025", "['a', inf, {'b': (1,)}, None]", repr(str(tmp_path))]
    assert source.read_bytes() == before
    assert results(nbformat.read(tmp_path / "done.ipynb", as_version=4)) == results(made)
    assert made.cells[2].metadata["tags"] == ["injected-parameters"]
    assert task.backend == "thread" and task.body == "5 cells"


def test_progress_goes_by_cells(notebook):
    class RecordingTask:
        def __init__(self):
            self.progress_told = []

        def __setattr__(self, name, value):
            if name == "progress":
                self.progress_told.append(round(value))
            object.__setattr__(self, name, value)

    received = RecordingTask()
    run_notebook(received, notebook("1", "# two\n2", "3", "4"))
    assert received.progress_told == [0, 25, 50, 75]
    assert received.body == "4 cells"


def test_a_cell_that_fails_is_named_and_the_notebook_saved_as_it_is_then(outcome, notebook, tmp_path):
    source = notebook("1 + 1", "{}['x']", "3")
    before = nbformat.read(source, as_version=4)
    before.cells[-1].outputs = [nbformat.v4.new_output("stream", text="of an earlier run")]
    nbformat.write(before, source)
    with pytest.raises(ActionError, match="cell 2 of 3 failed: KeyError: 'x'"):
        outcome(run_notebook, source, tmp_path / "done.ipynb")
    done = nbformat.read(tmp_path / "done.ipynb", as_version=4)
    assert results(done) == ["2"]
    assert [out.output_type for cell in done.cells for out in cell.get("outputs", ())] == ["execute_result", "error"]


def test_a_cell_that_takes_too_long_ends_it(outcome, notebook):
    source = notebook("import threading; threading.Event().wait()")
    with pytest.raises(ActionError, match=r"cell 1 of 1 took longer than 0.5 s"):
        outcome(run_notebook, source, cell_timeout=0.5)


def test_a_kernel_that_dies_is_an_error_of_the_cell(outcome, notebook):
    source = notebook("import os; os.kill(os.getpid(), 9)", "2")
    with pytest.raises(ActionError, match="the kernel died in cell 1 of 2"):
        outcome(run_notebook, source)


def test_what_a_kernel_itself_writes_stays_out_of_this_one(outcome, notebook, capfd):
    outcome(run_notebook, notebook("1"))
    assert capfd.readouterr() == ("", "")


def test_a_cancel_ends_the_kernel_too(manager, start, notebook, tmp_path):
    mark = tmp_path / "pid"
    source = notebook(
        f"import os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))", "time.sleep(1000)"
    )
    at_work = threading.Event()
    manager.add_event_callback(
        lambda task, _: at_work.set() if (task.body or "").startswith("cell 2") else None, ["progress"]
    )
    task = start(run_notebook, source, tmp_path / "done.ipynb")
    assert at_work.wait(60)
    task.cancel()
    with pytest.raises(TaskCancelledError):
        task.wait(60)
    assert (tmp_path / "done.ipynb").exists()
    with pytest.raises(ProcessLookupError):
        __import__("os").kill(int(mark.read_text()), 0)


def test_parameters_are_refused_where_the_kernel_speaks_another_language(outcome, notebook, tmp_path, monkeypatch):
    (tmp_path / "kernels" / "poems").mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "Poems", "language": "sonnet"}
    (tmp_path / "kernels" / "poems" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with pytest.raises(
        InvalidValueError, match="parameters are set in Python, and the notebook's kernel speaks sonnet"
    ):
        outcome(run_notebook, notebook("1"), parameters={"a": 1}, kernel_name="poems")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"path": "/nowhere/x.ipynb"}, "there is no notebook '/nowhere/x.ipynb'"),
        ({"path": __file__}, "is not a notebook"),
        ({"output": "/nowhere/x.ipynb"}, "'/nowhere/x.ipynb' cannot be written: it must be a file in an"),
        ({"kernel_name": "fortran77"}, "there is no kernel 'fortran77': there are "),
        ({"parameters": {"a b": 1}}, "the name of a parameter must be an identifier, not 'a b'"),
        ({"parameters": {"a": object}}, "the parameter 'a' is not a literal"),
        ({"cell_timeout": 0}, "cell_timeout must be a number of seconds, more than 0, or a timedelta, not 0"),
        ({"cwd": "/nowhere"}, "there is no folder '/nowhere' to run the notebook in"),
    ],
)
def test_wrong_values_are_refused_with_nothing_started(outcome, notebook, tmp_path, wrong, message):
    given = {"path": notebook("1"), **wrong}
    with pytest.raises(InvalidValueError) as error:
        outcome(run_notebook, **given)
    assert message in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.ipynb"]


def test_without_nbclient_it_says_what_to_install(outcome, notebook, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbclient", None)
    with pytest.raises(MissingPackageError, match="run_notebook needs nbclient: pip install nbclient"):
        outcome(run_notebook, notebook("1"))
