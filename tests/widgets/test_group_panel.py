"""Panel of several tasks: joining, the static panel at the end, replaced panels."""

from __future__ import annotations

import threading
import time

import pytest

from nbtasks import TaskManager
from nbtasks.widgets.group_panel import GroupPanel
from nbtasks.widgets.live_writer import LiveWriter
from nbtasks.widgets.panel import LivePanel


@pytest.fixture
def manager():
    with TaskManager(max_succeeded_tasks=None) as manager:
        yield manager


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


def test_tasks_join_the_panel_which_becomes_static_at_the_end(manager, gate):
    live, snapshots = LiveWriter(manager), []
    tasks = [manager.create_task(f"t{number}", gate.wait, lane="multiple") for number in range(3)]

    def make() -> GroupPanel:
        panel = GroupPanel(tasks[:2], manager, live.touch, lambda: live.state_changes, list)
        panel.replace = snapshots.append
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
    while not snapshots:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert snapshots[0].status == "3 completed"
    live.close()


def test_a_replaced_panel_writes_nothing_more(manager, gate):
    live = LiveWriter(manager)
    first, second = (manager.create_task(name, gate.wait, lane="multiple") for name in ("first", "second"))
    panel = live.add(first, lambda: LivePanel(first, manager, live.touch))
    panel.replace = print
    group = live.add(second, lambda: GroupPanel([first, second], manager, live.touch, lambda: live.state_changes, list))
    assert live.run(lambda: group.take_place_of(panel))
    first.progress = 50
    live.run(panel.refresh)
    assert panel.widget.children == (group.widget,)
    live.close()
