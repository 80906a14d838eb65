"""Output of a background cell appears in its own cell, in order, and nowhere else."""

from __future__ import annotations

import pytest
from nbconvert.filters import strip_ansi

from tests.kernel.driver import Cell, KernelDriver
from tests.kernel.notebook import GATES, load, wait_over

pytestmark = pytest.mark.kernel

BACKENDS = pytest.mark.parametrize("backend", ["thread", "loop"])


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    load(module_kernel)
    module_kernel.run(
        "import asyncio, logging\nold = logging.getLogger('old'); old.addHandler(logging.StreamHandler())"
    ).check()
    return module_kernel


def test_a_fork_does_not_double_what_the_foreground_has_written(notebook: KernelDriver) -> None:
    """The child has a copy of text that the kernel has not sent yet."""
    fork = "child = os.fork()\nif child == 0:\n    print('child', flush=True)\n    os._exit(0)\nos.waitpid(child, 0)"
    notebook.run(f"import os, threading\n{GATES}").check()
    notebook.run(f"%%bgtask it --quiet\ngates['written'].wait()\n{fork}\ngates['forked'].set()").check()
    foreground = notebook.run("print('once'); gates['written'].set(); gates['forked'].wait();").check()
    wait_over(notebook, "it")
    notebook.run("print('later')").check()
    assert foreground.stdout.count("once") == 1


def test_a_message_of_a_widget_comes_after_the_display_before_it(notebook: KernelDriver) -> None:
    """bokeh shows a plot, and then sends what has changed in it."""
    cell = notebook.run(
        "%%bgtask it --quiet\nimport comm\nfrom IPython.display import display\n"
        "for n in range(3):\n    display({'text/plain': f'plot {n}'}, raw=True)\n"
        "    comm.create_comm(target_name='test', data={'of': n}).close()"
    ).check()
    wait_over(notebook, "it")
    own = [m for m in notebook.messages if m.parent_id == cell.msg_id and m.type in {"display_data", "comm_open"}]
    shown = [m.content["data"].get("text/plain", m.content["data"].get("of")) for m in own]
    assert shown == ["plot 0", 0, "plot 1", 1, "plot 2", 2]


def own_outputs(cell: Cell) -> list[dict]:
    return [o for o in cell.outputs if "nbtasks-panel" not in str(o)]


EVERY_KIND = {
    "print": ("print('mine')", lambda cell: cell.stdout == "mine\n"),
    "stderr": ("import sys; print('mine', file=sys.stderr)", lambda cell: cell.stderr == "mine\n"),
    "warning": ("import warnings; warnings.warn('mine')", lambda cell: "UserWarning: mine" in cell.stderr),
    "logging": (
        "log = logging.Logger('new'); log.addHandler(logging.StreamHandler()); log.warning('mine')",
        lambda cell: cell.stderr == "mine\n",
    ),
    "logging set up before": ("old.warning('mine')", lambda cell: cell.stderr == "mine\n"),
    "display": (
        "from IPython.display import display, HTML; display(HTML('<b>mine</b>'))",
        lambda cell: own_outputs(cell)[0]["data"]["text/html"] == "<b>mine</b>",
    ),
    "display update": (
        "from IPython.display import display; h = display('old', display_id=True); h.update('mine')",
        lambda cell: [o["data"]["text/plain"] for o in own_outputs(cell)] == ["'mine'"],
    ),
    "last expression": (
        "'mi' + 'ne'",
        lambda cell: (
            own_outputs(cell)[0]["output_type"] == "execute_result"
            and own_outputs(cell)[0]["data"]["text/plain"] == "'mine'"
        ),
    ),
    "error": ("raise ValueError('mine')", lambda cell: cell.errors == ["ValueError: mine"]),
    "thread": (
        "import threading; t = threading.Thread(target=print, args=('mine',)); t.start(); t.join()",
        lambda cell: cell.stdout == "mine\n",
    ),
    "pool": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor() as pool: list(pool.map(print, ['mine']))",
        lambda cell: cell.stdout == "mine\n",
    ),
    "shell command": ("!echo mine", lambda cell: cell.stdout.strip() == "mine"),
}


