"""Views without widgets: HTML that is replaced in its document."""

from __future__ import annotations

import threading
import time

import pytest

from nbtasks import TaskManager
from nbtasks.widgets import static_views
from nbtasks.widgets.live_writer import LiveWriter
from nbtasks.widgets.static_views import HtmlPanel, HtmlTable, HtmlTimeline


@pytest.fixture
def manager():
    with TaskManager() as manager:
        yield manager


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.01)


def test_a_panel_is_replaced_when_its_snapshot_differs(manager, gate):
    task = manager.create_task("it", gate.wait)
    panel, snapshots = HtmlPanel(task), []
    panel.replace = snapshots.append
    task.body = "epoch 4"
    assert panel.refresh() == 1
    assert panel.ticks
    gate.set()
    task.wait(30)
    assert panel.refresh() == 1
    assert panel.refresh() == 0
    assert [(one.state, one.body) for one in snapshots] == [("running", "epoch 4"), ("completed", "epoch 4")]
    assert not panel.ticks
    assert panel.bundle()["text/plain"].startswith("[completed] it")


def test_the_table_is_replaced_as_tasks_start_and_finish(manager, gate, monkeypatch):
    monkeypatch.setattr(static_views, "TABLE_SECONDS", 0.0)
    live, bundles = LiveWriter(manager), []

    def make() -> HtmlTable:
        table = HtmlTable(manager)
        table.replace = bundles.append
        return table

    live.add(None, make)
    manager.create_task("a", gate.wait)
    wait_until(lambda: bundles and "running" in bundles[-1]["text/plain"])
    gate.set()
    wait_until(lambda: "completed" in bundles[-1]["text/plain"])
    live.close()


def test_the_timeline_is_replaced_when_a_task_starts(manager, gate, monkeypatch):
    monkeypatch.setattr(static_views, "TIMELINE_SECONDS", 0.0)
    monkeypatch.setattr(static_views, "TIMELINE_BYTES_PER_SECOND", 10**12)
    monkeypatch.setattr(static_views, "TIMELINE_TIME_SHARE", 0)
    timeline, bundles = HtmlTimeline(manager), []
    timeline.replace = bundles.append
    manager.create_task("it", gate.wait)
    assert timeline.refresh() == 1
    assert "1 running" in bundles[0]["text/html"]
