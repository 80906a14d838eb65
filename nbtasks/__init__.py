"""Background tasks that live in the notebook's own kernel: the public names.

Importing this pulls in neither IPython nor ipywidgets nor Dask.
"""

from __future__ import annotations

from typing import Any

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
from nbtasks.retry import Retry
from nbtasks.states import TaskState
from nbtasks.task import Task

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


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext nbtasks`."""
    from nbtasks.notebook import extension

    extension.load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """`%unload_ext nbtasks`."""
    from nbtasks.notebook import extension

    extension.unload(ipython)
