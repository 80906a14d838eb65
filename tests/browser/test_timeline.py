"""The timeline as one sees it, also while a cell blocks the kernel."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_the_timeline_is_updated_while_a_cell_blocks_the_kernel(open_page, frontend):
    page = open_page([LOAD, "%bgtask timeline 1m", "time.sleep(60)", "go.set()"], frontend=frontend)
    page.run(0)
    page.run(1)
    page.output(1).locator("svg[role=img]").wait_for()
    page.start(2)
    pictures = page.sample(1, "svg[role=img]", "svg => svg.outerHTML.length")
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
