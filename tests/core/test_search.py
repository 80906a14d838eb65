"""Finding tasks: by id, by state, by any attribute; and counting them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from nbtasks import Task, TaskManager
from nbtasks import exceptions as errors
from nbtasks.registry import Registry


@dataclass
class Fetch(Task):
    url: str
    size: int = 0

    def run(self) -> int:
        return self.size


@dataclass
class Scrape(Fetch):
    depth: int = 1
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def tasks(gate: threading.Event, shared_manager: TaskManager) -> dict[str, Task]:
    manager = shared_manager
    done = manager.create_task("done", lambda: 42, tags=["a", "b"], parameters={"rate": 0.1})
    failed = manager.create_task("failed", lambda: 1 / 0, 3, tags=["a"])
    small = manager.add_task(Fetch("https://small", 10, name="small"))
    large = manager.add_task(Scrape("https://large", 5_000, name="large", tags="b"))
    manager.wait(timeout=30)
    running = manager.create_task("running", gate.wait, lane="single")
    waiting = manager.create_task("waiting", lambda: 1, lane="single", parent=running)
    found = (done, failed, small, large, running, waiting)
    return {task.name: task for task in found}


@pytest.fixture
def shared_manager() -> Iterator[TaskManager]:
    manager = TaskManager()
    yield manager
    manager.stop(timeout=0)


@pytest.mark.parametrize(
    ("criteria", "names"),
    [
        ({}, ["done", "failed", "small", "large", "running", "waiting"]),
        ({"name": "small"}, ["small"]),
        ({"name": lambda name: name.endswith("ing")}, ["running", "waiting"]),
        ({"state": "pending"}, ["waiting"]),
        ({"state": ["pending", "running"]}, ["running", "waiting"]),
        ({"state": lambda state: state.is_final}, ["done", "failed", "small", "large"]),
        ({"priority": 3}, ["failed"]),
        ({"lane": "single", "state": "running"}, ["running"]),
        ({"backend": "thread", "priority": lambda priority: priority > 0}, ["failed"]),
        ({"task_type": "Fetch"}, ["small", "large"]),
        ({"task_type": Fetch}, ["small", "large"]),
        ({"task_type": "Scrape"}, ["large"]),
        ({"task_type": Scrape}, ["large"]),
        ({"task_type": "Task", "state": "failed"}, ["failed"]),
        ({"task_type": "Download"}, []),
        ({"url": "https://small"}, ["small"]),
        ({"size": lambda size: size > 1_000}, ["large"]),
        ({"depth": 1}, ["large"]),
        ({"seen": []}, ["large"]),
        ({"tags": "a"}, ["done", "failed"]),
        ({"tags": ["a", "b"]}, ["done"]),
        ({"tags": lambda tags: not tags}, ["small", "running", "waiting"]),
        ({"result": 42}, ["done"]),
        ({"error": "ZeroDivisionError: division by zero"}, ["failed"]),
        ({"exception": lambda error: isinstance(error, ArithmeticError)}, ["failed"]),
        ({"parameters": {"rate": 0.1}}, ["done"]),
        ({"progress": 100}, ["done", "small", "large"]),
        ({"no_such_attribute": None}, []),
    ],
)
def test_any_attribute_is_searched_by_value_or_predicate(
    shared_manager: TaskManager, tasks: dict[str, Task], criteria: dict[str, Any], names: list[str]
) -> None:
    assert [task.name for task in shared_manager.search_tasks(**criteria)] == names


def test_children_are_found_by_their_parent(shared_manager: TaskManager, tasks: dict[str, Task]) -> None:
    assert shared_manager.search_tasks(parent_id=tasks["running"].id) == [tasks["waiting"]]


def test_lists_are_oldest_first_whatever_the_state(shared_manager: TaskManager, tasks: dict[str, Task]) -> None:
    assert shared_manager.list_tasks() == list(tasks.values())
    assert shared_manager.list_tasks("completed") == [tasks["done"], tasks["small"], tasks["large"]]
    assert shared_manager.list_tasks(state="cancelled") == []


@pytest.mark.parametrize("call", ["list_tasks", "search_tasks", "prune"])
def test_an_unknown_state_is_a_named_error(shared_manager: TaskManager, call: str) -> None:
    with pytest.raises(errors.UnknownStateError, match=r"unknown task state 'complete': one of .*mean 'completed'\?"):
        getattr(shared_manager, call)(state="complete")


def test_a_task_is_got_by_its_id_or_its_handle(shared_manager: TaskManager, tasks: dict[str, Task]) -> None:
    done = tasks["done"]
    assert shared_manager.get_task(done.id) is done and shared_manager.get_task(done) is done
    for unknown in ("", "done", "x-1", done.id + "0000", "ffffffff-1", 5):
        assert shared_manager.get_task(unknown) is None  # type: ignore[arg-type]
    with TaskManager() as other:
        assert other.get_task(done) is None and other.get_task(done.id) is None
        assert other.cancel_task(tasks["waiting"]) is False and tasks["waiting"].state == "pending"


def test_stats_count_by_state_without_walking(
    shared_manager: TaskManager, tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    def walks(*_: object) -> None:
        raise AssertionError("it walks the tasks")

    class Counted(dict[Any, Any]):
        __iter__ = keys = values = items = walks  # type: ignore[assignment]

    monkeypatch.setattr(Registry, "tasks", walks)
    registry = shared_manager._dispatcher.registry
    monkeypatch.setattr(registry, "by_state", {state: Counted(filed) for state, filed in registry.by_state.items()})
    assert shared_manager.get_stats() == {
        "total": 6, "pending": 1, "running": 1, "completed": 3, "failed": 1, "cancelled": 0
    }  # fmt: skip
    assert repr(shared_manager) == "<TaskManager: 1 pending, 1 running, 3 completed, 1 failed>"


def test_the_active_tasks_are_a_live_collection(shared_manager: TaskManager, tasks: dict[str, Task]) -> None:
    active = shared_manager.active_tasks
    assert len(active) == 2 and list(active) == [tasks["running"], tasks["waiting"]]
    assert tasks["running"] in active and tasks["done"] not in active and "running" not in active
    assert repr(active) == "<2 active tasks>"
    tasks["waiting"].cancel()
    assert list(active) == [tasks["running"]]
