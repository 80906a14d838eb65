"""`AdoptedCell`: a foreground cell that was sent to the background, as a task.

It continues where it began, usually on the main thread: its backend starts nothing, and only knows how it is
interrupted and how it has ended.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from IPython.core.interactiveshell import ExecutionResult

from nbtasks.backends.base import Attempt, Backend
from nbtasks.backends.thread import ThreadBackend
from nbtasks.manager import TaskManager
from nbtasks.notebook.cells.cell_task import CellTask
from nbtasks.notebook.output.away_cells import AwayCell
from nbtasks.notebook.patches.matplotlib import Plots
from nbtasks.notebook.patches.streams import TaskStreams, swapped_streams
from nbtasks.states import TaskState
from nbtasks.task import Outcome

__all__ = [
    "ADOPTED_LANE",
    "FOREGROUND_BACKEND",
    "AdoptedCell",
    "AfterStreams",
    "ForegroundBackend",
    "RunningCell",
    "prepare",
]

FOREGROUND_BACKEND = "foreground"
ADOPTED_LANE = "adopted"


class RunningCell:
    """The run of an adopted cell, as its task sees it.

    `_lock` guards the attempt and the outcome, whichever comes first: each is reported once.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.interrupt = interrupt
        """Interrupts the cell, also while it is blocked. Any thread."""
        self.cancel_requested = False
        self.interrupt_due = False
        """Whether the next SIGINT is meant for this cell."""
        self.result: ExecutionResult | None = None
        """The shell's result, once the code of the cell has ended."""
        self.shown: Any = None
        """The last value that the cell has shown, for a cell whose result the displayhook does not know."""
        self._lock = threading.Lock()
        self._attempt: Attempt | None = None
        self._outcome: Outcome | None = None
        self._on_end: Callable[[], None] | None = None

    def attach(self, attempt: Attempt, on_end: Callable[[], None] | None) -> None:
        """The task is running: report the end to this attempt, and call `on_end`."""
        with self._lock:
            self._attempt, self._on_end = attempt, on_end
            outcome = self._outcome
        if outcome is not None:
            self._report(attempt, outcome)

    def _report(self, attempt: Attempt, outcome: Outcome) -> None:
        attempt.finished(outcome)
        if self._on_end is not None:
            self._on_end()

    def end(self) -> None:
        """The cell has ended, and its reply is sent."""
        with self._lock:
            self._outcome = outcome = self._make_outcome()
            attempt = self._attempt
        if attempt is not None:
            self._report(attempt, outcome)

    def _make_outcome(self) -> Outcome:
        result = self.result
        if result is None:
            return Outcome(TaskState.FAILED, None, RuntimeError("the kernel has not run the cell to its end"))
        error = result.error_before_exec or result.error_in_exec
        if error is None:
            return Outcome(TaskState.COMPLETED, self.shown if result.result is None else result.result)
        interrupted = isinstance(error, KeyboardInterrupt | asyncio.CancelledError)
        if self.cancel_requested and interrupted:
            return Outcome(TaskState.CANCELLED, None, error)
        return Outcome(TaskState.FAILED, None, error)


class ForegroundBackend(Backend):
    """Where adopted cells run: the kernel has begun them as foreground cells."""

    name: ClassVar[str] = FOREGROUND_BACKEND

    def __init__(self, threads: Backend) -> None:
        self._threads = threads
        """The backend of threads, whose switch interval holds here too: cells run beside each other."""

    def start(self, attempt: Attempt) -> None:
        """Note the attempt: the cell runs."""
        task, threads = attempt.task, self._threads
        assert isinstance(task, AdoptedCell)
        attempt.handle = task.running_cell
        counted = isinstance(threads, ThreadBackend) and threads.begin_running()
        on_end = threads.end_running if counted and isinstance(threads, ThreadBackend) else None
        task.running_cell.attach(attempt, on_end)

    def interrupt(self, attempt: Attempt) -> None:
        """Interrupt the cell as Kernel > Interrupt does with a foreground cell."""
        running: RunningCell | None = attempt.handle
        if running is not None:
            running.cancel_requested = True
            running.interrupt()

    def close(self) -> None:
        """Do nothing: it has no resources."""


def prepare(manager: TaskManager) -> None:
    """Give a manager the lane and the backend of adopted cells."""
    if ADOPTED_LANE not in manager.lanes:
        manager.add_lane(ADOPTED_LANE, None)
    if FOREGROUND_BACKEND not in manager.backends:
        manager.backends[FOREGROUND_BACKEND] = ForegroundBackend(manager.backends["thread"])


class AfterStreams:
    """Sends messages of a cell, after what it wrote as a foreground cell."""

    def __init__(self, send: Callable[[str, dict[str, Any]], None]) -> None:
        self._send = send
        self._flushed = False

    def __call__(self, kind: str, content: dict[str, Any]) -> None:
        """Send a message."""
        if not self._flushed:
            self._flushed = True
            contextvars.Context().run(_flush_streams)  # in the cell's own context it would flush the task's output
        self._send(kind, content)


def _flush_streams() -> None:
    for name in ("stdout", "stderr"):
        vars(sys)[name].flush()


@dataclass
class AdoptedCell(CellTask):
    """A foreground cell that was sent to the background.

    It uses the notebook's names directly.
    """

    running_cell: RunningCell = field(default_factory=lambda: RunningCell(lambda: None), repr=False, kw_only=True)

    def separate(self, cell: AwayCell) -> Callable[[], None]:
        """Separate its output and plots from the foreground's, as soon as `cell` is found in its contexts.

        Returns a function that takes from the foreground what is the cell's own, to be called right after that.
        """
        self._streams = cell.streams = TaskStreams(self._display, swapped_streams())
        self._plots = cell.plots = Plots()
        return self._plots.take_from_foreground()

    def code_ended(self, result: ExecutionResult) -> None:
        """The code of the cell has ended. In its context."""
        self.running_cell.result = result
        self.output.publish(final=True)

    def end(self) -> None:
        """Give the notebook what the cell has left: figures, replaced streams."""
        if self._streams is not None:
            self._streams.commit()
        if self._plots is not None:
            self._plots.commit()
        self._streams = self._plots = None

    def _display(self, value: Any) -> None:
        """The cell's `sys.displayhook`: as the shell's, with this cell's number and semicolon."""
        hook = self.notebook.shell.displayhook
        hook.check_for_underscore()
        if value is None or self.code.quiet:
            return
        data, metadata = hook.compute_format_data(value)
        hook.update_user_ns(value)
        hook.fill_exec_result(value)
        self.running_cell.shown = value
        if data:
            self.output.result(self.notebook.kernel.encode(data), metadata, self.cell.execution_count)
            hook.log_output(data)

    def on_attempt_end(self, outcome: Outcome) -> Outcome:
        """Publish the rest of the output; the shell has shown errors and plots."""
        self.output.publish(final=True)
        return outcome

    def on_end(self) -> None:
        """Do nothing: the names are the notebook's."""

    def on_wait_end(self) -> None:
        """Note that code has waited for it."""
        self.waited_for = True

    def fields_to_run_again(self) -> dict[str, Any]:
        """Run it again as a background cell, with the notebook's names."""
        return {"backend": "loop" if self.code.needs_loop else "thread", "lane": "default"}
