"""Fixtures of JupyterLab in Chromium: one server and browser, a notebook per test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.chromium import FLAGS, chromium_path
from tests.browser.driver import NotebookPage
from tests.browser.lab import Lab
from tests.kernel.conftest import kernel_env

FAILED = pytest.StashKey[bool]()


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


@pytest.fixture
def open_page(lab, browser, request) -> Iterator[Callable[..., NotebookPage]]:
    """Opens notebooks, each with a page and a kernel of its own; a failed test leaves screenshots."""
    with contextlib.ExitStack() as stack:
        pages = []

        def open_page(notebook, **options) -> NotebookPage:
            page = NotebookPage(lab, browser, **options)
            pages.append(page)
            stack.callback(page.dispose)
            page.open(notebook)
            return page

        yield open_page
        if request.node.stash.get(FAILED, False):
            for number, page in enumerate(pages):
                if not page.page.is_closed():
                    page.screenshot(f"failed-{request.node.name}-{number}")
                print(f"page {number}, console errors: {page.console_errors}")
