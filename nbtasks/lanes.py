"""Lanes: limits on how many tasks run at once, each with a queue of pending tasks.

No locks and no threads here: the manager's lock guards the lanes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import heappop, heappush
from math import inf

from nbtasks import validation
from nbtasks.exceptions import LaneError, UnknownLaneError, unknown
from nbtasks.task import Task

__all__ = ["STANDARD_LANES", "Lane", "Lanes"]

STANDARD_LANES: Mapping[str, int] = {"single": 1, "multiple": 10, "default": 3}

_NUMBER_BITS = 48
_COMPACT_FROM = 64


def order_key(task: Task) -> int:
    """One number that orders tasks: by priority, higher ones first, then in the order of their creation."""
    internals = task.internals
    return internals.number - (internals.priority << _NUMBER_BITS)


class Lane:
    """A named limit on how many tasks run at once, and the pending tasks of the lane.

    `limit` None means no limit; `capacity` is infinite then. The queue is a heap of order keys with lazy deletion: the
    tasks of the lane are those of `queued`, so that removing one costs one dict operation, wherever in the queue it is.
    """

    __slots__ = ("_heap", "_wanted", "capacity", "name", "paused", "queued", "running")

    def __init__(self, name: str, limit: int | None) -> None:
        self.name = name
        self.limit = limit
        self.running = 0
        """How many tasks of this lane run."""
        self.paused = 0
        """How many of those wait for another task: their slots can be lent."""
        self.queued: dict[int, Task] = {}
        self._heap: list[int] = []
        self._wanted: list[int] = []
        """A second heap, of the keys of tasks that running tasks wait for: they may use slots that are lent."""

    def __repr__(self) -> str:
        return f"<Lane {self.name!r}: {self.running} of {self.limit} running, {self.pending} pending>"

    @property
    def limit(self) -> int | None:
        """How many tasks may run at once, or None."""
        return None if self.capacity == inf else int(self.capacity)

    @limit.setter
    def limit(self, limit: int | None) -> None:
        limit = validation.limit(self.name, limit)
        self.capacity = inf if limit is None else limit

    @property
    def pending(self) -> int:
        """How many tasks wait for a slot."""
        return len(self.queued)

    @property
    def wants_slots(self) -> bool:
        """Whether there may be pending tasks that running ones wait for."""
        return bool(self._wanted)

    def has_free_slot(self) -> bool:
        """Whether any task may start."""
        return self.running < self.capacity

    def can_lend(self) -> bool:
        """Whether a task that a running one waits for may start."""
        return self.running - self.paused < self.capacity

    def push(self, task: Task) -> None:
        """Queue a task."""
        key = order_key(task)
        self.queued[key] = task
        heappush(self._heap, key)
        if task.internals.wanted:
            heappush(self._wanted, key)

    def holds(self, task: Task) -> bool:
        """Whether `task` is in the queue."""
        return self.queued.get(order_key(task)) is task

    def discard(self, task: Task) -> bool:
        """Take a task out of the queue; False if it was not there."""
        if self.queued.pop(order_key(task), None) is None:
            return False
        if len(self._heap) > 2 * len(self.queued) + _COMPACT_FROM:  # the cost is spread over the calls that led here
            self._heap = sorted(self.queued)
        return True

    def want(self, task: Task) -> None:
        """Note that a running task waits for `task`, which is in the queue."""
        heappush(self._wanted, order_key(task))
        if len(self._wanted) > 2 * len(self.queued) + _COMPACT_FROM:
            self._wanted = sorted(key for key, queued in self.queued.items() if queued.internals.wanted)

    def head(self) -> int | None:
        """The order key of the next task; None if the queue is empty."""
        while self._heap and self._heap[0] not in self.queued:
            heappop(self._heap)
        return self._heap[0] if self._heap else None

    def pop(self) -> Task | None:
        """Take the next task out of the queue."""
        while self._heap:
            task = self.queued.pop(heappop(self._heap), None)
            if task is not None:  # else it was taken out before, or its priority changed
                return task
        return None

    def pop_wanted(self) -> Task | None:
        """Take out the next task that a running one waits for."""
        while self._wanted:
            key = heappop(self._wanted)
            task = self.queued.get(key)
            if task is not None and task.internals.wanted:
                del self.queued[key]
                return task
        return None


class Lanes(Mapping[str, Lane]):
    """The lanes of one manager, by name, and the limit over all of them.

    `admit` takes a slot for the task that it returns; `pass_on` gives it back.
    """

    def __init__(self, limits: Mapping[str, int | None], max_running: int | None = None) -> None:
        self.by_name: dict[str, Lane] = {}
        self.max_running = validation.limit("max_concurrent_tasks", max_running)
        for name, limit in limits.items():
            self.add(name, limit)

    def __getitem__(self, name: str) -> Lane:
        try:
            return self.by_name[name]
        except (KeyError, TypeError):  # TypeError: it cannot be a key
            raise UnknownLaneError(unknown("lane", name, self.by_name)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    @property
    def running(self) -> int:
        """How many tasks run in all lanes."""
        lanes = list(self.by_name.values())  # readable without the lock, while another thread adds a lane
        return sum(lane.running for lane in lanes)

    @property
    def paused(self) -> int:
        """How many of those wait for another task."""
        return sum(lane.paused for lane in self.by_name.values())

    def add(self, name: str, limit: int | None) -> Lane:
        """Add a lane; raises LaneError if there is one of that name."""
        if not isinstance(name, str) or not name:
            raise LaneError(f"a lane's name must be a non-empty string, not {name!r}")
        if name in self.by_name:
            raise LaneError(f"there is a lane {name!r} already; resize it to change its limit")
        lane = self.by_name[name] = Lane(name, limit)
        return lane

    def resize(self, name: str, limit: int | None) -> Lane:
        """Change a lane's limit. If more tasks than that are running, they continue."""
        lane = self[name]
        lane.limit = limit
        return lane

    def limit_all(self, limit: int | None) -> None:
        """Change the limit over all lanes."""
        self.max_running = validation.limit("max_concurrent_tasks", limit)

    def remove(self, name: str) -> None:
        """Remove a lane in which no task is running or pending; raises LaneError otherwise."""
        lane = self[name]
        if lane.running or lane.pending:
            raise LaneError(f"the lane {name!r} is in use: {lane.running} running, {lane.pending} pending")
        del self.by_name[name]

    def enter(self, lane: Lane, task: Task) -> bool:
        """Take a slot for a new task if one is free, else queue the task; whether it has a slot."""
        if not lane.queued and lane.running < lane.capacity and (self.max_running is None or self._has_free_slot()):
            lane.running += 1
            return True
        lane.push(task)
        return False

    def admit(self, lane: Lane) -> Task | None:
        """The next task of `lane`, with its slot taken; None if none may start there now."""
        task = None
        if not lane.queued:
            return None
        if lane.running < lane.capacity and (self.max_running is None or self._has_free_slot()):
            task = lane.pop()
        elif lane.wants_slots and lane.can_lend() and self._can_lend():
            task = lane.pop_wanted()
        if task is not None:
            lane.running += 1
        return task

    def admit_any(self) -> Task | None:
        """The next task of all lanes: the first in order among the lanes with a free slot."""
        heads = [
            (head, lane) for lane in self.by_name.values() if lane.has_free_slot() and (head := lane.head()) is not None
        ]
        if heads and self._has_free_slot():
            return self.admit(min(heads, key=lambda entry: entry[0])[1])
        for lane in self.by_name.values():
            if lane.wants_slots and (task := self.admit(lane)) is not None:
                return task
        return None

    def pass_on(self, lane: Lane) -> Task | None:
        """Give back a slot of `lane`; the task that takes it, if one may. (One free slot admits one task.)"""
        lane.running -= 1
        if self.max_running is not None:
            return self.admit_any()
        return self.admit(lane) if lane.queued else None

    def pause(self, lane: Lane) -> None:
        """A running task of `lane` begins to wait for another: its slot can be lent."""
        lane.paused += 1

    def resume(self, lane: Lane) -> None:
        """A running task of `lane` no longer waits."""
        lane.paused -= 1

    def recount(self, running: Iterable[Task]) -> None:
        """Count the slots again, from the tasks that run."""
        for lane in self.by_name.values():
            lane.running = lane.paused = 0
        for task in running:
            lane, relations = self[task.lane], task.internals.relations
            lane.running += 1
            lane.paused += relations is not None and bool(relations.waits)

    def _has_free_slot(self) -> bool:
        return self.max_running is None or self.running < self.max_running

    def _can_lend(self) -> bool:
        return self.max_running is None or self.running - self.paused < self.max_running
