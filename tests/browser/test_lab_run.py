"""The JupyterLab extension: running a cell in the background."""

from __future__ import annotations

import json
import sys
import sysconfig
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.driver import TIME_LIMIT_MS, NotebookPage, notebook_json
from tests.browser.lab import Lab

pytestmark = pytest.mark.browser
expect.set_options(timeout=TIME_LIMIT_MS)

WORK = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('worked', 6 * 7)"
RUN = "Run in Background"
RUN_HERE = "Run this cell in the background"

# Python without the packages that an editable install has put on the path: nbtasks is one.
WITHOUT = f"""import sys; sys.path.append({sysconfig.get_path('purelib')!r})
from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"""


def source(page: NotebookPage, index: int) -> str:
    return "".join(page.save()["cells"][index]["source"])


def allow(page: NotebookPage) -> None:
    """Let the cells with WORK end."""
    (page.lab.root / "go").touch()


@pytest.fixture(autouse=True)
def closed_gate(lab: Lab) -> None:
    (lab.root / "go").unlink(missing_ok=True)


def click_in(page: NotebookPage, index: int) -> None:
    page.cell(index).locator(".jp-InputArea-editor").click()


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_the_shortcut_runs_the_cell_in_the_background_and_does_not_edit_it(open_page, frontend):
    page = open_page([WORK, "'next', 1 + 1"], frontend=frontend)
    click_in(page, 0)
    page.page.keyboard.press("Control+Shift+Enter")
    page.wait_text(0, "running")
    page.run(1)
    page.wait_text(1, "('next', 2)")
    assert "worked" not in page.text(0)
    allow(page)
    page.wait_text(0, "worked 42")
    page.wait_text(0, "completed")
    cell = page.save()["cells"][0]
    assert "".join(cell["source"]) == WORK
    assert cell["execution_count"] == 1
    page.cell(0).locator(".jp-InputPrompt").click()  # in command mode too
    page.page.keyboard.press("Control+Shift+Enter")
    page.wait_done(0, after=1)
    page.wait_text(0, "worked 42")
    assert page.console_errors == []


@pytest.fixture
def set_shortcuts(lab: Lab) -> Iterator[Callable[..., None]]:
    """Writes the user's shortcuts into the settings, for pages that are opened then."""
    path = lab.home / "settings" / "@jupyterlab" / "shortcuts-extension" / "shortcuts.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    yield lambda *shortcuts: path.write_text(json.dumps({"shortcuts": shortcuts}))
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("selector", [".jp-Notebook.jp-mod-editMode", pytest.param("body", marks=pytest.mark.long)])
def test_what_the_user_has_bound_to_the_keys_comes_first(open_page, set_shortcuts, selector):
    set_shortcuts({"command": "notebook:insert-cell-below", "keys": ["Ctrl Shift Enter"], "selector": selector})
    page = open_page(["print('worked')", "In"], fresh=True)
    click_in(page, 0)
    page.page.keyboard.press("Control+Shift+Enter")
    expect(page.cells).to_have_count(3)
    page.run(2)
    assert "bgtask" not in page.text(2)
    assert page.text(0) == ""


