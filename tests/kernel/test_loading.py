"""Loading and unloading the extension, also while tasks are running."""

from __future__ import annotations

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel

# Packages and modules that tasks, schedules, views, workers and the history need, and a notebook without them does not.
LATER = (
    "cloudpickle",
    "croniter",
    "jupyter_client.provisioning",
    "multiprocessing.pool",
    "nbtasks.history",
    "nbtasks.notebook.cell_magic",
    "nbtasks.notebook.cell_options",
    "nbtasks.notebook.cells.cell_globals",
    "nbtasks.notebook.cells.cell_task",
    "nbtasks.notebook.commands",
    "nbtasks.notebook.output.output",
    "nbtasks.notebook.panels",
    "nbtasks.notebook.remote",
    "nbtasks.notebook.session",
    "nbtasks.retry",
    "nbtasks.schedules",
    "nbtasks.widgets",
    "nbtasks.workers",
    "sqlite3",
)


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


def test_loading_imports_nothing_that_only_tasks_and_views_need(kernel: KernelDriver) -> None:
    kernel.run("import sys\nbefore = set(sys.modules)").check()
    kernel.run("%load_ext nbtasks\n1 + 1").check()
    imported = kernel.value("sorted(set(sys.modules) - before)")
    assert "nbtasks.notebook.extension" in imported
    assert [name for name in imported if any(f"{name}.".startswith(f"{one}.") for one in LATER)] == []


def test_loading_twice_and_reloading_keep_the_manager_and_its_tasks(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask kept\ngates['kept'].wait()").check()
    notebook.run("before = get_manager()\n%load_ext nbtasks\n%reload_ext nbtasks").check()
    assert notebook.value("nbtasks.get_manager() is before") is True
    notebook.run("gates['kept'].set()").check()
    wait_over(notebook, "kept")
    cell = notebook.run("%%bgtask after_reload --quiet\nprint('lands')").check()
    wait_over(notebook, "after_reload")
    assert cell.stdout == "lands\n"


def test_unloading_leaves_everything_as_it_was(notebook: KernelDriver) -> None:
    notebook.run("%unload_ext nbtasks").check()
    assert "not found" in notebook.run("%bgtask").stderr
    assert notebook.run("print('plain')").check().stdout == "plain\n"
    notebook.run("%load_ext nbtasks").check()


def test_a_second_unload_does_nothing(notebook: KernelDriver) -> None:
    notebook.run("nbtasks.unload_ipython_extension(get_ipython())").check()
    notebook.run("nbtasks.unload_ipython_extension(get_ipython())").check()
    notebook.run("nbtasks.load_ipython_extension(get_ipython())").check()
    assert notebook.run("%bgtask list").check().stdout == "no background tasks\n"


def test_unloading_removes_magics_completion_and_settings(notebook: KernelDriver) -> None:
    registered = (
        "(sorted(type(one).__name__ for one in get_ipython().configurables),"
        " sorted(get_ipython().magics_manager.registry),"
        " sorted(get_ipython().strdispatchers['complete_command'].strs))"
    )
    loaded = notebook.value(registered)
    notebook.run("%unload_ext nbtasks").check()
    unloaded = notebook.value(registered)
    assert [sorted(set(before) - set(after)) for before, after in zip(loaded, unloaded, strict=True)] == [
        ["BackgroundTasks", "TaskMagics"],
        ["TaskMagics"],
        ["%bgtask"],
    ]
    notebook.run("%load_ext nbtasks").check()
    assert notebook.value(registered) == loaded


@pytest.mark.parametrize("backend", ["thread", "loop"])
def test_a_running_cell_task_survives_unloading_and_loading_again(notebook: KernelDriver, backend: str) -> None:
    step = "while not gates['{0}'].is_set(): await asyncio.sleep(0.01)" if backend == "loop" else "gates['{0}'].wait()"
    cell = notebook.run(
        "%%bgtask it\nimport asyncio\nprint('begins')\ngates['in'].set()\n"
        f"{step.format('loaded')}\nprint('prints', gates['loaded'].is_set())\ngates['printed'].set()\n"
        f"{step.format('go')}\nx = 'new'"
    ).check()
    cell.wait_output("begins")
    notebook.run("x = 'old'").check()
    notebook.run("%unload_ext nbtasks").check()
    assert notebook.value("nbtasks.get_manager().get_task(it) is it and it.state.value") == "running"
    notebook.run("%load_ext nbtasks").check()
    notebook.run("gates['loaded'].set()").check()
    cell.wait_output("prints True")
    assert "it" in notebook.run("%bgtask list").check().stdout
    notebook.run("gates['go'].set()").check()
    wait_over(notebook, "it")
    assert notebook.value("(it.state.value, it.namespace['x'])") == ("completed", "new")


def test_the_panel_of_a_running_task_moves_again_after_loading_again(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it\ngates['go'].wait()\ncurrent_task().progress = 70\nwhile True: gates['end'].wait(0.01)"
    ).check()
    [bar] = notebook.find_models("FloatProgressModel")
    [button] = notebook.find_models("ButtonModel", description="Cancel")
    notebook.run("%unload_ext nbtasks").check()
    notebook.run("%load_ext nbtasks").check()
    notebook.run("gates['go'].set()").check()
    notebook.wait_until(lambda: notebook.models[bar].get("value") == 70, what="the progress in the panel")
    notebook.click(button)
    wait_over(notebook, "it")
    assert notebook.value("it.state.value") == "cancelled"


def test_names_are_committed_between_cells_after_loading_again(notebook: KernelDriver) -> None:
    notebook.run("x = 'old'").check()
    notebook.run("%%bgtask it\ngates['go'].wait()\nx = 'new'").check()
    notebook.run("%unload_ext nbtasks").check()
    notebook.run("%load_ext nbtasks").check()
    notebook.run(
        "gates['go'].set()\nwhile it.state != 'completed': assert x == 'old'\nassert x == 'old'  # not within a cell"
    ).check()
    assert notebook.value("x") == "new"


def test_a_task_that_finishes_while_unloaded_keeps_its_output_and_commits_its_names(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it\ngates['go'].wait()\ndisplay(1)\nx = 1\n'its value'").check()
    notebook.run("%unload_ext nbtasks").check()
    notebook.run("gates['go'].set()\nit.wait()").check()
    assert notebook.value("(x, it.result)") == (1, "its value")
    notebook.run("%load_ext nbtasks").check()
    assert "[completed] it" in notebook.run("%bgtask show it").check().text
    assert cell.errors == []


def test_a_schedule_keeps_running_over_unloading_and_loading_again(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it --cron @yearly\nn = globals().get('n', 0) + 1\nprint('run', n)").check()
    notebook.run("%bgtask run it\nget_manager().wait()").check()
    cell.wait_output("run 1")
    notebook.run("%unload_ext nbtasks").check()
    notebook.run("%load_ext nbtasks").check()
    notebook.run("%bgtask run it\nget_manager().wait()").check()
    cell.wait_output("run 2")


def test_loading_after_the_manager_was_stopped_starts_with_a_new_one(notebook: KernelDriver) -> None:
    notebook.run("before = get_manager()\nbefore.stop()").check()
    notebook.run("%reload_ext nbtasks").check()
    cell = notebook.run("%%bgtask it\nprint('runs')").check()
    wait_over(notebook, "it")
    cell.wait_output("runs")
    assert notebook.value("get_manager() is before") is False