@BACKENDS
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_output_appears_in_its_cell_while_others_print(notebook: KernelDriver, kind: str, backend: str) -> None:
    code, appeared = EVERY_KIND[kind]
    name = f"{backend}_{kind.replace(' ', '_')}"
    gate = f"gates[{name!r}]"
    wait = f"while not {gate}.is_set(): await asyncio.sleep(0.01)" if backend == "loop" else f"{gate}.wait()"
    background = notebook.run(f"%%bgtask {name} --quiet --backend {backend}\n{wait}\n{code}").check()
    busy = notebook.run(f"print('foreground 1'); {gate}.set(); display('foreground 2')").check()
    prints = notebook.run("for n in range(50): print('foreground', n)").check()
    wait_over(notebook, name)
    background.wait_output(appeared)
    assert busy.stdout == "foreground 1\n" and len(busy.outputs) == 2
    assert prints.stdout == "".join(f"foreground {n}\n" for n in range(50))
    assert not notebook.stray


def test_streams_and_displays_keep_their_order(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask ordered --quiet\nimport sys\nfor n in range(3):\n"
        "    print(n)\n    display(n)\n    print(-n, file=sys.stderr)"
    ).check()
    wait_over(notebook, "ordered")
    kinds = [(o["output_type"], o.get("name")) for o in cell.outputs]
    assert kinds == [("stream", "stdout"), ("display_data", None), ("stream", "stderr")] * 3


def test_the_result_has_the_number_of_its_cell_and_does_not_change_the_notebooks_last_result(
    notebook: KernelDriver,
) -> None:
    notebook.run("'before'").check()
    cell = notebook.run("%%bgtask answer --quiet\ngates['answer'].wait()\n6 * 7").check()
    after = notebook.run("_").check()
    notebook.run("gates['answer'].set()").check()
    wait_over(notebook, "answer")
    [result] = cell.outputs
    assert result["execution_count"] == after.outputs[0]["execution_count"] - 1
    assert result["data"]["text/plain"] == "42"
    assert after.outputs[0]["data"]["text/plain"] == "'before'"
    assert notebook.value("answer.result") == 42


@pytest.mark.parametrize("code", ["6 * 7;", "x = 4", "None"])
def test_values_that_the_foreground_does_not_show_are_not_shown(notebook: KernelDriver, code: str) -> None:
    name = f"nothing_{len(code)}"
    cell = notebook.run(f"%%bgtask {name} --quiet\n{code}").check()
    wait_over(notebook, name)
    assert cell.outputs == []


def test_a_traceback_has_source_lines_and_no_frames_of_nbtasks(notebook: KernelDriver) -> None:
    notebook.run("def inner(n):\n    return 1 / n").check()
    cell = notebook.run("%%bgtask wrong --quiet\nx = 1\ninner(0)  # here").check()
    wait_over(notebook, "wrong")
    [error] = cell.outputs
    traceback = "\n".join(error["traceback"])
    assert error["ename"] == "ZeroDivisionError"
    assert "inner(" in traceback and "# here" in traceback and "return" in traceback
    assert "nbtasks" not in traceback
    assert notebook.value("wrong.error") == "ZeroDivisionError: division by zero"


