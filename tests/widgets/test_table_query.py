"""Queries of the task table: filter, search, order, pages."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from nbtasks import TaskManager
from nbtasks.widgets.table_query import COLUMNS, PAGE_ROWS, Query, run_query


@pytest.fixture
def manager():
    with TaskManager(max_succeeded_tasks=None) as manager:
        yield manager


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


def names(manager, **query) -> list[str]:
    return [task.name for task in run_query(manager, Query(**query)).tasks]


def fail():
    raise ValueError("no such column: 'price'")


def test_the_usual_order_is_running_pending_by_priority_finished_newest_first(manager, gate):
    first = manager.create_task("first finished", lambda: None)
    manager.wait(first)
    second = manager.create_task("second finished", lambda: None)
    manager.wait(second)
    manager.create_task("runs", gate.wait, lane="single")
    manager.create_task("waits", gate.wait, lane="single")
    manager.create_task("waits, urgent", gate.wait, 5, lane="single")
    assert names(manager) == ["runs", "waits, urgent", "waits", "second finished", "first finished"]


def test_a_filter_shows_one_state(manager, gate):
    manager.create_task("runs", gate.wait)
    manager.wait(manager.create_task("bad", fail))
    assert names(manager, state="failed") == ["bad"]
    assert names(manager, state="running") == ["runs"]
    assert names(manager, state="cancelled") == []


@pytest.mark.parametrize("text", ["TRAIN", "net", "single", "urgent", "gpu train"])
def test_a_search_looks_at_name_lane_and_tags_for_each_word(manager, gate, text):
    manager.create_task("Train the net", gate.wait, lane="single", tags=["urgent", "gpu"])
    manager.create_task("other", gate.wait, lane="multiple")
    assert names(manager, text=text) == ["Train the net"]


def test_a_search_looks_at_errors(manager):
    manager.wait(manager.create_task("bad", fail), manager.create_task("good", str))
    assert names(manager, text="price") == ["bad"]


@pytest.mark.parametrize("column", COLUMNS)
def test_each_column_sorts_both_ways(manager, gate, column):
    one = manager.create_task("a", gate.wait, 1, lane="multiple")
    other = manager.create_task("b", gate.wait, 2, lane="single")
    manager.wait(manager.create_task("c", fail))
    one.progress, other.progress = 10, 20
    now = datetime.now(UTC) + timedelta(hours=1)
    up, down = (run_query(manager, Query(column=column, descending=way), now).tasks for way in (False, True))
    assert set(up) == set(down) == set(manager.list_tasks())
    keys = list(map(COLUMNS[column](now), up))
    assert keys == sorted(keys)
    assert list(map(COLUMNS[column](now), down)) == keys[::-1]


def test_a_page_past_the_end_is_the_last_one(manager, gate):
    for number in range(PAGE_ROWS + 3):
        manager.create_task(f"t{number}", gate.wait, lane="single")
    assert len(run_query(manager, Query()).tasks) == PAGE_ROWS
    last = run_query(manager, Query(page=7))
    assert (last.number, last.pages, last.total, len(last.tasks)) == (1, 2, PAGE_ROWS + 3, 3)


def test_without_tasks_there_is_one_empty_page(manager):
    empty = run_query(manager, Query())
    assert (empty.tasks, empty.total, empty.number, empty.pages) == ((), 0, 0, 1)
