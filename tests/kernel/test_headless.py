"""Output of background cells in notebooks that nbclient executes."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.kernel.conftest import kernel_env

pytestmark = pytest.mark.kernel


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in kernel_env(tmp_path).items():
        monkeypatch.setenv(name, value)

    def execute(*cells: str) -> list[nbformat.NotebookNode]:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
        NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
        return [cell.outputs for cell in notebook.cells]

    return execute


def plain(outputs: list[nbformat.NotebookNode]) -> str:
    return "".join(o.get("text") or o["data"]["text/plain"] for o in outputs)


def test_with_wait_and_quiet_the_cell_has_exactly_its_output(run) -> None:
    outputs = run("%load_ext nbtasks", "%%bgtask it --wait --quiet\nprint('printed')\ndisplay('shown')\n'result'")[1]
    assert [o.output_type for o in outputs] == ["stream", "display_data", "execute_result"]
    assert plain(outputs) == "printed\n'shown''result'"


def test_with_wait_the_panel_shows_the_final_state(run) -> None:
    outputs = run("%load_ext nbtasks", "%%bgtask it --wait\n1")[1]
    assert "[completed] it" in outputs[0]["data"]["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" not in outputs[0]["data"]


def test_with_wait_a_failure_stops_the_notebook(run) -> None:
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run("%load_ext nbtasks", "%%bgtask it --wait\n1 / 0")


@pytest.mark.parametrize("wait", ["%bgtask wait it", "it.wait();", "await it;"])
def test_a_later_wait_delivers_the_output_into_the_launching_cell(run, wait: str) -> None:
    outputs = run(
        "%load_ext nbtasks\nimport threading\ngo = threading.Event()",
        "%%bgtask it\ngo.wait()\nprint('late')",
        "print('other'); go.set()",
        wait,
    )
    assert "[completed] it" in plain(outputs[1]) and "late" in plain(outputs[1])
    assert "late" in outputs[1][0]["data"]["text/html"]
    assert plain(outputs[2]) == "other\n"


def test_late_plots_and_errors_are_delivered(run) -> None:
    outputs = run(
        "%load_ext nbtasks",
        "%%bgtask plot\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);",
        "%%bgtask broken\n1 / 0",
        "%bgtask wait --no-raise",
    )
    assert "data:image/png;base64," in outputs[1][0]["data"]["text/html"]
    assert "ZeroDivisionError" in plain(outputs[2]) and "\x1b" not in outputs[2][0]["data"]["text/html"]


def test_a_recurring_cell_shows_the_output_of_its_last_run(run) -> None:
    outputs = run(
        "%load_ext nbtasks\nfrom nbtasks import get_manager\nn = 0",
        "%%bgtask it --cron @yearly\nn += 1\nprint('written by run', n)",
        "%bgtask run it\nget_manager().wait()",
        "%bgtask run it\nget_manager().wait()",
        "%bgtask schedules",
    )
    assert "written by run 2" in plain(outputs[1]) and "written by run 1" not in plain(outputs[1])
    assert "scheduled" in plain(outputs[4])


def test_a_recurring_cell_keeps_its_last_output_until_a_new_run_has_some(run) -> None:
    outputs = run(
        "%load_ext nbtasks\nfrom nbtasks import get_manager\n"
        "import threading\nbegun, go = threading.Event(), threading.Event()",
        "%%bgtask it --cron @yearly\nif seen:\n    begun.set(); go.wait()\nprint('written')",
        "seen = False\n%bgtask run it\nget_manager().wait()",
        "seen = True\n%bgtask run it\nassert begun.wait(30)",
    )
    assert "[running] it" in plain(outputs[1]) and "written" in plain(outputs[1])


FAILS = "%%bgtask broken\n1 / 0"


@pytest.mark.parametrize("wait", ["%bgtask wait broken", "%bgtask wait", "await broken"])
def test_a_wait_raises_the_error_of_a_background_cell(run, wait: str) -> None:
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run("%load_ext nbtasks", FAILS, "while not broken.done: pass", wait)


def test_a_wait_for_all_raises_an_error_that_no_code_has_seen_and_raises_it_once(run) -> None:
    seen = "try:\n    await broken\nexcept ZeroDivisionError:\n    print('seen')"
    outputs = run("%load_ext nbtasks", FAILS, seen, "%bgtask wait", FAILS, "%bgtask wait --no-raise", "%bgtask wait")
    assert plain(outputs[2]) == "seen\n" and not outputs[3] and not outputs[6]
    assert plain(outputs[5]).startswith("broken: failed (ZeroDivisionError")


def test_a_wait_for_a_cancelled_cell_fails(run) -> None:
    cells = ["%load_ext nbtasks\nimport asyncio", "%%bgtask it\nawait asyncio.Event().wait()", "it.cancel()"]
    with pytest.raises(CellExecutionError, match="'it' was cancelled"):
        run(*cells, "%bgtask wait it")
    run(*cells, "%bgtask wait it --no-raise")


def test_a_cell_that_the_end_of_the_notebook_cuts_off_says_so_in_the_notebook(run, capfd) -> None:
    outputs = run(
        "%load_ext nbtasks\n%config BackgroundTasks.exit_grace = 0\nimport threading",
        "%%bgtask it\nthreading.Event().wait()",
        "print('the last cell')",
    )
    assert "it was still running when cell [3] ended" in plain(outputs[1])
    assert "cell [3] ended" in outputs[1][0]["data"]["text/html"]
    assert "nbtasks: the end of the process has cut off 1 unfinished task: 'it' (running" in capfd.readouterr().err


def test_cells_that_are_about_to_finish_when_the_notebook_ends_are_given_time(run, tmp_path: Path, capfd) -> None:
    run("%load_ext nbtasks\nimport time", "%%bgtask it\ntime.sleep(0.7)\nopen('written', 'w').close()")
    assert (tmp_path / "written").exists()
    assert "cut off" not in capfd.readouterr().err
