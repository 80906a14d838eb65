"""Runs of a notebook by a program such as nbclient: the last cell waits for tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbtasks.exceptions import NbtasksError
from nbtasks.notebook.cells.cell_task import CellTask
from nbtasks.notebook.cells.errors import show_as_rendered
from nbtasks.notebook.executed_file import is_last_cell
from nbtasks.notebook.session import NotebookSession, first_unsuccessful
from nbtasks.patch import Patch
from nbtasks.task import Task
from nbtasks.waiting import result_of

__all__ = ["ProgramRun"]


class ProgramRun:
    """A run of the notebook by a program, which ends the kernel after the last cell.

    That cell waits for all tasks but detached ones, and fails with one that failed. Used on the main thread only.
    """

    def __init__(self, session: NotebookSession) -> None:
        self._session = session
        self._sources: list[str] = []

    def cell_ended(self, result: Any) -> None:
        """A cell that is no part of another has ended; `result` is IPython's, which gets the error of a task."""
        session = self._session
        source = getattr(getattr(result, "info", None), "raw_cell", None)
        if source is None or not session.kernel.is_unattended(session.kernel.launching_cell()):
            return
        self._sources.append(source)
        if result.success and self._awaited() and is_last_cell(self._sources, session.kernel.notebook_name):
            error = self._wait()
            if error is not None:
                result.error_in_exec = error
                show_as_rendered(session.shell, error)
                session.shell.showtraceback((type(error), error, error.__traceback__))

    def patches(self, shell: InteractiveShell) -> list[Patch]:
        """IPython's terminal application runs a file without such events, and calls this at its end."""
        return [Patch(shell, "restore_term_title", self._at_end)] if hasattr(shell, "restore_term_title") else []

    def _at_end(self, restore: Callable[[], None]) -> Callable[[], None]:
        def end() -> None:
            session = self._session
            if session.kernel.is_unattended(session.kernel.launching_cell()) and self._wait() is not None:
                session.shell.last_execution_succeeded = False
            restore()

        return end

    def _awaited(self, *, again: bool = False) -> list[Task]:
        """The tasks to wait for, and those whose failure no code has seen; `again`: without runs of schedules."""
        session = self._session
        if not session.settings.wait_at_end:
            return []
        tasks = [*session.unseen_failures(), *session.manager.active_tasks]
        if again:
            tasks = [task for task in tasks if session.manager.get_recurring_task(task.parent_id or "") is None]
        return [task for task in tasks if not (isinstance(task, CellTask) and task.detached)]

    def _wait(self) -> BaseException | None:
        """Wait for the tasks, and for those that they start; return the error of one that failed."""
        session = self._session
        seen: list[Task] = []
        try:
            while tasks := [task for task in self._awaited(again=bool(seen)) if task not in seen]:
                seen += tasks
                with session.panels.while_waiting(tasks):
                    for task in tasks:
                        session.manager.wait(task)
            failed = first_unsuccessful(seen)
            if failed is not None and failed.exception is None:
                result_of(failed)  # raises that it was cancelled
        except (KeyboardInterrupt, NbtasksError) as error:
            return error
        return None if failed is None else failed.exception
