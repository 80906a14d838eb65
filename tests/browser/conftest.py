"""Fixtures of JupyterLab in Chromium: one server and browser, a notebook per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.chromium import FLAGS, chromium_path
from tests.browser.driver import NotebookPage
from tests.browser.lab import Lab
from tests.browser.tab import Tab
from tests.kernel.conftest import kernel_env

HERE = Path(__file__).parent
FAILED = pytest.StashKey[bool]()
# Notebook 7 is made of JupyterLab's parts, but loads a page for each notebook, which costs more than most tests. The
# extension and the panel are tested there with `make test`, the others with `make test-long`.
OFTEN_IN_NOTEBOOK_7 = (
    "test_the_shortcut_runs_the_cell_in_the_background_and_does_not_edit_it",
    "test_a_panel_is_updated_while_a_cell_blocks_the_kernel_and_then_is_one_line",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        words = item.callspec.id.split("-") if hasattr(item, "callspec") else ()
        if item.path.parent == HERE and "notebook" in words and item.originalname not in OFTEN_IN_NOTEBOOK_7:
            item.add_marker(pytest.mark.long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("lab")
    with Lab(kernel_env(home), home) as lab:
        yield lab


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's Chromium, else the one that playwright downloaded."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def spare_tabs() -> Iterator[dict[tuple[Lab, str], Tab]]:
    """For each server and front end at most one tab that no test uses now."""
    tabs: dict[tuple[Lab, str], Tab] = {}
    yield tabs
    for tab in tabs.values():
        tab.close()


@pytest.fixture
def open_page(lab, browser, spare_tabs, request) -> Iterator[Callable[..., NotebookPage]]:
    """Opens notebooks, each with a kernel of its own; a failed test leaves screenshots.

    A page may have served other tests, unless it is to be `fresh`, has options of its own, or is loaded again (mark
    `reloads`): JupyterLab may open the notebooks of earlier tests then, and this one once more after the test.
    """
    lent: list[NotebookPage] = []
    own: list[NotebookPage] = []

    def open_page(notebook, *, frontend="lab", path=None, fresh=False, **options) -> NotebookPage:
        can_be_lent = not fresh and not options and not request.node.get_closest_marker("reloads")
        for other, kind in list(spare_tabs):
            if other is not lab:
                spare_tabs.pop((other, kind)).close()
        tab = spare_tabs.pop((lab, frontend), None) if can_be_lent else None
        page = NotebookPage(lab, browser, frontend=frontend, path=path, tab=tab, **options)
        (lent if can_be_lent else own).append(page)
        page.open(notebook)
        return page

    yield open_page
    failed = request.node.stash.get(FAILED, False)
    if failed:
        for number, page in enumerate([*lent, *own]):
            if not page.page.is_closed():
                page.screenshot(f"failed-{request.node.name}-{number}")
            print(f"page {number}, console errors: {page.console_errors}")
    for page in lent:
        if failed or (lab, page.frontend) in spare_tabs:
            page.dispose()
        elif page.give_back():
            spare_tabs[lab, page.frontend] = page.tab
    for page in own:
        page.dispose()
