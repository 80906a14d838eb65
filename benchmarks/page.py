"""Benchmark of the page in the browser: its longest stall while many tasks run.

The views are open in a real JupyterLab in Chromium.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Row
from tests.browser.chromium import FLAGS, chromium_path
from tests.browser.driver import NotebookPage
from tests.browser.lab import Lab
from tests.browser.test_load import CELLS, longest_stall, open_views
from tests.kernel.conftest import kernel_env

ROUNDS = 3
CHANGES = 6
"""Of the first panel's bar, which has its turn every few seconds."""


def stalls() -> Iterator[Row]:
    """With 10,000 tasks, of which 100 report 1,000 times a second each, ten panels and the table."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))
        with Lab(kernel_env(Path(folder)), Path(folder)) as lab:
            page = NotebookPage(lab, browser)
            page.open(CELLS)
            open_views(page)
            rounds = [longest_stall(page, CHANGES) for _ in range(ROUNDS)]
            page.dispose()
        browser.close()
    note = "0 where none was as long as 50 ms; eleven views, 10,000 tasks, 100 of them running"
    yield Row("the page's longest stall", rounds, unit="ms", at_most=100, note=note)


ROWS = [stalls]
