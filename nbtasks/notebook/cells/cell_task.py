"""`CellTask`: a notebook cell that runs as a task."""

from __future__ import annotations

import contextvars
import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

from nbtasks import thread_state
from nbtasks.backends.base import Attempt
from nbtasks.backends.remote_work import RemoteWork
from nbtasks.interrupts import run_in_own_loop
from nbtasks.notebook.cells.context_variables import Changes, NotebookVariables, changes_since, take_over
from nbtasks.notebook.cells.errors import (
    ExitTask,
    clear_frames,
    remote_messages,
    show_error,
    warn_of_exit,
    without_own_frames,
)
from nbtasks.notebook.cells.namespace import CellNames, NotebookNames
from nbtasks.notebook.cells.notebook_libraries import NotebookLibraries
from nbtasks.notebook.cells.source import FUTURES, CellSource
from nbtasks.notebook.kernel import Kernel, LaunchingCell
from nbtasks.notebook.output.output import Output
from nbtasks.notebook.output.sink import current_sink, use_context_on_thread, use_parent, use_sink
from nbtasks.notebook.patches.capture import use_run_cell
from nbtasks.notebook.patches.main_module import use_names
from nbtasks.notebook.patches.matplotlib import Plots
from nbtasks.notebook.patches.shell_hooks import ShellHooks
from nbtasks.notebook.patches.streams import TaskStreams, swapped_streams
from nbtasks.notebook.patches.timers import CellTimers
from nbtasks.progress import current_task
from nbtasks.states import TaskState
from nbtasks.task import Outcome, Task
from nbtasks.workers.process_settings import put_settings

__all__ = ["WAITS_FOR_EARLIER", "CellTask", "Elsewhere", "Notebook"]


_BOUND_BY_PYTHON = frozenset(
    {"__annotate__", "__annotations__", "__conditional_annotations__", "__warningregistry__", "_", "__", "___"}
)
"""Names that the interpreter and IPython bind, or that stand for nothing: not worth a message."""


_SQLITE_ADVICE = (
    "nbtasks: connections of sqlite3 belong to the thread that has opened them: run the cell with --backend loop, open "
    "the connection in this cell, or open it with check_same_thread=False\n"
)


class Elsewhere(Protocol):
    """A kind of process, other than the notebook's, in which cells run."""

    def work(self, task: CellTask, attempt: Attempt) -> RemoteWork:
        """What the process does for this attempt of the cell."""


@dataclass(frozen=True)
class Notebook:
    """The parts of a notebook that its cell tasks use."""

    shell: InteractiveShell
    kernel: Kernel
    names: NotebookNames
    variables: NotebookVariables
    libraries: NotebookLibraries
    elsewhere: Elsewhere
    """Where cells of the `process` and `dask` backends run, if they were launched without options for that."""


WAITS_FOR_EARLIER = "waits until the earlier run has stopped"
"""The `body` of a cell that replaces an earlier run, until it starts."""


class _StoppedError(Exception):
    """Stands for a StopIteration that a cell raised, which a coroutine cannot raise."""


