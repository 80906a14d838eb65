"""Cells in worker processes in JupyterLab: panel, output, plots, list of workers."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.browser

CELLS = [
    "%load_ext nbtasks\nimport numpy as np, threading",
    "%%bgtask trains --backend process\n"
    "import os, time\nimport matplotlib.pyplot as plt\nfrom nbtasks import current_task, track\n"
    "ballast = np.ones(12_000_000)\nprint('epochs begin')\nplt.plot([3, 1, 2]); plt.show()\n"
    "current_task().body = 'loss 0.123'\n"
    "for epoch in track(range(4), description='epoch'):\n"
    "    for batch in track(range(100_000), description='batch', unit='batch'): time.sleep(0.02)",
    "%bgtask workers",
    "latch = threading.Lock()",
    "%%bgtask cannot --backend process\nprint('begun')\nwith latch: pass",
]
USAGE = re.compile(r"process \d+: [\d,]+ MB, [\d.]+ s of CPU")
ROW = re.compile(r"\d+ +[\d,]+ MB +[\d.]+ s +\d+ s +trains")


def test_a_cell_in_a_process_shows_all_that_one_in_a_thread_does_and_what_it_uses(open_page) -> None:
    page = open_page(CELLS)
    page.run(0)
    page.start(1)
    page.wait_text(1, "epochs begin")
    page.wait_text(1, "loss 0.123")
    page.wait_text(1, "s of CPU")
    assert USAGE.search(page.text(1))
    page.wait_text(1, "batch")
    page.output(1).locator("img").first.wait_for()
    page.run(2)
    page.wait_text(2, "trains")
    assert ROW.search(page.text(2))
    page.screenshot("process")
    page.run(3)
    page.run(4)
    page.wait_text(4, "latch (_thread.lock), used in line 2")
    assert "begun" not in page.text(4)
    page.button(1, "Cancel").click()
    page.wait_text(1, "cancelled")


WIDGETS = [
    "%load_ext nbtasks\nimport ipywidgets as widgets, threading\ngo = threading.Event()",
    "%%bgtask trains --backend process\n"
    "stop, rate, log = widgets.Button(description='Stop it'), widgets.IntSlider(value=3), widgets.Output()\n"
    "def stopped(_):\n"
    "    stop.disabled, stop.description = True, 'Stops'\n    with log: print('stopped at', rate.value)\n"
    "def moved(change):\n    with log: print('moved to', change.new)\n"
    "stop.on_click(stopped)\nrate.observe(moved, 'value')\ndisplay(widgets.HBox([stop, rate]), log)\n"
    "while not stop.disabled: pass\n"
    "print('the cell has ended with', rate.value)",
    "go.wait()",
]


def test_a_click_and_a_move_reach_a_cell_in_a_process_while_it_computes(open_page) -> None:
    page = open_page(WIDGETS)
    page.run(0)
    page.start(1)
    slider = page.output(1).locator(".widget-slider .noUi-handle")
    slider.wait_for()
    page.start(2)  # the foreground is busy as well
    slider.focus()
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    page.wait_text(1, "moved to 5")  # the page holds a second move back until the first is answered
    page.button(1, "Stop it").click()
    page.wait_text(1, "the cell has ended with 5")
    page.wait_text(1, "stopped at 5")
    page.wait_text(1, "completed")
    page.screenshot("process-widgets")
    assert page.is_running(2)
    page.interrupt()
    page.wait_done(2)
    slider.press("ArrowRight")  # now the notebook's
    page.set_source(0, "rate.observe(lambda change: setattr(stop, 'description', f'now {change.new}'), 'value')")
    page.run(0)
    slider.press("ArrowRight")
    page.button(1, "now 7").wait_for()
