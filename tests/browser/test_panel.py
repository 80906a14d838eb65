"""Panels in JupyterLab: both themes, wide and narrow cells, after a reload."""

from __future__ import annotations

import pytest

from tests.browser.driver import NotebookPage

pytestmark = pytest.mark.browser

LOAD = """%load_ext nbtasks
import threading, time
from nbtasks import current_task, track
go = threading.Event()"""
LONG_NAME = "a_rather_long_name_for_a_task_that_was_chosen_without_a_thought_for_those_who_have_to_read_it_all"
STATES = {
    "running": "%%bgtask known\ncurrent_task().progress, current_task().body = 42, 'epoch 4: loss 0.123'\ngo.wait()",
    "unknown": "%%bgtask unknown\ngo.wait()",
    "long": f"%%bgtask {LONG_NAME}\ncurrent_task().body = 'a word of many ' * 50\ngo.wait()",
    "pending": "%%bgtask waits\ngo.wait()",
    "cancelling": "%%bgtask cannot_stop --lane multiple\ncurrent_task().body = 'inside C code'\ngo.wait()",
    "completed": "%%bgtask done --lane multiple\ncurrent_task().body = 'that is all'\n'the result'",
    "failed": "%%bgtask bad --lane multiple\ncurrent_task().progress = 30\nraise ValueError('no such column ' * 50)",
    "cancelled": "%%bgtask gone --lane multiple\ncurrent_task().progress = 60\n%bgtask cancel gone\nwhile 1: pass",
}
WHOLE = """%%bgtask it --retries 2 --lane multiple
from PIL import Image
task = current_task()
task.heading, task.body = "A heading", "loss 0.123"
if task.attempts == 1:
    print("written by the first attempt")
    raise ValueError("as it happens")
task.create_child("part", go.wait)
for width in (10, 20, 30):
    task.img = Image.new("RGB", (width, 20), "teal")
    time.sleep(0.3)
for epoch in track(range(2), description="epoch"):
    for batch in track(range(100_000), description="batch", unit="batch"):
        if go.wait(0.02): break"""
SAYS = {"unknown": "running", "long": "running", "cancelling": "inside C code"}
GO = len(STATES) + 2
BAR_WIDTH = "element => element.style.width"
# The parts of a panel that stick out to the side, are cut off, or leave next to nothing of the name.
MISFITS = """panel => {
    const edge = panel.closest('.jp-OutputArea-output').getBoundingClientRect().right + 1;
    const parts = [...panel.querySelectorAll('button, b, span, .progress')].filter(part => part.offsetParent);
    const misfit = part => part.getBoundingClientRect().right > edge
        || (part.tagName === 'BUTTON' && part.scrollWidth > part.clientWidth)
        || (part.tagName === 'B' && part.clientWidth < Math.min(part.scrollWidth, 60));
    return parts.filter(misfit).map(part => part.outerHTML);
}"""


# The figures of a panel that are in sight, and whether its name is cut.
IN_SIGHT = """panel => {
    const name = panel.querySelector('b');
    const [first, ...parts] = panel.querySelectorAll('.nbtasks-row > :nth-child(2) .nbtasks-live > span');
    const isShown = part => part.getBoundingClientRect().top < first.getBoundingClientRect().top + 5;
    return [parts.filter(isShown).length, name.scrollWidth > name.clientWidth];
}"""
NESTED = """%%bgtask grid_search_of_models
for epoch in track(range(10), description="epoch"):
    for batch in track(range(100_000), description="batch"):
        if go.wait(0.02): break"""


def cell(state: str) -> int:
    """The position of the cell of that state."""
    return list(STATES).index(state) + 1


@pytest.fixture(scope="module")
def gallery(lab, browser):
    """A notebook with one cell for each of STATES, in their order, from 1 on."""
    page = NotebookPage(lab, browser)
    try:
        page.open([LOAD, *STATES.values(), "%bgtask cancel cannot_stop", "go.set()"])
        page.set_size(1200, 1700)
        page.run(0)
        for number, state in enumerate(STATES, start=1):
            page.run(number)
            page.wait_text(number, SAYS.get(state, state))
        page.run(len(STATES) + 1)
        page.wait_text(cell("cancelling"), "cannot be stopped yet")
        yield page
    finally:
        page.dispose()


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_panels_fit_wide_and_narrow_cells(gallery, theme):
    gallery.set_theme(theme)
    gallery.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    for width in (1200, 500, 440, 400, 360):
        gallery.set_size(width, 1700)
        gallery.cell(1).evaluate("element => element.scrollIntoView({ block: 'start' })")
        gallery.screenshot(f"panels-{theme}-{width}")
        for number in map(cell, STATES):
            assert gallery.output(number).locator(".nbtasks-panel").evaluate(MISFITS) == []


def test_a_long_name_gives_way_to_the_state(gallery):
    gallery.set_size(700, 1700)
    panel = gallery.output(cell("long"))
    assert panel.get_by_text("running", exact=True).is_visible()
    name = panel.locator("b")
    assert name.evaluate("name => name.scrollWidth > name.clientWidth")
    assert name.get_attribute("title") == LONG_NAME


def test_a_bar_of_unknown_length_moves_to_and_fro(gallery):
    bar = gallery.output(cell("unknown")).locator(".progress-bar")
    assert bar.evaluate("bar => bar.getAnimations().map(move => move.playState)") == ["running"]
    gallery.page.emulate_media(reduced_motion="reduce")
    assert bar.evaluate("bar => bar.getAnimations().length") == 0


