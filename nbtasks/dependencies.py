"""Dependencies (`after`), children, waiters, deadlock detection and lent slots.

No locks and no threads here: the manager's lock guards it all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from nbtasks.lanes import Lanes
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Task

__all__ = [
    "Relations",
    "Waiter",
    "Waiters",
    "add_child",
    "add_dependencies",
    "deadlock_path",
    "live_children",
    "relations_of",
    "resolve_dependency",
]


class Waiter:
    """A wait for tasks: `wake()` is called, without the lock, when none is `left`."""

    left = 1
    last_number = 0
    """If not 0: waits for every task up to this number."""
    endless = False
    """Whether only the end of the tasks ends it, and its own task does nothing else meanwhile."""
    for_task: Task | None = None
    """The task whose work waits."""

    def __init__(self, wake: Callable[[], object], tasks: list[Task]) -> None:
        self.wake = wake
        self.tasks = tasks


@dataclass(slots=True, eq=False)
class Relations:
    """The relations of a live task to others (`task.internals.relations`)."""

    dependencies: list[Task] = field(default_factory=list)
    """The live tasks that it comes after."""
    dependants: list[Task] = field(default_factory=list)
    """The tasks that come after it."""
    children: dict[int, Task] = field(default_factory=dict)
    """Live ones."""
    parent: Task | None = None
    retry_timer: Any = None
    waits: list[Waiter] = field(default_factory=list)
    """Its own waits for other tasks."""
    waiters: list[Waiter] = field(default_factory=list)
    """The waits for this task."""


def relations_of(task: Task) -> Relations:
    """The relations of a task, made on first use."""
    internals = task.internals
    if internals.relations is None:
        internals.relations = Relations()
    relations: Relations = internals.relations
    return relations


def add_child(parent: Task, task: Task) -> None:
    """Let a cancel of `parent` find its live child `task`."""
    relations_of(parent).children[task.number] = task
    relations_of(task).parent = parent


def live_children(task: Task) -> list[Task]:
    """The children of `task` that are pending or running."""
    relations: Relations | None = task.internals.relations
    return [] if relations is None else list(relations.children.values())


def add_dependencies(task: Task, others: Iterable[Task]) -> None:
    """Let `task` come after the live `others`."""
    relations_of(task).dependencies = dependencies = list(others)
    for other in dependencies:
        relations_of(other).dependants.append(task)


def resolve_dependency(task: Task, other: Task) -> bool:
    """`other` has completed; whether `task` has no dependency left."""
    relations = relations_of(task)
    relations.dependencies = [dependency for dependency in relations.dependencies if dependency is not other]
    return not relations.dependencies


def deadlock_path(current: Task, tasks: Iterable[Task]) -> list[Task]:
    """If one of `tasks` waits, directly or not, for `current`: the path from it to `current`. Else empty."""
    seen: set[int] = set()
    todo = [[task] for task in tasks]
    while todo:
        path = todo.pop()
        last = path[-1]
        if last is current:
            return path
        relations: Relations | None = last.internals.relations
        if last.number in seen or relations is None:
            continue
        seen.add(last.number)
        waited_for = [task for waiter in relations.waits if waiter.endless for task in waiter.tasks]
        todo += [[*path, task] for task in (*relations.dependencies, *waited_for) if task.state in LIVE_STATES]
    return []


class Waiters:
    """The waits for tasks of one manager.

    A task whose work waits lends its slot to the tasks it waits for. A task is `wanted` while a running one waits for
    it, or for one that comes after it: it may then start although its lane is full, if a task of that lane is waiting.
    So parents and children in one lane never deadlock.
    """

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self.watermarks: list[Waiter] = []
        """Waits for all tasks that were live when the wait began."""

    def begin(self, waiter: Waiter, current: Task | None) -> None:
        """Begin a wait for `waiter.tasks`, all of them live, in the work of `current`."""
        waiter.left = len(waiter.tasks)
        if waiter.last_number:
            self.watermarks.append(waiter)
        else:
            for task in waiter.tasks:
                relations_of(task).waiters.append(waiter)
        waiter.for_task = current
        if current is not None and current.state is TaskState.RUNNING:
            relations = relations_of(current)
            if not relations.waits:
                self._lanes.pause(self._lanes[current.lane])
            relations.waits.append(waiter)
            for task in waiter.tasks:
                self._want(task, 1)

    def end(self, waiter: Waiter) -> None:
        """End a wait, for whatever reason."""
        if waiter.last_number:
            if waiter in self.watermarks:
                self.watermarks.remove(waiter)
        else:
            for task in waiter.tasks:
                relations: Relations | None = task.internals.relations
                if relations is not None and waiter in relations.waiters:
                    relations.waiters.remove(waiter)
        current = waiter.for_task
        own: Relations | None = None if current is None else current.internals.relations
        if current is not None and own is not None and waiter in own.waits:
            own.waits.remove(waiter)
            for task in waiter.tasks:
                self._want(task, -1)
            if not own.waits:
                self._lanes.resume(self._lanes[current.lane])

    def end_all_of(self, task: Task) -> None:
        """End the waits of `task`, whose work has stopped; threads that it left behind may still wait."""
        relations: Relations | None = task.internals.relations
        if relations is None or not relations.waits:
            return
        waits, relations.waits = relations.waits, []
        for waiter in waits:
            for other in waiter.tasks:
                self._want(other, -1)
        self._lanes.resume(self._lanes[task.lane])

    def forget(self, task: Task, dependencies: Iterable[Task]) -> None:
        """A wanted `task` has finished: its dependencies are no longer wanted through it."""
        for dependency in dependencies:
            self._want(dependency, -task.internals.wanted)

    def added(self, task: Task) -> None:
        """Include a new task in the waits for all tasks up to a number, if its own is not above that."""
        for waiter in self.watermarks:
            if task.number <= waiter.last_number:
                waiter.left += 1
                waiter.tasks.append(task)

    def recount(self, waiters: Iterable[Waiter]) -> None:
        """Count again which tasks these waits have left."""
        for waiter in waiters:
            waiter.left = sum(task.state in LIVE_STATES for task in waiter.tasks if task is not waiter.for_task)

    def _want(self, task: Task, change: int) -> None:
        """Count waits of running tasks for `task`, and so for its dependencies: 1 begins, -1 ends."""
        todo = [task]
        while todo:
            task = todo.pop()
            internals = task.internals
            if internals.state not in LIVE_STATES:
                continue
            internals.wanted += change
            if change > 0 and internals.state is TaskState.PENDING:
                lane = self._lanes[task.lane]
                if lane.holds(task):
                    lane.want(task)
            if internals.relations is not None:
                todo.extend(internals.relations.dependencies)
