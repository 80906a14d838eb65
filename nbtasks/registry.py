"""The index of a manager's tasks by id and by state; search, and the choice of what to prune.

Pure and synchronous: must know nothing of threads, time or who asks. The manager's lock guards it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from operator import attrgetter
from typing import Any

from nbtasks.states import LIVE_STATES, TaskState, task_state
from nbtasks.task import Task

__all__ = ["Registry", "matches", "states_of"]

_MISSING = object()


class Registry:
    """All tasks that a manager has, filed by state.

    Within a state they stand in the order in which they came into it, so that the oldest completed one is the first.
    Every operation on one task is a dict operation; counting never walks.
    """

    __slots__ = ("_by_state",)

    def __init__(self) -> None:
        self._by_state: dict[TaskState, dict[int, Task]] = {state: {} for state in TaskState}

    def __len__(self) -> int:
        return sum(map(len, self._by_state.values()))

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks())

    def __contains__(self, task: Task) -> bool:
        return self._by_state[task._state].get(task.number) is task

    def add(self, task: Task) -> None:
        """File a new task under its state."""
        self._by_state[task._state][task.number] = task

    def move(self, task: Task, old: TaskState, new: TaskState) -> None:
        """File a task, whose state has changed, under its new one. One that is new need not have been filed before."""
        by_state, number = self._by_state, task.number
        by_state[old].pop(number, None)
        by_state[new][number] = task

    def remove(self, task: Task) -> None:
        """File the task no longer."""
        del self._by_state[task._state][task.number]

    def get(self, number: int) -> Task | None:
        """The task of that number."""
        for tasks in self._by_state.values():
            if (task := tasks.get(number)) is not None:
                return task
        return None

    def count(self, *states: TaskState) -> int:
        """How many tasks are in one of `states`."""
        return sum([len(self._by_state[state]) for state in states])

    def tasks(self, states: Iterable[TaskState] = TaskState) -> list[Task]:
        """The tasks in one of `states`, oldest first."""
        found = [task for state in states for task in self._by_state[state].values()]
        found.sort(key=attrgetter("number"))
        return found

    def live(self) -> list[Task]:
        """The pending and running tasks, oldest first."""
        return self.tasks(LIVE_STATES)

    def surplus(self, state: TaskState, keep: int | None) -> list[Task]:
        """The tasks of a final `state` beyond the newest `keep`, and those without a time of completion."""
        tasks = self._by_state[state].values()
        if keep is None or len(tasks) <= keep:
            return [task for task in tasks if task.completed_at is None]
        dated = sorted((task for task in tasks if task.completed_at is not None), key=_end)
        undated = [task for task in tasks if task.completed_at is None]
        return undated + dated[: max(0, len(dated) - keep)]

    def oldest(self, state: TaskState) -> Task:
        """The task that has been longest in `state`."""
        return next(iter(self._by_state[state].values()))

    def over(self, states: Iterable[TaskState], before: datetime | None) -> list[Task]:
        """The tasks in one of the final `states` that ended before that moment, or have no time of completion."""
        return [
            task
            for task in self.tasks(states)
            if before is None or task.completed_at is None or task.completed_at < before
        ]


def _end(task: Task) -> datetime:
    assert task.completed_at is not None
    return task.completed_at


def states_of(wanted: Any) -> list[TaskState]:
    """The states meant by a state, its name, several, a predicate, or None for all; raises UnknownStateError."""
    if wanted is None:
        return list(TaskState)
    if callable(wanted):
        return [state for state in TaskState if wanted(state)]
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    return [task_state(name) for name in names]


def matches(task: Task, criteria: Mapping[str, Any]) -> bool:
    """Whether the task's attributes have these values or satisfy these predicates. Runs code of the one who asks.

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
    """The attribute, or `_MISSING` if there is none (yet: asking for a result too early raises)."""
    try:
        return getattr(task, name)
    except (AttributeError, RuntimeError):
        return _MISSING
