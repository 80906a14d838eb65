"""Lists of tasks in a notebook: `manager.map`, lists of tasks, `%%bgtask --for`."""

from __future__ import annotations

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load

LOAD = "from nbtasks import get_manager\nmanager = get_manager()\ndef half(x):\n    return x / 2"
SWEEP = "%%bgtask sweep --for C=0.1,1,10 --for 'kind=linear,a b' --lane multiple{0}\nprint('fits', C, kind)\n"


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    load(kernel)
    kernel.run(LOAD).check()
    return kernel


@pytest.mark.parametrize(
    "line", ["manager.map(half, range(3))", "[manager.create_task(f't{n}', lambda: n) for n in range(3)]"]
)
def test_a_list_of_tasks_as_the_last_line_shows_one_panel(notebook: KernelDriver, line: str) -> None:
    cell = notebook.run(line).check()
    cell.wait_output("[3 completed] 3 tasks: ")
    assert "Task" not in cell.text and len(cell.outputs) == 1
    assert notebook.run("[1, manager]").check().text.startswith("[1, <TaskManager: ")
    assert notebook.run("[]").check().text.strip() == "[]"


def test_a_map_is_awaited_and_has_its_results(notebook: KernelDriver) -> None:
    notebook.run("halves = manager.map(half, [1, 'x', 3])").check()
    assert notebook.run("await halves").check().text.strip() == "[0.5, None, 1.5]"
    assert notebook.value("[(n, type(e).__name__) for n, e in halves.errors.items()]") == [(1, "TypeError")]


@pytest.mark.parametrize("backend", ["thread", "process"])
def test_a_sweep_runs_each_combination_and_has_a_frame(notebook: KernelDriver, backend: str) -> None:
    notebook.run("C = 'untouched'\nbroken = True").check()
    source = (
        SWEEP.format(f" --backend {backend}") + "model = (C, kind)\nif C == 10 and broken: raise ValueError(C)\nC * 2"
    )
    cell = notebook.run(source).check()
    cell.wait_output("[4 completed, 2 failed] 6 tasks: C=0.1, kind=linear")
    assert notebook.value("(C, 'model' in globals(), 'kind' in globals())") == ("untouched", False, False)
    frame = "sweep.frame[['C', 'kind', 'result', 'state']].fillna(-1).values.tolist()"
    assert notebook.value(frame) == [
        [0.1, "linear", 0.2, "completed"],
        [0.1, "a b", 0.2, "completed"],
        [1, "linear", 2, "completed"],
        [1, "a b", 2, "completed"],
        [10, "linear", -1, "failed"],
        [10, "a b", -1, "failed"],
    ]
    assert notebook.value("sweep[0].namespace['model']") == (0.1, "linear")
    assert notebook.value("sweep[1].output.text") == "fits 0.1 a b\n0.2\n"
    assert notebook.value("all(row['duration'] >= 0 for row in sweep.rows)")
    notebook.run("broken = False").check()
    again = notebook.run("sweep.retry_failed()").check()
    again.wait_output("[2 completed] 2 tasks: C=10, kind=linear")
    assert notebook.value("sweep.results") == [0.2, 0.2, 2, 2, 20, 20]
    assert notebook.value("sweep.retry_failed()") == 0


def test_a_sweep_without_a_name_gets_one(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask --for n=1,2 --wait\nn").check()
    assert notebook.value("(bg1.results, [task.name for task in bg1])") == ([1, 2], ["bg1-1", "bg1-2"])


def test_the_name_of_a_sweep_works_in_commands(notebook: KernelDriver) -> None:
    notebook.run("import threading\ngo = threading.Event()").check()
    notebook.run("%%bgtask sweep --for n=1,2,3\nprint('run', n)\nif n < 3: go.wait()").check()
    notebook.run("%%bgtask later --after sweep\nn = 'later'").check()
    assert notebook.value("list(later.after) == [one.id for one in sweep]")
    shown = notebook.run("%bgtask show sweep").check()
    notebook.run("%bgtask cancel sweep-1").check()
    notebook.run("go.set()").check()
    waited = notebook.run("%bgtask wait sweep --no-raise").check()
    assert waited.text.splitlines()[1:] == ["sweep-2: completed", "sweep-3: completed"]
    shown.wait_output("[2 completed, 1 cancelled] 3 tasks: n=1, n=2, n=3")
    assert "sweep-3 is already completed" in notebook.run("%bgtask cancel sweep").check().text
    assert "unknown task 'swee'" in notebook.run("%bgtask wait swee").stderr


def test_the_name_of_a_map_works_in_commands(notebook: KernelDriver) -> None:
    notebook.run("halves = manager.map(half, [1, 2])").check()
    assert notebook.run("%bgtask wait halves").check().text.count("completed") == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--for C", "--for must be a name and its values, such as C=0.1,1,10, not 'C'"),
        ("--for if=1", "not 'if=1'"),
        ("--for C=", "--for C= has no values"),
        ("--for C=1 --for C=2", "--for has 'C' twice"),
        ("--for C=1 --every 5m", "--for cannot be combined with --every"),
        ("--for a=1,2,3,4,5,6,7,8,9,10,11 --for b=1,2,3,4,5,6,7,8,9,10 --for c=1,2,3,4,5,6,7,8,9,10", "1,100 runs"),
    ],
)
def test_a_wrong_sweep_is_one_line_and_starts_nothing(notebook: KernelDriver, options: str, says: str) -> None:
    cell = notebook.run(f"%%bgtask s {options}\n1")
    assert says in cell.stderr and cell.stderr.count("\n") == 1
    assert notebook.value("manager.list_tasks()") == []
