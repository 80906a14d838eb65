"""Widgets of cells in worker processes, while the cell runs and afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.fidelity.frontend import FrontEnd
from tests.kernel.conftest import kernel_env
from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]
RUN = "%%bgtask it --backend process --quiet\n"
LAST = "\nfrom pathlib import Path\nwhile not Path('END').exists(): pass\nPath('END').unlink()"
"""The cell computes until the test lets it end."""


@pytest.fixture(scope="module")
def notebook(tmp_path_factory) -> Iterator[FrontEnd]:
    """One for all, with Output widgets: each test uses names of its own."""
    home = tmp_path_factory.mktemp("kernel")
    with FrontEnd(kernel_env(home), cwd=home) as kernel:
        load(kernel)
        kernel.run("import ipywidgets").check()
        yield kernel


@pytest.fixture(autouse=True)
def no_cell_left(notebook: FrontEnd) -> Iterator[None]:
    """A test that fails leaves its cell running, which the next test would wait for."""
    yield
    if notebook.value("'it' in globals() and not it.done"):
        notebook.run("%bgtask cancel it").check()
        wait_over(notebook, "it")
    (notebook.cwd / "END").unlink(missing_ok=True)


def end(notebook: KernelDriver) -> None:
    """Let the cell end, and wait for it."""
    (notebook.cwd / "END").touch()
    wait_over(notebook, "it")


def model(notebook: KernelDriver, name: str, **state: object) -> str:
    """The one widget like this, as soon as it is displayed: it has its callbacks then."""
    [found] = notebook.wait_until(lambda: notebook.find_models(name, **state), what=f"{name} {state}")
    notebook.wait_until(lambda: is_displayed(notebook, found), what=f"the display of {name} {state}")
    return str(found)


def is_displayed(notebook: KernelDriver, model_id: str) -> bool:
    """Whether it is, or a box that it is in."""
    shown = [one.content["data"] for one in notebook.messages if one.type == "display_data"]
    if any(data.get("application/vnd.jupyter.widget-view+json", {}).get("model_id") == model_id for data in shown):
        return True
    boxes = [box for box, model in notebook.models.items() if f"IPY_MODEL_{model_id}" in model.get("children", ())]
    return any(is_displayed(notebook, box) for box in boxes)


def test_clicks_and_moves_reach_a_cell_that_computes_also_while_the_foreground_is_busy(notebook: FrontEnd) -> None:
    cell = notebook.run(
        RUN + "button = ipywidgets.Button(description='first')\nslider = ipywidgets.IntSlider(max=91)\nmoves = []\n"
        "def clicked(_): print('clicked'); button.description = 'clicked'\nbutton.on_click(clicked)\n"
        "slider.observe(lambda change: moves.append(change.new), 'value')\ndisplay(button, slider)\n"
        "while button.description == 'first' or not moves: pass\nprint('saw', slider.value)" + LAST
    )
    button, slider = model(notebook, "ButtonModel", description="first"), model(notebook, "IntSliderModel", max=91)
    busy = notebook.start_cell("gates['on'].wait()") if notebook.supports_subshells else None
    notebook.click(button)
    notebook.set_state(slider, value=42)
    cell.wait_output("saw 42\n")
    assert "clicked\n" in cell.stdout
    assert notebook.models[button]["description"] == "clicked"
    if busy is not None:
        assert not busy.done
        subshell = notebook.comm_subshell(button)
        notebook.request("execute_request", {"code": "gates['on'].set()", "silent": True}, subshell=subshell)
        busy.check()
    end(notebook)
    assert notebook.value("(button.description, slider.value, moves)") == ("clicked", 42, [42])
    notebook.set_state(slider, value=43)  # the notebook's own widget answers now
    notebook.wait_until(lambda: notebook.value("moves") == [42, 43])


def test_a_message_is_idle_when_the_worker_has_handled_it(notebook: FrontEnd) -> None:
    """Front ends hold back the next move until then, and have output redirected until then."""
    notebook.run(
        RUN + "slow = ipywidgets.IntSlider(max=92)\n"
        "def moved(change): slow.description = 'moved'\n"
        "slow.observe(moved, 'value')\ndisplay(slow)" + LAST
    ).check()
    slow = model(notebook, "IntSliderModel", max=92)
    first = notebook.set_state(slow, value=2)
    notebook.wait_until(lambda: notebook.went_idle(first))
    order = [one.type for one in notebook.messages if one.parent_id == first and one.channel == "iopub"]
    assert order[0] == "status" and order[-1] == "status" and "comm_msg" in order[1:-1]
    end(notebook)


def test_a_callback_shows_its_output_in_an_output_widget_apart_from_the_cells(notebook: FrontEnd) -> None:
    cell = notebook.run(
        RUN + "out, opener = ipywidgets.Output(), ipywidgets.Button(description='open')\ninside = 0\n"
        "def opened(_):\n    global inside\n    with out:\n        print('in out')\n        inside = 1\n"
        "        while inside == 1: pass\n        1 / 0\n    inside = 3\n"
        "opener.on_click(opened)\ndisplay(opener, out)\n"
        "while inside != 1: pass\nprint('of the cell', flush=True)\ninside = 2\nwhile inside != 3: pass" + LAST
    )
    notebook.click(model(notebook, "ButtonModel", description="open"))
    cell.wait_output("of the cell\n")
    end(notebook)
    assert notebook.value("it.state.value") == "completed"
    assert "in out" not in cell.text and "ZeroDivisionError" not in cell.text
    shown = [area for area in notebook.widgets.values() if "in out" in str(area.as_notebook())]
    assert len(shown) == 1
    assert [one["output_type"] for one in shown[0].as_notebook()] == ["stream", "error"]


def test_interact_draws_again_in_a_running_cell_and_later_in_the_notebook(notebook: FrontEnd) -> None:
    notebook.run(
        RUN + "import matplotlib.pyplot as plt\n"
        "def draw(k=ipywidgets.IntSlider(max=93)):\n    plt.plot([k, 1])\n    print('k is', k)\n"
        "ipywidgets.interact(draw)\nplt.plot([1, 2])\nopen_before = plt.get_fignums()" + LAST + "\n"
        "open_after = plt.get_fignums()\nplt.close()"
    ).check()
    slider = model(notebook, "IntSliderModel", max=93)

    def shown(text: str) -> list[object]:
        return [area.as_notebook() for area in notebook.widgets.values() if text in str(area.as_notebook())]

    notebook.wait_until(lambda: shown("k is 0"))
    notebook.set_state(slider, value=5)
    notebook.wait_until(lambda: "image/png" in str(shown("k is 5")))
    assert not shown("k is 0")
    end(notebook)
    assert notebook.value("(open_before, open_after)") == ([1], [1])
    notebook.set_state(slider, value=6)
    notebook.wait_until(lambda: shown("k is 6"))


def test_a_future_that_a_callback_sets_wakes_a_cell_that_awaits_it(notebook: FrontEnd) -> None:
    cell = notebook.run(
        RUN + "import asyncio\nchosen = asyncio.get_running_loop().create_future()\n"
        "field = ipywidgets.Text(placeholder='waits')\n"
        "field.observe(lambda change: chosen.set_result(change.new), 'value')\ndisplay(field)\n"
        "answer = await chosen\nprint('got', answer)\ndel chosen"
    )
    notebook.set_state(model(notebook, "TextModel", placeholder="waits"), value="this")
    cell.wait_output("got this\n")
    wait_over(notebook, "it")
    assert notebook.value("answer") == "this"


def test_an_error_in_a_callback_is_shown_and_does_not_end_the_cell(notebook: FrontEnd) -> None:
    cell = notebook.run(
        RUN + "bad = ipywidgets.Button(description='bad')\nbad.on_click(lambda _: 1 / 0)\n"
        "leave = ipywidgets.Button(description='leave')\nleave.on_click(lambda _: exit())\ndisplay(bad, leave)" + LAST
    )
    notebook.click(model(notebook, "ButtonModel", description="bad"))
    cell.wait_output("ZeroDivisionError")
    notebook.click(model(notebook, "ButtonModel", description="leave"))
    notebook.click(model(notebook, "ButtonModel", description="bad"))
    notebook.wait_until(lambda: cell.errors.count("ZeroDivisionError: division by zero") == 2)
    end(notebook)
    assert notebook.value("it.state.value") == "completed"


def test_plots_of_a_callback_are_shown_at_its_end_and_those_of_the_cell_at_the_cells(notebook: FrontEnd) -> None:
    cell = notebook.run(
        RUN + "import matplotlib.pyplot as plt\ndrawer = ipywidgets.Button(description='draw')\n"
        "def drawn(_):\n    plt.figure(figsize=(1, 1))\n    plt.title('of the callback')\n"
        "drawer.on_click(drawn)\ndisplay(drawer)\nplt.figure(figsize=(2, 2))" + LAST
        + "\nkept = plt.get_fignums()\nplt.plot([1, 2])\nNone"
    )
    notebook.click(model(notebook, "ButtonModel", description="draw"))
    cell.wait_output(lambda cell: sum("image/png" in one.get("data", ()) for one in cell.outputs) == 1)
    end(notebook)
    sizes = [one["data"]["text/plain"] for one in cell.outputs if "image/png" in one.get("data", ())]
    assert sizes == ["<Figure size 100x100 with 1 Axes>", "<Figure size 200x200 with 1 Axes>"]
    assert notebook.value("kept") == [1]


def test_a_widget_of_the_notebook_that_the_cell_uses_reaches_it_too(notebook: FrontEnd) -> None:
    notebook.run(
        "stop, flag = ipywidgets.Button(description='stop'), []\nstop.on_click(lambda _: flag.append(1))\n"
        "rate = ipywidgets.FloatSlider(max=9.5)\ndisplay(stop, rate)"
    ).check()
    cell = notebook.run(RUN + "stop\nprint('begins')\nwhile not flag: pass\nlast = rate.value\nprint('ends')")
    cell.wait_output("begins\n")
    notebook.set_state(model(notebook, "FloatSliderModel", max=9.5), value=2.5)
    echoes = len(notebook.comm_messages)
    notebook.click(model(notebook, "ButtonModel", description="stop"))
    wait_over(notebook, "it")
    assert "ends\n" in cell.stdout
    assert notebook.value("(last, flag)") == (2.5, [1])
    assert echoes


def test_what_the_cell_has_not_handled_is_handled_by_the_notebook(notebook: FrontEnd) -> None:
    """Here the cell's event loop has no time for it before the cell ends."""
    notebook.run(
        RUN + "late, clicks = ipywidgets.Button(description='late'), []\nlate.on_click(lambda _: clicks.append(1))\n"
        "import asyncio\nawait asyncio.sleep(0)\ndisplay(late)" + LAST
    ).check()
    click = notebook.click(model(notebook, "ButtonModel", description="late"))
    notebook.wait_until(lambda: any(one.parent_id == click for one in notebook.messages))
    assert not notebook.went_idle(click)
    end(notebook)
    notebook.wait_until(lambda: notebook.went_idle(click))
    assert notebook.value("clicks") == [1]


