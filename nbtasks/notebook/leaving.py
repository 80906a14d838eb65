"""What `exit` and `quit` are in a background cell: they end the task, and the kernel lives. Knows nothing else."""

from __future__ import annotations

__all__ = ["LeaveTask"]


class LeaveTask:
    """Raises SystemExit, which ends the task."""

    def __call__(self, *_: object, **__: object) -> None:
        """End the task."""
        raise SystemExit("exit() ends the task; the kernel goes on")

    def __repr__(self) -> str:
        return "exit() ends this task"
