"""`LabTasks`: tasks as the JupyterLab extension shows and controls them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nbtasks.exceptions import InvalidValueError
from nbtasks.formatting import one_line
from nbtasks.manager import TaskManager
from nbtasks.notebook.cells.adopted_cell import AdoptedCell
from nbtasks.notebook.cells.cell_task import CellTask
from nbtasks.notebook.panels import Panels
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.states import TaskState
from nbtasks.task import Task
from nbtasks.widgets.live_writer import View
from nbtasks.widgets.snapshot import Snapshot, progress_state, snapshot_of

__all__ = ["LabTasks"]

SECONDS_BETWEEN = 0.25
"""Minimum time between two states."""
MOST_ACTIVE = 100
MOST_FINISHED = 30
TEXT_CHARACTERS = 200
"""Longer bodies and errors are cut: the panel has them whole."""

_PROGRESS_POLLS = 50
"""Maximum number of tasks whose progress is polled."""


class LabTasks:
    """The tasks of a manager as the JupyterLab extension shows and controls them.

    `make_state` makes the state from the entries of the tasks and the number of those left out. Any thread may call it;
    `_lock` guards `_view`.
    """

    def __init__(
        self,
        manager: TaskManager,
        panels: Panels,
        make_state: Callable[[list[dict[str, Any]], int], dict[str, Any]],
        publish: Callable[[dict[str, Any]], None],
    ) -> None:
        self._manager = manager
        self._panels = panels
        self._make_state = make_state
        self._publish = publish
        self._lock = threading.Lock()
        self._view: _StateView | None = None

    def state(self) -> dict[str, Any]:
        """What a front end shows of this kernel."""
        now = datetime.now(UTC)
        shown, left_out = _shown(self._manager)
        tasks = [_entry(one, snapshot_of(one, now, compact=True), self._cell_id(one)) for one in shown]
        return self._make_state(tasks, left_out)

    def watch(self, until: float) -> None:
        """Publish the state until this monotonic time."""
        with self._lock:
            if self._view is None or not self._view.renew(until):
                self._view = _StateView(self._manager, self.state, self._publish, self._panels.remove_view, until)
                self._panels.add_view(self._view)

    def publish_again(self) -> None:
        """Publish the state if it has changed, and if a front end watches."""
        if self._view is not None:
            self._panels.touch_view(self._view)

    def stop(self) -> None:
        """Publish the state no more."""
        with self._lock:
            view, self._view = self._view, None
        if view is not None:
            self._panels.remove_view(view)

    def control(self, action: str, subject_id: object) -> None:
        """Cancel, pause or resume the task or schedule of that id. Raises InvalidValueError if there is none."""
        subject = self._find(subject_id)
        if action == "cancel":  # the task, or the runs of a schedule, which stays on
            for task in subject.instances if isinstance(subject, RecurringTask) else [subject]:
                self._manager.cancel_task(task)
        elif isinstance(subject, RecurringTask):
            _ = subject.disable() if action == "pause" else subject.enable()

    def _find(self, subject_id: object) -> Task | RecurringTask:
        if isinstance(subject_id, str):
            found = self._manager.get_task(subject_id) or self._manager.get_recurring_task(subject_id)
            if found is not None:
                return found
        raise InvalidValueError(f"no task {subject_id!r:.100}")

    def _cell_id(self, subject: Task | RecurringTask) -> str | None:
        """The front end's id of the cell of a task."""
        origin = subject.template if isinstance(subject, RecurringTask) else subject
        if isinstance(origin, CellTask):
            return origin.cell.cell_id
        return self._panels.cell_of(subject)


class _StateView(View):
    """Publishes the state, as long as a front end watches.

    `renew` is called on any thread, all else on the writer's. `_lock` guards the end of the watch.
    """

    watches_progress = True

    def __init__(
        self,
        manager: TaskManager,
        state: Callable[[], dict[str, Any]],
        publish: Callable[[dict[str, Any]], None],
        remove: Callable[[View], None],
        until: float,
    ) -> None:
        self._lock = threading.Lock()
        self._until = until
        """The monotonic time at which the watch ends, unless it is renewed."""
        self._ended = False
        self._manager = manager
        self._state = state
        self._publish = publish
        self._remove = remove
        self._last: dict[str, Any] | None = None
        self._next = 0.0

    def renew(self, until: float) -> bool:
        """Watch until this monotonic time at least; False if the watch has ended."""
        with self._lock:
            self._until = max(self._until, until)
            return not self._ended

    @property
    def ticks(self) -> bool:
        """While tasks run, time passes for them."""
        return len(self._manager.active_tasks) > 0

    def progress_state(self) -> object:
        """The progress of the running tasks."""
        return [progress_state(task) for task in self._manager.list_tasks(TaskState.RUNNING)[:_PROGRESS_POLLS]]

    def refresh(self) -> int:
        """Publish the state, if it has changed and the last one is old enough."""
        now = time.monotonic()
        with self._lock:
            self._ended = now > self._until
        if self._ended:
            self._remove(self)
            return 0
        self.refresh_due = now < self._next
        if self.refresh_due:
            return 0
        state = self._state()
        if state == self._last:
            return 0
        self._publish(state)
        self._last, self._next = state, now + SECONDS_BETWEEN
        return 1


def _shown(manager: TaskManager) -> tuple[list[Task | RecurringTask], int]:
    """The tasks to show, and how many active ones are left out.

    The order is: running, pending, schedules, failed, others. Children and runs of schedules are left to their parents.
    """
    active: list[Task] = []
    finished: list[Task] = []
    for task in manager.list_tasks():
        if task.parent_id is None:
            (finished if task.done else active).append(task)
    active.sort(key=lambda task: task.state is not TaskState.RUNNING)
    finished.reverse()
    finished.sort(key=lambda task: task.state is not TaskState.FAILED)
    schedules = manager.list_recurring_tasks()
    return [*active[:MOST_ACTIVE], *schedules[:MOST_ACTIVE], *finished[:MOST_FINISHED]], len(active[MOST_ACTIVE:])


def _entry(subject: Task | RecurringTask, seen: Snapshot, cell_id: str | None) -> dict[str, Any]:
    """One task as front ends show it."""
    created = None if isinstance(subject, RecurringTask) else subject.created_at
    return {
        "id": subject.id,
        "kind": "schedule" if isinstance(subject, RecurringTask) else "task",
        "name": subject.name,
        "title": seen.title,
        "state": seen.state,
        "status": seen.status,
        "progress": seen.progress,
        "figures": seen.figures,
        "seconds_left": seen.seconds_left,
        "note": one_line(seen.note, TEXT_CHARACTERS),
        "finished": seen.finished,
        "cell_id": cell_id,
        "created_at": None if created is None else created.isoformat(),
        "adopted_request": subject.cell.request_id if isinstance(subject, AdoptedCell) else None,
    }
