"""Work in another process for one attempt: `RemoteWork`, and calls of functions.

A backend sends the request, and hands over the messages and the answer that come back. A kind of task that is no plain
call makes its own `RemoteWork` (`Task.remote_work`).
"""

from __future__ import annotations

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nbtasks.backends.base import Attempt
from nbtasks.exceptions import NotSendableError, RemoteError
from nbtasks.progress import Meter
from nbtasks.states import TaskState
from nbtasks.task import Outcome, Task, id_prefix
from nbtasks.workers.messages import LOOPS, RESULT, Message, task_fields
from nbtasks.workers.process_settings import take_settings
from nbtasks.workers.serialization import Buffers, pack, refused_fields, refused_names, unpack, unpack_names

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpec

    from nbtasks.workers.kept_worker import KeptWorker
    from nbtasks.workers.kernel_process import Worker

__all__ = [
    "FunctionWork",
    "RemoteWork",
    "Tell",
    "error_from",
    "outcome",
    "request",
    "show_streams",
    "take_progress",
    "work_of",
]

logger = logging.getLogger("nbtasks")

Tell = Callable[[str, dict[str, Any], Sequence[Any]], None]
"""Sends a message without an answer to a worker: its kind, content and buffers."""


class RemoteWork(ABC):
    """The work of one attempt in another process, called in the attempt's context."""

    fresh = False
    """Whether it needs a worker that has not run anything yet, and that nothing else uses after it."""
    memory: int | None = None
    """How many bytes the worker may use."""
    begins_when_busy = False
    """Whether the kernel is one that sends no `nbtasks_begun`: its work begins as its status becomes busy."""

    @property
    def kernel(self) -> KernelSpec | None:
        """The kernel to start for it; None: a worker of the backend's own kind."""
        return None

    def place(self) -> KeptWorker | None:
        """The kept worker that has the objects which it uses; None: any worker. Called before `request`.

        It is called once more when nothing else runs in that worker: the objects may be gone then.
        """
        return None

    def keep(self, worker: Worker, request: str) -> KeptWorker | None:  # noqa: ARG002 - for others
        """The worker where it ran, if that is to be kept for the objects in it.

        Called at its end, however that was, if the worker is running. `request` is the id of the last request.
        """
        return None

    @abstractmethod
    def request(self) -> tuple[str, dict[str, Any], Buffers]:
        """The message that asks for it: its kind, content and buffers. Raises what keeps it from being sent."""

    def following(self, message: Message) -> tuple[str, dict[str, Any], Buffers] | None:  # noqa: ARG002 - for others
        """The next request, after this answer; None if that was the last one."""
        return None

    def begun(self, tell: Tell) -> None:  # noqa: B027 - most work takes no messages
        """It runs now, in a worker of ours; `tell` sends messages to that, from any thread, until it ends."""

    def ended(self) -> None:  # noqa: B027 - as above
        """It has answered, or died, or was not even asked."""

    @abstractmethod
    def receive(self, message: Message) -> None:
        """Take a message that the worker sends before its answer."""

    @abstractmethod
    def restarted(self, why: str) -> None:
        """The process where it ran is gone, and it runs once more elsewhere."""

    @abstractmethod
    def answered(self, message: Message) -> Outcome:
        """How the work ended, from the worker's answer."""


def work_of(attempt: Attempt, on_display: Callable[[Message], None], *, settings: bool = True) -> RemoteWork:
    """The work of an attempt in another process; `on_display` takes what functions print or display there.

    Functions find the notebook's `settings` there, if they are to.
    """
    work: RemoteWork | None = attempt.task.remote_work(attempt)
    return FunctionWork(attempt, on_display, settings) if work is None else work