@dataclass
class CellTask(Task):
    """A notebook cell that runs as a task.

    Its `result` is the value of the last expression. Each attempt has its own context, which separates its output,
    names and plots from those of other cells.
    """

    code: CellSource
    notebook: Notebook = field(repr=False)
    cell: LaunchingCell
    output: Output
    """What the cell wrote: as text, as notebook outputs, or shown again in any cell."""
    shared: bool = False
    """Whether the cell uses the notebook's namespace directly, without a snapshot."""
    atomic: bool = False
    """Whether a cell that fails or is cancelled commits nothing; else it keeps what it has bound by then."""
    commits: bool = True
    """Whether the notebook gets the names that the cell binds; a run of a sweep keeps them to itself."""
    earlier_runs: tuple[Task, ...] = ()
    """Runs of the same cell that it is queued behind: it starts when they are finished, whether or not they failed."""
    raises_in_cell: bool = False
    """Whether the launching cell waits, and shows the error itself."""
    detached: bool = False
    """Whether a program that runs the notebook does not wait for it at the end."""
    notify: bool = False
    """Whether the browser shows a notification when it finishes, if the page is not visible."""
    elsewhere: Elsewhere | None = None
    """The process in which it runs, if it was launched with options for that."""
    swapped: dict[str, Any] = field(default_factory=swapped_streams, repr=False)
    """What had replaced `sys.stdout` and `sys.stderr` in the notebook when the cell was launched."""
    awaits_result = False  # the value of a cell is shown as it is, even a coroutine
    waited_for: bool = field(default=False, init=False)
    """Whether code has waited for it since it finished, and so has its error."""
    names_in_process: tuple[str, ...] = field(default=(), init=False)
    """The names whose live objects it has left in its worker process, which is kept for them."""
    released: bool = field(default=False, init=False)
    """Whether it has dropped the variables of the frames in which it failed."""
    _names: CellNames | None = field(default=None, init=False)
    _plots: Plots | None = field(default=None, init=False)
    _timers: CellTimers | None = field(default=None, init=False)
    _streams: TaskStreams | None = field(default=None, init=False)
    _hooks: ShellHooks | None = field(default=None, init=False)
    _variables: Changes | None = field(default=None, init=False)
    # The settings of libraries on the thread that the cell runs on, and those that it has changed.
    _carried: thread_state.Carried | None = field(default=None, init=False)
    _libraries: thread_state.Changes = field(default_factory=dict, init=False)
    _failure_shown: BaseException | None = field(default=None, init=False)
    # The traceback of its error, without the frames of code that waits for it later.
    _failed_in: TracebackType | None = field(default=None, init=False)
    # Settings that the cell changed in the other process that it ran in.
    _settings: Mapping[str, Any] = field(default_factory=dict, init=False)
    _put_shell_state: Callable[[], None] | None = field(default=None, init=False)
    _drawn_elsewhere: bool = field(default=False, init=False)
    # The context of the running attempt: its errors and plots are shown in it.
    _inside: contextvars.Context | None = field(default=None, init=False)
    # The same at the start of the attempt, until the names are committed: shows which variables the cell has set.
    _began_in: contextvars.Context | None = field(default=None, init=False)
    # Whether an attempt has begun whose names are neither committed nor dropped yet.
    _undecided: bool = field(default=False, init=False)
    _committed: bool = field(default=False, init=False)
    _hinted: set[str] = field(default_factory=set, init=False)
    _bound_names: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.output.on_publish = self.output_written

    @property
    def source(self) -> str:
        """The text of the cell."""
        return self.code.source

    @property
    def namespace(self) -> dict[str, Any]:
        """The names that the cell has bound, with their values; also if it failed or was cancelled.

        A large value that was committed is here as long as the notebook has it under that name.
        """
        if self._names is None:
            return {}
        return self._names.current()

    @property
    def kept_names(self) -> int:
        """How many names a cell that failed or was cancelled has left to the notebook."""
        return self._bound_names if self.state in (TaskState.FAILED, TaskState.CANCELLED) else 0

    def keeps_names(self, outcome: Outcome) -> bool:
        """Whether the notebook gets the names that an attempt with this outcome has bound."""
        if not self.commits or self._is_retried(outcome.exception):
            return False
        return outcome.state is TaskState.COMPLETED or not self.atomic

    def cell_details(self) -> Self:
        """The task itself: it has source, names and output."""
        return self

    def run(self) -> Any:
        """Run the cell; on the loop backend, return a coroutine that runs it."""
        names = self.enter()
        if self.backend == "loop":
            return self._run_awaiting(self.code, names)
        if not self.code.needs_loop:
            return self._run_plain(self.code, names)
        return run_in_own_loop(self._run_awaiting(self.code, names))

    def remote_work(self, attempt: Attempt) -> RemoteWork:
        """Run the cell in another process."""
        self._drawn_elsewhere = True
        return (self.elsewhere or self.notebook.elsewhere).work(self, attempt)

    def bring_back(
        self, settings: Mapping[str, Any], put_shell_state: Callable[[], None], libraries: thread_state.Changes
    ) -> None:
        """Keep what the cell has set in another process, to be set here when the names are committed."""
        self._settings, self._put_shell_state, self._libraries = settings, put_shell_state, libraries

    def run_nested(self, source: str) -> ExecutionResult:
        """`shell.run_cell` as a part of this task: in its namespace, with its output; errors are shown."""
        result = ExecutionResult(ExecutionInfo(source, False, False, True, None))
        try:
            result.result = self._run_source(source)
        except SyntaxError as error:
            result.error_before_exec = error
            self.show_error(error)
        except Exception as error:  # noqa: BLE001 - the user's code
            result.error_in_exec = error
            self.show_error(error)
        self.show_plots()
        sys.stdout.flush()
        return result

    def _run_source(self, source: str) -> Any:
        code = CellSource(self.notebook.shell, source, self.cell.execution_count, nested=True)
        names = self.notebook.shell.user_ns
        return run_in_own_loop(self._run_awaiting(code, names)) if code.awaits else self._run_plain(code, names)

    def show_plots(self) -> None:
        """Show the plots as at the end of a cell; to be called in the task's context."""
        try:
            if self._plots is not None:
                self._plots.show(self.notebook.shell)
        except BaseException as error:  # noqa: BLE001 - drawing runs the user's artists, which may raise anything
            self.show_error(error)

    def show_error(self, error: BaseException) -> None:
        """Show an error in the cell as the foreground would."""
        show_error(self.notebook.shell, self.output, error)

    def enter(self) -> dict[str, Any]:
        """Set up the current context for an attempt: output, plots and names. Returns the namespace to run in."""
        if self.body == WAITS_FOR_EARLIER:
            self.body = None
        self._decide(commit=False)  # on the attempt before: this one starts from the notebook's names
        self.names_in_process = ()
        self._variables, self._settings, self._put_shell_state, self._libraries = None, {}, None, {}
        use_sink(self.output)
        use_parent(self.cell.parent)
        use_run_cell(self.run_nested)
        self._streams = TaskStreams(self._display, self.swapped)
        self._streams.enter()
        self._hooks = ShellHooks()
        self._hooks.enter()
        self._plots = Plots()
        self._plots.enter()
        names = self.notebook.shell.user_ns if self.shared else self._open_names()
        self._inside = self._began_in = contextvars.copy_context()
        self._undecided = True
        self._enter_thread()
        if not self._drawn_elsewhere:  # there they are loaded with their extensions
            self._timers = CellTimers(self.notebook.shell, self.source)
            self._timers.begin()
        return names

    def _enter_thread(self) -> None:
        """Have this cell's output and the notebook's settings of libraries on this thread."""
        libraries = self.notebook.libraries
        if self.backend == "thread":
            use_context_on_thread(self._inside)
            self._carried = thread_state.Carried(libraries.snapshot())
            self._carried.enter()
        elif self.backend == "loop" and _on_main_thread() and not self.notebook.names.in_foreground:
            libraries.foreground_began()

    def _leave_thread(self) -> None:
        """On the thread that the cell ran on, which other cells may use: restore its own settings."""
        use_context_on_thread(None)
        if self._carried is not None:
            carried, self._carried = self._carried, None
            self._libraries = carried.leave()
        elif self.backend == "loop" and _on_main_thread():
            self.notebook.libraries.note()

    def _open_names(self) -> dict[str, Any]:
        exit_task, code = ExitTask(), self.code
        self._names = self.notebook.names.open(
            {"exit": exit_task, "quit": exit_task},
            code.rebinds(self.notebook.names.live),
            binds_later=code.binds_later,
            binds_any=code.binds_any,
        )
        self._names.on_commit = self._commit_settings
        self._names.on_kept = self._report_kept
        use_names(self._names.scope)
        return self._names.globals

    def _run_plain(self, code: CellSource, names: dict[str, Any]) -> Any:
        value = None
        try:
            for step, shown in code.steps():
                value = eval(step, names)  # noqa: S307 - the user's own cell
                value = self._show(code, value) if shown else None
        finally:
            self._note_variables()
        return value

    async def _run_awaiting(self, code: CellSource, names: dict[str, Any]) -> Any:
        value = None
        try:
            for step, shown in code.steps():
                try:
                    value = eval(step, names)  # noqa: S307 - the user's own cell
                except StopIteration as error:  # a coroutine cannot raise it
                    raise _StoppedError from error
                if step.co_flags & inspect.CO_COROUTINE:
                    value = await value
                value = self._show(code, value) if shown else None
        finally:
            self._note_variables()
        return value

    def _note_variables(self) -> None:
        """Note which context variables the cell has set."""
        if self._inside is not None:
            self._variables = changes_since(self._inside)

    def _show(self, code: CellSource, value: Any) -> Any:
        if not code.quiet:
            show = sys.displayhook if self.notebook.kernel.exists else self._display
            show(value)
        return value

    def _display(self, value: Any) -> None:
        """The task's `sys.displayhook`."""
        sink = current_sink()
        if value is not None and sink is not None:
            data, metadata = self.notebook.shell.display_formatter.format(value)
            if data:  # empty where the object displayed itself
                sink.result(self.notebook.kernel.encode(data), metadata, self.cell.execution_count)

    def may_follow(self, other: Task) -> bool:
        """Start after an earlier run of the same cell, whether that completed or not."""
        return other in self.earlier_runs or super().may_follow(other)

    def on_attempt_end(self, outcome: Outcome) -> Outcome:
        """Show error and plots as after a foreground cell; commit the names unless another attempt follows."""
        if isinstance(outcome.exception, _StoppedError):
            outcome = Outcome(outcome.state, None, outcome.exception.__cause__)
        has_begun = self._inside is not None
        self._failed_in = None if outcome.exception is None else outcome.exception.__traceback__
        try:
            if outcome.state is TaskState.FAILED and outcome.exception is not None:
                self.show_failure(outcome.exception)
            self._show_plots()
            self._show_time(outcome.exception)
        finally:
            self._leave_thread()
            if not has_begun or not self._is_retried(outcome.exception):
                self._decide(commit=has_begun and self.keeps_names(outcome))
        self._inside = None
        # After a cancel the panel is not shown again: the focus stays on its button.
        self.output.publish(final=True, in_place=outcome.state is TaskState.CANCELLED)
        return outcome

    def on_end(self) -> None:
        """Commit the names of an attempt that was to be followed by another, which a cancel has prevented."""
        self._decide(commit=self.commits and not self.atomic)

    def _is_retried(self, error: BaseException | None) -> bool:
        """Whether another attempt follows, unless the task is cancelled before that."""
        return error is not None and self.retry is not None and self.retry.allows(self.attempts, error)

    def _decide(self, *, commit: bool) -> None:
        """Commit or drop what the last attempt has bound and set; once."""
        if not self._undecided:
            return
        self._undecided, self._committed = False, commit
        if commit and self.shared:
            self._commit_settings()
        if self._names is not None:
            self.notebook.names.end(self._names, commit=commit)
        if commit:
            self._bound_names = sum(not name.startswith("_") for name in self.namespace)
        else:
            self._plots = self._streams = self._hooks = self._began_in = None

    def show_failure(self, error: BaseException) -> None:
        """Show the error of an attempt, once; in one line if another attempt follows."""
        if error is self._failure_shown:
            return
        self._failure_shown = error
        if self.retry is not None and self._is_retried(error):
            message = traceback.format_exception_only(error)[-1].strip()
            self.output.stderr(f"nbtasks: attempt {self.attempts} of {self.retry.attempts} failed: {message}\n")
        elif self._inside is None:  # it failed before the cell began
            self.show_error(error)
        elif not self.raises_in_cell:
            self._inside.run(self._show_uncaught, error)

    def _show_uncaught(self, error: BaseException) -> None:
        """Handle an error in the task's context as the shell does for a foreground cell."""
        shell = self.notebook.shell
        messages = remote_messages(error)
        if messages is not None:
            self.output.take(messages)
            return
        if isinstance(error, shell.custom_exceptions):
            try:
                shell.CustomTB(type(error), error, without_own_frames(error.__traceback__))
            except BaseException as another:  # noqa: BLE001 - the user's handler
                self.show_error(another)
            return
        self.show_error(error)
        if isinstance(error, SystemExit):
            warn_of_exit()
        elif type(error).__module__ == "sqlite3" and "created in a thread" in str(error):
            self.output.stderr(_SQLITE_ADVICE)
        elif isinstance(error, NameError) and (stayed := self.notebook.names.stayed_behind(error.name)):
            self.output.stderr(f"nbtasks: {error.name} ({stayed[0]}): {stayed[1]}\n")

    def _show_plots(self) -> None:
        if self._inside is not None and not self._drawn_elsewhere:
            self._inside.run(self.show_plots)

    def _show_time(self, error: BaseException | None) -> None:
        timers, self._timers = self._timers, None
        if self._inside is not None and timers is not None:
            self._inside.run(timers.end, error)

    def _commit_settings(self) -> None:
        """Commit settings besides names: matplotlib's, streams, hooks, context variables, future statements."""
        if self._streams is not None:
            self._streams.commit()
        if self._hooks is not None:
            self._hooks.commit()
        if self._plots is not None:
            self._plots.commit()
        began_in, self._began_in = self._began_in, None
        if self._settings and began_in is not None:
            self._variables = began_in.copy().run(self._put_settings, began_in)
        if self._put_shell_state is not None:
            self._put_shell_state()
        self.notebook.variables.commit(self._variables or {})
        self.notebook.libraries.commit(self._libraries)
        self.notebook.shell.compile.flags |= self.code.flags & FUTURES

    def _put_settings(self, before: contextvars.Context) -> Changes:
        """Apply settings from a worker process; returns those that libraries keep in context variables."""
        put_settings(self._settings)
        return changes_since(before)

    def on_wait_end(self) -> None:
        """Commit the names at once for a cell that waited for this task."""
        self.waited_for = True
        if not self._committed:
            return
        waiting = current_task()
        if self._names is not None:
            if not isinstance(waiting, CellTask):
                self.notebook.names.commit(self._names)
            elif waiting._names is not None:
                self.notebook.names.adopt(self._names, waiting._names)
        take_over(self._variables or {})
        if isinstance(waiting, CellTask) and waiting._carried is not None:
            waiting._carried.rebase(self._libraries)
        elif _on_main_thread():
            self.notebook.libraries.take_over(self._libraries)

    def _report_kept(self, kept: tuple[str, ...]) -> None:
        """Write into the cell which names kept the value that the notebook has bound meanwhile."""
        kept = tuple(name for name in kept if name not in _BOUND_BY_PYTHON)
        if not kept:
            return
        names = ", ".join(kept)
        kept_value, other = ("its value", "value is") if len(kept) == 1 else ("their values", "values are")
        self.output.write(
            "stderr",
            f"nbtasks: {names} changed in the notebook meanwhile and kept {kept_value} there; "
            f"this cell's {other} in task.namespace\n",
        )

    def fields_to_run_again(self) -> dict[str, Any]:
        """The fields in which a task that runs the cell again differs from this one."""
        return {}

    def foreground_ended(self) -> None:
        """Write a hint into the cell if the notebook has changed a name on whose value a running loop depends."""
        names, live = self._names, self.notebook.names.live
        if names is None or self._inside is None:
            return
        for name in self.code.loops_on - self._hinted:
            if name in live and name in names.globals and live[name] is not names.globals[name]:
                self._hinted.add(name)
                self.output.stderr(
                    f"nbtasks: {name} was changed in the notebook, but this cell's loop keeps the value from its "
                    "start: cancel it to stop it; to have a cell see such changes, use --shared, or an object such "
                    "as threading.Event()\n"
                )

    def on_failure(self) -> None:
        """Do nothing: the cell shows the error."""

    def on_release(self) -> None:
        """Drop the variables of the frames in which the cell failed; its error and traceback stay."""
        self.released = True
        self._failure_shown = None
        error = self.internals.exception
        if error is not None:
            clear_frames(error, self._failed_in)
        self._failed_in = None

    def release(self) -> None:
        """Drop result, exception, names and output; the record of the task stays."""
        super().release()
        self._names = self._plots = self._streams = self._variables = None
        self.output = Output()


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
