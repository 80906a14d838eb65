"""The IPython extension: `%load_ext nbtasks` and `%unload_ext nbtasks`.

The only module that composes the others and registers them in a shell. Nothing imports it but `nbtasks` itself.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbtasks.backends.base import Backend
from nbtasks.backends.thread import ThreadBackend
from nbtasks.first_use import FirstUse
from nbtasks.formatting import one_line
from nbtasks.interrupts import start_thread
from nbtasks.library_state import register_libraries
from nbtasks.manager import get_manager
from nbtasks.notebook.adoption import Adoption
from nbtasks.notebook.keepalive import KeepAlive
from nbtasks.notebook.lab import LabLink
from nbtasks.notebook.magics import TaskMagics
from nbtasks.notebook.output.sink import find_sinks_of_unknown_threads
from nbtasks.notebook.output.unknown_threads import UnknownThreads
from nbtasks.notebook.parts import NotebookParts
from nbtasks.notebook.patches.capture import capture_patches
from nbtasks.notebook.patches.consoles import console_patches
from nbtasks.notebook.patches.databases import database_patches
from nbtasks.notebook.patches.ipython import (
    completion_patch,
    configurable_patch,
    display_patches,
    event_patch,
    kernel_patches,
    magics_patches,
    reset_patch,
    shell_patches,
)
from nbtasks.notebook.patches.main_module import main_module_patches
from nbtasks.notebook.patches.matplotlib import foreground_ended, matplotlib_patches
from nbtasks.notebook.patches.programs import program_patches
from nbtasks.notebook.patches.shell_hooks import shell_hook_patches
from nbtasks.notebook.patches.signals import signal_patches
from nbtasks.notebook.patches.status import status_patch
from nbtasks.notebook.patches.streams import stream_patches
from nbtasks.notebook.patches.threads import thread_patches
from nbtasks.notebook.patches.timers import timers_patch
from nbtasks.notebook.patches.user_input import user_input_patches
from nbtasks.notebook.program_run import ProgramRun
from nbtasks.notebook.settings import history_path
from nbtasks.patch import Patch, PatchSet, core_patches
from nbtasks.task import Task
from nbtasks.task_list import TaskList
from nbtasks.tqdm_progress import tqdm_patches

if TYPE_CHECKING:
    from nbtasks.history.history import History
    from nbtasks.notebook.output.output import Output
    from nbtasks.notebook.session import NotebookSession
    from nbtasks.schedules.recurring_task import RecurringTask

__all__ = ["Extension", "load", "loaded", "unload"]

logger = logging.getLogger("nbtasks")

_RECURRING_TASK = ("nbtasks.schedules.recurring_task", "RecurringTask")
_extensions: dict[int, Extension] = {}
"""By the id of the shell. They are kept when they are unloaded: tasks that are still running refer to their session."""


def load(shell: InteractiveShell) -> None:
    """Load the extension into `shell`, unless it is loaded. Manager and tasks stay the same."""
    _check_kernel(shell)
    extension = _extensions.get(id(shell))
    if extension is None or extension.parts.manager is not get_manager():  # the former manager was stopped
        extension = _extensions[id(shell)] = Extension(shell)
    extension.install()


def _check_kernel(shell: InteractiveShell) -> None:
    """Raise UsageError, which IPython shows as one line, in a kernel that ipykernel does not provide."""
    kernel = getattr(shell, "kernel", None)
    kernels = sys.modules.get("ipykernel.kernelbase")
    if kernel is not None and (kernels is None or not isinstance(kernel, kernels.Kernel)):
        raise UsageError(
            f"nbtasks needs a kernel of ipykernel, not one of {type(shell).__module__.partition('.')[0]}: "
            "choose the kernel 'Python 3 (ipykernel)'"
        )


def unload(shell: InteractiveShell) -> None:
    """Remove the extension from `shell`; the manager and its tasks keep running."""
    extension = loaded(shell)
    if extension is not None:
        extension.uninstall()


def loaded(shell: InteractiveShell) -> Extension | None:
    """The extension that is loaded into `shell`, if any."""
    extension = _extensions.get(id(shell))
    return extension if extension is not None and extension.is_installed else None


class Extension:
    """nbtasks in one shell: its parts, patches, magics and hooks.

    Loading imports and makes what every notebook needs. The session, with what cells, views and schedules need, is made
    at its first use, on any thread; all else is used on the main thread.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.parts = parts = NotebookParts(shell)
        self._session = FirstUse(self._make_session)
        self.adoption = Adoption(parts, self._session)
        self._program_run = ProgramRun(parts, self._session)
        self._keep_alive = KeepAlive(parts.manager, parts.kernel, parts.settings)
        self._lab = LabLink(parts, self._session, self.adoption)
        self._unknown_threads = UnknownThreads(
            self._running_in_threads, lambda: parts.foreground.cell, _report_unknown_thread
        )
        self.patches = self._patches()
        self._undo: ExitStack | None = None

    def _make_session(self) -> NotebookSession:
        # An import releases the GIL at each file, and has to wait for it as long as a cell that computes may keep it.
        threads = self.parts.manager.backends["thread"]
        counted = isinstance(threads, ThreadBackend) and threads.begin_running()
        try:
            from nbtasks.notebook.session import NotebookSession

            return NotebookSession(self.parts)
        finally:
            if counted and isinstance(threads, ThreadBackend):
                threads.end_running()

    @property
    def session(self) -> NotebookSession:
        """The session, which is made now if this is its first use."""
        return self._session.get()

    @property
    def is_installed(self) -> bool:
        """Whether the extension is loaded."""
        return self._undo is not None

    def install(self) -> None:
        """Apply the patches and register magics, displays and hooks; an error undoes all of it."""
        if self.is_installed:
            return
        parts, manager = self.parts, self.parts.manager
        with ExitStack() as undo:
            undo.callback(core_patches.revert)
            self.patches.apply()
            undo.callback(self.patches.revert)
            self.adoption.install()
            undo.callback(self.adoption.uninstall)
            undo.callback(register_libraries())
            find_sinks_of_unknown_threads(self._unknown_threads.sink)
            undo.callback(find_sinks_of_unknown_threads, None)
            self._connect_backends()
            undo.callback(self._disconnect_backends)
            undo.callback(parts.names_were_reset)
            undo.callback(parts.publisher.close)
            self._open_session()
            undo.callback(self._close_session)
            self._follow_switch_interval(undo)
            self._follow_keep_finished(undo)
            self._keep_alive.start()
            undo.callback(self._keep_alive.stop)
            undo.callback(setattr, manager, "report_cut_off", manager.report_cut_off)
            manager.report_cut_off = parts.kernel.write_stderr
            undo.callback(setattr, manager, "report_failure", manager.report_failure)
            manager.report_failure = _report_failure
            undo.callback(setattr, manager, "on_exit", None)
            manager.on_exit = self._show_last
            self._keep_history()
            self._lab.start()
            undo.callback(self._lab.stop)
            undo.callback(parts.foreground_ended)  # the end of the cell that unloads is not reported
            self._undo = undo.pop_all()

    def uninstall(self) -> None:
        """Undo `install`. Raises AdoptionError while a foreground cell is away in the background."""
        self.adoption.check_unload()
        undo, self._undo = self._undo, None
        if undo is not None:
            undo.close()

    # -- what uses the session, if there is one -----------------------------------------------------------------------

    def _open_session(self) -> None:
        """After unloading, write to the views again."""
        if self._session.made is not None:
            self._session.made.panels.open()

    def _close_session(self) -> None:
        if self._session.made is not None:
            self._session.made.stop_serving()
            self._session.made.panels.close()

    def _connect_backends(self) -> None:
        """Connect the backends to the notebook that have been used, and each other at its first use."""
        backends = self.parts.manager.backends
        backends.when_made = self._connect
        for backend in backends.made:
            self._connect(backend)

    def _connect(self, backend: Backend) -> None:
        self.session.workers.connect(backend)

    def _disconnect_backends(self) -> None:
        backends = self.parts.manager.backends
        backends.when_made = None
        for backend in backends.made:
            self.session.workers.disconnect(backend)

    def _running_in_threads(self) -> Mapping[str, Output]:
        """The output of each cell that runs in a thread of this process, by the name of its task."""
        session = self._session.made
        return {} if session is None else session.running_in_threads()

    def _has_launched(self) -> bool:
        """Whether the foreground cell that runs now has launched a background cell."""
        return self._session.made is not None and self._session.made.has_launched()

    def _show_last(self) -> None:
        if self._session.made is not None:
            self._session.made.panels.show_last()

    def _show_task(self, task: Task) -> None:
        self.session.show(task)

    def _show_tasks(self, tasks: TaskList) -> None:
        self.session.show_tasks(tasks)

    def _show_schedule(self, recurring: RecurringTask) -> None:
        self.session.show_schedule(recurring)

    def _show_tasks_of(self, value: Any) -> bool:
        """Show one panel if the value is a list or tuple of tasks, and nothing else; returns whether it is."""
        if type(value) not in (list, tuple) or not value or not all(isinstance(one, Task) for one in value):
            return False
        self.session.show_tasks(value)
        return True

    def _while_waiting(self, tasks: Sequence[Task]) -> AbstractContextManager[None]:
        return self.session.panels.while_waiting(tasks)

    # -- the history --------------------------------------------------------------------------------------------------

    def _keep_history(self) -> None:
        """Record tasks and schedules in the history file, unless a history is kept already or is switched off."""
        path, parts = history_path(), self.parts
        if path is None:
            return

        def make() -> History:
            from nbtasks.history.history import History

            return History(path, notebook=parts.kernel.notebook_name)

        parts.manager.keep_history(make)
        if parts.kernel.exists and parts.kernel.notebook_name is not None and path.exists():
            start_thread(partial(self._publish_past, path, parts.kernel.notebook_name), "nbtasks-past")

    def _publish_past(self, path: Path, notebook: str) -> None:
        """On a thread: tell front ends of tasks of earlier kernels, if there are any."""
        from nbtasks.history.presence import has_records

        if has_records(path, notebook):
            from nbtasks.notebook.past import publish_past

            publish_past(self.parts.manager, self.parts.kernel)

    # -- settings -----------------------------------------------------------------------------------------------------

    def _follow_switch_interval(self, undo: ExitStack) -> None:
        """Have threads of tasks use the interval of the settings, also after it is changed."""
        settings, threads = self.parts.settings, self.parts.manager.backends["thread"]
        if not isinstance(threads, ThreadBackend):
            return

        def apply(_change: Any = None) -> None:
            threads.switch_interval = settings.switch_interval

        apply()
        settings.observe(apply, names=["switch_interval"])
        undo.callback(setattr, threads, "switch_interval", None)
        undo.callback(settings.unobserve, apply, names=["switch_interval"])

    def _follow_keep_finished(self, undo: ExitStack) -> None:
        """Keep as many finished tasks as the settings say, also after a change; unloading prunes none."""
        settings, manager = self.parts.settings, self.parts.manager

        def apply(_change: Any = None) -> None:
            manager.max_succeeded_tasks = settings.keep_finished

        apply()
        settings.observe(apply, names=["keep_finished"])
        undo.callback(settings.unobserve, apply, names=["keep_finished"])

    def _patches(self) -> PatchSet:
        shell, parts, magics = self.shell, self.parts, TaskMagics(self.shell, self._session)
        if parts.kernel.exists:
            status = status_patch(shell.kernel, self.adoption.is_in_foreground, parts.kernel.comms.holds_idle)
            own = PatchSet([stream_patches(), kernel_patches(shell, parts.kernel), status])
        else:
            own = PatchSet([Patch(parts.manager, "around_waits", lambda _: self._while_waiting)])
        return PatchSet(
            [
                own,
                self._lab.patches(),
                PatchSet(self._program_run.patches(shell)),
                user_input_patches(shell),
                signal_patches(self.adoption.decide_interrupt if parts.kernel.exists else None),
                self.adoption.patches,
                database_patches(),
                console_patches(),
                thread_patches(),
                program_patches(),
                shell_patches(shell),
                reset_patch(shell, parts.names_were_reset),
                shell_hook_patches(shell),
                timers_patch(shell, self._has_launched),
                main_module_patches(shell),
                matplotlib_patches(),
                tqdm_patches(),
                capture_patches(shell),
                display_patches(
                    shell,
                    {Task: self._show_task, TaskList: self._show_tasks},
                    {_RECURRING_TASK: self._show_schedule},
                    self._show_tasks_of,
                ),
                configurable_patch(shell, parts.settings),
                magics_patches(shell, magics),
                completion_patch(shell, "%bgtask", magics.complete),
                event_patch(shell, "pre_run_cell", self._foreground_began),
                event_patch(shell, "post_run_cell", self._foreground_ended),
            ]
        )

    def _foreground_began(self, *_: Any) -> None:
        if not self.adoption.cell_began():
            return
        parts = self.parts
        parts.variables.foreground_began()
        if self.adoption.is_foreground:  # not in a subshell
            parts.libraries.foreground_began()
        parts.foreground_began()

    def _foreground_ended(self, result: Any = None) -> None:
        if not self.adoption.cell_ended(result):
            return
        foreground_ended()
        parts = self.parts
        if self.adoption.is_foreground:
            parts.libraries.note()
        parts.foreground_ended()
        if self._session.made is not None:
            self._session.made.names_may_have_changed()
        if not parts.foreground.runs:
            self._program_run.cell_ended(result)
        if self._session.made is not None:
            self._session.made.foreground_ended(getattr(result, "error_in_exec", None))


def _report_failure(task: Task) -> None:
    """Say that a task failed, in one line of the cell that created it; `%bgtask show` has the traceback."""
    logger.info("task %r failed", task.name, exc_info=task.exception)
    show = f"%bgtask show {task.name}" if len(task.name.split()) == 1 else "await it for the traceback"
    print(f"task {task.name!r} failed: {one_line(task.error)} ({show})", file=sys.stderr)


def _report_unknown_thread(names: list[str]) -> None:
    print(
        "nbtasks: what follows here is also of a thread that Python did not start; it may belong to the background "
        f"cell {' or '.join(map(repr, names))}",
        file=sys.stderr,
    )
