"""What a failed cell had in its frames is freed when its task or schedule goes."""

from __future__ import annotations

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


@pytest.mark.parametrize("gone", ["%bgtask prune", REMOVE])
def test_frames_of_a_failed_cell_go_with_its_task(notebook: KernelDriver, gone: str) -> None:
    notebook.run(SETUP).check()
    for _ in range(3):
        notebook.run("%%bgtask it\nfail()").check()
        wait_over(notebook, "it")
    assert notebook.value("alive()") == 3  # the debugger can open them
    notebook.run(gone).check()
    assert notebook.value("alive()") == 0
    assert notebook.value("it.error") == "ZeroDivisionError: division by zero"


def test_frames_of_the_failed_runs_of_a_schedule_are_few_and_go_with_it(notebook: KernelDriver) -> None:
    notebook.run(SETUP).check()
    notebook.run("%%bgtask it --every 1h\nfail()").check()
    notebook.run("for _ in range(40): get_manager().wait(it.run_now())").check()
    assert notebook.value("alive()") <= 11
    notebook.run("%bgtask remove it").check()
    assert notebook.value("alive()") == 0
