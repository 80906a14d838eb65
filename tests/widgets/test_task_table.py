"""Live task table: the content of its widgets, without a kernel."""

from __future__ import annotations

import threading
import time

import pytest
from ipywidgets.widgets.widget import _instances

from nbtasks import TaskManager
from nbtasks.widgets.table_query import PAGE_ROWS
from nbtasks.widgets.task_table import LiveTable


@pytest.fixture
def manager():
    with TaskManager(max_succeeded_tasks=None) as manager:
        yield manager


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def table(manager, live):
    retried = []
    table = live.add(None, lambda: LiveTable(manager, live.touch, lambda: live.state_changes, retried.append))
    table.retried = retried
    yield table
    live.remove(None, table)
    live.run(table.close)


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.01)


def rows(table) -> list[str]:
    """The names of the tasks in the rows that are shown."""
    by_widget = {row.widget: row for row in table._rows}
    return [by_widget[widget].task.name for widget in table._body.children if widget in by_widget]


def row_of(table, name):
    return next(row for row in table._rows if row.task is not None and row.task.name == name)


def test_it_shows_tasks_as_they_start_and_finish(manager, table, gate):
    manager.create_task("a", gate.wait)
    wait_until(lambda: rows(table) == ["a"])
    assert table._filters.buttons["running"].description == "running 1"
    gate.set()
    wait_until(lambda: table._filters.buttons["completed"].description == "completed 1")
    wait_until(lambda: "completed" in row_of(table, "a")._cells.value)


def test_an_empty_table_has_a_message(table):
    assert "no tasks to show" in table._note.value


def test_filter_and_search(manager, table, gate):
    manager.create_task("a", gate.wait, lane="single")
    manager.create_task("b", gate.wait, lane="single")
    table._filters.buttons["pending"].click()
    wait_until(lambda: rows(table) == ["b"])
    table._filters.buttons[None].click()
    table._search.value = "a"
    wait_until(lambda: rows(table) == ["a"])
    assert [table._filters.buttons[state].description for state in (None, "running", "pending")] == [
        "✓ all 1 of 2",
        "running 1 of 1",
        "pending 0 of 1",
    ]
    table._search.value = ""
    wait_until(lambda: table._filters.buttons[None].description == "✓ all 2")


def test_a_head_sorts_then_reverses_then_restores_the_order(manager, table, gate):
    for name in ("b", "c", "a"):
        manager.create_task(name, gate.wait, lane="multiple")
    head = table._heads["task"]
    for expected, label in ((["a", "b", "c"], "task ▲"), (["c", "b", "a"], "task ▼"), (["b", "c", "a"], "task")):
        head.click()
        wait_until(lambda expected=expected: rows(table) == expected)
        assert head.description == label


def test_pages_reuse_the_rows(manager, table, gate):
    for number in range(3 * PAGE_ROWS):
        manager.create_task(f"t{number}", gate.wait, lane="multiple")
    wait_until(lambda: table._page.total == 3 * PAGE_ROWS)
    wait_until(lambda: len(rows(table)) == PAGE_ROWS)
    first, models = rows(table), len(_instances)
    table._pager.next.click()
    wait_until(lambda: not set(first) & set(rows(table)))
    table._pager.next.click()
    wait_until(lambda: table._pager.next.disabled)
    assert len(_instances) == models
    assert "21 to 30 of 30" in table._pager.position.value


def test_rows_change_the_priority_and_cancel(manager, table, gate, monkeypatch):
    monkeypatch.setattr("nbtasks.widgets.widget_factory.STALE_CLICK_SECONDS", 0.0)
    manager.create_task("runs", gate.wait, lane="single")
    first, second = (manager.create_task(name, gate.wait, lane="single") for name in ("first", "second"))
    wait_until(lambda: rows(table) == ["runs", "first", "second"])
    row_of(table, "second")._up.click()
    wait_until(lambda: rows(table) == ["runs", "second", "first"])
    assert (first.priority, second.priority) == (0, 1)
    row_of(table, "second")._down.click()
    wait_until(lambda: rows(table) == ["runs", "first", "second"])
    row_of(table, "first")._cancel.click()
    wait_until(lambda: first.state == "cancelled")


