"""What a task asks of its manager: the interfaces `TaskOwner` and `Bus`.

Must not know what a manager is.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nbtasks.task import Task

__all__ = ["Bus", "TaskOwner"]


class Bus(Protocol):
    """Where a task says that something has changed."""

    watches_progress: bool
    watches_output: bool

    def progressed(self, task: Task) -> None:
        """Its progress, heading, body or img changed."""

    def wrote(self, task: Task) -> None:
        """It wrote output."""


class TaskOwner(Protocol):
    """What a task asks of its manager."""

    bus: Bus

    def cancel_task(self, task: Task | str, *, children: bool = True) -> bool:
        """See `Task.cancel`."""

    def set_priority(self, task: Task | str, priority: int) -> bool:
        """See `Task.priority`."""

    def create_child(self, parent: Task, name: str, work: Any, priority: int = 0, **options: Any) -> Task:
        """See `Task.create_child`."""

    def _wait_in_loop(self, task: Task) -> Generator[Any, Any, Any]: ...
    def _wait_in_thread(self, task: Task, timeout: float | timedelta | None) -> Any: ...
