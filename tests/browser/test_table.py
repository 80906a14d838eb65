"""Task table in JupyterLab and Notebook 7: themes, widths, few and many tasks."""

from __future__ import annotations

import pytest

from nbtasks.widgets.widget_factory import STALE_CLICK_SECONDS

pytestmark = pytest.mark.browser

LOAD = """%load_ext nbtasks
import threading, time
from nbtasks import current_task, get_manager, track
manager, go = get_manager(), threading.Event()
manager.max_succeeded_tasks = None
def bar():
    for number in track(range(100_000)):
        current_task().body = f"epoch {number}: loss {1 / (number + 1):.3f}"
        if go.wait(0.05): break
def bad():
    raise ValueError("no such column: 'price'")
KINDS = [("fit", bar, "default"), ("load prices", str, "multiple"), ("train the network", bad, "default"),
         ("score", bar, "single")]
def make(count):
    for number in range(len(manager.list_tasks()), count):
        name, work, lane = KINDS[number % 4]
        manager.create_task(f"{name} {number}", work, lane=lane)"""
BUSY = "time.sleep(60)"
# The parts of the table that stick out to the side, or that a cell of a row cuts off without an ellipsis.
MISFITS = """table => {
    const edge = table.closest('.jp-OutputArea-output').getBoundingClientRect().right + 1;
    const parts = [...table.querySelectorAll('button, input, .nbtasks-cells > span')].filter(part => part.offsetParent);
    return parts.filter(part => part.getBoundingClientRect().right > edge).map(part => part.outerHTML);
}"""
ROWS = ".nbtasks-tr"


def click_in_row(page, name: str) -> None:
    """Click as one does who looks first: so soon after a row changed hands, a click is not taken."""
    button = page.button(1, name).first
    button.wait_for()
    page.page.wait_for_timeout(1000 * STALE_CLICK_SECONDS + 100)
    button.click()


def test_the_table_fits_wide_and_narrow_cells_in_both_themes_with_few_and_many_tasks(open_page):
    counts = [0, 1, 30, 10_000]
    page = open_page([LOAD, "%bgtask", *(f"make({count})" for count in counts), "go.set()"])
    page.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.run(0)
    page.run(1)
    for number, count in enumerate(counts):
        page.run(2 + number)
        page.wait_text(1, f"all {count:,}")
        page.page.wait_for_function(
            "([rows, count]) => document.querySelectorAll(rows).length === count", arg=[ROWS, min(count, 10)]
        )
        for theme in ("light", "dark"):
            page.set_theme(theme)
            for width in (1200, 440):
                page.set_size(width, 1000)
                page.screenshot(f"table-{count}-{theme}-{width}", of=page.cell(1))
                assert page.output(1).locator(".nbtasks-table").evaluate(MISFITS) == []
    page.set_size(1200, 1000)
    page.run(len(counts) + 2)
    assert page.console_errors == []


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_the_table_can_be_used_while_a_cell_blocks_the_kernel(open_page, frontend):
    page = open_page([LOAD, "%bgtask", "make(30)", BUSY, "go.set()"], frontend=frontend)
    for cell in (0, 1, 2):
        page.run(cell)
    page.start(3)
    table = page.output(1)
    bars = page.sample(1, ".nbtasks-cells > span")
    page.page.wait_for_function("name => window[name].samples.length >= 4", arg=bars._name)
    search = table.get_by_role("textbox", name="Search")
    search.press_sequentially("train")
    page.page.wait_for_function(
        "rows => { const found = [...document.querySelectorAll(rows)].map(row => row.innerText);"
        "return found.length === 7 && found.every(text => text.includes('train')); }",
        arg=ROWS,
    )
    page.wait_text(1, "all 7 of 30")
    search.fill("")
    page.button(1, "failed").click()
    table.get_by_text("no such column").first.wait_for()
    click_in_row(page, "Details of train the network 2")
    table.get_by_role("region", name="Error").get_by_text("in bad").wait_for()
    page.screenshot(f"table-details-{frontend}", of=page.cell(1))
    page.button(1, "all").first.click()
    page.button(1, "Next").click()
    page.wait_text(1, "11 to 20 of 30")
    page.button(1, "Previous").click()
    page.button(1, "task").first.click()
    table.locator(ROWS).first.get_by_text("fit 0", exact=True).wait_for()
    click_in_row(page, "Cancel fit 0")
    table.locator(ROWS).first.get_by_text("cancelled", exact=True).wait_for()
    page.button(1, "Lanes").click()
    limit = table.get_by_role("textbox", name="Limit of single")
    limit.fill("2")
    limit.press("Enter")
    page.wait_text(1, "2 running")
    page.screenshot(f"table-lanes-{frontend}", of=page.cell(1))
    assert page.is_running(3)
    page.interrupt()
    page.wait_done(3)
    page.run(4)
    assert page.console_errors == []


@pytest.mark.long
@pytest.mark.reloads
def test_after_a_reload_of_a_saved_notebook_the_table_is_live(open_page):
    page = open_page([LOAD, "%bgtask", "make(4)", "go.set()"])
    for cell in (0, 1, 2):
        page.run(cell)
    page.wait_text(1, "running")
    page.save()
    page.reload()
    page.button(1, "Cancel fit 0").click()
    page.wait_text(1, "cancelled 1")
    page.run(3)
    page.wait_text(1, "running 0")
    assert not page.has_broken_widget(1)