def test_a_row_runs_a_finished_task_again(manager, table):
    def fail():
        raise ValueError("boom")

    task = manager.create_task("bad", fail)
    wait_until(lambda: "failed" in row_of(table, "bad")._cells.value if rows(table) else False)
    row_of(table, "bad")._retry.click()
    assert table.retried == [task]


def test_a_click_right_after_a_row_was_reused_is_ignored(manager, table, gate):
    old, new = (manager.create_task(name, gate.wait, lane="single") for name in ("old", "new"))
    wait_until(lambda: len(rows(table)) == 2)
    row = table._rows[0]
    row.show(new, new.created_at, None)
    row._cancel.click()
    assert new.state == "pending"
    assert old.state == "running"


def test_details_open_under_their_row_and_close(manager, table):
    def fail():
        raise ValueError("boom")

    manager.create_task("bad", fail)
    wait_until(lambda: rows(table) == ["bad"])
    row = row_of(table, "bad")
    row._details.click()
    wait_until(lambda: table._body.children == (row.widget, table._details))
    wait_until(lambda: "ValueError: boom" in table._details.value)
    row._details.click()
    wait_until(lambda: table._body.children == (row.widget,))


def test_cancel_all_asks_first(manager, table, gate):
    tasks = [manager.create_task(str(number), gate.wait, lane="single") for number in range(3)]
    wait_until(lambda: not table._cancel_all.disabled)
    table._cancel_all.click()
    wait_until(lambda: table._cancel_all.description == "Really cancel 3?")
    assert not any(task.cancel_requested_at for task in tasks)
    table._cancel_all.click()
    assert all(task.cancel_requested_at for task in tasks)
    wait_until(lambda: "cancelling 3 tasks" in table._note.value)


def test_prune_removes_finished_tasks(manager, table):
    manager.wait(*(manager.create_task(str(number), str) for number in range(3)))
    wait_until(lambda: not table._prune.disabled)
    table._prune.click()
    assert manager.list_tasks() == []
    wait_until(lambda: "pruned 3 tasks" in table._note.value)


def test_the_limit_of_a_lane_can_be_changed_but_must_be_a_number(manager, table, gate):
    tasks = [manager.create_task(str(number), gate.wait, lane="single") for number in range(3)]
    table._lanes_button.click()
    wait_until(lambda: "single" in table._lanes._rows)
    row = table._lanes._rows["single"]
    wait_until(lambda: "1 running · 2 pending" in row.usage.value)
    row.limit.value = "2"
    wait_until(lambda: [task.state for task in tasks] == ["running", "running", "pending"])
    row.limit.value = "many"
    wait_until(lambda: "the limit of a lane must be a whole number from 0 on" in table._note.value)
    wait_until(lambda: row.limit.value == "2")
    assert manager.lanes["single"].limit == 2
    row.limit.value = "no limit"
    wait_until(lambda: manager.lanes["single"].limit is None)


def test_an_idle_table_does_not_tick(manager, table):
    manager.wait(manager.create_task("a", str))
    wait_until(lambda: rows(table) == ["a"])
    wait_until(lambda: not table.ticks)


@pytest.mark.long
def test_a_table_of_a_hundred_thousand_tasks_has_few_models(manager, live, gate):
    for number in range(100_000):
        manager.create_task(f"t{number}", gate.wait, lane="single")
    before = len(_instances)
    table = live.add(None, lambda: LiveTable(manager, live.touch, lambda: live.state_changes, list))
    assert len(rows(table)) == PAGE_ROWS
    assert len(_instances) - before < 250
    live.remove(None, table)
    live.run(table.close)
    assert len(_instances) == before
    manager.stop(timeout=0)


def test_a_closed_table_leaves_no_model(manager, live, gate):
    manager.create_task("a", gate.wait)
    before = len(_instances)
    table = live.add(None, lambda: LiveTable(manager, live.touch, lambda: live.state_changes, list))
    assert len(_instances) > before
    live.remove(None, table)
    live.run(table.close)
    assert len(_instances) == before
