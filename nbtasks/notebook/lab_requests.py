"""`LabRequests`: requests of the JupyterLab extension, and the state it shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nbtasks.exceptions import InvalidValueError, NbtasksError
from nbtasks.formatting import one_line
from nbtasks.manager import TaskManager
from nbtasks.notebook.adoption import Adoption
from nbtasks.notebook.cells.adopted_cell import AdoptedCell
from nbtasks.notebook.cells.cell_task import CellTask
from nbtasks.notebook.panels import Panels
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.states import TaskState
from nbtasks.task import Task
from nbtasks.widgets.live_writer import View
from nbtasks.widgets.snapshot import Snapshot, progress_state, snapshot_of

__all__ = ["LabRequests"]

LONGEST_WATCH = 600.0
"""The longest time, in seconds, for which one request has the state published."""
SECONDS_BETWEEN = 0.25
"""Minimum time between two states."""
MOST_ACTIVE = 100
MOST_FINISHED = 30
TEXT_CHARACTERS = 200
"""Longer bodies and errors are cut: the panel has them whole."""

_PROGRESS_POLLS = 50
"""Maximum number of tasks whose progress is polled."""


class LabRequests:
    """Answers the requests of front ends, and publishes the state while one watches.

    `make_state` makes the state from the entries of the tasks and the number of those left out. Requests arrive on the
    thread of the control channel; `stop` is called on the main thread.
    """

    def __init__(
        self,
        manager: TaskManager,
        panels: Panels,
        adoption: Adoption,
        make_state: Callable[[list[dict[str, Any]], int], dict[str, Any]],
        publish: Callable[[dict[str, Any]], None],
    ) -> None:
        self._manager = manager
        self._panels = panels
        self._adoption = adoption
        self._make_state = make_state
        self._publish = publish
        self._view: _StateView | None = None
        """Set and read on the control thread, apart from `stop`, when no request arrives any more."""

    def stop(self) -> None:
        """Publish the state no more."""
        view, self._view = self._view, None
        if view is not None:
            self._panels.remove_view(view)

    def settings_changed(self) -> None:
        """Publish the state again, if a front end watches."""
        if self._view is not None:
            self._panels.touch_view(self._view)

    # -- requests -------------------------------------------------------------------------------------------------

    def answer(self, request: Any) -> dict[str, Any]:
        """The answer to a request: {"status": "ok", ...}, or {"status": "error", "message": ...}."""
        try:
            if not isinstance(request, dict):
                raise InvalidValueError(f"a request must be an object, not {request!r:.100}")
            return {"status": "ok", **self._act(request)}
        except NbtasksError as error:
            return {"status": "error", "message": str(error)}

    def _act(self, request: dict[str, Any]) -> dict[str, Any]:
        action = request.get("action")
        if action == "watch":
            self._watch(request.get("seconds"))
            return {"state": self.state(), "foreground": self._foreground()}
        if action == "adopt":
            return self._adopt_cell(request.get("request"))
        calls: dict[Any, Callable[[Task | RecurringTask], object]] = {
            "cancel": self._cancel,
            "pause": lambda one: isinstance(one, RecurringTask) and one.disable(),
            "resume": lambda one: isinstance(one, RecurringTask) and one.enable(),
        }
        if action not in calls:
            raise InvalidValueError(f"action must be watch, adopt, {', '.join(calls)}, not {action!r:.100}")
        calls[action](self._find(request.get("task")))
        return {}

    def _watch(self, seconds: object) -> None:
        """Have the state published for so long."""
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= LONGEST_WATCH:
            raise InvalidValueError(f"seconds must be above 0 and at most {LONGEST_WATCH:g}, not {seconds!r:.100}")
        until = time.monotonic() + seconds
        if self._view is None or not self._view.renew(until):
            self._view = _StateView(self._manager, self.state, self._publish, self._panels.remove_view, until)
            self._panels.add_view(self._view)

    def _cancel(self, subject: Task | RecurringTask) -> None:
        """Cancel the task, or the runs of a schedule, which stays on."""
        for task in subject.instances if isinstance(subject, RecurringTask) else [subject]:
            self._manager.cancel_task(task)

    def _adopt_cell(self, request_id: object) -> dict[str, Any]:
        if not isinstance(request_id, str):
            raise InvalidValueError(f"request must be the id of the cell's request, not {request_id!r:.100}")
        return {"task": self._adoption.adopt_request(request_id)}

    def _find(self, subject_id: object) -> Task | RecurringTask:
        if isinstance(subject_id, str):
            found = self._manager.get_task(subject_id) or self._manager.get_recurring_task(subject_id)
            if found is not None:
                return found
        raise InvalidValueError(f"no task {subject_id!r:.100}")

    # -- the state ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What a front end shows of this kernel."""
        now = datetime.now(UTC)
        shown, left_out = _shown(self._manager)
        tasks = [_entry(one, snapshot_of(one, now, compact=True), self._cell_id(one)) for one in shown]
        return self._make_state(tasks, left_out)

    def _foreground(self) -> dict[str, Any] | None:
        """The running foreground cell, for a front end that was not there when it began."""
        cell = self._adoption.foreground_cell()
        if cell is None:
            return None
        return {"request": cell.request_id, "cell_id": cell.cell_id, "seconds": round(cell.seconds, 3)}

    def _cell_id(self, subject: Task | RecurringTask) -> str | None:
        """The front end's id of the cell of a task."""
        origin = subject.template if isinstance(subject, RecurringTask) else subject
        if isinstance(origin, CellTask):
            return origin.cell.cell_id
        return self._panels.cell_of(subject)


class _StateView(View):
    """Publishes the state, as long as a front end watches.

    `renew` is called on the control thread, all else on the writer's. `_lock` guards the end of the watch.
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
