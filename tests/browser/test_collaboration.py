"""Two browsers on one notebook, with jupyter-collaboration."""

from __future__ import annotations

import importlib.util

import pytest

from tests.browser.driver import NotebookPage

ABSENT = importlib.util.find_spec("jupyter_collaboration") is None
pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    # In an environment of its own: where it is installed, all notebooks of the other tests would be shared documents.
    pytest.mark.skipif(ABSENT, reason="jupyter-collaboration is not installed here"),
]

LOAD = "%load_ext nbtasks\nimport threading\nfrom nbtasks import track\ngo = threading.Event()"
LOOP = "%%bgtask {0}\nprint('written')\nfor _ in track(range(10_000)):\n    if go.wait(0.05): break"


def test_both_browsers_show_live_panels_and_cancel(open_page, lab, browser):
    page = open_page([LOAD, LOOP.format("one"), LOOP.format("two"), "%bgtask"])
    other = NotebookPage(lab, browser, path=page.path)
    try:
        for cell in range(4):
            page.run(cell)
        page.wait_text(1, "running")
        other.goto()
        for cell in (1, 2, 3):
            other.wait_text(cell, "running")
            assert not other.has_broken_widget(cell)
        bar = other.sample(1, ".progress-bar", "bar => bar.style.width")
        other.page.wait_for_function("name => window[name].samples.length >= 3", arg=bar._name)
        assert other.text(1).count("written") == 1
        for clicked, cell in ((other, 1), (page, 2)):
            clicked.button(cell, "Cancel").click()
            page.wait_text(cell, "cancelled")
            other.wait_text(cell, "cancelled")
    finally:
        other.close()
