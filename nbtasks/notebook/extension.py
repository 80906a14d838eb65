"""The IPython extension: `%load_ext nbtasks` and `%unload_ext nbtasks`.

The only module that composes the others and registers them in a shell. Nothing imports it but `nbtasks` itself.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbtasks.backends.thread import ThreadBackend
from nbtasks.interrupts import start_thread
from nbtasks.library_state import register_libraries
from nbtasks.manager import get_manager
from nbtasks.notebook.adoption import Adoption
from nbtasks.notebook.cells.cell_task import CellTask
from nbtasks.notebook.keepalive import KeepAlive
from nbtasks.notebook.lab import LabLink
from nbtasks.notebook.magics import TaskMagics
from nbtasks.notebook.output.sink import find_sinks_of_unknown_threads
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
    shell_patches,
)
from nbtasks.notebook.patches.main_module import main_module_patches
from nbtasks.notebook.patches.matplotlib import foreground_ended, matplotlib_patches
from nbtasks.notebook.patches.programs import program_patches
from nbtasks.notebook.patches.shell_hooks import shell_hook_patches
from nbtasks.notebook.patches.signals import signal_patches
from nbtasks.notebook.patches.streams import stream_patches
from nbtasks.notebook.patches.threads import thread_patches
from nbtasks.notebook.patches.user_input import user_input_patches
from nbtasks.notebook.program_run import ProgramRun
from nbtasks.notebook.session import NotebookSession
from nbtasks.patch import Patch, PatchSet, core_patches
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task
from nbtasks.task_list import TaskList
from nbtasks.tqdm_progress import tqdm_patches

__all__ = ["Extension", "load", "loaded", "unload"]

_extensions: dict[int, Extension] = {}
"""By the id of the shell. They are kept when they are unloaded: tasks that are still running refer to their session."""


def load(shell: InteractiveShell) -> None:
    """Load the extension into `shell`, unless it is loaded. Manager and tasks stay the same."""
    _check_kernel(shell)
    extension = _extensions.get(id(shell))
    if extension is None or extension.session.manager is not get_manager():  # the former manager was stopped
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
    """nbtasks in one shell: its session, patches, magics and hooks.

    Used on the main thread only.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.session = session = NotebookSession(shell)
        self.adoption = Adoption(session)
        self._program_run = ProgramRun(session)
        self._keep_alive = KeepAlive(session.manager, session.kernel, session.settings)
        self._lab = LabLink(session, self.adoption)
        self.patches = self._patches()
        self._undo: ExitStack | None = None

    @property
    def is_installed(self) -> bool:
        """Whether the extension is loaded."""
        return self._undo is not None

    def install(self) -> None:
        """Apply the patches and register magics, displays and hooks; an error undoes all of it."""
        if self.is_installed:
            return
        session = self.session
        with ExitStack() as undo:
            undo.callback(core_patches.revert)
            self.patches.apply()
            undo.callback(self.patches.revert)
            self.adoption.install()
            undo.callback(self.adoption.uninstall)
            undo.callback(register_libraries())
            find_sinks_of_unknown_threads(session.unknown_threads.sink)
            undo.callback(find_sinks_of_unknown_threads, None)
            session.workers.install()
            undo.callback(session.workers.uninstall)
            undo.callback(session.publisher.close)
            session.panels.open()
            undo.callback(session.panels.close)
            self._follow_switch_interval(undo)
            self._follow_keep_finished(undo)
            self._keep_alive.start()
            undo.callback(self._keep_alive.stop)
            undo.callback(setattr, session.manager, "report_cut_off", session.manager.report_cut_off)
            session.manager.report_cut_off = session.kernel.write_stderr
            undo.callback(setattr, session.manager, "report_failure", session.manager.report_failure)
            session.manager.report_failure = session.report_failure
            undo.callback(setattr, session.manager, "on_exit", None)
            session.manager.on_exit = session.panels.show_last
            session.keep_history()
            start_thread(session.publish_past, "nbtasks-past")
            undo.callback(session.stop_serving)
            self._lab.start()
            undo.callback(self._lab.stop)
            undo.callback(session.names.foreground_ended)  # the end of the cell that unloads is not reported
            self._undo = undo.pop_all()

    def uninstall(self) -> None:
        """Undo `install`. Raises AdoptionError while a foreground cell is away in the background."""
        self.adoption.check_unload()
        undo, self._undo = self._undo, None
        if undo is not None:
            undo.close()

    def _follow_switch_interval(self, undo: ExitStack) -> None:
        """Have threads of tasks use the interval of the settings, also after it is changed."""
        settings, threads = self.session.settings, self.session.manager.backends["thread"]
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
        settings, manager = self.session.settings, self.session.manager

        def apply(_change: Any = None) -> None:
            manager.max_succeeded_tasks = settings.keep_finished

        apply()
        settings.observe(apply, names=["keep_finished"])
        undo.callback(settings.unobserve, apply, names=["keep_finished"])

    def _patches(self) -> PatchSet:
        shell, session, magics = self.shell, self.session, TaskMagics(self.shell, self.session)
        if session.kernel.exists:
            own = PatchSet([stream_patches(), kernel_patches(shell, session.kernel)])
        else:
            own = PatchSet([Patch(session.manager, "around_waits", lambda _: session.panels.while_waiting)])
        return PatchSet(
            [
                own,
                self._lab.patches(),
                PatchSet(self._program_run.patches(shell)),
                user_input_patches(shell),
                signal_patches(self.adoption.decide_interrupt if session.kernel.exists else None),
                self.adoption.patches,
                database_patches(),
                console_patches(),
                thread_patches(),
                program_patches(),
                shell_patches(shell),
                shell_hook_patches(shell),
                main_module_patches(shell),
                matplotlib_patches(),
                tqdm_patches(),
                capture_patches(shell),
                display_patches(
                    shell,
                    {Task: session.show, TaskList: session.show_tasks, RecurringTask: session.show_schedule},
                    session.show_tasks_of,
                ),
                configurable_patch(shell, session.settings),
                magics_patches(shell, magics),
                completion_patch(shell, "%bgtask", magics.complete),
                event_patch(shell, "pre_run_cell", self._foreground_began),
                event_patch(shell, "post_run_cell", self._foreground_ended),
            ]
        )

    def _foreground_began(self, *_: Any) -> None:
        if not self.adoption.cell_began():
            return
        self.session.variables.foreground_began()
        if self.adoption.is_foreground:  # not in a subshell
            self.session.libraries.foreground_began()
        self.session.names.foreground_began(self.session.kernel.launching_cell().request_id)

    def _foreground_ended(self, result: Any = None) -> None:
        if not self.adoption.cell_ended(result):
            return
        foreground_ended()
        if self.adoption.is_foreground:
            self.session.libraries.note()
        self.session.names.foreground_ended()
        for task in self.session.manager.active_tasks:
            if isinstance(task, CellTask):
                task.foreground_ended()
        if not self.session.names.in_foreground:
            self._program_run.cell_ended(result)
        self.session.release_dropped()
        self.session.slots.deliver(self.session.kernel.launching_cell())
        error = getattr(result, "error_in_exec", None)
        if isinstance(error, NameError) and error.name is not None:
            self._hint_at_task(error.name)

    def _hint_at_task(self, name: str) -> None:
        """After a NameError: print which task to wait for, if an active one is going to bind the name."""
        for task in self.session.manager.active_tasks:
            if isinstance(task, CellTask) and name in task.code.binds and name not in self.shell.user_ns:
                print(
                    f"{name} will be bound by the background task {task.name!r}: %bgtask wait {task.name}",
                    file=sys.stderr,
                )
                return
