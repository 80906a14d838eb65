"""The timeline as one sees it, also while a cell blocks the kernel."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.test_access import WCAG

pytestmark = pytest.mark.browser

LOAD = """%load_ext nbtasks
import threading, time
from nbtasks import get_manager
manager, go = get_manager(), threading.Event()
def works(seconds):
    def work():
        go.wait(seconds)
        if seconds == 0.35: raise ValueError('no such column')
    return work
for number in range(60):
    manager.create_task(f'fit {number}', works(0.1 + 0.05 * (number % 7)), lane=['default', 'multiple'][number % 2])
manager.add_recurring_task('20s', str, name='refresh')"""
PIPELINE = """%load_ext nbtasks
import threading, time
from nbtasks import get_manager
manager, go = get_manager(), threading.Event()
manager.add_lane('gpu', 2)
def works(seconds):
    return lambda: go.wait(seconds)
def bad():
    go.wait(0.8)
    raise ValueError("no such column: 'price'")
load = manager.create_task('load prices', works(1.5), lane='gpu')
clean = manager.create_task('clean', works(0.5), lane='multiple', after=[load])
train = manager.create_task('train the network for a long time', bad, lane='gpu', after=[clean])
report = manager.create_task('report', works(0.2), lane='multiple', after=[load])
manager.create_task('short', works(0.01), lane='multiple')
manager.wait()
live = manager.create_task('still running', works(600), lane='gpu')
waits = manager.create_task('after that', works(1), lane='gpu', after=[live])"""
# The parts of the timeline that stick out to the side of the cell, and the names that are cut off or lie on others.
MISFITS = """view => {
    const box = view.closest('.jp-OutputArea-output').getBoundingClientRect();
    const parts = [...view.querySelectorAll('button, pre, .nbtasks-timeline > svg > * > text')].filter(
        one => one.checkVisibility());
    const out = parts.map(one => [one, one.getBoundingClientRect()]).filter(
        ([_, one]) => one.right > box.right + 1 || one.left < box.left - 1);
    const names = [...view.querySelectorAll('[data-bar] > text')].map(one => [one, one.getBoundingClientRect()]);
    const over = names.filter(([a, x]) => names.some(([b, y]) => a !== b && x.left < y.right - 1 && y.left < x.right - 1
        && x.top < y.bottom - 4 && y.top < x.bottom - 4));
    return [...out, ...over].map(([one]) => one.textContent);
}"""


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_the_timeline_is_updated_while_a_cell_blocks_the_kernel(open_page, frontend):
    page = open_page([LOAD, "%bgtask timeline 1m", "time.sleep(60)", "go.set()"], frontend=frontend)
    page.run(0)
    page.run(1)
    page.output(1).locator("svg[role=group]").wait_for()
    page.start(2)
    pictures = page.sample(1, "svg[role=group]", "svg => svg.outerHTML.length")
    page.page.wait_for_function("name => window[name].samples.length >= 3", arg=pictures._name)
    for theme in ("light", "dark"):
        page.set_theme(theme)
        page.screenshot(f"timeline-{frontend}-{theme}", of=page.cell(1))
    page.button(1, "10 min").click()
    page.wait_text(1, "the last 10 min")
    page.button(1, "1 h").click()
    page.wait_text(1, "the last 1 h")
    assert page.is_running(2)
    page.interrupt()
    page.wait_done(2)
    page.run(3)
    assert page.console_errors == []


def test_it_fits_itself_shows_names_arrows_and_details_and_zooms(open_page):
    page = open_page([PIPELINE, "%bgtask timeline", "go.set()"])
    page.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.run(0)
    page.run(1)
    output = page.output(1)
    page.wait_text(1, "since ")
    for name in ("load prices", "clean", "report", "short", "still running"):
        output.locator("[data-bar] text").filter(has_text=name).wait_for()
    assert output.locator(".nbtasks-arrow").count() == 4
    for theme in ("light", "dark"):
        page.set_theme(theme)
        for width in (500, 900, 1400):
            page.set_size(width, 900)
            page.screenshot(f"timeline-fit-{theme}-{width}", of=page.cell(1))
            assert output.locator(".nbtasks-timeline-view").evaluate(MISFITS) == []
    output.locator("[data-state=failed]").locator("rect").click()
    output.get_by_role("region", name="Error").get_by_text("no such column").wait_for()
    page.screenshot("timeline-details", of=page.cell(1))
    answer = Axe().run(page.page, context=".nbtasks-timeline-view", options=WCAG).response
    assert [one["id"] for one in answer["violations"]] == []
    page.button(1, "zoom in").click()
    page.page.wait_for_function("() => / to \\d\\d:/.test(document.querySelector('.nbtasks-timeline').innerText)")
    page.button(1, "fit").click()
    page.wait_text(1, "since ")
    page.button(1, "Close details").click()
    output.get_by_role("region", name="Error").wait_for(state="detached")
    page.run(2)
    assert page.console_errors == []


@pytest.mark.long
def test_bars_are_reached_by_keyboard_and_stand_still_meanwhile(open_page):
    page = open_page([PIPELINE, "%bgtask timeline", "go.set()"])
    page.run(0)
    page.run(1)
    output = page.output(1)
    page.button(1, "later").focus()
    page.page.keyboard.press("Tab")
    assert "load prices: completed" in page.page.evaluate("() => document.activeElement.textContent")
    page.wait_text(1, "started")
    page.page.keyboard.press("Tab")
    second = page.page.evaluate("() => document.activeElement.dataset.bar")
    page.page.wait_for_timeout(5_000)  # time in which it would have been drawn again
    assert page.page.evaluate("() => document.activeElement.dataset.bar") == second
    pictures = page.sample(1, "svg[role=group]", "svg => svg.outerHTML.length")
    page.page.keyboard.press("Escape")
    page.page.wait_for_function("name => window[name].samples.length >= 2", arg=pictures._name)
    assert re.search(r"load prices|train|still", output.inner_text())
    page.run(2)
    assert page.console_errors == []


@pytest.mark.long
def test_the_saved_picture_shows_details_too(open_page):
    page = open_page([PIPELINE, "%bgtask timeline", "go.set()"])
    page.run(0)
    page.run(1)
    page.output(1).locator("svg[role=group]").wait_for()
    page.save()
    page.reopen_with_new_kernel()
    page.output(1).locator("[data-state=failed] rect").click()
    page.output(1).locator(".nbtasks-bar-details").get_by_text("no such column").wait_for()
    page.screenshot("timeline-saved", of=page.cell(1))
    assert page.console_errors == []