def test_at_the_end_the_panel_is_one_line(gallery):
    """The last one that looks at them."""
    gallery.run(GO)
    gallery.wait_text(cell("running"), "completed")
    panel = gallery.output(cell("running")).locator(".nbtasks-panel")
    assert panel.evaluate("panel => panel.getBoundingClientRect().height") <= 36
    assert panel.get_by_text("epoch 4: loss 0.123").is_visible()


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
@pytest.mark.reloads
def test_a_failed_cell_runs_again_by_its_button_also_after_a_reload(open_page, frontend):
    code = "%%bgtask it\nif not go.is_set(): raise ValueError('boom')\nprint('well done')"
    page = open_page([LOAD, code, "go.set()"], frontend=frontend)
    page.run(0)
    page.run(1)
    page.wait_text(1, "failed")
    page.button(1, "Run again").click()
    page.wait_text(1, "failed")
    page.run(2)
    page.save()
    page.reload()
    page.wait_kernel("idle")
    page.button(1, "Run again").click()
    page.wait_text(1, "well done")
    page.wait_text(1, "completed")
    page.button(1, "Run again").wait_for()  # of a completed cell too


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_a_panel_is_updated_while_a_cell_blocks_the_kernel_and_then_is_one_line(open_page, frontend):
    page = open_page([LOAD, WHOLE, "time.sleep(600)", "go.set()"], frontend=frontend)
    page.run(0)
    page.run(1)
    page.start(2)
    panel = page.output(1).locator(".nbtasks-panel").first
    for text in (
        *("A heading", "running, attempt 2 of 3", "batch/s"),
        *("epoch 0/2 · batch", "children: 1 running", "loss 0.123"),
    ):
        page.wait_text(1, text)
    assert panel.get_by_text("it", exact=True).count() == 0  # the heading stands for the name
    image = panel.locator("img")
    assert image.get_attribute("alt") == "image of A heading"
    page.page.wait_for_function("() => document.querySelector('.nbtasks-panel img').naturalWidth === 30")
    texts = page.sample(1, ".nbtasks-panel")
    page.page.wait_for_function("name => window[name].samples.length >= 3", arg=texts._name)
    assert not page.button(1, "Output").is_visible()  # it is below already
    page.screenshot(f"panel-whole-{frontend}", of=page.cell(1))
    assert page.is_running(2)
    page.interrupt()
    page.wait_done(2)
    page.run(3)
    page.wait_text(1, "completed")
    page.output(1).locator(".jupyter-widgets").first.wait_for(state="detached")
    assert image.evaluate("image => image.naturalWidth") == 30  # the image stays, under the one line that is left
    assert panel.locator("div").first.evaluate("row => row.getBoundingClientRect().height") <= 36
    assert page.console_errors == []


@pytest.mark.reloads
def test_after_a_reload_of_a_saved_notebook_the_panel_moves_and_cancels(open_page):
    page = open_page([LOAD, "%%bgtask it\nfor _ in track(range(10_000)): time.sleep(0.01)"])
    page.run(0)
    page.run(1)
    page.wait_text(1, "running")
    page.save()
    page.reload()
    page.button(1, "Cancel").wait_for()
    positions = page.sample(1, ".progress-bar", BAR_WIDTH)
    page.page.wait_for_function("name => window[name].samples.length >= 5", arg=positions._name)
    page.button(1, "Cancel").click()
    page.wait_text(1, "cancelled")
    assert not page.has_broken_widget(1)


@pytest.mark.parametrize(("theme", "frontend"), [("light", "lab"), ("dark", "notebook")])
def test_cells_started_in_a_loop_share_one_panel(open_page, theme, frontend):
    loop = """for number in range(14):
    get_ipython().run_cell_magic("bgtask", f"fit{number} --lane multiple", \"\"\"
for _ in track(range(1_000)):
    if go.wait(0.05): break
if current_task().name == 'fit3': raise ValueError('no such column')\"\"\")"""
    page = open_page([LOAD, loop, "go.set()"], frontend=frontend)
    page.set_theme(theme)
    page.run(0)
    page.run(1)
    page.wait_text(1, "10 running")
    page.wait_text(1, "1 to 10 of 14")
    page.wait_text(1, "1%")
    assert page.output(1).locator(".nbtasks-panel .nbtasks-tr").count() == 10
    page.screenshot(f"panel-shared-{theme}", of=page.cell(1))
    page.run(2)
    page.wait_text(1, "13 completed, 1 failed")
    page.screenshot(f"panel-shared-over-{theme}", of=page.cell(1))
    assert page.output(1).locator(".jupyter-widgets").count() == 0


def test_in_a_narrow_cell_the_rate_goes_first_then_the_elapsed_time_and_the_name_last(open_page):
    page = open_page([LOAD, NESTED, "go.set()"])
    page.run(0)
    page.run(1)
    page.wait_text(1, "batch 4")
    page.wait_text(1, "it/s")
    page.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    panel, seen = page.output(1).locator(".nbtasks-panel"), []
    for width in range(1200, 400, -20):
        page.set_size(width, 700)
        if panel.evaluate("panel => panel.clientWidth") <= 436:  # then the buttons have a line of their own
            break
        seen.append(tuple(panel.evaluate(IN_SIGHT)))
    assert seen == sorted(seen, key=lambda one: (-one[0], one[1]))
    assert seen[0] == (3, False)
    assert all(figures == 0 for figures, name_cut in seen if name_cut)
    assert (2, False) in seen
    page.screenshot("panel-nested", of=page.cell(1))
    page.run(2)
