"""Everything that views offer, by keyboard alone; the focus is never lost."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from nbtasks.widgets.widget_factory import STALE_CLICK_SECONDS
from tests.browser.driver import TIME_LIMIT_MS, NotebookPage

pytestmark = pytest.mark.browser

LOAD = """%load_ext nbtasks
import threading
from nbtasks import current_task, get_manager
manager, go = get_manager(), threading.Event()
for number in range(3): manager.create_task(f'done {number}', str)
manager.wait();"""
FIT = "%%bgtask fit\nprint('a line')\ncurrent_task().progress = 40\nwhile not go.wait(0.05): pass"
TICK = "%%bgtask tick --every 1h\nprint('ticks')"
FIT_CELL, TABLE, TICK_CELL, TIMELINE, HISTORY = range(1, 6)
CELLS = [LOAD, FIT, "%bgtask", TICK, "%bgtask timeline", "%bgtask history"]
FOCUSED = """() => {
    const one = document.activeElement;
    return (one.textContent.trim() || one.labels?.[0]?.textContent || one.ariaLabel || '').trim().slice(0, 100);
}"""


class Keyboard:
    """A user without a mouse."""

    def __init__(self, page: NotebookPage) -> None:
        self.page = page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.page.keyboard.press(key)

    @property
    def focused(self) -> str:
        """The name of the control that has the focus."""
        return str(self.page.page.evaluate(FOCUSED))

    def is_in(self, index: int) -> bool:
        """Whether the focus is in the output of the cell."""
        return bool(self.page.output(index).evaluate("output => output.contains(document.activeElement)"))

    def go_to_cell(self, index: int) -> None:
        """From the cell that has the focus, or whose output has it, to another one."""
        self.press("Escape")
        self.page.page.wait_for_function("() => document.querySelector('.jp-Notebook.jp-mod-commandMode')")
        for _ in range(2 * len(CELLS)):
            at = self.page.active_cell()
            if at == index:
                return
            self.press("ArrowDown" if at < index else "ArrowUp")
        raise AssertionError(f"cell {index} was not reached")

    def tab_to(self, index: int, name: str, key: str = "Tab") -> None:
        """Press Tab until a control of the cell's output has the focus whose name begins so."""
        seen = []
        for _ in range(80):
            self.press(key)
            seen.append(self.focused)
            if self.is_in(index) and seen[-1].startswith(name):
                return
        raise AssertionError(f"{name!r} was not reached: {seen}")

    def wait_focused(self, index: int, name: str) -> None:
        """Wait until a control of that name has the focus, in the output of the cell."""
        script = f"name => ({FOCUSED})().startsWith(name)"
        self.page.page.wait_for_function(script, arg=name)
        assert self.is_in(index)

    def attribute(self, name: str) -> str | None:
        return self.page.page.evaluate("name => document.activeElement.getAttribute(name)", name)

    def wait_attribute(self, name: str, value: str) -> None:
        script = "([name, value]) => document.activeElement.getAttribute(name) === value"
        self.page.page.wait_for_function(script, arg=[name, value])


@pytest.fixture(scope="module")
def page(lab, browser):
    """One notebook for all tests: each begins with a cell in command mode."""
    page = NotebookPage(lab, browser)
    page.open(CELLS)
    page.set_size(1200, 1400)
    page.select(0)
    page.page.evaluate("() => document.querySelector('.jp-Notebook').focus()")
    for number, text in enumerate(["", "running", "done 2", "scheduled", "fit", "names"]):
        page.page.keyboard.press("Shift+Enter")
        page.wait_done(number)
        page.wait_text(number, text)
    yield page
    page.dispose()


@pytest.fixture
def keyboard(page):
    return Keyboard(page)


def test_cancel_and_run_again(page, keyboard):
    keyboard.go_to_cell(FIT_CELL)
    keyboard.tab_to(FIT_CELL, "Cancel")
    keyboard.press("Enter")
    page.wait_text(FIT_CELL, "cancelled")
    keyboard.wait_focused(FIT_CELL, "Run again")
    keyboard.press("Enter")
    page.wait_text(FIT_CELL, "running")
    keyboard.wait_focused(FIT_CELL, "Cancel")