@pytest.mark.long
def test_the_user_gives_the_shortcut_other_keys(open_page, set_shortcuts):
    ours = {"command": "nbtasks:run-in-background", "selector": ".jp-Notebook.jp-mod-editMode"}
    set_shortcuts(
        {**ours, "keys": ["Ctrl Shift Enter"], "disabled": True},
        {**ours, "keys": ["Alt Shift B"]},
        {"command": "notebook:insert-cell-below", "keys": ["Ctrl Shift Enter"], "selector": "body"},
    )
    page = open_page(["print('worked')"], fresh=True)
    click_in(page, 0)
    page.page.keyboard.press("Control+Shift+Enter")
    expect(page.cells).to_have_count(2)
    click_in(page, 0)
    page.page.keyboard.press("Alt+Shift+B")
    page.wait_text(0, "worked")
    page.wait_text(0, "completed")


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_the_buttons_run_the_cell_in_the_background(open_page, frontend):
    page = open_page(["print('first')", "print('second')"], frontend=frontend)
    click_in(page, 0)
    page.page.locator(".jp-NotebookPanel-toolbar").get_by_role("button", name=RUN_HERE).click()
    page.wait_text(0, "first")
    page.wait_text(0, "completed")
    click_in(page, 1)
    page.cell(1).locator(".jp-cell-toolbar").get_by_role("button", name=RUN_HERE).click()
    page.wait_text(1, "second")
    page.wait_text(1, "completed")
    assert page.console_errors == []


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_the_menus_and_the_palette_run_the_cell_in_the_background(open_page, frontend):
    page = open_page(["print('first')", "print('second')", "print('third')"], frontend=frontend)
    page.cell(0).locator(".jp-InputArea-editor").click(button="right")
    page.page.locator(".lm-Menu").get_by_text(RUN, exact=True).click()
    page.wait_text(0, "first")
    click_in(page, 1)
    page.page.keyboard.press("Control+Shift+c")
    page.page.locator(".lm-CommandPalette-input, .jp-ModalCommandPalette input").first.fill("run in background")
    page.page.locator(".lm-CommandPalette-itemLabel").get_by_text(RUN, exact=True).wait_for()
    page.page.keyboard.press("Enter")
    page.wait_text(1, "second")
    click_in(page, 2)
    page.page.get_by_role("menuitem", name="Run", exact=True).click()
    page.page.locator(".lm-Menu").get_by_text(RUN, exact=True).click()
    page.wait_text(2, "third")


def test_in_a_busy_kernel_it_keeps_its_place_among_the_queued_cells(open_page):
    page = open_page([WORK, "order = []", "order.append('background')\nprint(order)", "order.append('after')", "order"])
    page.run(1)
    page.start(0)
    click_in(page, 2)
    page.page.keyboard.press("Control+Shift+Enter")
    page.start(3)
    assert [page.is_running(index) for index in (0, 2, 3)] == [True, True, True]
    allow(page)
    page.wait_done(3)
    page.wait_text(2, "completed")
    counts = [cell["execution_count"] for cell in page.save()["cells"]]
    assert counts[0] < counts[2] < counts[3]


def test_a_cell_with_its_own_line_runs_as_it_is(open_page):
    page = open_page(["%load_ext nbtasks", "%%bgtask mine --lane single\nprint('worked')"])
    page.run(0)
    click_in(page, 1)
    page.page.keyboard.press("Control+Shift+Enter")
    page.wait_text(1, "worked")
    page.wait_text(1, "mine")


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_the_form_sets_the_options(open_page, frontend):
    page = open_page(["print('worked')", "In[-2]"], frontend=frontend)
    page.cell(0).locator(".jp-InputArea-editor").click(button="right")
    page.page.locator(".lm-Menu").get_by_text("Run in Background With…").click()
    form = page.page.locator(".jp-Dialog")
    assert page.page.evaluate("() => document.activeElement.tagName") == "SELECT"  # by keyboard from here
    page.page.keyboard.press("t")
    page.page.keyboard.press("Tab")
    page.page.keyboard.type("single")
    page.page.keyboard.press("Tab")
    page.page.keyboard.type("1h")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Space")
    assert form.get_by_label("Backend").input_value() == "thread"
    page.screenshot(f"lab-form-{frontend}")
    page.page.keyboard.press("Enter")
    form.wait_for(state="detached")
    page.wait_text(0, "scheduled")
    page.run(1)
    page.wait_text(1, "--backend thread --lane single --every 1h --notify")
    assert source(page, 0) == "print('worked')"


