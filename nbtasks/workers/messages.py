"""Messages between a notebook and its workers: their form and their keys.

`nbtasks_run` asks a worker to run a cell or a function, `nbtasks_reply` is its answer. In between it sends
`nbtasks_begun`, `nbtasks_importing`, `nbtasks_progress` and `nbtasks_cancel`, and the messages of any kernel for what
is printed and displayed. `nbtasks_widget`, on the control channel, has what a front end sends to a widget of the cell;
`nbtasks_widgets` names the notebook's widgets that the cell has, `nbtasks_handled` ends the handling of a message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from nbtasks.task import Task
from nbtasks.workers.serialization import Buffers

__all__ = [
    "COMM_MESSAGES",
    "FIGURES",
    "LOOPS",
    "RESULT",
    "SETTINGS",
    "STATE",
    "TASK_FIELDS",
    "THREAD_STATE",
    "WIDGET",
    "Message",
    "Say",
    "task_fields",
]

RESULT, SETTINGS, STATE, FIGURES = "", "\0settings", "\0state", "\0figures"
THREAD_STATE = "\0thread_state"
"""The keys of the result, of changed settings, of what changed in the shell, of the open figures, and of the libraries'
changed settings of threads, among the names that come back."""
WIDGET = "\0widget "
"""The beginning of the keys of widgets that have no name."""
LOOPS = "\0loops"
"""The key, in a progress message, of the loops that are running: (id, total, unit, description, count) of each."""

COMM_MESSAGES = frozenset({"comm_open", "comm_msg", "comm_close"})
"""The kinds of messages of widgets."""

Say = Callable[[str, dict[str, Any], Buffers], None]
"""Sends a message to the notebook: its kind, content and buffers."""

TASK_FIELDS = ("name", "priority", "lane", "backend", "attempts", "parent_id", "parameters", "tags", "heading", "body")
"""The fields that are sent of every task."""


@dataclass(frozen=True)
class Message:
    """A message from a worker: `channel` is "shell" (answers) or "iopub" (output)."""

    channel: str
    kind: str
    content: dict[str, Any]
    buffers: list[memoryview]
    answers: str | None
    """The id of the request that it belongs to."""
    metadata: dict[str, Any]
    parent: dict[str, Any] = field(default_factory=dict)
    """The header of the message that it belongs to: the request, or what a front end has sent to a widget."""


def task_fields(task: Task, kind: type[Task]) -> dict[str, Any]:
    """The fields of a task that the other side needs, those of its subclass `kind` among them."""
    own = {} if kind is Task else dict(getattr(task, "__dict__", {}))
    if kind is not Task and is_dataclass(kind):
        added = {one.name for one in fields(kind)} - {one.name for one in fields(Task)}
        own |= {name: getattr(task, name) for name in added if hasattr(task, name)}
    return {name: getattr(task, name) for name in TASK_FIELDS} | own
