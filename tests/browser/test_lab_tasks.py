"""The JupyterLab extension: status item, sidebar and marks."""

from __future__ import annotations

import json
import os
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.driver import TIME_LIMIT_MS, notebook_json
from tests.browser.test_access import PALE, WCAG

pytestmark = pytest.mark.browser
expect.set_options(timeout=TIME_LIMIT_MS)

LOAD = "%load_ext nbtasks\nimport threading, time\nfrom nbtasks import current_task, track\ngo = threading.Event()"
FIT = """%%bgtask fit
current_task().progress, current_task().body = 64, 'epoch 4'
while not go.wait(0.01): pass"""
SLOW = "%%bgtask a_task_with_a_name_too_long_for_the_place\nwhile not go.wait(0.01): pass"
BAD = "%%bgtask bad --lane multiple\nraise ValueError('no such column')"
BLOCK = "print('blocks')\nwhile True: time.sleep(0.01)"


def show_sidebar(page):
    page.page.evaluate("() => void window.jupyterapp.commands.execute('nbtasks:show-tasks')")
    sidebar = page.page.locator("#nbtasks-sidebar")
    sidebar.wait_for()
    return sidebar


def row(sidebar, name):
    title = sidebar.page.get_by_role("button", name=name, exact=True)
    return sidebar.locator(".nbtasks-Row").filter(has=title)


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_what_runs_is_in_sight_while_a_cell_blocks_the_kernel(open_page, frontend):
    page = open_page([LOAD, BAD, FIT, BLOCK], frontend=frontend)
    running, failed = (page.page.locator(f".nbtasks-Status-{name}") for name in ("running", "failed"))
    for index in range(3):
        page.run(index)
    page.start(3)
    page.wait_text(3, "blocks")
    expect(running).to_contain_text("1 running · fit 64%")
    expect(failed).to_have_text("1 failed")
    starts = "start => document.title.startsWith(start)"
    page.page.wait_for_function(starts, arg=f"▶ fit 64% \N{EN DASH} {page.path[:12]}")
    if frontend == "lab":
        expect(page.page.locator(".lm-TabBar-tab.nbtasks-mod-running")).to_have_count(1)
    show_sidebar(page)
    sidebar = show_sidebar(page)  # once more, it stays
    fit = row(sidebar, "fit")
    expect(fit.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "64")
    expect(fit).to_contain_text("epoch 4")
    # By mouse to the failed cell, which is seen then.
    failed.click()
    expect(page.cell(1)).to_have_class(active())
    expect(failed).to_be_hidden()
    # By keyboard: to the running cell, and Cancel.
    running.focus()
    page.page.keyboard.press("Enter")
    expect(page.cell(2)).to_have_class(active())
    fit.get_by_role("button", name="fit", exact=True).focus()
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    expect(fit).to_contain_text("cancelled")
    expect(running).to_be_hidden()
    page.page.wait_for_function("name => document.title.startsWith(name)", arg=page.path[:12])
    if frontend == "lab":
        expect(page.page.locator(".lm-TabBar-tab.nbtasks-mod-running")).to_have_count(0)
    assert page.is_running(3)
    assert page.console_errors == []


def active():
    return re.compile(r"\bjp-mod-active\b")


def test_the_sidebar_has_the_tasks_of_two_notebooks_and_goes_to_their_cells(open_page, lab):
    (lab.root / "other.ipynb").write_text(json.dumps(notebook_json([LOAD, FIT.replace("fit", "other_fit"), BLOCK])))
    page = open_page([LOAD, FIT, BLOCK])
    try:
        for index in (0, 1):
            page.run(index)
        page.start(2)
        page.wait_text(2, "blocks")
        page.page.evaluate("""async () => {
            const other = await window.jupyterapp.commands.execute('docmanager:open', { path: 'other.ipynb' });
            await other.context.ready;
            await other.sessionContext.ready;
            window.other = other;
            window.jupyterapp.commands.execute('notebook:run-all-cells');
        }""")
        sidebar = show_sidebar(page)
        expect(row(sidebar, "other_fit")).to_contain_text("64%")
        expect(row(sidebar, "fit")).to_contain_text("64%")
        expect(sidebar.get_by_role("heading", level=3)).to_have_text([page.path, "other.ipynb"])
        expect(page.page.locator(".nbtasks-Status-running")).to_contain_text("other_fit")
        row(sidebar, "fit").get_by_role("button", name="fit", exact=True).click()
        expect(page.page.locator(".nbtasks-Status-running")).to_contain_text("1 running · fit 64%")
        assert page.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.path") == page.path
        row(sidebar, "other_fit").get_by_role("button", name="Cancel").click()
        expect(row(sidebar, "other_fit")).to_contain_text("cancelled")
        expect(row(sidebar, "fit")).to_contain_text("running")
        page.page.evaluate("async () => { await window.other.sessionContext.shutdown(); window.other.dispose(); }")
        expect(row(sidebar, "other_fit")).to_have_count(0)
        assert page.console_errors == []
    finally:
        lab.end_sessions("other.ipynb")


