"""What a manager tells of its tasks: by id, by state, by any attribute, in numbers.

Must not change anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from nbtasks.dispatch import Dispatcher
from nbtasks.exceptions import UnknownTaskError
from nbtasks.registry import matches, states_of
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import PastAttempt, Task, number_of

__all__ = ["ActiveTasks", "Catalogue"]


class Catalogue:
    """The part of `TaskManager` that is asked."""

    _dispatcher: Dispatcher

    def get_task(self, task: Task | str) -> Task | None:
        """The task of that id, if this manager has it (still)."""
        registry = self._dispatcher.registry
        with self._dispatcher.lock:
            if isinstance(task, Task):
                return task if task in registry else None
            number = number_of(task)
            return None if number is None else registry.get(number)

    def list_tasks(self, state: TaskState | str | None = None) -> list[Task]:
        """All tasks, or those in one state, oldest first. Raises UnknownStateError."""
        states = states_of(state)
        with self._dispatcher.lock:
            tasks = self._dispatcher.registry.tasks(states)
        tasks.sort(key=attrgetter("_number"))
        return tasks

    def search_tasks(self, **criteria: Any) -> list[Task]:
        """The tasks, oldest first, whose attributes have these values or satisfy these predicates.

        `state` takes a state or several; `task_type` a class or its name; `tags` one tag or several, all of which the
        task must have. Own fields of subclasses count too; a task that lacks an attribute does not match.
        """
        return [task for task in self.list_tasks(criteria.pop("state", None)) if matches(task, criteria)]

    def past_attempts(self, task: Task | str) -> list[PastAttempt]:
        """The attempts of a task that failed and were followed by another, oldest first; the last 100 of them."""
        known = self._known(task)
        with self._dispatcher.lock:
            return [] if known is None else list(self._dispatcher.past_attempts.get(known, ()))

    def get_stats(self) -> dict[str, int]:
        """How many tasks there are: total, pending, running, completed, failed, cancelled. Does not walk them."""
        by_state = self._dispatcher.registry.by_state
        with self._dispatcher.lock:
            stats = {state.value: len(tasks) for state, tasks in by_state.items() if state is not TaskState.LOST}
        return {"total": sum(stats.values()), **stats}

    @property
    def active_tasks(self) -> ActiveTasks:
        """The pending and running tasks, live: `len()`, iteration, `task in manager.active_tasks`."""
        return ActiveTasks(self._dispatcher)

    def _known(self, task: Task | str) -> Task | None:
        """The task that is meant, if it is or was this manager's."""
        if isinstance(task, Task):
            return task if task._manager is self._dispatcher.owner else None
        return self.get_task(task)

    def _existing(self, task: Task | str) -> Task:
        known = self._known(task)
        if known is None:
            raise UnknownTaskError(f"this manager has no task {task!r}")
        return known


class ActiveTasks:
    """The pending and running tasks of a manager, as a collection that is always up to date."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __len__(self) -> int:
        with self._dispatcher.lock:
            return self._dispatcher.registry.count(*LIVE_STATES)

    def __iter__(self) -> Iterator[Task]:
        with self._dispatcher.lock:
            tasks = self._dispatcher.registry.tasks(LIVE_STATES)
        tasks.sort(key=attrgetter("_number"))
        return iter(tasks)

    def __contains__(self, task: object) -> bool:
        return isinstance(task, Task) and task._state in LIVE_STATES and task._manager is self._dispatcher.owner

    def __repr__(self) -> str:
        return f"<{len(self)} active tasks>"
