"""One panel for several tasks: how they are together, a row for each, and a picture at the end."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest

from nbtasks import TaskManager
from nbtasks.widgets.group_panel import GroupPanel, group_shown
from nbtasks.widgets.live_writer import LiveWriter
from nbtasks.widgets.panel import LivePanel
from nbtasks.widgets.snapshot import PanelPicture


@pytest.fixture
def manager():
    with TaskManager(max_succeeded_tasks=None) as manager:
        yield manager


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


def fail():
    raise ValueError("boom")


def told(*tasks):
    return group_shown(tasks, datetime.now(UTC))


def test_they_are_told_together(manager, gate):
    runs = manager.create_task("runs", gate.wait, lane="single")
    waits = manager.create_task("waits", gate.wait, lane="single")
    done = manager.create_task("done", str)
    bad = manager.create_task("bad", fail)
    manager.wait(done, bad)
    runs.progress = 20
    shown = told(runs, waits, done, bad)
    assert shown.words == "1 pending, 1 running, 1 completed, 1 failed"
    assert shown.title == "4 tasks: runs, waits, done, …"
    assert shown.progress == (20 + 0 + 100 + 100) / 4
    assert not shown.over


def test_when_all_are_over_the_failures_are_told(manager):
    tasks = [manager.create_task(f"bad {number}", fail) for number in range(7)]
    tasks.append(manager.create_task("good", str))
    manager.wait(*tasks)
    shown = told(*tasks)
    assert (shown.state, shown.over) == ("failed", True)
    assert shown.note.splitlines()[0] == "bad 0: ValueError: boom"
    assert shown.note.splitlines()[-1] == "… and 2 more"


def test_those_that_all_completed_are_one_line(manager):
    tasks = [manager.create_task(str(number), str) for number in range(3)]
    manager.wait(*tasks)
    html = PanelPicture(told(*tasks)).html()
    assert html.count("<div") == 2
    assert "3 completed" in html


def test_the_panel_shows_those_that_join_and_ends_as_a_picture(manager, gate):
    live, pictures = LiveWriter(manager), []
    tasks = [manager.create_task(f"t{number}", gate.wait, lane="multiple") for number in range(3)]

    def make() -> GroupPanel:
        panel = GroupPanel(tasks[:2], manager, live.touch, lambda: live.changes, list)
        panel.replace = pictures.append
        return panel

    panel = live.add(tasks[0], make)
    live.watch(tasks[1], panel)
    panel.join(tasks[2])
    live.watch(tasks[2], panel)
    end = time.monotonic() + 20
    while len(panel._body.children) < 3:
        assert time.monotonic() < end
        time.sleep(0.01)
    gate.set()
    while not pictures:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert pictures[0].shown.words == "3 completed"
    live.close()


def test_a_panel_whose_place_was_taken_writes_nothing_more(manager, gate):
    live = LiveWriter(manager)
    first, second = (manager.create_task(name, gate.wait, lane="multiple") for name in ("first", "second"))
    panel = live.add(first, lambda: LivePanel(first, manager, live.touch))
    panel.replace = print
    group = live.add(second, lambda: GroupPanel([first, second], manager, live.touch, lambda: live.changes, list))
    assert live.run(lambda: group.take_place_of(panel))
    first.progress = 50
    live.run(panel.refresh)
    assert panel.widget.children == (group.widget,)
    live.close()
