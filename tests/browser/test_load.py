"""Stalls of the page while many tasks run and many views are open."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.long]

TASKS, RUNNING, PANELS = 10_000, 100, 10
LOAD = f"""%load_ext nbtasks
import asyncio, threading
from nbtasks import current_task, get_manager
manager, stop = get_manager(), threading.Event()
manager.resize_lane('multiple', {RUNNING})
async def reports():
    task, count = current_task(), 0
    while not stop.is_set():  # as many reports as a hundred threads would make, from one loop
        for _ in range(10):
            count += 1
            task.progress = count / 100 % 100
        await asyncio.sleep(0.01)
tasks = [manager.create_task(f'busy {{n}}', reports, lane='multiple') for n in range({RUNNING})]
waiting = [manager.create_task(f'waits {{n}}', stop.wait, lane='single') for n in range({TASKS - RUNNING})]"""
TEN_BARS = f"() => document.querySelectorAll('.nbtasks-panel .progress-bar').length === {PANELS}"


CELLS = [LOAD, "%bgtask", *(f"tasks[{n}]" for n in range(PANELS)), "stop.set()"]


def open_views(page) -> None:
    """Ten panels and the table, in a kernel where a hundred tasks report a thousand times a second each."""
    for cell in range(PANELS + 2):
        page.run(cell)
    page.wait_text(1, f"all {TASKS:,}")
    page.page.wait_for_function(TEN_BARS)


def longest_stall(page, changes: int) -> float:
    """The longest stall in milliseconds until the bar of the first panel has changed `changes` times."""
    bar = page.sample(2, ".progress-bar", "bar => bar.style.width")
    page.watch_stalls()
    page.page.wait_for_function("([name, changes]) => window[name].samples.length >= changes", arg=[bar._name, changes])
    return page.longest_stall()


def test_with_ten_thousand_tasks_and_eleven_views_the_page_stays_responsive(open_page):
    page = open_page(CELLS)
    open_views(page)
    stall = longest_stall(page, 4)
    page.screenshot("load")
    assert page.output(1).locator(".nbtasks-tr").count() == 10
    page.button(2, "Cancel").click()
    page.wait_text(2, "cancelled")
    # Undisturbed it is far below 100 ms, which `make bench` holds it to; a machine that runs other things too must not
    # make this fail.
    assert stall < 1_000, f"the longest stall of the page was {stall:.0f} ms"
    page.run(PANELS + 2)
    assert page.console_errors == []
