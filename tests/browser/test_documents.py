"""The JupyterLab extension keeps the panels in documents true."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import expect

from tests.browser.driver import TIME_LIMIT_MS, NotebookPage
from tests.browser.lab import Lab
from tests.kernel.conftest import kernel_env

pytestmark = pytest.mark.browser

LOAD = (
    "%load_ext nbtasks\nimport os, threading, time, nbtasks\nfrom nbtasks import current_task, track\n"
    "go, never = threading.Event(), threading.Event()"
)
RUNNING = "%%bgtask {0} --lane multiple\nfor _ in track(range(1_000)):\n    if go.wait(0.1): break\nprint('the end')"
ENDLESS = "%%bgtask {0} --lane multiple\nnever.wait()"


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """A server with the extension of this tree, and a history."""
    home = tmp_path_factory.mktemp("lab")
    env = {**kernel_env(home), "NBTASKS_HISTORY": str(home / "history.sqlite")}
    with Lab(env, home) as lab:
        yield lab


def pictures(notebook: dict[str, Any]) -> dict[str, str]:
    """The saved text of each cell's panel, by the first line of the cell."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell["outputs"]:
            if "text/plain" in output.get("data", {}):
                found["".join(cell["source"]).splitlines()[0]] = "".join(output["data"]["text/plain"])
    return found


def wait_pictures(page: NotebookPage, texts: dict[int, str]) -> None:
    for index, text in texts.items():
        page.wait_text(index, text)


@pytest.mark.long
def test_cells_that_were_moved_pasted_and_restored_show_the_end_also_in_an_export(open_page):
    page = open_page([LOAD, RUNNING.format("moved"), RUNNING.format("pasted"), RUNNING.format("restored"), "go.set()"])
    for number in range(4):
        page.run(number)
        page.wait_text(number, "it/s") if number else None
    page.select(1)
    page.command("notebook:move-cell-down")  # now: pasted, moved, restored
    page.select(1)
    page.command("notebook:cut-cell")
    page.command("notebook:paste-cell-below")  # now: moved, pasted, restored
    page.select(3)
    page.command("notebook:delete-cell")
    page.command("notebook:undo-cell-action")
    page.run(4)
    wait_pictures(page, dict.fromkeys((1, 2, 3), "completed"))
    page.screenshot("documents-moved")
    saved = page.save()
    texts = pictures(saved)
    assert len(texts) == 3 and all(text.startswith("[completed] ") for text in texts.values()), texts
    html, _ = HTMLExporter().from_filename(str(page.file))
    assert html.count('data-state="completed"') == 3 and 'data-state="running"' not in html


NO_VIEWS = """
from ipywidgets.widgets.widget import _instances
for widget in list(_instances.values()):
    if getattr(widget, "_view_count", None):
        widget._view_count = 0  # as if each view were late
go.set()
"""


def test_a_panel_that_the_kernel_sends_again_is_shown_once(open_page):
    page = open_page([LOAD, RUNNING.format("it"), NO_VIEWS])
    page.run(0)
    page.run(1)
    page.wait_text(1, "it/s")
    page.run(2)
    page.wait_text(1, "the end")
    page.wait_text(1, "completed")
    kinds = [output["output_type"] for output in page.save()["cells"][1]["outputs"]]
    assert kinds == ["display_data", "stream"]


@pytest.mark.reloads
def test_a_page_that_was_closed_and_reopened_shows_the_end(open_page):
    page = open_page([LOAD, RUNNING.format("it"), "go.set()"])
    page.run(0)
    page.run(1)
    page.wait_text(1, "it/s")
    page.save()
    page.close()
    page.reopen()
    page.button(1, "Cancel").wait_for()
    page.run(2)
    page.wait_text(1, "completed")
    page.output(1).locator(".jupyter-widgets").first.wait_for(state="detached")
    assert pictures(page.save())["%%bgtask it --lane multiple"].startswith("[completed] it")


@pytest.mark.long
def test_after_a_kill_the_next_load_shows_what_the_history_knows(open_page):
    page = open_page(
        [
            LOAD,
            ENDLESS.format("lost"),
            RUNNING.format("ended"),
            "%%bgtask late --every 1h\n1",
            "print(os.getpid())",
            "go.set()",
        ]
    )
    for number in range(5):
        page.run(number)
    page.wait_text(1, "running")
    page.wait_text(2, "it/s")
    pid = int(page.text(4))
    page.save()
    page.close()  # the page does not see the end of one of them
    page.lab.run_in_kernel(page.path, "go.set(); ended.wait(); nbtasks.get_manager().history.flush()")
    os.kill(pid, signal.SIGKILL)
    page.reopen_with_new_kernel()
    wait_pictures(page, {1: "as of 2", 2: "as of 2"})  # what the document knows
    assert not page.has_broken_widget(1)
    page.screenshot("documents-killed")
    page.start(0)  # its number is that of the last run again
    wait_pictures(page, {1: "lost with the kernel", 2: "completed", 3: "lost with the kernel"})
    page.screenshot("documents-killed-loaded")
    texts = pictures(page.save())
    assert texts["%%bgtask lost --lane multiple"] == "[lost with the kernel] lost"
    assert texts["%%bgtask ended --lane multiple"].startswith("[completed] ended")


def test_a_restart_leaves_the_last_pictures_in_the_document(open_page):
    page = open_page([LOAD, ENDLESS.format("it"), "%bgtask"])
    for number in range(3):
        page.run(number)
    page.wait_text(1, "running")
    page.restart()
    wait_pictures(page, {1: "lost with the kernel", 2: "lost"})
    assert "lost with the kernel" in pictures(page.save())["%%bgtask it --lane multiple"]


@pytest.mark.reloads
def test_without_a_kernel_live_views_are_their_pictures(open_page):
    load = "%load_ext nbtasks\nimport threading\ngo = threading.Event()"
    views = ["%%bgtask it\ngo.wait()", "%bgtask", "%bgtask timeline", "%bgtask history", "%bgtask schedules"]
    page = open_page([load, *views])
    for cell in range(len(views) + 1):
        page.run(cell)
    page.wait_text(1, "running")
    page.save()
    page.reopen_without_kernel()
    for cell in range(1, len(views) + 1):
        expect(page.output(cell)).not_to_contain_text("Loading widget", timeout=TIME_LIMIT_MS)
        assert not page.has_broken_widget(cell)
    page.wait_text(1, "as of ")
