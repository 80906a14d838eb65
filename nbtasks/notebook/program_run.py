"""Runs of a notebook by a program such as nbclient: the last cell waits for tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from nbtasks.exceptions import NbtasksError
from nbtasks.first_use import FirstUse
from nbtasks.notebook.executed_file import is_last_cell
from nbtasks.notebook.parts import NotebookParts
from nbtasks.patch import Patch
from nbtasks.task import Task
from nbtasks.task_list import first_unsuccessful
from nbtasks.waiting import result_of

if TYPE_CHECKING:
    from nbtasks.notebook.session import NotebookSession

__all__ = ["ProgramRun"]


class ProgramRun:
    """A run of the notebook by a program, which ends the kernel after the last cell.

    That cell waits for all tasks but detached ones, and fails with one that failed. Used on the main thread only.
    """

    def __init__(self, parts: NotebookParts, session: FirstUse[NotebookSession]) -> None:
        self._parts = parts
        self._session = session
        self._sources: list[str] = []

    def cell_ended(self, result: Any) -> None:
        """A cell that is no part of another has ended; `result` is IPython's, which gets the error of a task."""
        kernel = self._parts.kernel
        source = getattr(getattr(result, "info", None), "raw_cell", None)
        if source is None or not kernel.is_unattended(kernel.launching_cell()):
            return
        self._sources.append(source)
        if result.success and self._awaited() and is_last_cell(self._sources, kernel.notebook_name):
            error = self._wait()
            if error is not None:
                result.error_in_exec = error
                self._session.get().show_as_rendered(error)
                self._parts.shell.showtraceback((type(error), error, error.__traceback__))

    def patches(self, shell: InteractiveShell) -> list[Patch]:
        """IPython's terminal application runs a file without such events, and calls this at its end."""
        return [Patch(shell, "restore_term_title", self._at_end)] if hasattr(shell, "restore_term_title") else []

    def _at_end(self, restore: Callable[[], None]) -> Callable[[], None]:
        def end() -> None:
            kernel = self._parts.kernel
            if kernel.is_unattended(kernel.launching_cell()) and self._wait() is not None:
                self._parts.shell.last_execution_succeeded = False
            restore()

        return end

    def _awaited(self, *, again: bool = False) -> list[Task]:
        """The tasks to wait for, and those whose failure no code has seen; `again`: without runs of schedules."""
        manager, session = self._parts.manager, self._session.made
        if not self._parts.settings.wait_at_end:
            return []
        tasks = list(manager.active_tasks) if session is None else session.awaited_tasks()
        if again:
            tasks = [task for task in tasks if manager.get_recurring_task(task.parent_id or "") is None]
        return tasks

    def _wait(self) -> BaseException | None:
        """Wait for the tasks, and for those that they start; return the error of one that failed."""
        seen: list[Task] = []
        try:
            while tasks := [task for task in self._awaited(again=bool(seen)) if task not in seen]:
                seen += tasks
                with self._session.get().panels.while_waiting(tasks):
                    for task in tasks:
                        self._parts.manager.wait(task)
            failed = first_unsuccessful(seen)
            if failed is not None and failed.exception is None:
                result_of(failed)  # raises that it was cancelled
        except (KeyboardInterrupt, NbtasksError) as error:
            return error
        return None if failed is None else failed.exception
