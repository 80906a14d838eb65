"""What a backend is: the `Attempt` that it is given, and the `Backend` interface.

Must not know the manager, nor any particular backend.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Context
from typing import Any, ClassVar

from nbtasks.callables import is_async
from nbtasks.states import TaskState
from nbtasks.task import Outcome, Task

__all__ = ["Attempt", "Backend", "usage_of"]


class Attempt(ABC):
    """One attempt to run a task: what to call, in which context, and whom to tell of the end.

    No slots: what few attempts need stands in the class, and costs the others nothing.
    """

    handle: Any = None
    """The backend's own, to find the work again when it is to be interrupted."""
    interrupted = False
    """Set by `Backend.interrupt`, which may come before the work has begun."""
    timed_out = False
    time_limit: Any = None

    @property
    def loops(self) -> dict[int, Any]:
        """The meters of the loops of work that runs in another process, by what they are called there."""
        found: dict[int, Any] = self.__dict__.setdefault("_loops", {})
        return found

    def __init__(
        self,
        task: Task,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        backend: Backend,
        context: Context,
        loop: asyncio.AbstractEventLoop | None,
        listener: Any = None,
    ) -> None:
        self.task = task
        self.function = function
        self.args = args
        self.backend = backend
        self.context = context
        """Used by this attempt alone."""
        self.loop = loop
        """The loop on which its coroutines are to run."""
        self.listener = listener
        """Who is to learn of the end, if `finished` needs to know."""

    @property
    def is_async(self) -> bool:
        """Whether `function` is a coroutine function."""
        return is_async(self.function)

    def __repr__(self) -> str:
        return f"<Attempt {self.task.attempts} of {self.task!r}>"

    @abstractmethod
    def finished(self, outcome: Outcome) -> Attempt | None:
        """Tell, exactly once and where no interrupt strikes, how the work ended, when it has really stopped.

        May return an attempt that takes its place on the same backend; only if the backend `takes_over` that.
        """


class Backend(ABC):
    """A place where work runs."""

    name: ClassVar[str]
    takes_over: ClassVar[bool] = False
    """Whether it starts the attempt that `finished` returns; otherwise that is started by `start`, as any."""

    @abstractmethod
    def start(self, attempt: Attempt) -> None:
        """Begin the work, without waiting for it. May be called on any thread.

        The backend calls `attempt.finished(outcome)` exactly once, when the work has stopped. Raises what stands in the
        way of a start; then `finished` is not called.
        """

    def start_following(self, attempt: Attempt | None) -> None:
        """Start what `Attempt.finished` returned."""
        while attempt is not None:
            try:
                self.start(attempt)
                return
            except Exception as error:  # noqa: BLE001 - whatever stands in its way; the task says it, and the next takes its place
                attempt = attempt.finished(Outcome(TaskState.FAILED, None, error))

    @abstractmethod
    def interrupt(self, attempt: Attempt) -> None:
        """Ask running work to stop, without waiting for it. Any thread; harmless if it is over, and repeatable."""

    def usage(self, attempt: Attempt) -> str:  # noqa: ARG002 - for others
        """What the process of running work uses, for people; empty where it is this one."""
        return ""

    @abstractmethod
    def close(self) -> None:
        """Let go of threads and the like that nothing uses; start nothing any more."""


def usage_of(task: Task) -> str:
    """Memory and CPU time of the process that runs `task`; empty where that is this process."""
    attempt: Attempt | None = task.internals.attempt
    return "" if attempt is None else attempt.backend.usage(attempt)
