"""Messages of widgets in the process of a cell, to front ends and from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbtasks.backends.remote_work import Tell
from nbtasks.notebook.kernel import Kernel, LaunchingCell
from nbtasks.notebook.output.output import Output
from nbtasks.workers.messages import COMM_MESSAGES, Message

__all__ = ["RemoteWidgets"]


class RemoteWidgets:
    """The widgets of one attempt of a cell in a worker process.

    Messages of front ends are sent there while the cell runs, those to widgets of the notebook that the cell uses as
    well. They arrive on any thread; all else is called on the thread that receives from the worker.
    """

    def __init__(self, kernel: Kernel, cell: LaunchingCell, output: Output) -> None:
        self._kernel = kernel
        self._cell = cell
        self._output = output
        self._tell: Tell | None = None
        self._shared: frozenset[str] = frozenset()
        self._capturing: dict[str, str] = {}
        """The Output widgets that capture what a callback shows, and the message that has called it."""

    def begun(self, tell: Tell) -> None:
        """The worker takes messages from now on."""
        if self._kernel.exists:
            self._tell = tell

    def ended(self) -> None:
        """It takes none from now on: the notebook's own widgets handle those that it has not handled."""
        if self._tell is not None:
            self._tell = None
            self._kernel.comms.remove(self._deliver)

    def take(self, message: Message) -> bool:
        """Take a message that concerns widgets, or is to be shown in one; False if it is another."""
        if message.kind == "nbtasks_widgets":
            self._share(message.content["models"])
        elif message.kind == "nbtasks_handled":
            self._kernel.comms.handled(message.parent["msg_id"])
        elif message.kind in COMM_MESSAGES:
            self._route(message)
            self._forward(message, self._redirecting(message))
        elif message.answers in self._capturing.values():
            self._forward(message, message.content)
        else:
            return False
        return True

    def _share(self, models: Iterable[str]) -> None:
        """The cell uses these widgets of the notebook."""
        if self._tell is not None:
            self._shared = frozenset(models)
            for model in self._shared:
                self._kernel.comms.add(model, self._deliver)

    def _route(self, message: Message) -> None:
        comm_id = message.content["comm_id"]
        if self._tell is None or comm_id in self._shared:
            return
        if message.kind == "comm_open":
            self._kernel.comms.add(comm_id, self._deliver, message.content["target_name"])
        elif message.kind == "comm_close":
            self._kernel.comms.remove(self._deliver, comm_id)

    def _deliver(self, message: dict[str, Any]) -> None:
        tell = self._tell
        if tell is not None:
            about = {"header": message["header"], "metadata": message["metadata"], "content": message["content"]}
            tell("nbtasks_widget", about, message["buffers"])

    def _forward(self, message: Message, content: dict[str, Any]) -> None:
        if _data(content).get("method") == "echo_update" and content.get("comm_id") in self._shared:
            return  # the notebook's own widget has sent it
        parent = {"header": message.parent} if _is_of_callback(message) else self._cell.parent
        self._kernel.forward(parent, message.kind, content, message.buffers, message.metadata)

    def _redirecting(self, message: Message) -> dict[str, Any]:
        """The content for the front end, after pending output where an Output widget begins to capture."""
        content = message.content
        state = _data(content).get("state") or {}
        if "msg_id" not in state:
            return content
        self._output.sync()
        captured, comm_id = state["msg_id"], content["comm_id"]
        self._capturing.pop(comm_id, None)
        if captured and _is_of_callback(message):
            self._capturing[comm_id] = captured
        elif captured:
            captured = self._cell.request_id
        return {**content, "data": {**content["data"], "state": {**state, "msg_id": captured}}}


def _data(content: dict[str, Any]) -> dict[str, Any]:
    """The data of a message of a widget; that of another comm may be of any type: bokeh's is text."""
    data = content.get("data")
    return data if isinstance(data, dict) else {}


def _is_of_callback(message: Message) -> bool:
    """Whether it belongs to a message of a front end, not to the cell."""
    return message.parent.get("msg_type") in COMM_MESSAGES
