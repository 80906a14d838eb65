"""How tasks and lanes are steered: cancel, priority, progress, pruning, limits.

Must not create tasks, nor wait for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from types import MappingProxyType

from nbtasks.asking import Catalogue
from nbtasks.checks import checked_age, checked_keep, checked_priority
from nbtasks.exceptions import InvalidValueError, LaneError
from nbtasks.lanes import Lane
from nbtasks.registry import PRUNED_STATES, states_of
from nbtasks.states import FINAL_STATES, LIVE_STATES, TaskState
from nbtasks.task import Task
from nbtasks.threads import uninterrupted

__all__ = ["Steering"]


class Steering(Catalogue):
    """The part of `TaskManager` that steers."""

    @uninterrupted
    def cancel_task(self, task: Task | str, *, children: bool = True) -> bool:
        """True: the task will be or is cancelled, and so will its children; False: it is unknown or already over.

        What is pending is cancelled at once, what runs is asked to stop, and again each time this is called.
        """
        known = self._known(task)
        return known is not None and self._dispatcher.cancel(known, children=children)

    @uninterrupted
    def set_priority(self, task: Task | str, priority: int) -> bool:
        """Change the place of a pending task among those that wait, at once; False if it is unknown or not pending."""
        known = self._known(task)
        number = checked_priority(priority)
        return known is not None and self._dispatcher.change(partial(self._prioritise, known, number))

    def _prioritise(self, task: Task, priority: int) -> bool:
        if task._state is not TaskState.PENDING:
            return False
        lane = self._dispatcher.lanes[task._lane]
        queued = lane.discard(task)
        task._priority = priority
        if queued:
            lane.push(task)
        return True

    def update_progress(self, task: Task | str, progress: float | None, body: str | None = None) -> bool:
        """Set a task's progress and, if given, its body; False if it is unknown or over."""
        known = self._known(task)
        if known is None or known.done:
            return False
        known.progress = progress
        if body is not None:
            known.body = body
        return True

    # -- what is kept -----------------------------------------------------------------------------------------

    @uninterrupted
    def remove_task(self, task: Task | str) -> bool:
        """Forget a task that is over; False if it is unknown or not over. Handles on it go on working."""
        known = self._known(task)
        return known is not None and self._dispatcher.change(partial(self._drop, [known])) == 1

    @uninterrupted
    def prune(self, state: TaskState | str | None = None, older_than: float | timedelta | None = None) -> int:
        """Forget tasks that are over, the completed and cancelled ones or those in `state`; how many.

        `older_than`: only those that ended longer ago than so many seconds, and those with no time of completion.
        """
        states = list(PRUNED_STATES) if state is None else states_of(state)
        if not set(states) <= FINAL_STATES:
            raise InvalidValueError(f"only tasks that are over can be pruned, not {state!r} ones")
        before = None if older_than is None else self._dispatcher.time() - checked_age(older_than)
        dispatcher = self._dispatcher
        return dispatcher.change(lambda: self._drop(dispatcher.registry.over(states, before)))

    @property
    def max_succeeded_tasks(self) -> int | None:
        """How many completed tasks are kept, the newest, and as many cancelled ones; None: all. May be changed."""
        return self._dispatcher.keep

    @max_succeeded_tasks.setter
    @uninterrupted
    def max_succeeded_tasks(self, keep: int | None) -> None:
        dispatcher = self._dispatcher
        dispatcher.keep = checked_keep(keep)
        for state in PRUNED_STATES:
            dispatcher.change(lambda state=state: self._drop(dispatcher.registry.surplus(state, keep)))  # type: ignore[misc]

    def _drop(self, tasks: Iterable[Task]) -> int:
        """Under the lock: let the registry forget these tasks, as far as they are over; how many it had."""
        registry = self._dispatcher.registry
        had = [task for task in tasks if task._state not in LIVE_STATES and task in registry]
        for task in had:
            registry.remove(task)
            self._dispatcher.forgotten(task)
        return len(had)

    # -- limits -----------------------------------------------------------------------------------------------

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The lanes by name, with their `limit`, and how many tasks are `running` and `pending` in them. To be read."""
        return MappingProxyType(self._dispatcher.lanes.by_name)

    @uninterrupted
    def add_lane(self, name: str, limit: int | None) -> Lane:
        """Add a lane in which `limit` tasks may run at once (None: any number). Raises LaneError."""
        with self._dispatcher.lock:
            return self._dispatcher.lanes.add(name, limit)

    @uninterrupted
    def resize_lane(self, name: str, limit: int | None) -> None:
        """Change a lane's limit. What runs beyond a lower one goes on; 0 lets nothing start. Raises LaneError."""
        self._dispatcher.change(lambda: self._dispatcher.fill([self._dispatcher.lanes.resize(name, limit)]))

    @uninterrupted
    def remove_lane(self, name: str) -> None:
        """Remove a lane that no pending or running task is in; raises LaneError."""
        with self._dispatcher.lock:
            users = [task.name for task in self._dispatcher.registry.tasks(LIVE_STATES) if task._lane == name]
            if users:
                raise LaneError(f"the lane {name!r} is in use by {len(users)} tasks, {users[0]!r} among them")
            self._dispatcher.lanes.remove(name)

    @property
    def max_concurrent_tasks(self) -> int | None:
        """How many tasks may run at once in all lanes together; None: no limit. May be changed."""
        return self._dispatcher.lanes.max_running

    @max_concurrent_tasks.setter
    @uninterrupted
    def max_concurrent_tasks(self, limit: int | None) -> None:
        lanes = self._dispatcher.lanes

        def change() -> None:
            lanes.limit_all(limit)
            self._dispatcher.fill(lanes.values())

        self._dispatcher.change(change)
