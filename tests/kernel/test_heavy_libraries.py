"""Libraries of the extra `test-heavy`, in background cells as in the foreground."""

from __future__ import annotations

import importlib.util

import pytest

from tests.kernel.driver import Cell, KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = [pytest.mark.kernel, pytest.mark.long]


def needs(module: str) -> pytest.MarkDecorator:
    is_missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(is_missing, reason=f"{module} is not installed: extra test-heavy")


def kinds(notebook: KernelDriver, cell: Cell) -> list[str]:
    """The displays and messages of comms that belong to the cell, in their order."""
    wanted = ("display_data", "comm_open", "comm_msg")
    return [one.type for one in notebook.messages if one.parent_id == cell.msg_id and one.type in wanted]


@needs("bokeh")
@pytest.mark.parametrize("backend", ["thread"])
def test_bokeh_shows_a_plot_before_it_changes_it(kernel: KernelDriver, backend: str) -> None:
    load(kernel)
    kernel.run(
        "from bokeh.plotting import figure\nfrom bokeh.io import output_notebook, show, push_notebook\n"
        "output_notebook()"
    ).check()
    source = (
        "plot = figure()\npoints = plot.scatter([1], [2])\nhandle = show(plot, notebook_handle=True)\n"
        "points.data_source.data = {'x': [3], 'y': [4]}\npush_notebook(handle=handle)"
    )
    foreground = kernel.run(source).check()
    background = kernel.run(f"%%bgtask it --quiet --backend {backend}\n{source}").check()
    wait_over(kernel, "it")
    expected = kinds(kernel, foreground)
    assert "comm_msg" in expected
    kernel.wait_until(lambda: len(kinds(kernel, background)) >= len(expected))
    assert kinds(kernel, background) == expected


@needs("gevent")
@pytest.mark.parametrize("backend", ["thread", "process"])
def test_greenlets_of_gevent_write_to_their_cell(kernel: KernelDriver, backend: str) -> None:
    load(kernel)
    kernel.run("import gevent\nfrom pathlib import Path").check()
    cell = kernel.run(
        f"%%bgtask it --quiet --backend {backend}\ndef work(number):\n    print('begins', number)\n"
        "    while not Path('END').exists(): gevent.sleep(0.001)\n    print('ends', number)\n"
        "_ = gevent.joinall([gevent.spawn(work, number) for number in range(3)])"
    ).check()
    cell.wait_output("begins 2\n")
    beside = kernel.run("Path('END').touch()\nprint('foreground')\nit.wait()").check()
    lines = [f"{verb} {number}\n" for verb in ("begins", "ends") for number in range(3)]
    assert (cell.stdout, beside.stdout) == ("".join(lines), "foreground\n")


@needs("pyinstrument")
@pytest.mark.parametrize("backend", ["thread", "process"])
def test_pyinstrument_profiles_its_cell_and_no_other(kernel: KernelDriver, backend: str) -> None:
    load(kernel)
    kernel.run("%load_ext pyinstrument").check()
    source = "%%pyinstrument\ntotal = sum(number * number for number in range(1_000_000))"
    foreground = kernel.run(source).check()
    assert foreground.outputs
    background = kernel.run(f"%%bgtask it --quiet --backend {backend}\n{source}").check()
    beside = kernel.run("print('foreground')").check()
    wait_over(kernel, "it")
    shown = [(one["output_type"], sorted(one.get("data", ()))) for one in foreground.outputs]
    kernel.wait_until(lambda: len(background.outputs) >= len(shown))
    assert [(one["output_type"], sorted(one.get("data", ()))) for one in background.outputs] == shown
    assert beside.stdout == "foreground\n" and len(beside.outputs) == 1
