"""Work done in another process for one attempt of a task: `RemoteWork`, and calls of functions.

A backend sends the request, and hands over the messages and the answer that come back. A kind of task that is no plain
call makes its own `RemoteWork` (`Task.remote_work`).
"""

from __future__ import annotations

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbtasks.exceptions import NotSendableError
from nbtasks.task import Outcome

if TYPE_CHECKING:
    from nbtasks.backends.base import Attempt
    from nbtasks.workers.kernel_process import KernelCommand, Message
    from nbtasks.workers.serialization import Buffers

__all__ = ["FunctionWork", "RemoteWork", "show_streams", "work_of"]

logger = logging.getLogger("nbtasks")


class RemoteWork(ABC):
    """What a worker is asked to do for one attempt, and who hears what it says. All in the context of the attempt."""

    fresh = False
    """Whether it wants a worker that has not done anything yet, and that nobody uses after it."""
    memory: int | None = None
    """How many bytes the worker may use."""
    begins_when_busy = False
    """Whether the worker is one that says no more, when it begins, than that it is busy."""

    @property
    def command(self) -> KernelCommand:
        """How the worker is started."""
        from nbtasks.workers.kernel_process import PYTHON_WORKER

        return PYTHON_WORKER

    @abstractmethod
    def request(self) -> tuple[str, dict[str, Any], Buffers]:
        """The message that asks for it: its kind, content and buffers. Raises what keeps it from being sent."""

    def following(self, message: Message) -> tuple[str, dict[str, Any], Buffers] | None:  # noqa: ARG002 - for others
        """What is asked next, after this answer; None if that was all."""
        return None

    @abstractmethod
    def heard(self, message: Message) -> None:
        """Take what the worker says meanwhile."""

    @abstractmethod
    def starts_again(self, why: str) -> None:
        """Where it ran is gone, and it runs once more elsewhere."""

    @abstractmethod
    def answered(self, message: Message) -> Outcome:
        """How the work ended, from the worker's answer."""


def work_of(attempt: Attempt, on_display: Callable[[Message], None], *, settings: bool = True) -> RemoteWork:
    """What a process is asked to do for the attempt; `on_display` takes what functions print or display there.

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
        from nbtasks.workers.requests import request
        from nbtasks.workers.serialization import pack

        attempt = self._attempt
        task, work = attempt.task, {"function": attempt.function, "args": attempt.args}
        try:
            parcel = pack(work, task=task)
            return request("call", task, parcel, kind=type(task), memory=self.memory, settings=self._settings)
        except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
            raise NotSendableError(f"not sent to a worker process: {self._refused() or error}") from None

    def _refused(self) -> str:
        from nbtasks.workers.serialization import refused_fields, refused_names
        from nbtasks.workers.worker_side import task_fields

        attempt = self._attempt
        fields = task_fields(attempt.task, type(attempt.task))
        return "; ".join([*refused_names(attempt.function, attempt.task), *refused_fields(fields, attempt.task)])

    def heard(self, message: Message) -> None:
        """Progress goes to the task, output to where the task was created."""
        from nbtasks.workers.requests import heard_progress

        if not heard_progress(self._attempt, message):
            self._on_display(message)

    def starts_again(self, why: str) -> None:
        """Said in the log."""
        logger.warning("%r: %s", self._attempt.task.name, why)

    def answered(self, message: Message) -> Outcome:
        """The result, or the error."""
        from nbtasks.workers.requests import outcome

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
