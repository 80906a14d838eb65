"""How many finished tasks a notebook keeps, and pages of pruned ones."""

from __future__ import annotations

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load

FORTY = "for n in range(40): get_manager().create_task(f't{n}', lambda: n, lane='single')\nget_manager().wait()"


@pytest.fixture
def notebook(start_kernel, tmp_path) -> KernelDriver:
    """A notebook with a history."""
    kernel = load(
        start_kernel(JPY_SESSION_NAME="/home/user/it.ipynb", NBTASKS_HISTORY=str(tmp_path / "history.sqlite"))
    )
    kernel.run("from nbtasks import TaskManager, get_manager").check()
    return kernel


def test_a_notebook_keeps_a_thousand_and_other_managers_ten(notebook: KernelDriver) -> None:
    assert notebook.value("(get_manager().max_succeeded_tasks, TaskManager().max_succeeded_tasks)") == (1_000, 10)
    notebook.run(FORTY).check()
    notebook.run("%bgtask").check()
    notebook.wait_until(lambda: "1 to 10 of 40" in str(notebook.models))
    assert "in the history" not in str(notebook.models)


def test_what_was_pruned_is_paged_through_below_the_table(notebook: KernelDriver) -> None:
    notebook.run("%config BackgroundTasks.keep_finished = 10").check()
    notebook.run(FORTY).check()
    notebook.run("%bgtask").check()
    notebook.wait_until(lambda: "30 more in the history" in str(notebook.models))
    [show] = notebook.find_models("ToggleButtonModel", description="Show")
    notebook.set_state(show, value=True)
    notebook.wait_until(lambda: "1 to 20 of 30" in str(notebook.models))
    rows = next(
        model["value"]
        for model in notebook.models.values()
        if "nbtasks-tr" in str(model.get("value")) and "t29" in str(model.get("value"))
    )
    assert rows.index(">t29<") < rows.index(">t10<") and "t30" not in rows and "t9<" not in rows