def test_a_wrong_option_is_one_line_in_the_cell(open_page):
    page = open_page(["print('worked')"])
    page.cell(0).locator(".jp-InputArea-editor").click(button="right")
    page.page.locator(".lm-Menu").get_by_text("Run in Background With…").click()
    form = page.page.locator(".jp-Dialog")
    form.get_by_label("Every").fill('soon" --quiet')
    form.get_by_role("button", name="Run").click()
    page.wait_text(0, "soon --quiet")
    assert "UsageError" in page.text(0)
    assert "worked" not in page.text(0)


def install_kernel(lab: Lab, name: str, argv: list[str], language: str) -> None:
    folder = lab.home / "jupyter_data_dir" / "kernels" / name
    folder.mkdir(parents=True, exist_ok=True)
    spec = {"argv": [sys.executable, *argv, "-f", "{connection_file}"], "display_name": name, "language": language}
    (folder / "kernel.json").write_text(json.dumps(spec))


def notebook_for(folder: Path, kernel: str, language: str, sources: list[str]) -> Path:
    notebook = notebook_json(sources)
    notebook["metadata"]["kernelspec"] = {"name": kernel, "display_name": kernel, "language": language}
    path = folder / f"{uuid.uuid4().hex[:8]}.ipynb"
    path.write_text(json.dumps(notebook))
    return path


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_a_kernel_without_nbtasks_says_what_to_install(open_page, lab, tmp_path, frontend):
    install_kernel(lab, "without", ["-I", "-S", "-c", WITHOUT], "python")
    notebook = notebook_for(tmp_path, "without", "python", ["print('worked')", "1 + 1"])
    page = open_page(notebook, frontend=frontend, fresh=True)  # a page asks for the kernels once
    click_in(page, 0)
    page.page.keyboard.press("Control+Shift+Enter")
    page.wait_text(0, "nbtasks is not installed in the environment of this notebook's kernel")
    assert page.text(0).strip().count("\n") == 0
    assert "%pip install PATH" in page.text(0)
    page.run(1)
    page.wait_text(1, "2")
    assert page.console_errors == []


@pytest.mark.long
def test_with_a_kernel_of_another_language_the_commands_are_disabled(open_page, lab, tmp_path):
    install_kernel(lab, "bash", ["-m", "bash_kernel"], "bash")
    page = open_page(notebook_for(tmp_path, "bash", "bash", ["echo it works"]), fresh=True)
    page.run(0)
    enabled = """() => ['run-in-background', 'run-with-options', 'send-to-background'].filter(
        name => window.jupyterapp.commands.isEnabled(`nbtasks:${name}`))"""
    assert page.page.evaluate(enabled) == []
    button = page.page.locator(".jp-NotebookPanel-toolbar").get_by_role("button", name=RUN_HERE)
    assert button.is_disabled() or button.get_attribute("aria-disabled") == "true"
    click_in(page, 0)
    page.page.keyboard.press("Control+Shift+Enter")
    page.run(0)
    assert page.text(0).strip() == "it works"


@pytest.fixture(scope="module")
def plain_lab(tmp_path_factory):
    from tests.kernel.conftest import kernel_env

    home = tmp_path_factory.mktemp("plain-lab")
    with Lab(kernel_env(home), home, extension=False) as lab:
        yield lab


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_with_the_package_in_the_kernel_alone_nothing_is_missing(plain_lab, browser, frontend):
    page = NotebookPage(plain_lab, browser, frontend=frontend)
    try:
        page.open(["%load_ext nbtasks", "%%bgtask it\nprint('worked')"])
        page.run(0)
        page.run(1)
        page.wait_text(1, "worked")
        page.wait_text(1, "completed")
        ours = "() => window.jupyterapp.commands.listCommands().filter(name => name.startsWith('nbtasks'))"
        assert page.page.evaluate(ours) == []
        assert page.page.locator("[class*=nbtasks-Status], .nbtasks-Sidebar").count() == 0
        assert page.console_errors == []
    finally:
        page.dispose()
