"""A cell that runs as a task: the `CellTask`, which enters its own world, runs the source there, and hands over.

Knows nothing of magics and widgets. What a cell needs of the notebook it is handed as a `CellPlace`.
"""

from __future__ import annotations

import contextvars
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from IPython.core.interactiveshell import InteractiveShell

from nbtasks.backends.base import Attempt
from nbtasks.interrupts import run_in_own_loop
from nbtasks.notebook.cells.context_variables import Changes, NotebookVariables, changes_since, take_over
from nbtasks.notebook.cells.errors import SHOWN, LeaveTask, show_error, warn_of_exit, without_own_frames
from nbtasks.notebook.cells.namespace import CellNames, NotebookNames, use_names
from nbtasks.notebook.cells.source import FUTURES, CellSource
from nbtasks.notebook.kernel import Kernel, LaunchingCell
from nbtasks.notebook.output.output import Output
from nbtasks.notebook.output.sink import current_sink, use_parent, use_sink
from nbtasks.notebook.patches.matplotlib import Plots
from nbtasks.notebook.patches.streams import TaskStreams, swapped_streams
from nbtasks.progress import current_task
from nbtasks.states import TaskState
from nbtasks.task import Outcome, Task
from nbtasks.workers.process_settings import put_settings
from nbtasks.workers.remote_work import RemoteWork

__all__ = ["CellPlace", "CellTask", "Elsewhere"]


class Elsewhere(Protocol):
    """A kind of process, other than the notebook's, in which cells run."""

    def work(self, task: CellTask, attempt: Attempt) -> RemoteWork:
        """What that process is to do for this attempt of the cell."""


@dataclass(frozen=True)
class CellPlace:
    """The notebook that a cell task belongs to: all that it needs of it."""

    shell: InteractiveShell
    kernel: Kernel
    names: NotebookNames
    variables: NotebookVariables
    elsewhere: Elsewhere
    """Where a cell of the `process` and `dask` backends runs that was launched without options for that."""


class _StoppedError(Exception):
    """The cell raised StopIteration, which a coroutine cannot hand on as it is."""


