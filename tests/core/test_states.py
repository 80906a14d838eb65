"""States: the table of transitions, and that nothing changes a state past it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import nbtasks
from nbtasks import TaskManager, TaskState
from nbtasks import exceptions as errors
from nbtasks.registry import Registry
from nbtasks.states import FINAL_STATES, LIVE_STATES, TRANSITIONS, check_transition, task_state


@pytest.mark.parametrize("state", list(TaskState))
def test_only_the_transitions_of_the_table_are_allowed(state: TaskState) -> None:
    for target in TaskState:
        if target in TRANSITIONS[state]:
            assert check_transition(state, target) is target
        else:
            with pytest.raises(errors.IllegalTransitionError, match=f"from {state.value} to {target.value}"):
                check_transition(state, target)


def test_the_registry_makes_the_transitions_of_the_table_and_no_others(manager: TaskManager) -> None:
    registry = Registry()
    for state in TaskState:
        for target in TaskState:
            task = manager.create_task("t", lambda: 1)
            task.wait(30)
            task.internals.state = state
            registry.add(task)
            if target in TRANSITIONS[state]:
                registry.move(task, target)
                assert task in registry and registry.get(task.number) is task
            else:
                with pytest.raises(errors.IllegalTransitionError):
                    registry.move(task, target)
                assert task.internals.state is state
            registry.remove(task)
            task.internals.state = TaskState.COMPLETED
    assert len(registry) == 0


def test_what_is_final_stays_so_and_every_state_is_live_or_final() -> None:
    assert all(not TRANSITIONS[state] for state in FINAL_STATES) and set(TaskState) == LIVE_STATES | FINAL_STATES
    assert TaskState.LOST.is_final and not TaskState.PENDING.is_final


def test_states_compare_equal_to_their_strings() -> None:
    assert TaskState.RUNNING == "running" and task_state("running") is TaskState.RUNNING
    with pytest.raises(errors.UnknownStateError, match=r"unknown task state 'runing': .* did you mean 'running'\?"):
        task_state("runing")


def writers() -> set[str]:
    """`module:function` of each place in the package that writes the state of a task."""
    root = Path(nbtasks.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for function in functions:
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute) and node.attr == "state" and isinstance(node.ctx, ast.Store):
                    owner = ast.unparse(node.value)
                    if owner.split(".")[-1] == "internals" or path.name == "task.py":
                        found.add(f"{path.relative_to(root)}:{function.name}")
    return found


def test_only_the_registry_changes_a_state_and_it_takes_the_way_of_the_table() -> None:
    """A new task is pending. (The stand-in for a task in a worker process has no registry.)"""
    assert writers() == {"registry.py:move", "workers/worker_side.py:make"}


@pytest.mark.parametrize("value", ["completed", TaskState.RUNNING, None])
def test_the_state_is_set_by_the_manager_alone(manager: TaskManager, value: object) -> None:
    task = manager.create_task("t", lambda: None)
    with pytest.raises(errors.ReadOnlyError, match=r"task\.state is set by the manager alone, not to ") as caught:
        task.state = value  # type: ignore[misc]
    assert repr(value) in str(caught.value) and isinstance(caught.value, AttributeError)
