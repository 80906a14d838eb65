"""Bad input: an error that names the value, with nothing started or changed."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from nbtasks import NbtasksError, Task, TaskManager
from nbtasks import exceptions as errors


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"lane": "fast"}, errors.UnknownLaneError, "unknown lane 'fast': one of default, multiple, single"),
        ({"lane": "singel"}, errors.UnknownLaneError, r"did you mean 'single'\?"),
        ({"lane": ["single"]}, errors.UnknownLaneError, r"\['single'\]"),
        ({"backend": "gpu"}, errors.UnknownBackendError, r"unknown backend 'gpu': one of .*loop, .*thread"),
        ({"priority": "high"}, errors.PriorityError, "'high'"),
        ({"priority": 1.5}, errors.PriorityError, r"1\.5"),
        ({"priority": True}, errors.PriorityError, "True"),
        ({"timeout": -1}, errors.TimeoutValueError, "-1"),
        ({"timeout": 0}, errors.TimeoutValueError, "not 0"),
        ({"timeout": "soon"}, errors.TimeoutValueError, "'soon'"),
        ({"timeout": float("nan")}, errors.TimeoutValueError, "nan"),
        ({"work": 5}, errors.WorkError, "5"),
        ({"name": ""}, errors.InvalidValueError, "''"),
        ({"name": None}, errors.InvalidValueError, "None"),
        ({"after": "nowhere"}, errors.UnknownTaskError, "'nowhere'"),
        ({"after": [5]}, errors.UnknownTaskError, "5"),
        ({"tags": [1]}, errors.InvalidValueError, "1"),
        ({"tags": 1}, errors.InvalidValueError, "1"),
        ({"retry": 3}, errors.RetryError, "3"),
    ],
)
def test_a_wrong_argument_of_create_task(
    manager: TaskManager, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        manager.create_task(**{"name": "t", "work": lambda: 1, **arguments})
    assert isinstance(caught.value, NbtasksError) and "\n" not in str(caught.value)
    assert manager.list_tasks() == []


def test_an_option_that_create_task_does_not_have(manager: TaskManager) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'time_out'"):
        manager.create_task("t", int, time_out=3)  # type: ignore[call-arg]
    assert manager.list_tasks() == []


def test_the_signature_of_create_task_names_every_option() -> None:
    """For help and completion."""
    signature = inspect.signature(TaskManager.create_task)
    options = {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert options.pop("lane") == "default" and options.pop("after") == () and options.pop("tags") == ()
    assert set(options.values()) == {None}
    fields = {*inspect.signature(Task).parameters, "parent"} - {"name", "priority", "parent_id", "update_sleep_time"}
    assert {*options, "lane", "after", "tags"} == fields


NO_LIMITS: list[Any] = [-1, 1.5, "3", True]


@pytest.mark.parametrize("limit", NO_LIMITS)
@pytest.mark.parametrize(
    "ask",
    [
        lambda manager, limit: TaskManager(lanes={"own": limit}),
        lambda manager, limit: TaskManager(max_concurrent_tasks=limit),
        lambda manager, limit: manager.add_lane("own", limit),
        lambda manager, limit: manager.resize_lane("default", limit),
        lambda manager, limit: setattr(manager, "max_concurrent_tasks", limit),
    ],
    ids=["lanes=", "max_concurrent_tasks=", "add_lane", "resize_lane", ".max_concurrent_tasks"],
)
def test_what_is_no_limit(manager: TaskManager, ask: Callable[[TaskManager, Any], object], limit: Any) -> None:
    with pytest.raises(errors.LaneError, match="must be a whole number from 0 on") as caught:
        ask(manager, limit)
    assert repr(limit) in str(caught.value)
    assert {name: lane.limit for name, lane in manager.lanes.items()} == {"single": 1, "multiple": 10, "default": 3}
    assert manager.max_concurrent_tasks is None


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda manager: manager.add_lane("single", 2), errors.LaneError, "there is a lane 'single' already"),
        (lambda manager: manager.add_lane("", 2), errors.LaneError, "non-empty string, not ''"),
        (lambda manager: manager.add_lane(5, 2), errors.LaneError, "not 5"),
        (lambda manager: manager.resize_lane("fast", 2), errors.UnknownLaneError, "'fast'"),
        (lambda manager: manager.remove_lane("fast"), errors.UnknownLaneError, "'fast'"),
        (lambda manager: manager.set_priority("t", "high"), errors.PriorityError, "'high'"),
        (lambda manager: manager.wait("nowhere"), errors.UnknownTaskError, "'nowhere'"),
        (lambda manager: manager.search_tasks(state="done"), errors.UnknownStateError, "'done'"),
        (lambda manager: manager.list_tasks("done"), errors.UnknownStateError, "'done'"),
        (lambda manager: manager.prune("running"), errors.InvalidValueError, "'running'"),
        (lambda manager: manager.prune(older_than="a day"), errors.InvalidValueError, "'a day'"),
        (lambda manager: manager.prune(older_than=-1), errors.InvalidValueError, "-1"),
        (lambda manager: manager.add_event_callback("print"), errors.WorkError, "'print'"),
        (lambda manager: manager.add_event_callback(print, "finished"), errors.UnknownEventError, "'finished'"),
        (lambda manager: manager.add_event_callback(print, 5), errors.UnknownEventError, "5"),
        (lambda manager: manager.events([5]), errors.UnknownEventError, "5"),
        (lambda manager: manager.add_task("t"), errors.WorkError, "'t'"),
    ],
)
def test_what_is_asked_wrongly_of_a_manager(
    manager: TaskManager, ask: Callable[[TaskManager], object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        ask(manager)
    assert "\n" not in str(caught.value) and manager.list_tasks() == []


@pytest.mark.parametrize("keep", [-1, 1.5, "all", True])
def test_how_many_to_keep_is_a_whole_number(manager: TaskManager, keep: Any) -> None:
    with pytest.raises(errors.InvalidValueError, match="max_succeeded_tasks must be a whole number") as caught:
        manager.max_succeeded_tasks = keep
    assert repr(keep) in str(caught.value) and manager.max_succeeded_tasks == 10
    with pytest.raises(errors.InvalidValueError):
        TaskManager(max_succeeded_tasks=keep)


@pytest.mark.parametrize("timeout", ["soon", float("nan"), True, [1]])
def test_how_long_to_wait_is_a_number_of_seconds(manager: TaskManager, gate: threading.Event, timeout: Any) -> None:
    task = manager.create_task("t", gate.wait)
    for wait in (task.wait, manager.wait):
        with pytest.raises(errors.TimeoutValueError, match="timeout must be a number of seconds") as caught:
            wait(timeout=timeout)
        assert repr(timeout) in str(caught.value)
    for nothing in (0, -1, timedelta(0)):  # as what is left of a time limit may be
        with pytest.raises(errors.WaitTimeoutError, match="timed out after 0 s"):
            task.wait(nothing)
    gate.set()
    assert task.wait(float("inf")) is True


async def test_how_long_to_wait_for_all_is_a_number_of_seconds(manager: TaskManager) -> None:
    with pytest.raises(errors.TimeoutValueError, match="'soon'"):
        await manager.wait_all(timeout="soon")  # type: ignore[arg-type]


def test_every_error_of_the_tree_is_drawn_at_its_top() -> None:
    tree = errors.__doc__ or ""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, NbtasksError)]
    assert [kind.__name__ for kind in kinds if kind.__name__ not in tree] == []
    assert {kind.__name__ for kind in kinds} | {"unknown"} == set(errors.__all__)


def test_a_name_that_is_near_is_suggested() -> None:
    assert errors.unknown("lane", "singel", ["single", "default"]) == (
        "unknown lane 'singel': one of default, single; did you mean 'single'?"
    )
    assert errors.unknown("lane", 5, ["single"]) == "unknown lane 5: one of single"


def test_a_task_does_not_stand_for_its_name(manager: TaskManager) -> None:
    task: Task = manager.create_task("t", lambda: 1)
    assert manager.cancel_task("t") is False and manager.get_task("t") is None
    task.wait(30)
