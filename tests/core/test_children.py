"""Parents and children: who started whom, and that a cancel goes down the line."""

from __future__ import annotations

import threading

from nbtasks import Task, TaskManager


def test_a_child_knows_its_parent_and_runs_in_its_lane(manager: TaskManager) -> None:
    def parent(task: Task) -> list[Task]:
        return [task.create_child("child", lambda: 1, 5, tags=["x"])]

    task = manager.create_task("parent", parent, lane="multiple")
    [child] = task.wait(30)
    manager.wait(timeout=30)
    assert (child.parent_id, child.lane, child.priority, child.tags) == (task.id, "multiple", 5, ("x",))
    assert manager.search_tasks(parent_id=task.id) == [child]


def test_a_child_may_run_in_another_lane(manager: TaskManager, gate: threading.Event) -> None:
    parent = manager.create_task("parent", gate.wait)
    assert parent.create_child("child", gate.wait, lane="single").lane == "single"


def test_a_parent_is_named_by_its_id_too(manager: TaskManager, gate: threading.Event) -> None:
    parent = manager.create_task("parent", gate.wait)
    child = manager.create_task("child", gate.wait, parent=parent.id)
    parent.cancel()
    assert child.parent_id == parent.id and child.cancel_requested_at is not None


def test_cancelling_a_parent_cancels_all_that_stems_from_it(manager: TaskManager, gate: threading.Event) -> None:
    parent = manager.create_task("parent", gate.wait)
    running = parent.create_child("running", gate.wait)
    grandchild = running.create_child("grandchild", gate.wait)
    pending = parent.create_child("pending", gate.wait)
    other = manager.create_task("other", gate.wait, lane="single")
    assert pending.state == "pending"
    parent.cancel()
    assert running.cancelling and grandchild.cancelling and other.cancel_requested_at is None
    assert (pending.state, pending.error) == ("cancelled", "cancelled with 'parent'")


def test_cancelling_a_parent_spares_its_children_if_told_so(manager: TaskManager, gate: threading.Event) -> None:
    parent = manager.create_task("parent", gate.wait)
    child = parent.create_child("child", gate.wait)
    assert parent.cancel(children=False) is True
    assert parent.cancelling and child.cancel_requested_at is None
    assert manager.cancel_task(parent, children=False) is True and child.cancel_requested_at is None


def test_a_parent_that_ends_leaves_its_children_running(manager: TaskManager, gate: threading.Event) -> None:
    parent = manager.create_task("parent", lambda task: [task.create_child("child", gate.wait)])
    [child] = parent.wait(30)
    assert child.state == "running" and parent.cancel() is False
    gate.set()
    assert child.wait(30) is True


def test_a_child_that_is_over_stays_as_it_ended(manager: TaskManager, gate: threading.Event) -> None:
    parent = manager.create_task("parent", gate.wait)
    child = parent.create_child("child", lambda: 1)
    child.wait(30)
    parent.cancel()
    assert child.state == "completed" and child.cancel_requested_at is None


def test_the_parent_of_a_child_may_be_over_and_forgotten(manager: TaskManager) -> None:
    parent = manager.create_task("parent", lambda: 1)
    parent.wait(30)
    manager.remove_task(parent)
    child = parent.create_child("child", lambda: 2)
    assert child.wait(30) == 2 and child.parent_id == parent.id