@dataclass
class CellTask(Task):
    """A task made from a cell. `result` is the value of its last expression."""

    code: CellSource
    place: CellPlace = field(repr=False)
    cell: LaunchingCell
    output: Output
    """What it wrote: kept, readable as text and as notebook outputs, displayable anywhere."""
    shared: bool = False
    """Whether it runs straight in the notebook's namespace."""
    earlier_runs: tuple[Task, ...] = ()
    """Runs of the same cell that it was queued behind: it starts when they are over, however they ended."""
    raises_in_cell: bool = False
    """Whether the launching cell waits, and shows the error itself."""
    notify: bool = False
    """Whether notice is given of its end where nobody looks at the page."""
    elsewhere: Elsewhere | None = None
    """The process in which it runs, if it was launched with options for that."""
    swapped: dict[str, Any] = field(default_factory=swapped_streams, repr=False)
    """What stood for `sys.stdout` and `sys.stderr` in the notebook when it was launched, if not the kernel's own."""
    _awaits_result = False  # the value of a cell is shown as it is, a coroutine too
    _names: CellNames | None = field(default=None, init=False)
    _plots: Plots | None = field(default=None, init=False)
    _streams: TaskStreams | None = field(default=None, init=False)
    _variables: Changes | None = field(default=None, init=False)
    _failure_shown: BaseException | None = field(default=None, init=False)
    # What the cell has set in the process that it ran in, if that was another one.
    _settings: Mapping[str, Any] = field(default_factory=dict, init=False)
    _put_shell_state: Callable[[], None] | None = field(default=None, init=False)
    _drawn_elsewhere: bool = field(default=False, init=False)
    # The context of the running attempt, to show its plots from outside it.
    _inside: contextvars.Context | None = field(default=None, init=False)
    # The same until its names are committed, to tell what the cell has set in it.
    _began_in: contextvars.Context | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.output.on_publish = self._output_written

    @property
    def source(self) -> str:
        """The cell's text."""
        return self.code.source

    @property
    def namespace(self) -> dict[str, Any]:
        """The names that the cell bound, by name; after a failure or a cancel those it had bound by then."""
        if self._names is None:
            return {}
        return self._names.current()

    def cell_details(self) -> Self:
        """The task itself: it has source, names and output."""
        return self

    def run(self) -> Any:
        """Run the cell: here and now, or, for the loop, as the coroutine returned."""
        names = self.enter()
        if self.backend == "loop":
            return self._run_awaiting(self.code, names)
        if not self.code.needs_loop:
            return self._run_plain(self.code, names)
        return run_in_own_loop(self._run_awaiting(self.code, names))

    def remote_work(self, attempt: Attempt) -> RemoteWork:
        """The cell, sent to the process in which it is to run."""
        self._drawn_elsewhere = True
        return (self.elsewhere or self.place.elsewhere).work(self, attempt)

    def bring_back(self, settings: Mapping[str, Any], put_shell_state: Callable[[], None]) -> None:
        """Keep what the cell has set in another process; it is set here when the names are committed."""
        self._settings, self._put_shell_state = settings, put_shell_state

    def run_source(self, source: str) -> Any:
        """Run another cell's source as part of this task's work, in its names; returns its value."""
        code = CellSource(self.place.shell, source, self.cell.execution_count, nested=True)
        names = self.place.shell.user_ns
        return run_in_own_loop(self._run_awaiting(code, names)) if code.awaits else self._run_plain(code, names)

    def show_plots(self) -> None:
        """In the task's context: show the plots as at the end of a cell."""
        try:
            if self._plots is not None:
                self._plots.show(self.place.shell)
        except Exception as error:  # noqa: BLE001 - drawing runs the user's artists and formatters
            self.show_error(error)

    def show_error(self, error: BaseException) -> None:
        """Show an error in the cell, as the foreground would."""
        show_error(self.place.shell, self.output, error)

    def enter(self) -> dict[str, Any]:
        """Enter the task's own world: its output, its plots, and, unless it is shared, its names."""
        use_sink(self.output)
        use_parent(self.cell.parent)
        self._streams = TaskStreams(self._display, self.swapped)
        self._streams.enter()
        self._plots = Plots()
        self._plots.enter()
        names = self.place.shell.user_ns if self.shared else self._open_names()
        self._inside = self._began_in = contextvars.copy_context()
        return names

    def _open_names(self) -> dict[str, Any]:
        leave = LeaveTask()
        self._names = self.place.names.open({"exit": leave, "quit": leave}, self.code.may_bind)
        self._names.on_commit = self._commit_settings
        self._names.on_kept = self._say_kept
        use_names(self._names.layer)
        return self._names.layer

    def _run_plain(self, code: CellSource, names: dict[str, Any]) -> Any:
        value = None
        for step, shown in code.steps():
            value = eval(step, names)  # noqa: S307 - the user's own cell
            value = self._show(code, value) if shown else None
        self._note_variables()
        return value

    async def _run_awaiting(self, code: CellSource, names: dict[str, Any]) -> Any:
        value = None
        for step, shown in code.steps():
            try:
                value = eval(step, names)  # noqa: S307 - the user's own cell
            except StopIteration as error:  # a coroutine cannot raise it
                raise _StoppedError from error
            if step.co_flags & inspect.CO_COROUTINE:
                value = await value
            value = self._show(code, value) if shown else None
        self._note_variables()
        return value

    def _note_variables(self) -> None:
        if self._inside is not None:
            self._variables = changes_since(self._inside)

    def _show(self, code: CellSource, value: Any) -> Any:
        if not code.quiet:
            show = sys.displayhook if self.place.kernel.exists else self._display
            show(value)
        return value

    def _display(self, value: Any) -> None:
        """What `sys.displayhook` does in the task."""
        sink = current_sink()
        if value is not None and sink is not None:
            data, metadata = self.place.shell.display_formatter.format(value)
            if data:  # empty where the object displayed itself
                sink.result(self.place.kernel.encode(data), metadata, self.cell.execution_count)

    def _may_follow(self, other: Task) -> bool:
        return other in self.earlier_runs or super()._may_follow(other)

    def _attempt_ended(self, outcome: Outcome) -> Outcome:
        """Show what the foreground shows after a cell: its error, then its plots. Then hand over the names."""
        if isinstance(outcome.exception, _StoppedError):
            outcome = Outcome(outcome.state, None, outcome.exception.__cause__)
        completed = outcome.state is TaskState.COMPLETED
        if outcome.state is TaskState.FAILED and outcome.exception is not None:
            self.show_failure(outcome.exception)
        self._show_plots()
        if completed and self.shared:
            self._commit_settings()
        if self._names is not None:
            self.place.names.end(self._names, commit=completed)
        if not completed:
            self._plots = self._streams = self._began_in = None
        self._inside = None
        self.output.publish(final=True)
        return outcome

    def show_failure(self, error: BaseException) -> None:
        """Show the error with which an attempt ends, once; where another attempt follows, in one line."""
        if error is self._failure_shown:
            return
        self._failure_shown = error
        if self.retry is not None and self.retry.allows(self.attempts, error):
            said = traceback.format_exception_only(error)[-1].strip()
            self.output.stderr(f"nbtasks: attempt {self.attempts} of {self.retry.attempts} failed: {said}\n")
        elif self._inside is None:  # it failed before it had begun
            self.show_error(error)
        elif not self.raises_in_cell:
            self._inside.run(self._show_uncaught, error)

    def _show_uncaught(self, error: BaseException) -> None:
        """In the task's context: deal with an error as the shell does with that of a foreground cell."""
        shell = self.place.shell
        shown = getattr(error, SHOWN, None)
        if shown is not None:
            self.output.take(shown)
            return
        if isinstance(error, shell.custom_exceptions):
            shell.CustomTB(type(error), error, without_own_frames(error.__traceback__))
            return
        self.show_error(error)
        if isinstance(error, SystemExit):
            warn_of_exit()

    def _show_plots(self) -> None:
        if self._inside is not None and not self._drawn_elsewhere:
            self._inside.run(self.show_plots)

    def _commit_settings(self) -> None:
        """Hand over what the cell set besides names: of matplotlib, in `sys`, in its context, by future statements."""
        if self._streams is not None:
            self._streams.commit()
        if self._plots is not None:
            self._plots.commit()
        began_in, self._began_in = self._began_in, None
        if self._settings and began_in is not None:
            self._variables = began_in.copy().run(self._put_settings, began_in)
        if self._put_shell_state is not None:
            self._put_shell_state()
        self.place.variables.commit(self._variables or {})
        self.place.shell.compile.flags |= self.code.flags & FUTURES

    def _put_settings(self, before: contextvars.Context) -> Changes:
        """What came back from a worker process. Some libraries keep theirs in a context, which is the foreground's."""
        put_settings(self._settings)
        return changes_since(before)

    def _wait_ended(self) -> None:
        """Waiting is a commit point: whoever waited has the names."""
        if self._names is None or self.state is not TaskState.COMPLETED:
            return
        waiting = current_task()
        if isinstance(waiting, CellTask) and waiting._names is not None:
            self.place.names.adopt(self._names, waiting._names)
        elif not isinstance(waiting, CellTask):
            self.place.names.commit(self._names)
        take_over(self._variables or {})

    def _say_kept(self, kept: tuple[str, ...]) -> None:
        names = ", ".join(kept)
        kept_value, other = ("its value", "value is") if len(kept) == 1 else ("their values", "values are")
        self.output.write(
            "stderr",
            f"nbtasks: {names} changed in the notebook meanwhile and kept {kept_value} there; "
            f"this cell's {other} in task.namespace\n",
        )

    def _log_failure(self) -> None:
        """Nothing: the error was shown in the cell."""

    def release(self) -> None:
        """Drop what the task still holds: result, exception, names and output. Its record stays."""
        super().release()
        self._names = self._plots = self._streams = self._variables = None
        self.output = Output()
