"""The registry of a manager's tasks by state: state changes, search, pruning.

No locks and no threads here: the manager's lock guards a registry.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbtasks.states import FINAL_STATES, TRANSITIONS, TaskState, check_transition, task_state
from nbtasks.task import Task

__all__ = ["PRUNED_STATES", "Registry", "matches", "states_of"]

PRUNED_STATES = (TaskState.COMPLETED, TaskState.CANCELLED)
"""Tasks in these states are pruned when there are too many; failed ones are kept."""

_MISSING = object()


class Registry:
    """All tasks that a manager has, by state.

    `by_state` maps each state to its tasks by number, in the order in which they entered it. Every operation on one
    task is a dict operation; counting does not iterate.
    """

    __slots__ = ("_final", "by_state")

    def __init__(self) -> None:
        # Ordered dicts, for `pop_oldest`: a plain dict finds its first entry by passing all those deleted before it.
        self._final: dict[TaskState, OrderedDict[int, Task]] = {state: OrderedDict() for state in FINAL_STATES}
        self.by_state: dict[TaskState, dict[int, Task]] = {state: self._final.get(state, {}) for state in TaskState}

    def __len__(self) -> int:
        return sum(map(len, self.by_state.values()))

    def __contains__(self, task: Task) -> bool:
        return self.by_state[task.state].get(task.number) is task

    def add(self, task: Task) -> None:
        """Add a new task under its state."""
        self.by_state[task.internals.state][task.internals.number] = task

    def move(self, task: Task, state: TaskState) -> None:
        """Change the state of a task; raises IllegalTransitionError. Nothing else changes states."""
        internals = task.internals
        if state not in TRANSITIONS[internals.state]:
            check_transition(internals.state, state)  # raises
        del self.by_state[internals.state][internals.number]
        internals.state = state
        self.by_state[state][internals.number] = task

    def remove(self, task: Task) -> None:
        """Remove a task."""
        del self.by_state[task.state][task.number]

    def get(self, number: int) -> Task | None:
        """The task of that number."""
        for tasks in self.by_state.values():
            if (task := tasks.get(number)) is not None:
                return task
        return None

    def count(self, *states: TaskState) -> int:
        """How many tasks are in one of `states`."""
        return sum(len(self.by_state[state]) for state in states)

    def tasks(self, states: Iterable[TaskState] = TaskState) -> list[Task]:
        """The tasks in one of `states`, in no particular order."""
        return [task for state in states for task in self.by_state[state].values()]

    def pop_oldest(self, state: TaskState, keep: int) -> Task | None:
        """Remove and return the task that has been longest in that state, if there are more than `keep`."""
        tasks = self._final[state]
        return tasks.popitem(last=False)[1] if len(tasks) > keep else None

    def surplus(self, state: TaskState, keep: int | None) -> list[Task]:
        """The tasks of a final `state` beyond the `keep` newest, and those with no time of completion."""
        tasks = self.by_state[state].values()
        undated = [task for task in tasks if task.internals.completed_at is None]
        dated = sorted((task for task in tasks if task.internals.completed_at is not None), key=_completed_at)
        return undated + (dated[: max(0, len(dated) - keep)] if keep is not None else [])

    def completed_before(self, states: Iterable[TaskState], before: float | None) -> list[Task]:
        """The tasks in one of the final `states` that ended before that time, or have no time of completion."""
        return [
            task
            for task in self.tasks(states)
            if before is None or task.internals.completed_at is None or task.internals.completed_at < before
        ]


def states_of(value: Any) -> list[TaskState]:
    """The states meant by a state, a name, several, a predicate, or None (all)."""
    if value is None:
        return list(TaskState)
    if callable(value):
        return [state for state in TaskState if value(state)]
    names = [value] if isinstance(value, str) else list(value)
    return [task_state(name) for name in names]


def matches(task: Task, criteria: Mapping[str, Any]) -> bool:
    """Whether the task's attributes have these values or satisfy these predicates.

    `task_type` takes a class or its name; `tags` one tag or several, all of which the task must have. A task that lacks
    an attribute does not match.
    """
    return all(_matches(task, *item) for item in criteria.items())


def _matches(task: Task, name: str, wanted: Any) -> bool:
    if name == "task_type":
        return _is_of_type(task, wanted)
    if name == "tags" and not callable(wanted):
        return set([wanted] if isinstance(wanted, str) else wanted) <= set(task.tags)
    value = _value(task, name)
    if value is _MISSING:
        return False
    if callable(wanted):
        predicate: Callable[[Any], Any] = wanted
        return bool(predicate(value))
    return bool(value == wanted)


def _is_of_type(task: Task, wanted: Any) -> bool:
    if isinstance(wanted, type):
        return isinstance(task, wanted)
    return any(cls.__name__ == wanted for cls in type(task).__mro__ if issubclass(cls, Task))


def _value(task: Task, name: str) -> Any:
    """The attribute, or `_MISSING` if there is none yet: `result` raises until the task has finished."""
    try:
        return getattr(task, name)
    except (AttributeError, RuntimeError):
        return _MISSING


def _completed_at(task: Task) -> float:
    return task.internals.completed_at or 0.0
