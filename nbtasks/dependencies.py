"""What ties tasks to each other and to those that wait for them; and how one that waits lends its slot.

Pure and synchronous: must know nothing of threads, loops or attempts. The manager's lock guards it all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nbtasks.lanes import Lanes
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Task

__all__ = [
    "Ties",
    "WaitBook",
    "Waiter",
    "leads_back",
    "live_children",
    "tie_to_blockers",
    "tie_to_parent",
    "ties_of",
    "untie_blocker",
]


class Waiter:
    """Somebody who waits until `left` tasks are over, and is then woken by `wake()`, outside the lock."""

    left = 1
    last_number = 0
    """If not 0: waits for every task up to this number."""
    endless = False
    """Whether nothing but the end of the tasks ends it, and its own task does nothing else meanwhile."""
    for_task: Task | None = None
    """The task as part of which somebody waits."""

    def __init__(self, wake: Callable[[], object], tasks: list[Task]) -> None:
        self.wake = wake
        self.tasks = tasks


class Ties:
    """What few tasks have, and only for a time. What is rare even among them stands in the class until it is used."""

    blockers: list[Task] | tuple[Task, ...] = ()
    """The tasks of `after` that are not over."""
    dependants: list[Task] | tuple[Task, ...] = ()
    """The tasks that come after this one."""
    children: dict[int, Task] | None = None
    """Live ones."""
    parent: Task | None = None
    retry_timer: Any = None
    waits_on: list[Waiter] | tuple[Waiter, ...] = ()
    """Its own waits for other tasks."""

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []


def ties_of(task: Task) -> Ties:
    """The ties of a task, made on first use."""
    if task._ties is None:
        task._ties = Ties()
    ties: Ties = task._ties
    return ties


def tie_to_parent(task: Task, parent: Task) -> None:
    """Let a cancel of `parent` find its live child."""
    ties = ties_of(parent)
    if ties.children is None:
        ties.children = {}
    ties.children[task._number] = task
    ties_of(task).parent = parent


def live_children(task: Task) -> list[Task]:
    """The children of `task` that are pending or running."""
    ties: Ties | None = task._ties
    return [] if ties is None or not ties.children else list(ties.children.values())


def tie_to_blockers(task: Task, others: Iterable[Task]) -> None:
    """Let `task` come after live `others`."""
    ties_of(task).blockers = blockers = list(others)
    for other in blockers:
        ties = ties_of(other)
        ties.dependants = [*ties.dependants, task]


def untie_blocker(task: Task, other: Task) -> bool:
    """`other` has completed; whether `task` has nothing left to come after."""
    ties = ties_of(task)
    ties.blockers = [blocker for blocker in ties.blockers if blocker is not other]
    return not ties.blockers


def leads_back(current: Task, tasks: Iterable[Task]) -> list[Task]:
    """If one of `tasks` waits in the end for `current`: the way from there to `current`. Else nothing."""
    seen: set[int] = set()
    todo = [[task] for task in tasks]
    while todo:
        way = todo.pop()
        last = way[-1]
        if last is current:
            return way
        if last._number in seen or last._ties is None:
            continue
        seen.add(last._number)
        waited_for = [task for waiter in last._ties.waits_on if waiter.endless for task in waiter.tasks]
        todo += [[*way, task] for task in (*last._ties.blockers, *waited_for) if task._state in LIVE_STATES]
    return []


class WaitBook:
    """Who waits for which tasks. A task as part of which somebody waits lends its slot to what is waited for.

    A task is `wanted` while a running one waits for it, or for one that comes after it: it may then start although its
    lane is full, if a task of that lane stands still. So parents and children in one lane never deadlock.
    """

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self.watermarks: list[Waiter] = []
        """Those who wait for all that was live when they came."""

    def begin(self, waiter: Waiter, current: Task | None) -> None:
        """`waiter` begins to wait for `waiter.tasks`, all of them live, as part of `current`."""
        waiter.left = len(waiter.tasks)
        if waiter.last_number:
            self.watermarks.append(waiter)
        else:
            for task in waiter.tasks:
                ties_of(task).waiters.append(waiter)
        waiter.for_task = current
        if current is not None and current._state is TaskState.RUNNING:
            ties = ties_of(current)
            if not ties.waits_on:
                self._lanes.pause(self._lanes[current._lane])
            ties.waits_on = [*ties.waits_on, waiter]
            for task in waiter.tasks:
                self._want(task, 1)

    def end(self, waiter: Waiter) -> None:
        """`waiter` waits no longer, for whatever reason."""
        if waiter.last_number:
            if waiter in self.watermarks:
                self.watermarks.remove(waiter)
        else:
            for task in waiter.tasks:
                if task._ties is not None and waiter in task._ties.waiters:
                    task._ties.waiters.remove(waiter)
        current = waiter.for_task
        if current is not None and current._ties is not None and waiter in current._ties.waits_on:
            current._ties.waits_on = [other for other in current._ties.waits_on if other is not waiter]
            for task in waiter.tasks:
                self._want(task, -1)
            if not current._ties.waits_on:
                self._lanes.resume(self._lanes[current._lane])

    def end_all_of(self, task: Task) -> None:
        """The work of `task` has stopped, though something that it left behind still waits as part of it."""
        waits, task._ties.waits_on = task._ties.waits_on, ()
        for waiter in waits:
            for other in waiter.tasks:
                self._want(other, -1)
        if waits:
            self._lanes.resume(self._lanes[task._lane])

    def forget(self, task: Task, blockers: Iterable[Task]) -> None:
        """A wanted `task` is over: what it was to come after is no longer wanted through it."""
        for blocker in blockers:
            self._want(blocker, -task._wanted)

    def came(self, task: Task) -> None:
        """A task was added; some who wait for everything up to a number wait for it too."""
        for waiter in self.watermarks:
            if task._number <= waiter.last_number:
                waiter.left += 1
                waiter.tasks.append(task)

    def _want(self, task: Task, change: int) -> None:
        """A running task waits for `task`, and so for all that it comes after; or, by -1, no longer does."""
        todo = [task]
        while todo:
            task = todo.pop()
            if task._state not in LIVE_STATES:
                continue
            task._wanted += change
            if change > 0 and task._state is TaskState.PENDING:
                lane = self._lanes[task._lane]
                if lane.holds(task):
                    lane.want(task)
            if task._ties is not None:
                todo.extend(task._ties.blockers)
