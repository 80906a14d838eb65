"""The quickstart: a search in the background while the notebook is used."""

from __future__ import annotations

import io
import itertools
import json
import os
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.browser.driver import README_IMAGES, SCREENSHOTS

pytestmark = pytest.mark.browser

QUICKSTART = Path(__file__).parent.parent.parent / "notebooks" / "01-quickstart.ipynb"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
BAR_WIDTH = "element => element.style.width"
STATE = "element => element.textContent.match(/pending|running|cancelling|cancelled|completed|failed/)?.[0]"
COMPUTE = """import time
ends = time.monotonic() + 10
total = 0
while time.monotonic() < ends:
    total += sum(range(1000)) % 7
print("computed; network is", network.state.value)"""


def cell(cell_id: str) -> int:
    """The position of the quickstart's cell of that id."""
    cells = json.loads(QUICKSTART.read_text(encoding="utf-8"))["cells"]
    return [cell["id"] for cell in cells].index(cell_id)


SEARCH, IMAGES, NETWORK, PROJECT, USE = map(cell, ("search", "images", "network", "project", "use"))


@pytest.fixture
def open_quickstart(open_page):
    def open_quickstart(**options):
        page = open_page(QUICKSTART, **options)
        page.command("notebook:clear-all-cell-outputs")  # it is saved with the outputs, and counts, of a run
        page.run(cell("load"))
        page.run(cell("data"))
        return page

    return open_quickstart


@pytest.mark.timeout(300)
def test_the_main_job(open_quickstart):
    """The bar moves and another task is cancelled while the foreground computes; all of it is saved."""
    page = open_quickstart()
    page.run(SEARCH)
    page.run(NETWORK)
    page.wait_text(NETWORK, "epoch")
    page.set_source(PROJECT, COMPUTE)
    page.start(PROJECT)
    positions = page.sample(SEARCH, ".progress-bar", BAR_WIDTH)
    states = page.sample(NETWORK, ".nbtasks-panel", STATE)
    page.button(NETWORK, "Cancel").click()
    clicked = page.page.evaluate("() => performance.now()")
    page.wait_text(NETWORK, "cancelled")
    assert page.is_running(PROJECT), "the foreground cell ended before the task was cancelled"
    page.screenshot("quickstart-computing")
    page.wait_done(PROJECT)
    moved = [value for value in positions.values() if value is not None]
    assert "computed; network is cancelled" in page.text(PROJECT)
    print(f"the bar was at {len(moved)} positions")
    assert len(moved) >= 5, f"the bar was at {len(moved)} positions"  # forty and more where the machine is quiet
    cancelled = next(at for at, state in states.stop() if state == "cancelled")
    print(f"{cancelled - clicked:.0f} ms to cancel")

    page.wait_text(SEARCH, "completed")
    page.output(SEARCH).locator("img").wait_for()
    page.run(USE)
    assert "of the test digits are right" in page.text(USE)
    assert page.console_errors == []
    page.screenshot("quickstart-done")

    outputs = [output for saved in page.save()["cells"] for output in saved.get("outputs", [])]
    assert not any(WIDGET_VIEW in output.get("data", {}) for output in outputs)
    page.reopen_without_kernel()
    assert "search completed took " in " ".join(page.text(SEARCH).split())
    assert "best so far" in page.text(SEARCH)
    assert page.output(SEARCH).locator("img").count() == 1
    assert "network cancelled" in " ".join(page.text(NETWORK).split())
    assert not any(page.has_broken_widget(index) for index in (SEARCH, NETWORK))
    page.screenshot("quickstart-without-kernel")


@pytest.mark.long
def test_the_picture_of_the_readme(open_quickstart):
    """Saved in the docs only if NBTASKS_README_IMAGES is set: a test run changes no tracked file."""
    page = open_quickstart(scale=2)
    page.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.set_size(960, 1165)
    page.run(SEARCH)
    page.run(IMAGES)
    page.output(IMAGES).locator("img").wait_for()
    page.wait_text(SEARCH, "0.963")
    page.cell(SEARCH).evaluate("element => element.scrollIntoView({ block: 'start' })")
    notebook = page.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer")
    page.screenshot("quickstart", of=notebook, for_readme="NBTASKS_README_IMAGES" in os.environ)
    assert "running" in page.text(SEARCH)
    page.button(SEARCH, "Cancel").click()
    page.wait_text(SEARCH, "cancelled")


MOVING = {
    "load": """%load_ext nbtasks
import time
import numpy as np
from nbtasks import current_task, track
from sklearn.datasets import load_digits
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.svm import SVC
X, y = load_digits(return_X_y=True)""",
    "search": """%%bgtask search
folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=10)
scores = []
for train, test in track(list(folds.split(X, y)), unit="fold"):
    scores.append(SVC(C=10).fit(X[train], y[train]).score(X[test], y[test]))
    current_task().body = f"mean accuracy {np.mean(scores):.4f}\"""",
    "busy": """# Meanwhile this cell keeps the kernel busy
ends = time.monotonic() + 8
while time.monotonic() < ends:
    total = sum(number * number for number in range(10_000))
total""",
    "use": "await search\nnp.mean(scores).round(3)",
}
"""The cells of the moving picture."""
MOST_BYTES = 600_000


@pytest.mark.long
def test_the_moving_picture_of_the_readme(open_page):
    """A bar that moves while a foreground cell runs, at its true speed."""
    page = open_page(list(MOVING.values()))
    page.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.set_size(760, 690)
    page.run(0)
    page.page.evaluate("() => document.querySelector('.jp-Notebook').focus()")
    page.run(1)
    page.wait_text(1, "mean accuracy")
    page.start(2)
    page.start(3)
    page.cell(1).evaluate("element => element.scrollIntoView({ block: 'start' })")
    notebook = page.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer")
    frames, times = [], []
    while page.is_running(2) or page.is_running(3) or not frames:
        times.append(time.monotonic())
        frames.append(Image.open(io.BytesIO(notebook.screenshot())).convert("RGB"))
        page.page.wait_for_timeout(200)
    assert "completed" in page.text(1)
    frames.append(Image.open(io.BytesIO(notebook.screenshot())).convert("RGB"))
    times.append(time.monotonic())
    durations = [round(1000 * (after - before)) for before, after in itertools.pairwise(times)]
    folder = README_IMAGES if "NBTASKS_README_IMAGES" in os.environ else SCREENSHOTS
    path = folder / "quickstart.gif"
    colours = frames[0].quantize(96, dither=Image.Dither.NONE)
    palette = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
    palette[0].save(path, save_all=True, append_images=palette[1:], duration=[*durations, 3_000], loop=0, optimize=True)
    assert len({frame.tobytes() for frame in frames}) >= 10
    assert path.stat().st_size < MOST_BYTES
