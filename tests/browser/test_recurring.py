"""Recurring cells and their controls as one sees them in JupyterLab."""

from __future__ import annotations

import subprocess
import sys

import pytest
from playwright.sync_api import expect

from tests.browser.driver import TIME_LIMIT_MS

pytestmark = pytest.mark.browser

LOAD = "%load_ext nbtasks\nfrom nbtasks import get_manager\nimport time\nimport matplotlib.pyplot as plt\nn = 0"
PLOT = "%%bgtask load --every 500ms\nn += 1\nplt.plot(range(n + 1))\nplt.title(f'run {n}');"
IMAGE = "image => image.src.length + image.src.slice(-200, -100)"


def test_a_recurring_plot_changes_in_place_and_the_output_does_not_grow(open_page):
    page = open_page([LOAD, PLOT, "time.sleep(120)", "%bgtask pause load"])
    page.run(0)
    page.run(1)
    page.output(1).locator("img").wait_for()
    images = page.sample(1, "img", IMAGE)
    counts = page.sample(1, ".jp-OutputArea, .jp-OutputArea-output", "() => 1")
    children = "area => area.querySelectorAll('.jp-OutputArea-child').length"
    page.start(2)  # the kernel is blocked meanwhile
    different = "name => new Set(window[name].samples.map(sample => sample[1]).filter(Boolean)).size >= 5"
    page.page.wait_for_function(different, arg=images._name)
    assert page.is_running(2)
    assert page.output(1).evaluate(children) == 2
    page.interrupt()
    page.wait_done(2)
    assert len(counts.values()) == 1
    page.run(3)
    page.wait_text(1, "paused")
    assert page.output(1).evaluate(children) == 2 and page.output(1).locator("img").count() == 1
    page.screenshot("recurring-plot")


@pytest.mark.long
@pytest.mark.reloads
def test_after_a_reload_the_panel_is_the_live_place(open_page):
    page = open_page([LOAD, "%%bgtask it --every 500ms\nn += 1\nprint('written by run', n)"])
    page.run(0)
    page.run(1)
    page.wait_text(1, "written by run 2")
    page.save()
    page.reload()
    page.button(1, "Output").click()
    panel = page.sample(1, ".nbtasks-panel", "panel => panel.innerText")
    page.page.wait_for_function(
        "name => new Set(window[name].samples.flatMap(sample => (sample[1] || '').match(/written by run \\d+/g) || []))"
        ".size >= 3",
        arg=panel._name,
    )
    page.screenshot("recurring-after-reload")
    assert not page.has_broken_widget(1)


def test_the_panel_pages_through_the_outputs_of_the_last_runs(open_page):
    page = open_page(
        [
            LOAD,
            "%%bgtask it --cron @yearly\nn += 1\nprint('written by run', n)",
            "for _ in range(3):\n    it.run_now().wait()",
            "time.sleep(60)",
        ]
    )
    for number in range(3):
        page.run(number)
    page.wait_text(1, "written by run 3")
    assert "written by run 2" not in page.text(1) and page.text(1).count("written by") == 1
    page.start(3)  # the kernel is blocked meanwhile
    page.button(1, "Output").click()
    page.wait_text(1, "run 3 ·")
    for run in (2, 1):
        page.button(1, "Earlier").click()
        page.wait_text(1, f"written by run {run}")
    expect(page.button(1, "Earlier")).to_be_disabled(timeout=TIME_LIMIT_MS)
    page.screenshot("recurring-first-run")
    page.button(1, "Later").click()
    page.wait_text(1, "written by run 2")
    assert page.is_running(3)
    page.interrupt()


@pytest.mark.long
def test_a_run_without_a_browser_leaves_the_open_notebook_alone(open_page):
    page = open_page([LOAD, "%%bgtask it --every 1s\nprint('in the browser')"])
    page.run(0)
    page.run(1)
    page.wait_text(1, "in the browser")
    page.save()
    before = page.file.read_bytes()
    command = [sys.executable, "-m", "nbtasks", "run", str(page.file)]
    finished = subprocess.run(command, check=False, env=page.lab.env, capture_output=True, text=True)
    assert finished.returncode == 2 and "is open in another kernel" in finished.stderr
    assert page.file.read_bytes() == before
