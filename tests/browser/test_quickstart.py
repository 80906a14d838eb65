"""The main job, as a user meets it: the quickstart's search in the background while the notebook goes on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

QUICKSTART = Path(__file__).parent.parent.parent / "notebooks" / "01-quickstart.ipynb"
LOAD, DATA, SEARCH, MEANWHILE, NETWORK = 1, 2, 4, 6, 8
BAR_WIDTH = "element => element.style.width"
COMPUTE = """import time
ends = time.monotonic() + 10
numbers = 0
while time.monotonic() < ends:
    numbers += sum(range(1000)) % 7
print("computed", network.state.value)"""


@pytest.fixture
def page(open_page):
    page = open_page(QUICKSTART)
    page.set_size(1200, 1250)
    return page


def test_the_search_goes_on_and_a_task_is_cancelled_while_the_foreground_computes(page):
    for index in (LOAD, DATA, SEARCH, MEANWHILE, NETWORK):
        page.run(index)
    computing = NETWORK + 1
    page.set_source(computing, COMPUTE)
    positions = page.sample(SEARCH, ".progress-bar", BAR_WIDTH)
    page.start(computing)
    page.wait_text(NETWORK, "running")
    began = time.monotonic()
    page.button(NETWORK, "Cancel").click()
    page.wait_text(NETWORK, "cancelled")
    took = time.monotonic() - began
    assert page.is_running(computing), "the foreground cell ended before the task was cancelled"
    page.wait_done(computing)
    moved = len(set(positions.stop()[i][1] for i in range(len(positions.values()))))
    assert "computed cancelled" in page.text(computing)
    assert moved >= 20, f"the bar had {moved} positions"
    assert took < 5, f"cancelling took {took:.1f} s"
    page.wait_text(SEARCH, "completed")
    page.output(SEARCH).locator("img").wait_for()
    page.screenshot("quickstart-done")

    page.save()
    page.reopen_without_kernel()
    assert "completed" in page.text(SEARCH) and "cancelled" in page.text(NETWORK)
    assert "with {'C':" in page.text(SEARCH)
    assert page.output(SEARCH).locator("img").count() == 1
    assert not page.has_broken_widget(SEARCH) and not page.has_broken_widget(NETWORK)
    page.screenshot("quickstart-without-kernel")


def test_the_picture_of_the_readme(page):
    page.run(LOAD)
    page.run(DATA)
    page.run(SEARCH)
    page.wait_text(SEARCH, "best so far")
    page.run(MEANWHILE)
    page.output(MEANWHILE).locator("img").wait_for()
    page.page.wait_for_function("() => parseFloat(document.querySelector('.progress-bar').style.width) > 30")
    notebook = page.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")
    page.cell(SEARCH).scroll_into_view_if_needed()
    page.screenshot("quickstart", of=notebook, for_readme="NBTASKS_README_IMAGES" in os.environ)
    assert "running" in page.text(SEARCH)
