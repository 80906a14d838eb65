"""The task table (`%bgtask`) while a foreground cell blocks the kernel."""

from __future__ import annotations

import pytest

from tests.kernel.driver import Cell, KernelDriver
from tests.kernel.notebook import load, wait_over
from tests.kernel.test_panel import BUSY_UNTIL_INTERRUPTED, VIEW

pytestmark = pytest.mark.kernel


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


def cells_that_say(notebook: KernelDriver, *words: str) -> list[str]:
    """The rows of the table that hold all these words."""
    markup = [notebook.models[model]["value"] for model in notebook.find_models("HTMLModel")]
    return [value for value in markup if "nbtasks-cells" in value and all(word in value for word in words)]


def table_of(cell: Cell) -> dict:
    [table] = [o["data"] for o in cell.outputs if "nbtasks-table" in o.get("data", {}).get("text/html", "")]
    return table


def test_the_table_is_a_widget_with_static_html_for_other_viewers(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it --quiet\n1").check()
    wait_over(notebook, "it")
    data = table_of(notebook.run("%bgtask").check())
    assert VIEW in data
    assert "completed" in data["text/html"]
    assert data["text/plain"].splitlines()[1].startswith("it  ")


def test_the_table_moves_and_cancels_while_the_foreground_computes(notebook: KernelDriver) -> None:
    if not notebook.supports_subshells:
        pytest.skip("ipykernel 6 handles clicks between cells")
    notebook.run("%%bgtask spins --quiet\nfor n in track(range(10**9)): pass").check()
    notebook.run("%bgtask").check()
    notebook.wait_until(lambda: cells_that_say(notebook, "spins", "running"), what="the row")
    [button] = notebook.find_models("ButtonModel", tooltip="Cancel spins")
    busy = notebook.start_cell(BUSY_UNTIL_INTERRUPTED + "print(spins.state.value)")
    busy.wait_output("busy")
    notebook.click(button)
    notebook.wait_until(lambda: cells_that_say(notebook, "spins", "cancelled"), what="the cancelled row")
    assert not busy.done
    notebook.interrupt()
    assert busy.wait().stdout == "busy\ncancelled\n"


def test_a_cell_that_failed_runs_again_in_its_own_cell(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it\nif not gates['ok'].is_set(): raise ValueError('boom')\nprint('well')").check()
    wait_over(notebook, "it")
    cell.wait_output("boom")
    notebook.run("%bgtask").check()
    notebook.run("gates['ok'].set()").check()
    [button] = notebook.find_models("ButtonModel", tooltip="Run it again")
    notebook.click(button)
    cell.wait_output("well")


def test_a_row_shows_the_output(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it --quiet\nprint('what it wrote')").check()
    wait_over(notebook, "it")
    notebook.run("%bgtask").check()
    [button] = notebook.find_models("ButtonModel", tooltip="Output of it")
    notebook.click(button)
    notebook.wait_until(
        lambda: any("what it wrote" in str(notebook.models[m]["outputs"]) for m in notebook.find_models("OutputModel")),
        what="the output under the row",
    )


def test_a_rerun_closes_the_models_of_the_cells_earlier_table(notebook: KernelDriver) -> None:
    cell = notebook.run("%bgtask").check()
    before = set(notebook.models)
    assert before
    notebook.rerun(cell).check()
    notebook.wait_until(lambda: not before & set(notebook.models), what="the closing of the models")


def test_without_widgets_the_table_is_html_and_text_that_is_replaced_in_its_place(start_kernel) -> None:
    notebook = load(start_kernel(NBTASKS_WIDGETS="0"))
    notebook.run("%%bgtask it --quiet\ngates['go'].wait()").check()
    cell = notebook.run("%bgtask").check()
    assert not notebook.models
    assert VIEW not in table_of(cell)
    cell.wait_output("running")
    notebook.run("gates['go'].set()").check()
    cell.wait_output("completed")
    assert table_of(cell)["text/plain"].splitlines()[1].startswith("it    completed")


def test_the_timeline_is_a_live_drawing_of_lanes_over_time(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it --quiet\ngates['go'].wait()").check()
    cell = notebook.run("%bgtask timeline 10m").check()
    data = next(o["data"] for o in cell.outputs if "data" in o)
    assert VIEW in data
    assert "<svg" in data["text/html"]
    assert "running in default" in data["text/plain"]
    notebook.run("gates['go'].set()").check()
    notebook.wait_until(
        lambda: any("1 completed" in notebook.models[m]["value"] for m in notebook.find_models("HTMLModel")),
        what="the end of the task in the picture",
    )
    assert "takes one length of time" in notebook.run("%bgtask timeline 1h 2h").stderr
