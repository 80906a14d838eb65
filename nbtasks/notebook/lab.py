"""`LabLink`: the kernel's side of the JupyterLab extension.

The front end asks on the control channel, which is served while a cell runs: by a `comm_info_request` for the target
`nbtasks.lab` whose content has the request under "nbtasks". Servers and front ends do not take the answer to a request
of that type for the end of the running cell, and a kernel without nbtasks answers that it has no such comm. The state
of the tasks is published as an update of a display that no document has, which every other front end ignores.
docs/architecture.md has the format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbtasks.first_use import FirstUse
from nbtasks.notebook.adoption import Adoption
from nbtasks.notebook.parts import NotebookParts
from nbtasks.patch import PatchSet

if TYPE_CHECKING:
    from nbtasks.notebook.lab_requests import LabRequests
    from nbtasks.notebook.session import NotebookSession

__all__ = ["LabLink"]

TARGET = "nbtasks.lab"
DISPLAY_ID = "nbtasks-lab"
MIME_TYPE = "application/vnd.nbtasks.lab+json"
VERSION = 1
"""The version of the format; a front end ignores states of another one."""


class LabLink:
    """The link to the JupyterLab extension: receives requests, publishes the state.

    `LabRequests` answers; it is made with the first request. Requests arrive on the thread of the control channel;
    `start` and `stop` are called on the main thread.
    """

    def __init__(self, parts: NotebookParts, session: FirstUse[NotebookSession], adoption: Adoption) -> None:
        self._parts = parts
        self._session = session
        self._adoption = adoption
        self._requests = FirstUse(self._make_requests)

    def patches(self) -> PatchSet:
        """The patch through which requests arrive."""
        return self._parts.kernel.answer_comm_info(TARGET, lambda request: self._requests.get().answer(request))

    def start(self) -> None:
        """Tell front ends that nbtasks is loaded."""
        self._parts.settings.observe(self._settings_changed, names=["offer_after"])
        manager = self._parts.manager
        is_empty = not manager.get_stats()["total"] and not manager.list_recurring_tasks()
        self._publish(self._make_state([], 0) if is_empty else self._requests.get().state())

    def stop(self) -> None:
        """Tell front ends that nbtasks is not loaded any more."""
        self._parts.settings.unobserve(self._settings_changed, names=["offer_after"])
        if self._requests.made is not None:
            self._requests.made.stop()
        self._publish({"version": VERSION, "loaded": False})

    def _settings_changed(self, _change: Any) -> None:
        if self._requests.made is not None:
            self._requests.made.settings_changed()

    def _make_requests(self) -> LabRequests:
        from nbtasks.notebook.lab_requests import LabRequests

        panels = self._session.get().panels
        return LabRequests(self._parts.manager, panels, self._adoption, self._make_state, self._publish)

    def _make_state(self, tasks: list[dict[str, Any]], left_out: int) -> dict[str, Any]:
        """What a front end shows of this kernel."""
        return {
            "version": VERSION,
            "loaded": True,
            "tasks": tasks,
            "left_out": left_out,
            "lanes": list(self._parts.manager.lanes),
            "adopt_refusal": self._adoption.refusal,
            "offer_after": self._parts.settings.offer_after,
        }

    def _publish(self, state: dict[str, Any]) -> None:
        self._parts.kernel.send_hidden(DISPLAY_ID, {MIME_TYPE: state})
