"""The JupyterLab extension: sending the running cell to the background."""

from __future__ import annotations

import ipykernel
import pytest
from playwright.sync_api import expect

from tests.browser.driver import TIME_LIMIT_MS

pytestmark = pytest.mark.browser
expect.set_options(timeout=TIME_LIMIT_MS)

LOAD = "%load_ext nbtasks\nimport threading\ngo = threading.Event()\n%config BackgroundTasks.offer_after = {seconds}"
LONG = "print('begun')\nwhile not go.wait(0.01): pass\nprint('ended')\n'result'"


def toolbar_button(page):
    return page.page.locator(".jp-NotebookPanel-toolbar").get_by_role("button", name="Send the running cell")


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_the_button_sends_the_running_cell_and_the_queued_ones_run(open_page, frontend):
    page = open_page([LOAD.format(seconds=None), LONG, "'queued', 1 + 1", "go.set()"], frontend=frontend)
    page.run(0)
    expect(toolbar_button(page)).to_be_hidden()
    page.start(1)
    page.start(2)
    page.wait_text(1, "begun")
    assert page.is_running(2)
    toolbar_button(page).click()
    page.wait_text(2, "('queued', 2)")
    page.wait_text(1, "running")
    expect(page.page.locator(".nbtasks-Status-running")).to_contain_text("1 running")
    expect(toolbar_button(page)).to_be_hidden()
    page.run(3)
    page.wait_text(1, "ended")
    page.wait_text(1, "completed")
    page.wait_text(1, "'result'")
    page.wait_done(1)
    counts = [cell["execution_count"] for cell in page.save()["cells"]]
    assert counts == [1, 2, 3, 4]
    assert page.console_errors == []


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_it_is_offered_below_a_cell_that_runs_long(open_page, frontend):
    page = open_page([LOAD.format(seconds=1), LONG, "go.set()"], frontend=frontend)
    page.run(0)
    page.start(1)
    offer = page.cell(1).locator(".nbtasks-Offer")
    offer.wait_for()
    page.screenshot(f"lab-offer-{frontend}")
    send = offer.get_by_role("button", name="Send to Background")
    send.focus()
    page.page.keyboard.press("Enter")
    page.wait_text(1, "running")
    offer.wait_for(state="detached")
    page.run(2)
    page.wait_text(1, "completed")


def test_an_offer_that_is_dismissed_does_not_come_again(open_page):
    page = open_page([LOAD.format(seconds=1), LONG, "go.set()"])
    page.run(0)
    page.start(1)
    offer = page.cell(1).locator(".nbtasks-Offer")
    offer.get_by_role("button", name="Dismiss").click()
    offer.wait_for(state="detached")
    page.page.evaluate("() => void window.jupyterapp.commands.execute('nbtasks:show-tasks')")
    assert offer.count() == 0
    page.interrupt()
    page.wait_done(1)


def test_the_command_says_why_it_cannot_be(open_page):
    page = open_page(["import time\nprint('begun')\ntime.sleep(600)"])
    page.start(0)
    page.wait_text(0, "begun")
    page.page.evaluate("() => void window.jupyterapp.commands.execute('nbtasks:send-to-background')")
    page.page.locator(".Toastify__toast").get_by_text("nbtasks is not loaded in the kernel of this notebook").wait_for()
    page.interrupt()


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
@pytest.mark.long
@pytest.mark.reloads
def test_after_a_reload_the_running_cell_is_sent_too(open_page, frontend):
    cells = [LOAD.format(seconds=1), LONG, "'queued', 1 + 1", "go.set()", "bg1.state.value"]
    page = open_page(cells, frontend=frontend)
    page.run(0)
    page.start(1)
    page.wait_text(1, "begun")
    page.start(2)
    page.save()
    page.reload()
    expect(toolbar_button(page)).to_be_visible()
    page.cell(1).locator(".nbtasks-Offer").wait_for()
    page.screenshot(f"lab-send-reloaded-{frontend}")
    toolbar_button(page).click()
    expect(page.page.locator(".nbtasks-Status-running")).to_contain_text("1 running")
    expect(toolbar_button(page)).to_be_hidden()
    page.cell(1).locator(".nbtasks-Offer").wait_for(state="detached")
    page.run(3)
    expect(page.page.locator(".nbtasks-Status-running")).to_be_hidden()
    page.run(4)
    page.wait_text(4, "'completed'")
    assert page.save()["cells"][4]["execution_count"] == 5  # the queued cell was the third
    assert page.console_errors == []


@pytest.mark.reloads
def test_after_a_reload_the_button_goes_with_the_cell(open_page):
    page = open_page([LOAD.format(seconds=None), LONG])
    page.run(0)
    page.start(1)
    page.wait_text(1, "begun")
    page.save()
    page.reload()
    expect(toolbar_button(page)).to_be_visible()
    page.interrupt()
    expect(toolbar_button(page)).to_be_hidden()


@pytest.mark.skipif(ipykernel.version_info >= (7,), reason="ipykernel 7.0 and later send running cells away")
@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_with_an_older_kernel_the_command_says_what_it_takes(open_page, frontend):
    page = open_page([LOAD.format(seconds=0.1), LONG, "%bgtask adopt"], frontend=frontend)
    page.run(0)
    page.start(1)
    page.wait_text(1, "begun")
    page.page.evaluate("() => void window.jupyterapp.commands.execute('nbtasks:send-to-background')")
    toast = page.page.locator(".Toastify__toast").get_by_text("by ipykernel 7.0 or later; this is ipykernel 6")
    toast.wait_for()
    assert page.cell(1).locator(".nbtasks-Offer").count() == 0
    expect(toolbar_button(page)).to_be_hidden()
    assert page.is_running(1)
    page.screenshot(f"lab-send-older-{frontend}")
    page.interrupt()
    page.wait_done(1)
    page.run(2)
    page.wait_text(2, "by ipykernel 7.0 or later; this is ipykernel 6")


def test_a_restart_drops_the_cells_queued_behind_it(open_page):
    page = open_page([LOAD.format(seconds=None), LONG, "print('blocks')\nwhile True: go.wait(0.01)", "print('queued')"])
    page.run(0)
    page.start(1)
    page.wait_text(1, "begun")
    toolbar_button(page).click()
    page.wait_text(1, "running")
    page.start(2)
    page.start(3)
    page.wait_text(2, "blocks")
    assert page.is_running(3)
    page.restart()
    expect(page.page.locator(".jp-InputPrompt", has_text="*")).to_have_count(0)
    assert "queued" not in page.text(3)
    page.run(3)
    page.wait_text(3, "queued")
    assert page.save()["cells"][3]["execution_count"] == 1
