"""Lanes: how many tasks may run at once, and which of the waiting ones is next.

Pure and synchronous: must know nothing of threads, loops, time, or what a task is beyond its priority and number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
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
    """One number by which tasks are ordered: higher priority first, equal ones in order of creation."""
    return task._number - (task._priority << _NUMBER_BITS) if task._priority else task._number


class Lane:
    """A named limit on how many tasks run at once, and those that wait for it.

    `limit` None means no limit; `capacity` is infinite then, so that one comparison tells whether there is room. Keys
    that come in order, as those of equal priority do, stand in a row; the others in a heap. `queued` says which of them
    still hold, so that taking a task out or changing its priority costs a dict operation and a push.
    """

    __slots__ = ("_heap", "_row", "_wanted", "capacity", "name", "paused", "queued", "running")

    def __init__(self, name: str, limit: int | None) -> None:
        self.name = name
        self.limit = limit
        self.running = 0
        """How many tasks of this lane run."""
        self.paused = 0
        """How many of those stand still because they wait for another task: their slots can be lent."""
        self._row: deque[int] = deque()
        self._heap: list[int] = []
        self.queued: dict[int, Task] = {}
        self._wanted: list[int] = []

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

    def has_room(self) -> bool:
        """Whether any task may start."""
        return self.running < self.capacity

    def can_lend(self) -> bool:
        """Whether a task for which a running one waits may start."""
        return self.running - self.paused < self.capacity

    def push(self, task: Task) -> None:
        """Let `task` wait for a slot."""
        key = order_key(task)
        self.queued[key] = task
        row = self._row
        if not row or row[-1] < key:
            row.append(key)
        else:
            heappush(self._heap, key)
        if task._wanted:
            heappush(self._wanted, key)

    def holds(self, task: Task) -> bool:
        """Whether `task` waits here for a slot."""
        return self.queued.get(order_key(task)) is task

    def discard(self, task: Task) -> bool:
        """Let `task` wait no longer; False if it did not."""
        if self.queued.pop(order_key(task), None) is None:
            return False
        if len(self._row) + len(self._heap) > 2 * len(self.queued) + _COMPACT_FROM:
            self._row = deque(sorted(self.queued))  # its cost is spread over the calls that made it necessary
            self._heap = []
        return True

    def want(self, task: Task) -> None:
        """A running task waits for `task`, which waits here."""
        heappush(self._wanted, order_key(task))
        if len(self._wanted) > 2 * len(self.queued) + _COMPACT_FROM:
            self._wanted = sorted(key for key, queued in self.queued.items() if queued._wanted)

    def head(self) -> int | None:
        """The order key of the next task, or None if none waits."""
        row, heap, queued = self._row, self._heap, self.queued
        while row and row[0] not in queued:
            row.popleft()
        while heap and heap[0] not in queued:
            heappop(heap)
        heads = [keys[0] for keys in (row, heap) if keys]
        return min(heads) if heads else None

    def pop(self) -> Task:
        """Take out the next task, of which there is one at least."""
        row, heap, queued = self._row, self._heap, self.queued
        while True:
            key = heappop(heap) if heap and not (row and row[0] < heap[0]) else row.popleft()
            task = queued.pop(key, None)
            if task is not None:  # else it was taken out, or its priority changed
                return task

    def pop_wanted(self) -> Task | None:
        """Take out the next task for which a running one waits."""
        while self._wanted:
            key = heappop(self._wanted)
            task = self.queued.get(key)
            if task is not None and task._wanted:
                del self.queued[key]
                return task
        return None


class _ByName(dict[str, Lane]):
    """Its error names the lanes there are."""

    def __missing__(self, name: str) -> Lane:
        raise UnknownLaneError(unknown("lane", name, self))


class Lanes(Mapping[str, Lane]):
    """The lanes of one manager, by name, and the limit over all of them.

    `admit` takes a slot for the task it returns; `pass_on` gives it back.
    """

    def __init__(self, limits: Mapping[str, int | None], max_running: int | None = None) -> None:
        self.by_name = _ByName()
        self.max_running = validation.limit("max_concurrent_tasks", max_running)
        for name, limit in limits.items():
            self.add(name, limit)

    def __getitem__(self, name: str) -> Lane:
        try:
            return self.by_name[name]
        except TypeError:  # it cannot be a key
            raise UnknownLaneError(unknown("lane", name, self.by_name)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    @property
    def running(self) -> int:
        """How many tasks run in all lanes. Counted when asked for, which is only where there is a limit over all."""
        lanes = list(self.by_name.values())  # another thread may add one, where this is asked without the lock
        return sum(lane.running for lane in lanes)

    @property
    def paused(self) -> int:
        """How many of those stand still because they wait for another task."""
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
        """Change a lane's limit. What runs beyond a lower one goes on; the lane fills again once it is below."""
        lane = self[name]
        lane.limit = limit
        return lane

    def limit_all(self, limit: int | None) -> None:
        """Change the limit over all lanes."""
        self.max_running = validation.limit("max_concurrent_tasks", limit)

    def remove(self, name: str) -> None:
        """Remove a lane in which nothing runs or waits; raises LaneError otherwise."""
        lane = self[name]
        if lane.running or lane.pending:
            raise LaneError(f"the lane {name!r} is in use: {lane.running} running, {lane.pending} pending")
        del self.by_name[name]

    def has_room(self, name: str) -> bool:
        """Whether a task would start at once in the lane of that name, if there is one; a guess without the lock."""
        lane = self.by_name.get(name)
        return lane is not None and lane.has_room() and self._has_room()

    def admit(self, lane: Lane) -> Task | None:
        """The next task of `lane`, with its slot taken; None if nothing may start there now."""
        queued = lane.queued
        if not queued:
            return None
        if lane.running < lane.capacity and (self.max_running is None or self.running < self.max_running):
            task: Task | None = lane.pop()
        elif lane._wanted and lane.can_lend() and self._can_lend():
            task = lane.pop_wanted()
            if task is None:
                return None
        else:
            return None
        lane.running += 1
        return task

    def admit_any(self) -> Task | None:
        """The next task of whichever lane: the one that is first in order among the lanes that have room."""
        heads = [
            (head, lane) for lane in self.by_name.values() if lane.has_room() and (head := lane.head()) is not None
        ]
        if heads and self._has_room():
            return self.admit(min(heads, key=lambda entry: entry[0])[1])
        for lane in self.by_name.values():
            if lane._wanted and (task := self.admit(lane)) is not None:
                return task
        return None

    def pass_on(self, lane: Lane) -> Task | None:
        """Give back a slot of `lane`; the task that takes it, if one may. (With one slot free more cannot start.)"""
        lane.running -= 1
        if self.max_running is not None:
            return self.admit_any()
        return self.admit(lane) if lane.queued else None

    def pause(self, lane: Lane) -> None:
        """A running task of `lane` begins to wait for another: its slot can be lent."""
        lane.paused += 1

    def resume(self, lane: Lane) -> None:
        """A running task of `lane` waits no longer."""
        lane.paused -= 1

    def _has_room(self) -> bool:
        return self.max_running is None or self.running < self.max_running

    def _can_lend(self) -> bool:
        return self.max_running is None or self.running - self.paused < self.max_running
