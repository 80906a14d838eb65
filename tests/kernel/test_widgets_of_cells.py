"""Widgets that a user's background cell makes answer while a foreground cell runs."""

from __future__ import annotations

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel

MADE = {
    "while the cell runs": "\ngates['end'].wait()",
    "after it": "",
}


@pytest.mark.parametrize("clicked", MADE)
def test_a_button_and_a_slider_answer_while_a_foreground_cell_runs(kernel: KernelDriver, clicked: str) -> None:
    notebook = load(kernel)
    if not notebook.supports_subshells:
        pytest.skip("needs the subshells of ipykernel 7")
    source = (
        "import ipywidgets\nbutton = ipywidgets.Button(description='mine')\nslider = ipywidgets.IntSlider(max=99)\n"
        "button.on_click(lambda _: gates['clicked'].set())\nseen = []\n"
        "slider.observe(lambda change: (seen.append(change.new), gates['moved'].set()), 'value')\n"
        "display(button, slider)"
    )
    notebook.run(f"%%bgtask it --quiet\n{source}{MADE[clicked]}").check()
    if clicked == "after it":
        notebook.run("await it").check()
    [button] = notebook.wait_until(lambda: notebook.find_models("ButtonModel", description="mine"))
    [slider] = notebook.wait_until(lambda: notebook.find_models("IntSliderModel", max=99))
    busy = notebook.start_cell("gates['clicked'].wait(); gates['moved'].wait(); print('answered')")
    notebook.click(button)
    notebook.set_state(slider, value=42)
    assert busy.wait().stdout == "answered\n"
    notebook.run("gates['end'].set()").check()
    wait_over(notebook, "it")
    assert notebook.value("seen") == [42]
