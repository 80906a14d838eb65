"""The IPython extension: `%load_ext nbtasks` and `%unload_ext nbtasks`.

The only module that composes the others and registers them in a shell. Nothing imports it but `nbtasks` itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbtasks.backends.thread import ThreadBackend
from nbtasks.manager import get_manager
from nbtasks.notebook.cells.cell_task import CellTask
from nbtasks.notebook.keepalive import KeepAlive
from nbtasks.notebook.magics import TaskMagics
from nbtasks.notebook.patches.capture import NestedCells
from nbtasks.notebook.patches.ipython import Router
from nbtasks.notebook.patches.main_module import MainModule
from nbtasks.notebook.patches.matplotlib import Figures
from nbtasks.notebook.session import NotebookSession
from nbtasks.progress import tqdm_patches
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task

__all__ = ["Extension", "load", "loaded", "unload"]

_extensions: dict[int, Extension] = {}
"""By the id of the shell. They are kept when they are unloaded: tasks that are still running refer to their session."""


def load(shell: InteractiveShell) -> None:
    """Load the extension into `shell`, unless it is loaded. Manager and tasks stay the same."""
    extension = _extensions.get(id(shell))
    if extension is None or extension.session.manager is not get_manager():  # the former manager was stopped
        extension = _extensions[id(shell)] = Extension(shell)
    extension.install()


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
        self._router = Router(shell, session.kernel)
        self._main_module = MainModule(shell)
        self._figures = Figures()
        self._nested = NestedCells(shell, self._router)
        self.tqdm_patches = tqdm_patches()
        self._keep_alive = KeepAlive(session.manager, session.kernel, session.settings)
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
            for part in (self._router, self._main_module, self._figures, self._nested, session.workers):
                part.install()
                undo.callback(part.uninstall)
            undo.callback(self.tqdm_patches.revert)
            self.tqdm_patches.apply()
            undo.callback(session.publisher.close)
            undo.callback(session.panels.close)
            self._register_displays(undo)
            self.shell.configurables.append(session.settings)
            undo.callback(_remove, self.shell.configurables, session.settings)
            self._follow_switch_interval(undo)
            self._keep_alive.start()
            undo.callback(self._keep_alive.stop)
            session.keep_history()
            self._register_magics(undo)
            for event, callback in (
                ("pre_run_cell", self._foreground_began),
                ("post_run_cell", self._foreground_ended),
            ):
                self.shell.events.register(event, callback)
                undo.callback(self.shell.events.unregister, event, callback)
            undo.callback(session.names.foreground_ended)  # the end of the cell that unloads is not reported
            self._undo = undo.pop_all()

    def uninstall(self) -> None:
        """Undo `install`."""
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

    def _register_displays(self, undo: ExitStack) -> None:
        """Show panel and output where a task is the last line of a cell, and in a terminal while a cell waits."""
        formatter = self.shell.display_formatter.ipython_display_formatter
        shown: dict[type, Callable[[Any], None]] = {
            Task: self.session.show,
            RecurringTask: self.session.show_schedule,
        }
        for kind, show in shown.items():
            formatter.for_type(kind, show)
            undo.callback(formatter.pop, kind, None)
        if not self.session.kernel.exists:
            manager = self.session.manager
            manager.around_waits = self.session.panels.while_waiting
            undo.callback(setattr, manager, "around_waits", nullcontext)

    def _register_magics(self, undo: ExitStack) -> None:
        magics = TaskMagics(self.shell, self.session)  # adds itself to the configurables
        undo.callback(_remove, self.shell.configurables, magics)
        self.shell.register_magics(magics)
        registry, by_kind = self.shell.magics_manager.registry, self.shell.magics_manager.magics
        undo.callback(registry.pop, type(magics).__name__, None)
        for kind in ("line", "cell"):
            undo.callback(by_kind[kind].pop, "bgtask", None)
        complete = magics.complete
        self.shell.set_hook("complete_command", complete, str_key="%bgtask")
        undo.callback(_remove_completer, self.shell, complete)

    def _foreground_began(self, *_: Any) -> None:
        self.session.variables.foreground_began()
        self.session.names.foreground_began(self.session.kernel.launching_cell().request_id)

    def _foreground_ended(self, result: Any = None) -> None:
        self._figures.foreground_ended()
        self.session.names.foreground_ended()
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


def _remove(items: list[Any], item: object) -> None:
    """Remove the item itself, where `list.remove` would take the first that is equal."""
    items[:] = [other for other in items if other is not item]


def _remove_completer(shell: InteractiveShell, complete: Callable[..., Any]) -> None:
    """Undo `set_hook("complete_command", complete, str_key="%bgtask")`, for which IPython has no function."""
    by_key = shell.strdispatchers["complete_command"].strs
    chain = by_key["%bgtask"].chain
    chain[:] = [(priority, method) for priority, method in chain if method.__func__ is not complete]
    if not chain:
        del by_key["%bgtask"]
