"""Interface of backends: `Backend`, and the `Attempt` that it runs."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Context
from typing import Any, ClassVar

from nbtasks.callables import is_async
from nbtasks.programs import Programs
from nbtasks.states import TaskState
from nbtasks.task import Outcome, Task

__all__ = ["Attempt", "Backend", "usage_of"]


_programs_lock = threading.Lock()


class Attempt(ABC):
    """One attempt to run a task: the function, its context, and a call at its end.

    No slots: attributes that few attempts need are defaults of the class, and cost the others nothing.
    """

    handle: Any = None
    """Set by the backend, which finds the running work by it."""
    interrupted = False
    """Set by `Backend.interrupt`, which may be called before the work has begun."""
    timed_out = False
    time_limit: Any = None
    importing = ""
    """The package that a worker process imports before the work, if that takes long."""
    programs: Programs | None = None
    """The child processes that the work has started, if any."""

    @property
    def loops(self) -> dict[int, Any]:
        """Progress counters of loops in another process, by their id there."""
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
        """Used by this attempt only."""
        self.loop = loop
        """The loop on which its coroutines are to run."""
        self.listener = listener
        """The receiver of the end, for implementations of `finished`."""

    @property
    def is_async(self) -> bool:
        """Whether `function` is a coroutine function."""
        return is_async(self.function)

    def __repr__(self) -> str:
        return f"<Attempt {self.task.attempts} of {self.task!r}>"

    def start_program(self, call: Callable[[], int], *, ends_with_work: bool = False) -> int:
        """Start a child process by `call`, as a part of this work; returns its id (see `Programs.start`)."""
        with _programs_lock:
            if self.programs is None:
                self.programs = Programs()
        return self.programs.start(call, cleans_up=self.backend.is_here(self), ends_with_work=ends_with_work)

    def interrupt(self) -> None:
        """Ask the work to stop, and terminate its child processes, without waiting."""
        self.backend.interrupt(self)
        if not self.backend.interrupts_programs:
            self.interrupt_programs()

    def interrupt_programs(self) -> None:
        """Terminate the child processes that the work has started by now."""
        if self.programs is not None:
            self.programs.interrupt()

    @abstractmethod
    def finished(self, outcome: Outcome) -> Attempt | None:
        """Report the outcome, once the work has really stopped. Called exactly once, shielded from interrupts.

        If the backend `takes_over` attempts, this may return the next attempt, which then runs in its place.
        """


class Backend(ABC):
    """A place where work runs."""

    name: ClassVar[str]
    takes_over: ClassVar[bool] = False
    """Whether it runs the attempts that `Attempt.finished` returns. For others that returns None."""
    interrupts_programs: ClassVar[bool] = False
    """Whether `interrupt` terminates the child processes of the work too; else they are terminated right after it."""

    @abstractmethod
    def start(self, attempt: Attempt) -> None:
        """Begin the work, without waiting for it. May be called on any thread.

        The backend calls `attempt.finished(outcome)` exactly once, when the work has stopped. If the work cannot be
        started this raises, and `finished` is not called.
        """

    def start_following(self, attempt: Attempt | None) -> None:
        """Start the attempt that `Attempt.finished` returned."""
        while attempt is not None:
            try:
                self.start(attempt)
                return
            except Exception as error:  # noqa: BLE001 - it becomes the error of the task, and the next attempt is started
                attempt = attempt.finished(Outcome(TaskState.FAILED, None, error))

    @abstractmethod
    def interrupt(self, attempt: Attempt) -> None:
        """Ask running work to stop, without waiting. Any thread; idempotent, and harmless after the end."""

    def is_here(self, attempt: Attempt) -> bool:  # noqa: ARG002 - for others
        """Whether this is the thread in which `interrupt` raises, not another that the work started."""
        return False

    def usage(self, attempt: Attempt) -> str:  # noqa: ARG002 - for others
        """Describe memory and CPU time of the work's process; empty if it is this process."""
        return ""

    @abstractmethod
    def close(self) -> None:
        """Release unused threads and other resources; start nothing any more."""


def runs_in_thread(task: Task) -> bool:
    """Whether the work runs on a thread of this process now, where nothing stops C code."""
    attempt: Attempt | None = task.internals.attempt
    return attempt is not None and attempt.backend.name == "thread"


def usage_of(task: Task) -> str:
    """Describe memory and CPU time of the process that runs `task`; empty if it is this process.

    Of one that imports a package before the work, say which.
    """
    attempt: Attempt | None = task.internals.attempt
    if attempt is None:
        return ""
    return f"importing {attempt.importing}…" if attempt.importing else attempt.backend.usage(attempt)
