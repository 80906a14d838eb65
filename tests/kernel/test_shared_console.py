"""Two cells that draw on rich's shared console at the same time."""

from __future__ import annotations

import re

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load

pytest.importorskip("rich")
pytestmark = pytest.mark.kernel

SETUP = """
import time
from rich import get_console
from rich.live import Live
from rich.progress import Progress, track
console = get_console()
"""
BARS = {
    "track": "for n in track(range(3), description='{name}'):\n    {meet}\nprint('{name} is done')",
    "Progress": (
        "with Progress(console=console) as progress:\n    bar = progress.add_task('{name}', total=3)\n"
        "    for n in range(3):\n        {meet}\n        progress.update(bar, advance=1)\n"
        "    progress.refresh()\nprint('{name} is done')"
    ),
    "status": (
        "with console.status('{name}') as status:\n    for n in range(3):\n        {meet}\nprint('{name} is done')"
    ),
}
MEET = "meeting.wait(60)"


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    load(module_kernel).run(SETUP).check()
    return module_kernel


@pytest.mark.parametrize("kind", BARS)
@pytest.mark.parametrize("second", ["background", "foreground"])
def test_each_of_two_cells_has_its_own_bar(notebook: KernelDriver, kind: str, second: str) -> None:
    notebook.run("meeting = threading.Barrier(2)").check()
    left = notebook.run("%%bgtask left --quiet\n" + BARS[kind].format(name="left", meet=MEET)).check()
    right_source = BARS[kind].format(name="right", meet=MEET)
    if second == "background":
        right = notebook.run("%%bgtask right --quiet\n" + right_source).check()
        notebook.run("await right").check()
    else:
        right = notebook.run(right_source).check()
    notebook.run("await left").check()
    for name, other, cell in (("left", "right", left), ("right", "left", right)):
        cell.wait_output(f"{name} is done")
        assert other not in cell.text
        if kind != "status":
            assert re.search(rf"{name}.*100%", cell.text), cell.text
    assert notebook.value("len(console._render_hooks)") == 0
