"""Accessibility of the views, checked with axe-core: keyboard, names, contrast."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from nbtasks.widgets.widget_factory import STALE_CLICK_SECONDS
from tests.browser.driver import TIME_LIMIT_MS, NotebookPage

pytestmark = pytest.mark.browser

LOAD = """%load_ext nbtasks
import threading, time
from nbtasks import current_task, get_manager, track
manager, go = get_manager(), threading.Event()
def fails():
    raise ValueError('no such column')"""
CELLS = [
    "%%bgtask known\nprint('written')\ncurrent_task().progress, current_task().body = 42, 'epoch 4'\ngo.wait()",
    "%%bgtask unknown\ngo.wait()",
    "%%bgtask bad --lane multiple\nraise ValueError('no such column')",
    "%%bgtask done --lane multiple\ncurrent_task().body = 'that is all'",
    "for number in range(3): get_ipython().run_cell_magic('bgtask', f'part{number}', 'go.wait()')",
    "for number in range(12): manager.create_task(f'fit {number}', fails if number % 3 else go.wait, lane='multiple')",
    "[known]",
    "%bgtask",
]
TABLE = len(CELLS)
SHOWN = TABLE - 1
"""The panel of a task whose output is not below it."""
# axe leaves out the text of cells, so its contrast is measured here: 4.5 for text, 3 for signs beside words (WCAG AA).
PALE = """views => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = colour => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const parents = element => element ? [element, ...parents(element.parentElement)] : [];
    const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(
        c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
    ).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const contrast = element => {
        const up = parents(element).map(one => getComputedStyle(one));
        const below = up.map(style => rgba(style.backgroundColor)).reverse().reduce(
            (under, layer) => over(layer, under), [255, 255, 255, 1]);
        const colour = rgba(up[0].color);
        colour[3] *= up.reduce((product, style) => product * Number(style.opacity), 1);
        const [a, b] = [light(over(colour, below)), light(below)].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    };
    const found = new Set();
    let looked = 0;
    for (const view of views) {
        for (const element of view.querySelectorAll('*')) {
            const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
            const style = getComputedStyle(element);
            if (!own || !element.checkVisibility({ visibilityProperty: true }) || element.matches('style, script')
                || parseFloat(style.fontSize) === 0 || element.closest('[disabled]')
                || element.closest('.jp-RenderedText')) continue;
            looked += 1;
            const ratio = contrast(element), least = element.ariaHidden === 'true' ? 3 : 4.5;
            if (ratio < least) found.add(`${ratio.toFixed(2)}: ${element.outerHTML.slice(0, 150)}`);
        }
    }
    return [looked, [...found]];
}"""
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


def violations(page) -> list[str]:
    """What axe finds in the views of nbtasks: the rule, and where."""
    found, passed = [], set()
    for view in (".nbtasks-panel", ".nbtasks-table"):
        answer = Axe().run(page.page, context=view, options=WCAG).response
        passed |= {one["id"] for one in answer["passes"]}
        for one in answer["violations"]:
            found += [f"{one['id']}: {node['html'][:200]} {node['failureSummary'][:300]}" for node in one["nodes"]]
    assert {"button-name", "label"} <= passed  # it looked
    looked, pale = page.page.locator(".nbtasks-panel, .nbtasks-table").evaluate_all(PALE)
    assert looked > 50
    return [*found, *pale]


@pytest.fixture(scope="module", params=["lab", "notebook"])
def gallery(lab, browser, request):
    """One page for all tests of a front end: each leaves it as the next can use it."""
    page = NotebookPage(lab, browser, frontend=request.param)
    page.open([LOAD, *CELLS, "go.set()"])
    page.set_size(1200, 2400)
    for cell in range(len(CELLS) + 1):
        page.run(cell)
    page.wait_text(3, "failed")
    page.wait_text(4, "completed")
    page.wait_text(TABLE, "running")
    yield page
    page.dispose()


def test_changes_of_state_are_said_and_progress_is_not(gallery):
    status = gallery.output(1).locator("[role=status]")
    assert status.count() == 1
    assert status.inner_text().split()[1:] == ["known", "running"]  # after the sign, which is for the eye only
    assert gallery.output(3).locator("[role=status]").inner_text().split()[1:] == ["bad", "failed"]


def test_bars_and_switches_tell_their_values(gallery):
    known = gallery.output(1).get_by_role("progressbar", name="Progress of known")
    expect(known).to_have_attribute("aria-valuenow", "42", timeout=TIME_LIMIT_MS)
    unknown = gallery.output(2).get_by_role("progressbar", name="Progress of unknown")
    assert unknown.get_attribute("aria-valuenow") is None
    for number, name, before, after in ((SHOWN, "Output", "true", "false"), (TABLE, "failed", "false", "true")):
        button = gallery.button(number, name)
        expect(button).to_have_attribute("aria-pressed", before, timeout=TIME_LIMIT_MS)
        button.click()
        expect(button).to_have_attribute("aria-pressed", after, timeout=TIME_LIMIT_MS)
    gallery.button(SHOWN, "Output").click()
    gallery.button(TABLE, "all").first.click()
    expect(gallery.button(TABLE, "failed")).to_have_attribute("aria-pressed", "false", timeout=TIME_LIMIT_MS)


def test_the_table_has_rows_cells_and_heads_that_tell_the_order(gallery):
    table = gallery.output(TABLE).get_by_role("table", name="Background tasks")
    head = table.get_by_role("columnheader", name="task", exact=True)
    for order in ("ascending", "descending", "none"):
        head.get_by_role("button").click()
        expect(table.get_by_role("columnheader").first).to_have_attribute("aria-sort", order, timeout=TIME_LIMIT_MS)
        head = table.get_by_role("columnheader").first
    expect(table.get_by_role("row")).to_have_count(11, timeout=TIME_LIMIT_MS)  # ten tasks below the heads
    assert table.get_by_role("row").nth(1).get_by_role("cell").count() >= 5


def test_nothing_moves_where_motion_is_not_wanted(gallery):
    gallery.page.emulate_media(reduced_motion="reduce")
    moving = "views => views.flatMap(view => view.getAnimations({ subtree: true })).length"
    assert gallery.page.locator(".nbtasks-panel, .nbtasks-table").evaluate_all(moving) == 0


def test_all_of_the_table_is_reached_and_used_by_keyboard(gallery):
    page, table = gallery.page, gallery.output(TABLE)
    table.get_by_role("textbox", name="Search").focus()
    page.keyboard.type("fit 1")
    page.wait_for_function("() => document.querySelectorAll('.nbtasks-tr').length >= 3")
    names = []
    for _ in range(30):
        page.keyboard.press("Tab")
        names.append(page.evaluate("() => document.activeElement.innerText.trim() || document.activeElement.ariaLabel"))
        if names[-1] and names[-1].startswith("Details of"):
            break
    assert {"Lanes", "Prune", "Cancel all", "task", "state"} <= set(names)
    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.wait_for_timeout(500)
    page.keyboard.press("Enter")
    table.get_by_text("attempts").first.wait_for()


def test_with_all_of_it_open_axe_finds_nothing_in_either_theme(gallery):
    gallery.output(TABLE).get_by_role("textbox", name="Search").fill("")
    gallery.wait_text(SHOWN, "written")
    gallery.button(TABLE, "Lanes").click()
    gallery.button(TABLE, "failed").click()
    gallery.page.wait_for_timeout(1000 * STALE_CLICK_SECONDS + 1000)  # a click sooner after a row changed is not taken
    gallery.button(TABLE, "Details of fit").first.click()
    gallery.output(TABLE).get_by_role("region", name="Error").wait_for()
    for theme in ("dark", "light"):
        gallery.set_theme(theme)
        gallery.screenshot(f"access-{gallery.frontend}-{theme}")
        assert violations(gallery) == []


def test_a_panel_is_cancelled_by_keyboard(gallery):
    gallery.button(1, "Cancel").focus()
    assert gallery.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    gallery.page.keyboard.press("Enter")
    gallery.output(1).get_by_text("cancelling", exact=True).wait_for()
    focused = "() => document.activeElement.textContent"
    assert gallery.page.evaluate(focused) == "Cancelling…"
    gallery.lab.run_in_kernel(gallery.path, "go.set()")
    gallery.wait_text(1, "cancelled")
    gallery.page.wait_for_function("() => document.activeElement.textContent === 'Run again'")
    gallery.page.keyboard.press("Tab")
    assert not gallery.output(1).locator(":focus").count()


def test_axe_would_find_what_is_wrong(gallery):
    spoil = "(view, bad) => { view.innerHTML = bad + view.innerHTML; }"
    bad = '<button></button><p style="color: #eee; background: #fff">pale</p>'
    gallery.output(3).locator(".nbtasks-panel").evaluate(spoil, bad)
    assert [line.split(":")[0] for line in violations(gallery)] == ["button-name", "1.16"]
