"""A sweep in JupyterLab: its panel, its frame, and its failed runs again."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.driver import TIME_LIMIT_MS

pytestmark = pytest.mark.browser

LOAD = """%load_ext nbtasks
import threading
from nbtasks import current_task, track
go, repaired = threading.Event(), False"""
SWEEP = """%%bgtask sweep --for C=0.1,1,10 --for kind=linear,rbf --lane multiple
for step in track(range(1_000)):
    current_task().body = f"loss {C / (step + 1):.3f}"
    if go.wait(0.02): break
print("fits", C, kind)
if C == 10 and not repaired: raise ValueError(f"no convergence with C={C}")
C * 2"""
FRAME, AGAIN = "results = await sweep\nsweep.frame", "repaired = True\nsweep.retry_failed()"
CELLS = [LOAD, SWEEP, "go.set()", FRAME, AGAIN, "await sweep"]


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_a_sweep_shows_one_panel_and_runs_only_the_failed_ones_again(open_page, theme):
    page = open_page(CELLS)
    page.set_theme(theme)
    page.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.run(0)
    page.run(1)
    page.wait_text(1, "6 running")
    page.wait_text(1, "loss")
    panel = page.output(1).locator(".nbtasks-panel")
    assert panel.count() == 1
    rows = panel.locator(".nbtasks-tr")
    expect(rows).to_have_count(6, timeout=TIME_LIMIT_MS)
    for width in (1400, 900, 500):
        page.set_size(width, 700)
        page.screenshot(f"sweep-{theme}-{width}", of=page.cell(1))
    page.set_size(1200, 1200)
    page.run(2)
    page.wait_text(1, "4 completed, 2 failed")
    page.wait_text(1, "no convergence with C=10")
    page.run(3)
    frame = page.output(3).locator("table")
    assert frame.locator("tbody tr").count() == 6
    assert re.findall(r"\b(completed|failed)\b", frame.inner_text()) == 4 * ["completed"] + 2 * ["failed"]
    page.run(4)
    page.wait_text(4, "2 completed")
    assert page.output(4).locator(".nbtasks-panel").count() == 1
    assert "4 completed, 2 failed" in page.text(1)  # it tells what happened there
    page.run(5)
    assert "[0.2, 0.2, 2, 2, 20, 20]" in page.text(5)
    page.screenshot(f"sweep-end-{theme}")
    assert page.console_errors == []
