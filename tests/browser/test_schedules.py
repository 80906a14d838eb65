"""Schedule controls in JupyterLab while a foreground cell blocks the kernel."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.driver import TIME_LIMIT_MS
from tests.browser.test_access import PALE, WCAG

pytestmark = pytest.mark.browser

LOAD = "%load_ext nbtasks\nfrom nbtasks import get_manager\nmanager = get_manager()\nimport time"
CELL, BOARD, BLOCKED = 1, 2, 3
WORK = "%%bgtask prices\nn = globals().get('n', 0) + 1\nprint('prices, run', n)"
# Computes until a schedule was made and removed again, and prints its state.
COMPUTE = """seen, ends = None, time.monotonic() + 240
while (seen is None or manager.list_recurring_tasks()) and time.monotonic() < ends:
    for seen in manager.list_recurring_tasks(): pass
    sum(range(10_000))
print(seen.name, seen.describe(), seen.timezone, "removed" if seen.removed else "there", seen.total_runs > 2)"""
FAILS = "%%bgtask fails --quiet --cron @yearly\nraise ValueError('no such column: price')"
MISFITS = """board => {
    const edge = board.closest('.jp-OutputArea-output').getBoundingClientRect().right + 1;
    const parts = [...board.querySelectorAll('button, b, input, select')].filter(part => part.offsetParent);
    const misfit = part => part.getBoundingClientRect().right > edge
        || (part.tagName === 'BUTTON' && part.scrollWidth > part.clientWidth);
    return parts.filter(misfit).map(part => part.outerHTML);
}"""


def test_a_schedule_is_made_changed_paused_run_and_removed_by_its_controls_in_a_busy_kernel(open_page):
    page = open_page([LOAD, WORK, "%bgtask schedules", COMPUTE])
    for number in (0, CELL):
        page.run(number)
    page.wait_text(CELL, "completed")
    page.run(BOARD)
    page.start(BLOCKED)
    board = page.output(BOARD)
    board.locator("select").filter(has_text="Repeat").select_option("prices")
    board.get_by_label("Schedule").fill("1h")
    page.wait_text(BOARD, "Every hour · would fire in")
    page.button(BOARD, "Add").click()
    page.wait_text(BOARD, "Every hour · next in")
    controls = board.locator(".nbtasks-controls").first
    controls.get_by_label("Schedule").fill("61 * * * *")
    page.wait_text(BOARD, "61 is out of range")
    page.screenshot("schedules-typed-wrong")
    controls.get_by_label("Zone").fill("Europe/Paris")
    controls.get_by_label("Schedule").fill("* * * * * *")
    page.wait_text(BOARD, "Every second · would fire in")
    controls.get_by_label("Schedule").press("Enter")
    page.wait_text(BOARD, "Every second · next in")
    page.wait_text(CELL, "prices, run 3")
    page.button(BOARD, "Pause").click()
    page.wait_text(BOARD, "Every second · paused")
    before = page.text(CELL)
    page.button(BOARD, "Run now").click()
    expect(page.output(CELL)).not_to_have_text(before, timeout=TIME_LIMIT_MS)
    page.screenshot("schedules-in-a-busy-kernel")
    assert page.is_running(BLOCKED)
    page.button(BOARD, "Remove").click()
    page.button(BOARD, "Really remove?").click()
    page.wait_text(BOARD, "no schedules")
    page.wait_text(CELL, "removed")
    page.wait_done(BLOCKED)
    assert page.text(BLOCKED).strip() == "prices Every second Europe/Paris removed True"


@pytest.mark.long
@pytest.mark.reloads
def test_after_a_reload_of_a_saved_notebook_the_controls_are_live(open_page):
    page = open_page([LOAD, "manager.add_recurring_task('1h', print, name='it')\n%bgtask schedules"])
    page.run(0)
    page.run(1)
    page.wait_text(1, "Every hour · next in")
    page.save()
    page.reload()
    page.wait_text(1, "Every hour · next in")
    page.output(1).get_by_label("Schedule").first.fill("@daily")
    page.wait_text(1, "At 00:00 · would fire in")
    page.button(1, "Apply").click()
    page.wait_text(1, "At 00:00 · next in")
    page.button(1, "Pause").click()
    page.wait_text(1, "At 00:00 · paused")
    assert not page.has_broken_widget(1)


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_controls_fit_wide_and_narrow_cells_and_axe_finds_nothing(open_page, theme):
    page = open_page(
        [
            LOAD,
            WORK,
            FAILS,
            "manager.add_recurring_task('0 8 * * 1-5', print, name='report', timezone='Europe/Paris')\n"
            "manager.add_recurring_task('@daily', print, name='a_rather_long_name_for_a_schedule ' * 4).disable()\n"
            "%bgtask run fails\nmanager.wait()\n%bgtask schedules",
        ]
    )
    page.set_theme(theme)
    page.set_size(1200, 1100)
    for number in range(4):
        page.run(number)
    page.wait_text(3, "last error: ValueError: no such column: price")
    page.wait_text(3, "At 08:00, Monday to Friday · next in")
    page.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    for width in (1200, 440):
        page.set_size(width, 1100)
        page.cell(3).evaluate("element => element.scrollIntoView({ block: 'start' })")
        page.screenshot(f"schedules-{theme}-{width}")
        assert page.output(3).locator(".nbtasks-schedules").evaluate(MISFITS) == []
    answer = Axe().run(page.page, context=".nbtasks-schedules", options=WCAG).response
    assert {"button-name", "label", "select-name"} <= {one["id"] for one in answer["passes"]}  # it looked
    assert [(one["id"], node["html"]) for one in answer["violations"] for node in one["nodes"]] == []
    looked, pale = page.output(3).locator(".nbtasks-schedules").evaluate_all(PALE)
    assert looked > 10 and pale == []