def test_a_message_to_a_worker_that_dies_is_idle_and_its_widgets_are_gone(notebook: FrontEnd) -> None:
    notebook.run(
        RUN + "import os\nlethal = ipywidgets.Button(description='lethal')\nlethal.on_click(lambda _: os._exit(3))\n"
        "display(lethal)" + LAST
    ).check()
    lethal = model(notebook, "ButtonModel", description="lethal")
    assert lethal in notebook.request("comm_info_request", {"target_name": "jupyter.widget"})["comms"]
    click = notebook.click(lethal)
    wait_over(notebook, "it")
    notebook.wait_until(lambda: notebook.went_idle(click))
    assert lethal not in notebook.request("comm_info_request", {"target_name": "jupyter.widget"})["comms"]
    assert notebook.value("it.error") == "WorkerDiedError: the worker process exited with code 3"


def test_a_widget_without_a_name_answers_after_the_cell(notebook: FrontEnd) -> None:
    notebook.run("nameless = []").check()
    cell = notebook.run(
        RUN + "button = ipywidgets.Button(description='nameless')\n"
        "button.on_click(lambda _: nameless.append(len(nameless)))\ndisplay(button)\ndel button\n"
        "import threading\nheld = ipywidgets.Button(description='held')\nheld.own = threading.Lock()\n"
        "display(held)\ndel held"
    )
    wait_over(notebook, "it")
    notebook.click(model(notebook, "ButtonModel", description="nameless"))
    notebook.wait_until(lambda: notebook.value("nameless") == [0])
    assert "nbtasks: a widget (ipywidgets.widgets.widget_button.Button) stayed behind" in cell.stderr


def test_an_error_that_an_output_widget_shows_does_not_fail_the_cell(notebook: FrontEnd) -> None:
    cell = notebook.run(
        RUN.replace("--quiet", "--quiet --wait") + "faulty = ipywidgets.Output()\ndisplay(faulty)\n"
        "with faulty: 1 / 0\ntry: [][0]\nexcept IndexError: get_ipython().showtraceback()\nprint('continues')"
    )
    assert notebook.value("it.state.value") == "completed"
    assert (cell.stdout, cell.errors) == ("continues\n", ["IndexError: list index out of range"])