def test_filters_heads_and_details_of_the_table(page, keyboard):
    keyboard.go_to_cell(TABLE)
    keyboard.tab_to(TABLE, "completed")
    assert keyboard.attribute("aria-pressed") == "false"
    keyboard.press("Space")
    keyboard.wait_attribute("aria-pressed", "true")
    keyboard.tab_to(TABLE, "task")
    head = page.output(TABLE).get_by_role("columnheader", name="task")
    for order in ("ascending", "descending", "none"):
        keyboard.press("Enter")
        expect(head).to_have_attribute("aria-sort", order, timeout=TIME_LIMIT_MS)
        assert keyboard.focused.startswith("task")
    keyboard.tab_to(TABLE, "Details of done")
    page.page.wait_for_timeout(1000 * STALE_CLICK_SECONDS + 100)  # a click sooner after a row changed is not taken
    keyboard.press("Enter")
    keyboard.wait_attribute("aria-expanded", "true")
    page.output(TABLE).get_by_text("attempts").first.wait_for()
    keyboard.tab_to(TABLE, "all", "Shift+Tab")
    keyboard.press("Enter")
    keyboard.wait_attribute("aria-pressed", "true")


def test_cancel_in_a_row_hands_the_focus_to_the_next_button(page, keyboard):
    keyboard.go_to_cell(TABLE)
    keyboard.tab_to(TABLE, "running")
    keyboard.press("Enter")
    keyboard.wait_attribute("aria-pressed", "true")
    keyboard.tab_to(TABLE, "Cancel fit")
    page.page.wait_for_timeout(1000 * STALE_CLICK_SECONDS + 100)
    keyboard.press("Enter")
    page.wait_text(TABLE, "no tasks to show")
    page.page.wait_for_function("() => document.activeElement.closest('.nbtasks-table')")
    assert keyboard.is_in(TABLE)


def test_prune_and_cancel_all_keep_the_focus_also_where_nothing_is_left_to_do(page, keyboard):
    keyboard.go_to_cell(TABLE)
    keyboard.tab_to(TABLE, "Prune")
    keyboard.press("Enter")
    page.wait_text(TABLE, "pruned")
    keyboard.wait_focused(TABLE, "Lanes")  # neither Prune nor Cancel all has anything to do
    keyboard.press("Enter")
    page.wait_text(TABLE, "Limit of")
    assert keyboard.focused == "Hide lanes"


def test_schedule_switch_edit_and_removal(page, keyboard):
    keyboard.go_to_cell(TICK_CELL)
    keyboard.tab_to(TICK_CELL, "Schedule")
    keyboard.press("Space")
    keyboard.wait_attribute("aria-pressed", "true")
    page.wait_text(TICK_CELL, "Presets")
    keyboard.tab_to(TICK_CELL, "Schedule")  # the field of that name
    keyboard.press("Control+a")
    page.page.keyboard.type("90s")
    page.wait_text(TICK_CELL, "would fire")
    keyboard.press("Enter")
    page.wait_text(TICK_CELL, "Every 1 minute 30 seconds")
    keyboard.tab_to(TICK_CELL, "Remove", "Shift+Tab")
    keyboard.press("Enter")
    keyboard.wait_focused(TICK_CELL, "Really remove?")
    keyboard.press("Enter")
    page.wait_text(TICK_CELL, "removed")
    page.page.wait_for_function("() => document.activeElement.closest('.nbtasks-panel')")
    assert keyboard.is_in(TICK_CELL)


def test_details_of_a_bar_of_the_timeline(page, keyboard):
    keyboard.go_to_cell(TIMELINE)
    keyboard.tab_to(TIMELINE, "fit: ")
    page.wait_text(TIMELINE, "Close details")
    keyboard.tab_to(TIMELINE, "Close details")
    keyboard.press("Enter")
    expect(page.output(TIMELINE)).not_to_contain_text("Close details", timeout=TIME_LIMIT_MS)
    page.page.wait_for_function("() => document.activeElement.closest('.nbtasks-table')")
    assert keyboard.is_in(TIMELINE)


def test_lines_and_runs_of_the_history(page, keyboard):
    keyboard.go_to_cell(HISTORY)
    keyboard.tab_to(HISTORY, "✓ all")
    assert keyboard.attribute("aria-pressed") == "true"
    keyboard.tab_to(HISTORY, "Show runs of fit")
    assert keyboard.attribute("aria-expanded") == "false"
    keyboard.press("Enter")
    keyboard.wait_attribute("aria-expanded", "true")
    keyboard.tab_to(HISTORY, "Hide details of the run")
    keyboard.tab_to(HISTORY, "Copy")


def test_tab_leaves_a_view_again(page, keyboard):
    keyboard.go_to_cell(HISTORY)
    keyboard.tab_to(HISTORY, "✓ all")
    for _ in range(80):
        keyboard.press("Tab")
        if not keyboard.is_in(HISTORY):
            return
    raise AssertionError("Tab did not leave the history")