def test_a_usage_error_of_a_magic_in_the_cell_is_one_line(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask misused --quiet\n%nosuchmagic").check()
    wait_over(notebook, "misused")
    assert cell.stderr == "UsageError: Line magic function `%nosuchmagic` not found.\n"
    assert notebook.value("misused.state.value") == "failed"


def test_kept_output_is_shown_again_by_show(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask kept --quiet\nprint('first')\ndisplay('second')\n'third'").check()
    wait_over(notebook, "kept")
    shown = notebook.run("%bgtask show kept").check()
    assert "first" in shown.text and "'second'" in shown.text and "'third'" in shown.text
    assert notebook.value("kept.output.text") == "first\n'second'\n'third'\n"


@pytest.mark.parametrize("show", ["%bgtask show {0}", "{0}"])
def test_a_running_task_shown_in_another_cell_continues_there(notebook: KernelDriver, show: str) -> None:
    name = f"shown{len(show)}"
    cell = notebook.run(f"%%bgtask {name} --quiet\nprint('first')\ngates['{name}'].wait()\nprint('later')\n1 / 0")
    cell.wait_output("first")
    shown = notebook.run(show.format(name)).check()
    assert "first" in shown.text and "later" not in shown.text
    notebook.run(f"gates['{name}'].set()").check()
    wait_over(notebook, name)
    for place in (cell, shown):
        place.wait_output(lambda place: len(place.errors) == 1)
        assert place.stdout == "first\nlater\n"


def test_with_wait_the_cell_has_the_output_and_raises_the_error(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask waited --quiet --wait\nprint('in')\n1 / 0")
    assert cell.reply is not None and cell.reply["status"] == "error"
    assert cell.stdout == "in\n" and cell.errors == ["ZeroDivisionError: division by zero"]
    traceback = strip_ansi("\n".join(cell.outputs[-1]["traceback"]))
    assert "nbtasks" not in traceback and "----> 2 1 / 0" in traceback


def test_of_two_hundred_prints_in_each_of_four_cells_all_appear_once(notebook: KernelDriver) -> None:
    cells = [
        notebook.start_cell(f"%%bgtask c{n} --quiet --lane multiple\nfor i in range(200): print({n}, i)")
        for n in range(4)
    ]
    wait_over(notebook)
    for n, cell in enumerate(cells):
        cell.wait_output(f"{n} 199\n")
        assert cell.stdout == "".join(f"{n} {i}\n" for i in range(200))
    assert not notebook.stray


def displayed(cell: Cell) -> list[dict]:
    return [output for output in own_outputs(cell) if output["output_type"] == "display_data"]


@pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.long)])
def test_concurrent_cells_have_their_own_prints_and_plots(kernel: KernelDriver, count: int) -> None:
    """Each output appears once, in order."""
    notebook = load(kernel)
    notebook.run("get_manager().add_lane('wide', 200)\nimport matplotlib.pyplot as plt").check()
    body = (
        "--quiet --lane wide\nfor i in range(20):\n    print('out', {0}, i)\n"
        "plt.figure(figsize=(1 + {0} / 128, 1), dpi=128); gates['all'].wait(); display({0})\n"
        "plt.plot([1, 2]); print('end', {0})"
    )
    cells = [notebook.start_cell(f"%%bgtask n{n} {body.format(n)}") for n in range(count)]
    for cell in cells:
        cell.check()
    foreground = notebook.run("for n in range(100): print('foreground', n)\ngates['all'].set()").check()
    wait_over(notebook, *(f"n{n}" for n in range(count)))
    for n, cell in enumerate(cells):
        printed = "".join(f"out {n} {i}\n" for i in range(20)) + f"end {n}\n"
        cell.wait_output(lambda cell: len(displayed(cell)) == 2)  # the plot comes last, after what was printed
        assert cell.stdout == printed
        number, plot = displayed(cell)
        assert number["data"]["text/plain"] == str(n)
        assert plot["data"]["text/plain"] == f"<Figure size {128 + n}x128 with 1 Axes>"
    assert foreground.stdout == "".join(f"foreground {n}\n" for n in range(100)) and len(foreground.outputs) == 1


def test_warnings_of_the_compiler_are_shown_as_in_the_foreground(notebook: KernelDriver) -> None:
    foreground = notebook.run("x = 1 is 1").check()
    cell = notebook.run("%%bgtask compiled --quiet\nx = 1 is 1").check()
    wait_over(notebook, "compiled")
    assert foreground.stderr.count("SyntaxWarning") == 3
    assert cell.stderr == foreground.stderr
