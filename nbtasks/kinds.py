"""What a kind of task says for itself: its work, its progress hook, and hooks for kinds of tasks of our own.

Must not know when any of it is called: that is the business of `hooks` and of the backends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from nbtasks.exceptions import WorkError
from nbtasks.states import TaskState

if TYPE_CHECKING:
    from nbtasks.task import Outcome, Task

__all__ = ["Kind"]


class Kind:
    """The part of `Task` that its subclasses override."""

    __slots__ = ()

    _awaits_result: ClassVar[bool] = True
    """Whether an awaitable that plain work returns is awaited, as part of the work."""

    def run(self) -> Any:
        """Do the work; its return value is the task's result. Subclasses override it, as a plain or async method."""
        raise WorkError(f"{type(self).__name__} has no run(self): a Task subclass needs one")

    def progress_hook(self) -> Any:
        """Set `self.progress` and the like, or return the progress, from a file, an API, a log; plain or async.

        Called while the task runs, never twice at a time. If it raises, the last progress stays.
        """

    # -- hooks for kinds of tasks of our own ------------------------------------------------------------------

    def _may_follow(self, other: Task) -> bool:
        """Whether it may start, now that `other`, which it comes after, ended as it did."""
        return other._state is TaskState.COMPLETED

    def _attempt_ended(self, outcome: Outcome) -> Outcome | None:  # noqa: ARG002 - its name is for subclasses
        """Called once per attempt, where it ended, before the state is final; what it returns replaces the outcome."""
        return None

    def _wait_ended(self) -> None:
        """Called where somebody waited for this task, which is over, before the result or error is handed over."""

    def _release(self) -> None:
        """Drop what a kind of task holds besides; also called when the manager prunes the task."""
