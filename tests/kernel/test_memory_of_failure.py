"""Memory of background cells: values that were dropped, frames of failures."""

from __future__ import annotations

import sys

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

SETUP = """
import gc, weakref
from nbtasks import get_manager
big = []
class Big: ...
def fail():
    local = Big()
    big.append(weakref.ref(local))
    1 / 0
def alive():
    gc.collect()
    return sum(ref() is not None for ref in big)
"""


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


REMOVE = "[get_manager().remove_task(one) for one in get_manager().list_tasks()];"


@pytest.mark.parametrize("gone", ["%bgtask prune", REMOVE, "del it0, it1, it2"])
def test_frames_of_a_failed_cell_go_with_its_task(notebook: KernelDriver, gone: str) -> None:
    notebook.run(SETUP).check()
    for number in range(3):
        notebook.run(f"%%bgtask it{number}\nfail()").check()
        wait_over(notebook, f"it{number}")
    assert notebook.value("alive()") == 3  # the debugger can open them
    notebook.run("kept = it2.as_dict").check()
    notebook.run(gone).check()
    assert notebook.value("alive()") == 0
    assert notebook.value("kept()['error']") == "ZeroDivisionError: division by zero"


def test_frames_of_a_failed_cell_go_when_the_cell_is_run_again(notebook: KernelDriver) -> None:
    notebook.run(SETUP).check()
    for _ in range(3):
        notebook.run("%%bgtask it\nfail()").check()
        wait_over(notebook, "it")
    assert notebook.value("alive()") == 1
    notebook.run("other = it; del it").check()
    assert notebook.value("alive()") == 1
    notebook.run("del other").check()
    assert notebook.value("alive()") == 0
    cell = notebook.run("%bgtask debug it").wait()
    assert "the variables of 'it' were released" in cell.text


def test_frames_of_code_that_waited_for_the_task_are_left_alone(notebook: KernelDriver) -> None:
    notebook.run(SETUP).check()
    notebook.run(
        "import asyncio\nseen = []\nasync def watch():\n    try: await it\n"
        "    except ZeroDivisionError: seen.append('error')\n    await go.wait()\n    seen.append('end')\n"
        "go = asyncio.Event()"
    ).check()
    notebook.run("%%bgtask it\nfail()").check()
    notebook.run("watching = asyncio.create_task(watch())\nwhile not seen: await asyncio.sleep(0.01)").check()
    notebook.run("del it").check()
    notebook.run("%bgtask prune").check()
    notebook.run("go.set()\nawait watching").check()
    assert notebook.value("(alive(), seen)") == (0, ["error", "end"])


@pytest.mark.parametrize("backend", ["thread", "loop", "process"])
@pytest.mark.parametrize("end", ["", "1 / 0"], ids=["completed", "failed"])
@pytest.mark.parametrize("made", ["Big()", "[Big()]", "{'key': (Big(),)}"])
def test_values_of_a_cell_are_freed_when_the_notebook_drops_them(
    notebook: KernelDriver, backend: str, end: str, made: str
) -> None:
    notebook.run(SETUP).check()
    notebook.run(f"%%bgtask it --backend {backend}\nvalue, small = {made}, 5\n{end}").check()
    wait_over(notebook, "it")
    found = "value" if made == "Big()" else "value[0]" if made == "[Big()]" else "value['key'][0]"
    notebook.run(f"big.append(weakref.ref({found}))").check()
    assert notebook.value("(it.namespace['value'] is value, alive())") == (True, 1)
    notebook.run("value = small = None").check()
    assert notebook.value("(alive(), it.namespace)") == (0, {"small": 5})


def test_a_later_value_of_the_notebook_is_not_taken_for_the_cells_own(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it\nvalue = [1]").check()
    wait_over(notebook, "it")
    assert notebook.value("it.namespace") == {"value": [1]}
    for number in range(2, 6):  # the list of the cell is freed, and its memory is used again
        notebook.run(f"value = [{number}]").check()
        assert notebook.value("it.namespace") == {}


def test_an_array_of_a_cell_can_be_resized_as_one_of_the_foreground(notebook: KernelDriver) -> None:
    """Which numpy 2.5 refuses on Python 3.14 and later: it takes the name for another reference."""
    notebook.run("import numpy as np\nof_foreground = np.zeros(3)").check()
    notebook.run("%%bgtask it\nvalues = np.zeros(3)").check()
    wait_over(notebook, "it")
    code = "try: {0}.resize(5)\nexcept ValueError: pass\nlen({0})"
    expected = notebook.run(code.format("of_foreground")).check().text
    assert expected == ("3\n" if sys.version_info >= (3, 14) else "5\n")
    assert notebook.run(code.format("values")).check().text == expected


def test_frames_of_the_failed_runs_of_a_schedule_are_few_and_go_with_it(notebook: KernelDriver) -> None:
    notebook.run(SETUP).check()
    notebook.run("%%bgtask it --cron @yearly\nfail()").check()
    notebook.run("for _ in range(40): get_manager().wait(it.run_now())").check()
    assert notebook.value("alive()") <= 11
    notebook.run("%bgtask remove it").check()
    assert notebook.value("alive()") == 0


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_memory_is_flat_over_a_thousand_failing_runs_of_a_schedule(notebook: KernelDriver) -> None:
    """Each has 10 MB in the frame in which it fails; those of the last ten runs are kept."""
    notebook.run(
        f"{SETUP}\nimport ctypes, numpy as np, psutil\ndef fail():\n    local = np.ones(1_250_000)\n    1 / 0\n"
        "def megabytes():\n    gc.collect()\n"
        "    getattr(ctypes.CDLL(None), 'malloc_trim', int)(0)  # glibc's allocator keeps what was freed\n"
        "    return psutil.Process().memory_info().rss / 1e6"
    ).check()
    notebook.run("%%bgtask it --cron @yearly\nfail()").check()
    sizes = []
    for _ in range(10):
        notebook.run("for _ in range(100): get_manager().wait(it.run_now())").check()
        sizes.append(notebook.value("megabytes()"))
    assert notebook.value("(it.total_runs, it.total_failures)") == (1000, 1000)
    assert max(sizes) < sizes[0] + 50, sizes  # 1,000 MB more each time, if they were kept
    notebook.run("%bgtask remove it").check()
    assert notebook.value("megabytes()") < sizes[-1] - 50
