"""Background tasks that live in the notebook's own kernel: the public names.

Importing this pulls in neither IPython nor ipywidgets nor Dask.
"""

from __future__ import annotations

import importlib
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
from nbtasks.progress import current_task, track
from nbtasks.states import TaskState
from nbtasks.task import Task

if TYPE_CHECKING:
    from nbtasks.manager import TaskManager, get_manager
    from nbtasks.retry import Retry
    from nbtasks.schedules.business_hours import BusinessHours, business_hours
    from nbtasks.schedules.recurring_task import RecurringTask
    from nbtasks.task_list import TaskList

__version__ = "0.1.0"

__all__ = [
    "BusinessHours",
    "DeadlockError",
    "EventType",
    "InvalidValueError",
    "NbtasksError",
    "RecurringTask",
    "ResultNotReadyError",
    "Retry",
    "Subscription",
    "Task",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskList",
    "TaskManager",
    "TaskState",
    "TaskTimeoutError",
    "WaitTimeoutError",
    "business_hours",
    "current_task",
    "get_manager",
    "track",
]


_LATER = {
    "BusinessHours": "nbtasks.schedules.business_hours",
    "RecurringTask": "nbtasks.schedules.recurring_task",
    "Retry": "nbtasks.retry",
    "TaskList": "nbtasks.task_list",
    "TaskManager": "nbtasks.manager",
    "business_hours": "nbtasks.schedules.business_hours",
    "get_manager": "nbtasks.manager",
}


def __getattr__(name: str) -> Any:
    """Import the rest on first use: code that only reports progress does not load what runs tasks."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext nbtasks`."""
    from nbtasks.notebook import extension

    extension.load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """`%unload_ext nbtasks`."""
    from nbtasks.notebook import extension

    extension.unload(ipython)
