"""What the notebook's side sends to a worker with every request, and how it reads the answer.

Must not know how messages travel, nor what a cell is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nbtasks import task as tasks
from nbtasks.exceptions import RemoteError
from nbtasks.progress import Meter
from nbtasks.states import TaskState
from nbtasks.task import Outcome, Task
from nbtasks.workers.process_settings import take_settings
from nbtasks.workers.serialization import Buffers, pack, unpack
from nbtasks.workers.worker_side import LOOPS, RESULT, task_fields

if TYPE_CHECKING:
    from nbtasks.backends.base import Attempt
    from nbtasks.workers.kernel_process import Message

__all__ = ["error_from", "heard_progress", "outcome", "request"]


def request(
    what: str, task: Task, parcel: Buffers, *, kind: type[Task] = Task, memory: int | None = None, settings: bool = True
) -> tuple[str, dict[str, Any], Buffers]:
    """The message that asks a worker for `what`: its kind, content and buffers.

    `kind` is the task's class there; `settings`: whether it is to find the notebook's, which a process of many users
    must not.
    """
    about = pack({"settings": take_settings() if settings else {}, "kind": kind, "fields": task_fields(task, kind)})
    content = {
        "what": what,
        "split": len(about),
        "number": task.number,
        "prefix": tasks._PREFIX,
        "memory": memory,
    }
    return "nbtasks_run", content, [*about, *parcel]


def heard_progress(attempt: Attempt, message: Message) -> bool:
    """Take what the worker says about its task; False if the message is about something else."""
    task = attempt.task
    if message.kind == "nbtasks_cancel":
        task.cancel()
        return True
    if message.kind != "nbtasks_progress":
        return False
    if task._attempt is attempt:
        told = unpack(message.buffers)
        _mirror(attempt, told.pop(LOOPS, None))
        for name, value in told.items():
            setattr(task, name, value)
    return True


def _mirror(attempt: Attempt, loops: list[tuple[int, float | None, str, str, float]] | None) -> None:
    """Let the loops of the work, as they are over there, be told here; None: as they were."""
    if loops is None:
        return
    task, known = attempt.task, attempt.loops
    for key in known.keys() - {loop[0] for loop in loops}:
        known.pop(key).finish()
    for key, total, unit, description, count in loops:
        if key not in known:
            known[key] = Meter(total, unit, description, count, task=task)
        known[key].total, known[key].description, known[key].count = total, description, count


def outcome(attempt: Attempt, message: Message, names: dict[str, Any]) -> tuple[Outcome, dict[str, Any]]:
    """How the work ended, and the names that came back."""
    status = message.content["status"]
    if status == "cancelled":
        return Outcome(TaskState.CANCELLED), {}
    if status == "error":
        error = error_from(message.content, message.buffers, names)
        cancelled = attempt.interrupted and isinstance(error, KeyboardInterrupt)
        return Outcome(TaskState.CANCELLED if cancelled else TaskState.FAILED, None, error), {}
    with _also_importing_from(message.content.get("path", ())):
        found = unpack(message.buffers, names, attempt.task)
    result = found.pop(RESULT, None)
    return Outcome(TaskState.COMPLETED, result), found


@contextmanager
def _also_importing_from(path: Sequence[str]) -> Iterator[None]:
    """What the work has added to `sys.path` is committed after what it gives back was made anew from there."""
    added = [folder for folder in path if folder not in sys.path]
    sys.path += added
    try:
        yield
    finally:
        for folder in added:
            if folder in sys.path:
                sys.path.remove(folder)


def error_from(content: dict[str, Any], parcel: Sequence[Any], names: dict[str, Any]) -> BaseException:
    """The error of a worker: the object, where it could be sent; its cause tells where it was raised."""
    told = RemoteError(f"\n{content['text']}")
    if parcel:
        try:
            error = unpack(parcel, names)
        except Exception:  # noqa: BLE001 - many an error class cannot make an object from what it has pickled
            error = None
        if isinstance(error, BaseException):
            error.__cause__ = told
            return error
    return RemoteError(f"{content['ename']}: {content['evalue']}")
