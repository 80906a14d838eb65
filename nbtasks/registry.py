"""The index of a manager's tasks by id and by state; search, and the choice of what to prune.

Pure and synchronous: must know nothing of threads, time or who asks. The manager's lock guards it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from nbtasks.states import TRANSITIONS, TaskState, check_transition, task_state
from nbtasks.task import Task

__all__ = ["PRUNED_STATES", "Registry", "matches", "states_of"]

PRUNED_STATES = (TaskState.COMPLETED, TaskState.CANCELLED)
"""Failed tasks are never pruned by themselves."""

_STARTED = check_transition(TaskState.PENDING, TaskState.RUNNING)

_MISSING = object()


class Registry:
    """All tasks that a manager has, filed by state.

    `by_state` has for each state the tasks by number; for the states that are pruned in the order in which they came
    into it. Every operation on one task is a dict operation; counting never walks.
    """

    __slots__ = ("_pruned", "_running", "_ways", "by_state")

    def __init__(self) -> None:
        # An ordered dict for what is pruned: the first entry of a plain one is found past all those deleted before it.
        self.by_state: dict[TaskState, dict[int, Task]] = {state: {} for state in TaskState}
        self._pruned = {state: OrderedDict[int, Task]() for state in PRUNED_STATES}
        self.by_state.update(self._pruned)
        self._running = self.by_state[_STARTED]
        self._ways = {
            old: {new: (self.by_state[old], self.by_state[new]) for new in news} for old, news in TRANSITIONS.items()
        }

    def __len__(self) -> int:
        return sum(map(len, self.by_state.values()))

    def __contains__(self, task: Task) -> bool:
        return self.by_state[task._state].get(task._number) is task

    def add(self, task: Task) -> None:
        """File a new task under its state."""
        self.by_state[task._state][task._number] = task

    def move(self, task: Task, state: TaskState) -> None:
        """Change the state of a task, here and nowhere else; raises IllegalTransitionError if the table has no such."""
        try:
            old, new = self._ways[task._state][state]
        except KeyError:
            check_transition(task._state, state)
            raise
        number = task._number
        del old[number]
        task._state = state
        new[number] = task

    def add_running(self, task: Task) -> None:
        """File a new task that starts at once."""
        task._state = _STARTED
        self._running[task._number] = task

    def remove(self, task: Task) -> None:
        """File the task no longer."""
        del self.by_state[task._state][task._number]

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
        """Remove and return the task that has been longest in that final state, if there are more than `keep`."""
        tasks = self._pruned[state]
        return tasks.popitem(last=False)[1] if len(tasks) > keep else None

    def surplus(self, state: TaskState, keep: int | None) -> list[Task]:
        """The tasks of a final `state` beyond the `keep` that ended last, and those without a time of completion."""
        tasks = self.by_state[state].values()
        undated = [task for task in tasks if task._completed_at is None]
        dated = sorted((task for task in tasks if task._completed_at is not None), key=attrgetter("_completed_at"))
        return undated + (dated[: max(0, len(dated) - keep)] if keep is not None else [])

    def over(self, states: Iterable[TaskState], before: float | None) -> list[Task]:
        """The tasks in one of the final `states` that ended before that moment, or have no time of completion."""
        return [
            task
            for task in self.tasks(states)
            if before is None or task._completed_at is None or task._completed_at < before
        ]


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