@pytest.mark.long
def test_the_title_of_the_page_counts_what_runs_unless_it_is_switched_off(open_page):
    page = open_page([LOAD, FIT, "%%bgtask other\ngo.wait()", "go.set()"], fresh=True)
    for index in range(3):
        page.run(index)
    begins = "start => document.title.startsWith(start)"
    page.page.wait_for_function(begins, arg="▶ 2 · fit 64% \N{EN DASH} notebook")
    # JupyterLab writes the title again when another document comes to the front.
    page.page.evaluate("() => { document.title = 'launcher - JupyterLab'; }")
    page.page.wait_for_function(begins, arg="▶ 2 · fit 64% \N{EN DASH} launcher")
    page.page.evaluate("() => { document.title = '(1) ' + document.title; }")
    switch = """value => {
        const registry = window.jupyterapp.serviceManager.settings;
        return registry.save('nbtasks:plugin', JSON.stringify({ pageTitle: value }));
    }"""
    page.page.evaluate(switch, False)
    page.reload()
    page.page.wait_for_function(begins, arg="notebook")
    expect(page.page.locator(".nbtasks-Status-running")).to_contain_text("2 running")
    assert page.page.title().startswith("notebook")
    page.page.evaluate(switch, True)
    page.reload()
    page.page.wait_for_function(begins, arg="▶ 2 · fit 64% \N{EN DASH} notebook")
    page.run(3)
    page.page.wait_for_function(begins, arg="notebook")


@pytest.mark.reloads
def test_after_a_reload_the_state_is_there_again_while_the_kernel_is_busy(open_page):
    page = open_page([LOAD, BAD, FIT, BLOCK])
    for index in range(3):
        page.run(index)
    page.page.locator(".nbtasks-Status-failed").click()
    page.save()
    page.start(3)
    page.wait_text(3, "blocks")
    page.reload()
    expect(page.page.locator(".nbtasks-Status-running")).to_contain_text("1 running · fit 64%")
    expect(page.page.locator(".nbtasks-Status-failed")).to_be_hidden()  # it was seen
    sidebar = show_sidebar(page)
    row(sidebar, "fit").get_by_role("button", name="Cancel").click()
    expect(row(sidebar, "fit")).to_contain_text("cancelled")


def test_a_restart_of_the_kernel_clears_the_state(open_page):
    page = open_page([LOAD, FIT, "%load_ext nbtasks"])
    page.run(0)
    page.run(1)
    running = page.page.locator(".nbtasks-Status-running")
    expect(running).to_contain_text("1 running")
    page.page.evaluate("""async () => {
        const panel = [...window.jupyterapp.shell.widgets('main')].find(w => w.content && w.context);
        await panel.sessionContext.session.kernel.restart();
    }""")
    expect(running).to_be_hidden()
    expect(page.page.locator(".lm-TabBar-tab.nbtasks-mod-running")).to_have_count(0)
    assert page.console_errors == []


def test_a_schedule_is_paused_and_resumed_in_the_sidebar(open_page):
    page = open_page([LOAD, "%%bgtask tick --every 1h\n1", BLOCK])
    page.run(0)
    page.run(1)
    page.start(2)
    tick = row(show_sidebar(page), "tick")
    tick.get_by_role("button", name="Pause tick").click()
    expect(tick).to_contain_text("paused")
    tick.get_by_role("button", name="Resume tick").click()
    expect(tick).to_contain_text("scheduled")


@pytest.mark.parametrize(
    ("theme", "frontend"),
    [("light", "lab"), pytest.param("dark", "lab", marks=pytest.mark.long), ("light", "notebook")],
)
def test_sidebar_and_status_are_accessible_and_fit(open_page, theme, frontend):
    page = open_page([LOAD, BAD, FIT, SLOW, "%%bgtask tick --every 1h\n1"], frontend=frontend)
    page.set_theme(theme)
    for index in range(5):
        page.run(index)
    sidebar = show_sidebar(page)
    expect(row(sidebar, "tick")).to_contain_text("scheduled")
    for view in ("#nbtasks-sidebar", ".nbtasks-Status"):
        answer = Axe().run(page.page, context=view, options=WCAG).response
        assert {"button-name"} <= {one["id"] for one in answer["passes"]}
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in answer["violations"]] == []
    for name in ("tick", "fit"):
        row(sidebar, name).hover()
        looked, pale = page.page.locator("#nbtasks-sidebar, .nbtasks-Status").evaluate_all(PALE)
        assert looked > 10
        assert pale == []
    for width in (1200, 700):
        page.set_size(width, 700)
        page.screenshot(f"lab-tasks-{frontend}-{theme}-{width}")
        misfits = """sidebar => [...sidebar.querySelectorAll('.nbtasks-Row-button, .nbtasks-Row-bar')].filter(
            part => part.offsetParent && part.getBoundingClientRect().right > sidebar.getBoundingClientRect().right
        ).map(part => part.outerHTML)"""
        assert sidebar.evaluate(misfits) == []


@pytest.mark.long
def test_the_picture_of_the_documentation(open_page):
    """Also saves the picture, where NBTASKS_README_IMAGES is set."""
    fit = "%%bgtask fit\nfor epoch in track(range(200), description='epoch'):\n    time.sleep(0.1)"
    load = "%%bgtask load --every 1h\nprices = {'tea': 3, 'coffee': 4}"
    report = "%%bgtask report\nprices = {'tea': 3}\nprices['coffee']"
    page = open_page([LOAD, fit, load, report, "time.sleep(600)"], path="prices.ipynb")
    page.set_size(1200, 640)
    for index in range(4):
        page.run(index)
    page.start(4)
    sidebar = show_sidebar(page)
    expect(row(sidebar, "report")).to_contain_text("KeyError: 'coffee'")
    running, failed = (page.page.locator(f".nbtasks-Status-{name}") for name in ("running", "failed"))
    expect(running).to_have_text(re.compile(r"1 running · fit \d+% · \d+ \w+ left"))
    expect(failed).to_have_text("1 failed")
    page.screenshot("jupyterlab", for_readme="NBTASKS_README_IMAGES" in os.environ)
    page.interrupt()
