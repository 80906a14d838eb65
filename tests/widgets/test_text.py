"""Snapshots as plain text: panels, lists, and the lines of a terminal."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from nbtasks import TaskManager
from nbtasks.widgets.snapshot import Snapshot
from nbtasks.widgets.text import panel_text, schedule_list, task_list, terminal_lines


@pytest.fixture
def manager():
    with TaskManager(max_succeeded_tasks=None) as manager:
        yield manager


def snapshot(**fields) -> Snapshot:
    return Snapshot(**{"state": "running", "title": "it", "elapsed": 3, **fields})


def test_a_panel_is_state_name_figures_and_note():
    assert panel_text(snapshot(progress=42.4, body="epoch 4")) == "[running] it  42% · 0:03  epoch 4"
    details = snapshot(attempt="attempt 2 of 3", loops="epoch 3/10", children="2 running")
    assert panel_text(details) == "[running, attempt 2 of 3] it  0:03  epoch 3/10 · children: 2 running"


def test_lists_have_headings_or_say_that_they_are_empty(manager):
    now = datetime.now(UTC)
    assert task_list([]) == "no background tasks"
    assert schedule_list([], now) == "no schedules"
    manager.create_task("it", str).wait()
    assert [line.split()[0] for line in task_list(manager.list_tasks()).splitlines()] == ["name", "it"]
    recurring = manager.add_recurring_task("5m", str, name="refresh", timezone="UTC")
    [head, row] = schedule_list([recurring], now).splitlines()
    assert head.split()[:4] == ["name", "schedule", "zone", "state"]
    assert row.split()[:4] == ["refresh", "5m", "UTC", "scheduled"]


def test_a_terminal_shows_live_tasks_first_and_the_number_of_those_without_a_line(manager):
    gate = threading.Event()
    manager.wait(*(manager.create_task(f"done {number}", str) for number in range(5)))
    manager.create_task("live", gate.wait)
    lines = terminal_lines(manager.list_tasks(), columns=60, rows=4)
    assert lines[0] == "6 tasks: 1 running, 5 completed"
    assert "live" in lines[1] and "done" in lines[2]
    assert lines[3] == "… and 4 more"
    assert max(map(len, lines)) <= 60
    gate.set()
