"""`LabLink`: the kernel's side of the JupyterLab extension.

The front end asks on the control channel, which is served while a cell runs: by a `comm_info_request` for the target
`nbtasks.lab` whose content has the request under "nbtasks". Servers and front ends do not take the answer to a request
of that type for the end of the running cell, and a kernel without nbtasks answers that it has no such comm. The state
of the tasks is published as an update of a display that no document has, which every other front end ignores.
docs/architecture.md has the format.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nbtasks.events import EventType, Subscription
from nbtasks.exceptions import InvalidValueError, NbtasksError
from nbtasks.first_use import FirstUse
from nbtasks.notebook.adoption import Adoption
from nbtasks.notebook.parts import NotebookParts
from nbtasks.patch import PatchSet

if TYPE_CHECKING:
    from nbtasks.notebook.lab_tasks import LabTasks
    from nbtasks.notebook.session import NotebookSession

__all__ = ["LabLink"]

TARGET = "nbtasks.lab"
DISPLAY_ID = "nbtasks-lab"
MIME_TYPE = "application/vnd.nbtasks.lab+json"
VERSION = 1
"""The version of the format; a front end ignores states of another one."""


LONGEST_WATCH = 600.0
"""The longest time, in seconds, for which one request has the state published."""
_CONTROLS = ("cancel", "pause", "resume")


class LabLink:
    """Answers the JupyterLab extension; publishes the state while it watches.

    Requests arrive on the thread of the control channel; `start` and `stop` are called on the main thread. `LabTasks`,
    which imports what it needs to show tasks, is made when there is a task.
    """

    def __init__(self, parts: NotebookParts, session: FirstUse[NotebookSession], adoption: Adoption) -> None:
        self._parts = parts
        self._manager = parts.manager
        self._session = session
        self._adoption = adoption
        self._tasks = FirstUse(self._make_tasks)
        self._watched_until = 0.0
        """The monotonic time until which a front end watches."""
        self._first_task: Subscription | None = None
        """Waits for a task, while a front end watches and there is none."""

    def _make_tasks(self) -> LabTasks:
        from nbtasks.notebook.lab_tasks import LabTasks

        return LabTasks(self._manager, self._session.get().panels, self._make_state, self._publish)

    def patches(self) -> PatchSet:
        """The patch through which requests arrive."""
        return self._parts.kernel.answer_comm_info(TARGET, self._answer)

    def start(self) -> None:
        """Tell front ends that nbtasks is loaded."""
        self._parts.settings.observe(self._settings_changed, names=["offer_after"])
        self._publish(self._state())

    def stop(self) -> None:
        """Tell front ends that nbtasks is not loaded any more."""
        self._parts.settings.unobserve(self._settings_changed, names=["offer_after"])
        self._watched_until = 0.0
        self._stop_waiting()
        if self._tasks.made is not None:
            self._tasks.made.stop()
        self._publish({"version": VERSION, "loaded": False})

    def _settings_changed(self, _change: Any) -> None:
        if self._tasks.made is not None:
            self._tasks.made.publish_again()
        elif time.monotonic() < self._watched_until:
            self._publish(self._state())

    # -- requests -------------------------------------------------------------------------------------------------

    def _answer(self, request: Any) -> dict[str, Any]:
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
            return {"state": self._state(), "foreground": self._foreground()}
        if action == "adopt":
            return self._adopt_cell(request.get("request"))
        if action not in _CONTROLS:
            raise InvalidValueError(f"action must be watch, adopt, {', '.join(_CONTROLS)}, not {action!r:.100}")
        self._tasks.get().control(action, request.get("task"))
        return {}

    def _watch(self, seconds: object) -> None:
        """Have the state published for so long."""
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= LONGEST_WATCH:
            raise InvalidValueError(f"seconds must be above 0 and at most {LONGEST_WATCH:g}, not {seconds!r:.100}")
        self._watched_until = time.monotonic() + seconds
        if self._tasks.made is None and self._is_empty:
            if self._first_task is None:
                created = [EventType.CREATED, EventType.SCHEDULED]
                self._first_task = self._manager.add_event_callback(self._task_added, events=created)
            if self._is_empty:  # still
                return
        self._stop_waiting()
        self._tasks.get().watch(self._watched_until)

    def _task_added(self, _task: object, _event: EventType) -> None:
        """There is a first task or schedule. On the thread of the subscription."""
        self._stop_waiting()
        if time.monotonic() < self._watched_until:
            self._tasks.get().watch(self._watched_until)

    def _stop_waiting(self) -> None:
        waiting, self._first_task = self._first_task, None
        if waiting is not None:
            waiting.close()

    def _adopt_cell(self, request_id: object) -> dict[str, Any]:
        if not isinstance(request_id, str):
            raise InvalidValueError(f"request must be the id of the cell's request, not {request_id!r:.100}")
        return {"task": self._adoption.adopt_request(request_id)}

    # -- the state ------------------------------------------------------------------------------------------------

    @property
    def _is_empty(self) -> bool:
        """Whether there is no task and no schedule."""
        return not self._manager.get_stats()["total"] and not self._manager.list_recurring_tasks()

    def _state(self) -> dict[str, Any]:
        """What a front end shows of this kernel."""
        return self._make_state([], 0) if self._is_empty else self._tasks.get().state()

    def _make_state(self, tasks: list[dict[str, Any]], left_out: int) -> dict[str, Any]:
        return {
            "version": VERSION,
            "loaded": True,
            "tasks": tasks,
            "left_out": left_out,
            "lanes": list(self._manager.lanes),
            "adopt_refusal": self._adoption.refusal,
            "offer_after": self._parts.settings.offer_after,
        }

    def _foreground(self) -> dict[str, Any] | None:
        """The running foreground cell, for a front end that was not there when it began."""
        cell = self._adoption.foreground_cell()
        if cell is None:
            return None
        return {"request": cell.request_id, "cell_id": cell.cell_id, "seconds": round(cell.seconds, 3)}

    def _publish(self, state: dict[str, Any]) -> None:
        self._parts.kernel.send_hidden(DISPLAY_ID, {MIME_TYPE: state})
