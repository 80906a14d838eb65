"""A task as a record: its fields, its times, its error, as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import pytest

from nbtasks import Task, TaskManager
from nbtasks import exceptions as errors
from nbtasks.task import jsonable


def test_a_record_has_what_it_was_given(manager: TaskManager) -> None:
    task = manager.create_task(
        "t", lambda: 1, 2, lane="multiple", tags=["x", "y"], parameters={"a": 1}, heading="H", body="B", img="i.png",
        timeout=timedelta(minutes=1),
    )  # fmt: skip
    task.wait(30)
    assert (task.name, task.priority, task.lane) == ("t", 2, "multiple")
    assert (task.tags, task.parameters) == (("x", "y"), {"a": 1})
    assert (task.heading, task.body, task.img, task.timeout, task.attempts) == ("H", "B", "i.png", 60.0, 1)
    assert (task.backend, task.result, task.error, task.exception, task.parent_id) == ("thread", 1, None, None, None)


def test_what_is_shown_can_be_set_while_it_runs(manager: TaskManager) -> None:
    def work(task: Task) -> None:
        task.heading, task.body, task.img = "H", "B", "i.png"

    task = manager.create_task("t", work)
    task.wait(30)
    assert (task.heading, task.body, task.img) == ("H", "B", "i.png")


def test_times_are_aware_utc_and_in_order(manager: TaskManager) -> None:
    before = datetime.now(UTC)
    task = manager.create_task("t", lambda: 1)
    task.wait(30)
    assert before <= task.created_at <= task.started_at <= task.completed_at <= datetime.now(UTC)
    assert {task.created_at.tzinfo, task.started_at.tzinfo, task.completed_at.tzinfo} == {UTC}
    assert task.cancel_requested_at is None


def test_ids_are_unique_and_numbers_count_up(manager: TaskManager) -> None:
    tasks = [manager.create_task("same name", lambda: 1) for _ in range(20)]
    assert len({task.id for task in tasks}) == 20
    assert [task.number for task in tasks] == sorted(task.number for task in tasks)


@pytest.mark.parametrize(
    ("error", "says"),
    [(ValueError("no"), "ValueError: no"), (KeyError("x"), "KeyError: 'x'"), (TimeoutError(), "TimeoutError")],
)
def test_the_error_is_a_message_and_the_exception_an_object(manager: TaskManager, error: Exception, says: str) -> None:
    def fails() -> None:
        raise error

    task = manager.create_task("t", fails)
    manager.wait(task, timeout=30)
    assert task.exception is error and task.error == says and task.result is None


class Colour(Enum):
    RED = "red"


@dataclass
class Rich(Task):
    when: datetime
    colour: Colour = Colour.RED
    others: dict[Any, Any] = field(default_factory=dict)

    def run(self) -> object:
        return {"nan": math.nan, "set": {1}, "object": object}


def test_a_record_as_a_dict_is_json_safe(manager: TaskManager) -> None:
    task = manager.add_task(Rich(datetime(2024, 1, 2, tzinfo=UTC), others={1: (Colour.RED, b"bytes")}, name="rich"))
    task.wait(30)
    record = json.loads(json.dumps(task.as_dict(), allow_nan=False))
    assert (record["id"], record["state"], record["progress"]) == (task.id, "completed", 100.0)
    assert (record["when"], record["colour"], record["task_type"]) == ("2024-01-02T00:00:00+00:00", "red", "Rich")
    assert record["others"] == {"1": ["red", "b'bytes'"]}
    assert record["result"] == {"nan": None, "set": [1], "object": "<class 'object'>"}
    assert datetime.fromisoformat(record["completed_at"]) == task.completed_at
    assert set(record) >= {
        "name", "priority", "lane", "backend", "heading", "body", "img", "parameters", "error", "attempts", "parent_id",
        "tags", "after", "timeout", "created_at", "started_at", "cancel_requested_at",
    }  # fmt: skip


def test_a_task_that_is_not_over_has_a_record_too(manager: TaskManager) -> None:
    manager.resize_lane("single", 0)
    record = manager.create_task("t", lambda: 1, lane="single").as_dict()
    assert record["state"] == "pending" and record["progress"] is record["result"] is record["started_at"] is None


@pytest.mark.parametrize(
    ("value", "as_json"),
    [(timedelta(minutes=1), 60.0), (math.inf, None), (frozenset(), []), ({1: {"a": None}}, {"1": {"a": None}})],
)
def test_values_as_json(value: Any, as_json: Any) -> None:
    assert jsonable(value) == as_json


@pytest.mark.parametrize("attribute", ["id", "number", "attempts", "created_at", "result", "exception", "done"])
def test_what_the_manager_writes_cannot_be_set(manager: TaskManager, attribute: str) -> None:
    task = manager.create_task("t", lambda: 1)
    with pytest.raises(AttributeError):
        setattr(task, attribute, None)


@pytest.mark.parametrize("attribute", ["lane", "backend"])
def test_lane_and_backend_are_settled(manager: TaskManager, attribute: str) -> None:
    task = manager.create_task("t", lambda: 1)
    with pytest.raises(errors.ReadOnlyError, match=r"cannot change lane or backend of 't' after it was added"):
        setattr(task, attribute, "other")
