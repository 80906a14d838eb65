"""The images of docs/views.md; saved there if NBTASKS_README_IMAGES is set."""

from __future__ import annotations

import os

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.long]

LOAD = """%load_ext nbtasks
import threading
from PIL import Image, ImageDraw
from nbtasks import current_task, get_manager, track
manager, go = get_manager(), threading.Event()
manager.max_succeeded_tasks = None
def curve(epoch):
    image = Image.new("RGB", (320, 110), "white")
    points = [(10 + 30 * n, 100 - 85 * 0.7 ** n) for n in range(epoch + 2)]
    ImageDraw.Draw(image).line([(x, 110 - y) for x, y in points], fill="#1976d2", width=3)
    return image
def works(seconds, fails=False):
    def work():
        for _ in track(range(100)):
            if go.wait(seconds / 100): return
        if fails: raise ValueError("no such column: 'price'")
    return work"""
PANEL = """%%bgtask fit
for epoch in track(range(10), description="epoch"):
    current_task().img = curve(epoch)
    for batch in track(range(200), description="batch", unit="batch"):
        if go.wait(0.004): break
    current_task().body = f"loss {0.9 ** epoch:.3f}, accuracy {1 - 0.5 * 0.8 ** epoch:.1%}\""""
TASKS = """names = ["load prices", "train", "score", "report"]
for number in range(24):
    name, lane = f"{names[number % 4]} {2020 + number // 4}", ["default", "multiple", "single"][number % 3]
    manager.create_task(name, works(1 + number % 5, fails=number % 7 == 3), lane=lane, priority=number % 2)
refresh = manager.add_recurring_task("12s", works(1), name="refresh")"""


def test_the_pictures_of_the_views(open_page):
    end = "go.set()\nrefresh.remove()\nmanager.wait()"
    page = open_page([LOAD, PANEL, TASKS, "%bgtask", "%bgtask timeline 20s", end, "%bgtask history"], scale=2)
    page.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.set_size(1000, 1400)
    page.run(0)
    page.run(1)
    page.wait_text(1, "epoch 4/10")
    page.output(1).locator("img").wait_for()
    keep = "NBTASKS_README_IMAGES" in os.environ
    page.screenshot("panel", of=page.output(1), for_readme=keep)
    for cell in (2, 3, 4):
        page.run(cell)
    page.wait_text(3, "failed 2")
    page.screenshot("table", of=page.output(3), for_readme=keep)
    page.wait_text(4, "3 failed")
    picture = page.output(4).locator(".jupyter-widgets").first  # without what is printed under it
    page.screenshot("timeline", of=picture, for_readme=keep)
    page.run(5)
    page.run(6)
    page.button(6, "Show runs of train 2023").wait_for()  # the details would name a folder
    page.screenshot("history", of=page.output(6), for_readme=keep)
    assert page.console_errors == []