class FunctionWork(RemoteWork):
    """A call of a function, or of a task's own `run`."""

    def __init__(self, attempt: Attempt, on_display: Callable[[Message], None], settings: bool) -> None:
        self._attempt = attempt
        self._settings = settings
        self._on_display = on_display

    def request(self) -> tuple[str, dict[str, Any], Buffers]:
        """The function and all that it uses, as one parcel."""
        attempt = self._attempt
        task, work = attempt.task, {"function": attempt.function, "args": attempt.args}
        try:
            parcel = pack(work, task=task)
            return request("call", task, parcel, kind=type(task), memory=self.memory, settings=self._settings)
        except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
            raise NotSendableError(f"not sent to a worker process: {self._refused() or error}") from None

    def _refused(self) -> str:
        attempt = self._attempt
        fields = task_fields(attempt.task, type(attempt.task))
        return "; ".join([*refused_names(attempt.function, attempt.task), *refused_fields(fields, attempt.task)])

    def receive(self, message: Message) -> None:
        """Progress goes to the task, output to where the task was created."""
        if not take_progress(self._attempt, message):
            self._on_display(message)

    def restarted(self, why: str) -> None:
        """Log it."""
        logger.warning("%r: %s", self._attempt.task.name, why)

    def answered(self, message: Message) -> Outcome:
        """The result, or the error."""
        found, _ = outcome(self._attempt, message, {})
        for kind, why in message.content.get("stayed", {}).values():
            name = self._attempt.task.name
            logger.warning("%r: the result (%s) stayed behind in the worker process: %s", name, kind, why)
        return found


def show_streams(message: Message) -> None:
    """Write what was printed to this process's streams."""
    if message.kind == "stream":
        stream: Any = sys.stderr if message.content["name"] == "stderr" else sys.stdout
        stream.write(message.content["text"])


# -- requests and answers ---------------------------------------------------------------------------------------------


def request(
    what: str, task: Task, parcel: Buffers, *, kind: type[Task] = Task, memory: int | None = None, settings: bool = True
) -> tuple[str, dict[str, Any], Buffers]:
    """The message that asks a worker for `what` ("call" or "cell"): its kind, content and buffers.

    `kind` is the task's class there; `settings`: whether the notebook's are sent along, which a process of many users
    must not have.
    """
    about = pack({"settings": take_settings() if settings else {}, "kind": kind, "fields": task_fields(task, kind)})
    content = {
        "what": what,
        "split": len(about),
        "number": task.number,
        "prefix": id_prefix(),
        "memory": memory,
    }
    return "nbtasks_run", content, [*about, *parcel]


def take_progress(attempt: Attempt, message: Message) -> bool:
    """Take what the worker says about its task; False if the message is about something else."""
    task = attempt.task
    if message.kind == "nbtasks_cancel":
        task.cancel()
        return True
    if message.kind == "nbtasks_importing":
        attempt.importing = message.content["package"]
        return True
    if message.kind != "nbtasks_progress":
        return False
    if task.internals.attempt is attempt:
        values = unpack(message.buffers)
        _mirror(attempt, values.pop(LOOPS, None))
        for name, value in values.items():
            setattr(task, name, value)
    return True


def _mirror(attempt: Attempt, loops: list[tuple[int, float | None, str, str, float]] | None) -> None:
    """Show the loops of the work in the worker as loops of the task here; None: they have not changed."""
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
        found, lost = unpack_names(message.buffers, names, attempt.task)
    message.content["stayed"] |= {name: [one.kind, str(one.why)] for name, one in lost.items()}
    message.content["in_both"] = [name for name, one in lost.items() if getattr(one.why, "in_both", False)]
    result = found.pop(RESULT, None)
    return Outcome(TaskState.COMPLETED, result), found


@contextmanager
def _also_importing_from(path: Sequence[str]) -> Iterator[None]:
    """Import from the folders that the work has added to `sys.path`, which itself is committed later."""
    added = [folder for folder in path if folder not in sys.path]
    sys.path += added
    try:
        yield
    finally:
        for folder in added:
            if folder in sys.path:
                sys.path.remove(folder)


def error_from(content: dict[str, Any], parcel: Sequence[Any], names: dict[str, Any]) -> BaseException:
    """The error of a worker, the object itself if possible; its cause has the worker's traceback."""
    cause = RemoteError(f"\n{content['text']}")
    if parcel:
        try:
            error = unpack(parcel, names)
        except Exception:  # noqa: BLE001 - many error classes cannot be rebuilt from their pickles
            error = None
        if isinstance(error, BaseException):
            error.__cause__ = cause
            return error
    return RemoteError(f"{content['ename']}: {content['evalue']}")
