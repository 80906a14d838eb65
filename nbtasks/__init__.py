"""Background tasks that live in the notebook's own kernel: the public names.

Importing this pulls in neither IPython nor ipywidgets nor Dask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbtasks.events import EventType, Subscription
from nbtasks.exceptions import (
    DeadlockError,
    InvalidValueError,
    NbtasksError,
    ResultNotReadyError,
    TaskCancelledError,
    TaskFailedError,
    TaskTimeoutError,
    WaitTimeoutError,
)
from nbtasks.manager import TaskManager, get_manager
from nbtasks.progress import current_task, track
from nbtasks.states import TaskState
from nbtasks.task import Task

if TYPE_CHECKING:
    from nbtasks.retry import Retry

__all__ = [
    "DeadlockError",
    "EventType",
    "InvalidValueError",
    "NbtasksError",
    "ResultNotReadyError",
    "Retry",
    "Subscription",
    "Task",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskManager",
    "TaskState",
    "TaskTimeoutError",
    "WaitTimeoutError",
    "current_task",
    "get_manager",
    "track",
]


def __getattr__(name: str) -> Any:
    """`Retry`, imported when it is asked for: making its class takes a seventh of the time of `import nbtasks`."""
    if name == "Retry":
        from nbtasks.retry import Retry

        return Retry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext nbtasks`."""
    from nbtasks.notebook import extension

    extension.load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """`%unload_ext nbtasks`."""
    from nbtasks.notebook import extension

    extension.unload(ipython)
