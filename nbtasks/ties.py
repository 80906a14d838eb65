"""What ties tasks to each other, and to those who wait for them.

Plain records: must know nothing of what is done with them, which is the dispatcher's business, under its lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbtasks.task import Task

__all__ = ["Ties", "Waiter", "ties_of"]


class Waiter:
    """Somebody who waits until `left` tasks are over, and is then woken by `wake()`, outside the lock."""

    __slots__ = ("for_task", "last_number", "left", "tasks", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.left = 0
        self.wake = wake
        self.tasks: list[Task] = []
        self.last_number = 0
        """If not 0: waits for every task up to this number."""
        self.for_task: Task | None = None
        """The task as part of which somebody waits."""


class Ties:
    """What few tasks have, and only for a time: who waits for them, and for what they wait."""

    __slots__ = ("blockers", "children", "dependants", "parent", "timer", "waiters", "waits_on")

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []
        self.dependants: list[Task] = []
        self.blockers: list[Task] = []
        self.children: dict[int, Task] = {}
        self.parent: Task | None = None
        self.timer: Any = None
        self.waits_on: list[Waiter] = []


def ties_of(task: Task) -> Ties:
    """The ties of a task, made on first use. Under the lock."""
    if task._ties is None:
        task._ties = Ties()
    ties: Ties = task._ties
    return ties
