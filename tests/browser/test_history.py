"""The history as a list of runs: filter, search, details, widths, keyboard, saved."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from nbtasks.widgets.widget_factory import STALE_CLICK_SECONDS
from tests.browser.test_access import PALE, WCAG

pytestmark = pytest.mark.browser

LOAD = """%load_ext nbtasks
import time
from functools import partial
from nbtasks import get_manager
manager = get_manager()
def bad():
    raise ValueError("no such column: 'price'")
def fill(runs):
    for number in range(runs):
        manager.create_task('load prices', partial(time.sleep, 0.002 * (number % 7)), lane='multiple')
        manager.create_task('train the network for a long time', bad if number % 3 else str, lane='multiple')
        manager.create_task(f'score {number}', str, lane='multiple')
    manager.wait()"""
CELL = "%%bgtask report\nprint('the report')\nraise ValueError('no data')"
# What sticks out to the side of the cell.
MISFITS = """list => {
    const edge = list.closest('.jp-OutputArea-output').getBoundingClientRect().right + 1;
    const parts = [...list.querySelectorAll('button, input, span, pre, svg')].filter(one => one.checkVisibility());
    return parts.filter(one => one.getBoundingClientRect().right > edge).map(one => one.outerHTML.slice(0, 200));
}"""
LIVE, STATIC, STATISTICS = 3, 4, 5
CELLS = [
    LOAD,
    CELL,
    "fill(41)",
    "%bgtask history",
    "import os\nos.environ['NBTASKS_WIDGETS'] = '0'\nget_ipython().run_line_magic('bgtask', 'history')\n"
    "del os.environ['NBTASKS_WIDGETS']",
    "%bgtask history --statistics",
    "time.sleep(600)",
]


def click_line(page, name: str) -> None:
    """Click as one does who looks first: so soon after a line changed hands, a click is not taken."""
    button = page.button(LIVE, name).first
    button.wait_for()
    page.page.wait_for_timeout(1000 * STALE_CLICK_SECONDS + 100)
    button.click()


@pytest.fixture
def filled(open_page):
    page = open_page(CELLS)
    page.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    for cell in (0, 1, 2, 3):
        page.run(cell)
    page.wait_text(LIVE, "all 124")
    return page


def test_lines_open_their_runs_also_while_a_cell_blocks_the_kernel(filled):
    page = filled
    output = page.output(LIVE)
    page.start(len(CELLS) - 1)
    page.wait_text(LIVE, "1 to 20 of 44")
    page.button(LIVE, "failed 28").click()
    page.wait_text(LIVE, "2 names")
    click_line(page, "Show runs of report")
    for title, text in {"Error": "ValueError: no data", "Output": "the report", "Source": "print("}.items():
        output.get_by_role("region", name=title).get_by_text(text).first.wait_for()
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.button(LIVE, "Copy error").click()
    page.page.get_by_text("Copied").wait_for()
    assert page.page.evaluate("() => navigator.clipboard.readText()") == "ValueError: no data"
    search = output.get_by_role("textbox", name="Search")
    search.fill("network")
    page.wait_text(LIVE, "1 name")
    click_line(page, "Show runs of train the network")
    output.get_by_role("img", name="durations of 41 runs").wait_for()
    page.wait_text(LIVE, "1 to 10 of 27")
    page.screenshot("history-open", of=page.cell(LIVE))
    page.button(LIVE, "Next").first.click()
    page.wait_text(LIVE, "11 to 20 of 27")
    assert page.is_running(len(CELLS) - 1)
    page.interrupt()
    assert page.console_errors == []


def test_it_is_used_by_keyboard_alone(filled):
    page = filled
    search = page.output(LIVE).get_by_role("textbox", name="Search")
    search.fill("load prices")
    page.wait_text(LIVE, "1 name")
    search.press("Tab")
    page.page.wait_for_timeout(1000 * STALE_CLICK_SECONDS + 100)
    assert page.page.evaluate("() => document.activeElement.textContent") == "Show runs of load prices"
    page.screenshot("history-focus", of=page.cell(LIVE))
    page.page.keyboard.press("Enter")
    page.wait_text(LIVE, "1 to 10 of 41")
    assert page.page.evaluate("() => document.activeElement.textContent") == "Hide runs of load prices"
    page.page.keyboard.press("Tab")
    assert "details of the run" in page.page.evaluate("() => document.activeElement.textContent")
    answer = Axe().run(page.page, context=".nbtasks-runs", options=WCAG).response
    assert [one["id"] for one in answer["violations"]] == []


def test_it_fits_every_width_in_both_themes_live_and_static(filled):
    page = filled
    for cell in (STATIC, STATISTICS):
        page.run(cell)
    page.button(LIVE, "failed 28").click()
    page.wait_text(LIVE, "2 names")
    click_line(page, "Show runs of train the network")
    page.wait_text(LIVE, "1 to 10 of 27")
    static = page.output(STATIC).locator(".nbtasks-history")
    static.locator("summary").filter(has_text="train the network").click()
    for theme in ("light", "dark"):
        page.set_theme(theme)
        for width in (500, 900, 1400):
            page.set_size(width, 1000)
            for cell, name in ((LIVE, "live"), (STATIC, "static"), (STATISTICS, "statistics")):
                page.screenshot(f"history-{name}-{theme}-{width}", of=page.cell(cell))
                view = page.output(cell).locator(".nbtasks-runs, .nbtasks-history").first
                assert view.evaluate(MISFITS) == []
        looked, pale = page.page.locator(".nbtasks-runs, .nbtasks-history").evaluate_all(PALE)
        assert looked > 50 and pale == []
    assert page.console_errors == []


@pytest.mark.long
def test_a_saved_list_is_a_picture_whose_lines_open_in_a_new_kernel(open_page):
    page = open_page([LOAD, "manager.create_task('train', bad)\nmanager.wait()", "%bgtask history"])
    for cell in (0, 1, 2):
        page.run(cell)
    page.wait_text(2, "1 name")
    page.save()
    page.reopen_with_new_kernel()
    saved = page.output(2).locator(".nbtasks-history")
    saved.locator("summary").focus()
    page.page.keyboard.press("Enter")
    saved.locator("details[open]").get_by_role("region", name="Error").wait_for()
    page.screenshot("history-saved", of=page.cell(2))
    assert saved.get_by_role("button").count() == 0
    assert page.console_errors == []


def test_when_the_kernel_is_shut_down_the_last_list_stays(filled):
    page = filled
    page.button(LIVE, "failed 28").click()
    page.wait_text(LIVE, "2 names")
    page.command("kernelmenu:shutdown")
    saved = page.output(LIVE).locator(".nbtasks-history")
    saved.wait_for()
    assert saved.locator("summary").count() == 2
