"""The Jupyter kernel: its event loop, the launching cell, messages to front ends."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from IPython.core.async_helpers import get_asyncio_loop
from IPython.core.interactiveshell import InteractiveShell

from nbtasks.formatting import plain_text
from nbtasks.patch import ItemPatch, PatchSet

__all__ = ["CommRoutes", "Kernel", "LaunchingCell"]


@dataclass(frozen=True, slots=True)
class LaunchingCell:
    """The cell that a task was launched from, which shows the task's output."""

    parent: dict[str, Any] | None = field(default=None, repr=False)
    """The message of the request that ran the cell; None in a terminal."""
    execution_count: int | None = None
    cell_id: str | None = None
    """The front end's id of the cell, if it sends one."""
    headless: bool = False
    """Whether a program such as nbclient runs the notebook, and no user sees it."""

    @property
    def request_id(self) -> str | None:
        """The id of the request that ran the cell; a re-run has another."""
        header = (self.parent or {}).get("header") or {}
        return header.get("msg_id")

    @property
    def key(self) -> str:
        """Identifies the cell in the front end, also after a re-run; of a cell without an id, only this run."""
        return self.cell_id or self.request_id or ""


class Kernel:
    """The kernel of an IPython shell.

    In a terminal there is none, and nothing is sent. All that depends on the version of ipykernel is in here.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._kernel: Any = getattr(shell, "kernel", None)
        self.comms = CommRoutes(self._kernel)

    @property
    def exists(self) -> bool:
        """Whether the shell runs in a kernel, with front ends that display messages."""
        return self._kernel is not None

    @property
    def has_shell_thread(self) -> bool:
        """Whether a thread of its own reads the shell channel: from ipykernel 7.0."""
        return getattr(self._kernel, "shell_channel_thread", None) is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that the kernel runs foreground cells on."""
        io_loop = getattr(self._kernel, "io_loop", None)
        return getattr(io_loop, "asyncio_loop", None)

    @property
    def is_voila(self) -> bool:
        """Whether Voila has run the notebook, or is running it, to show it as a page with live widgets."""
        return any(name in os.environ for name in ("VOILA_KERNEL_ID", "VOILA_PREHEAT", "VOILA_REQUEST_URL"))

    @property
    def passing_loop(self) -> asyncio.AbstractEventLoop | None:
        """In a terminal: the loop of cells that await, which does not run between cells."""
        return None if self.exists else get_asyncio_loop()

    @property
    def notebook_name(self) -> str | None:
        """The file of the notebook, as the server or the editor passes it; None if neither does."""
        return os.environ.get("JPY_SESSION_NAME") or self._shell.user_ns.get("__vsc_ipynb_file__") or None

    def launching_cell(self) -> LaunchingCell:
        """The cell that this thread runs now."""
        parent = self._shell.get_parent() if self.exists else None
        # The displayhook has the number of the running cell; the shell's own count may be one ahead.
        return self.cell_of(parent, self._shell.displayhook.prompt_count)

    def cell_of(self, parent: dict[str, Any] | None, execution_count: int | None) -> LaunchingCell:
        """The cell of a request."""
        cell_id = ((parent or {}).get("metadata") or {}).get("cellId")
        # Front ends send the id of the cell; a console has no cells, but answers `input()`. Programs do neither.
        allows_input = ((parent or {}).get("content") or {}).get("allow_stdin", True)
        headless = cell_id is None and not allows_input and not self.is_voila
        return LaunchingCell(parent or None, execution_count, cell_id, headless=headless)

    def is_unattended(self, cell: LaunchingCell) -> bool:
        """Whether a program runs the notebook to its last cell, and no user sees it."""
        if self.exists:
            return cell.headless
        terminal = sys.modules.get("IPython.terminal.interactiveshell")
        if terminal is not None and isinstance(self._shell, terminal.TerminalInteractiveShell):
            return getattr(self._shell.parent, "interact", True) is False  # `ipython FILE`
        return True  # a shell of a program, such as ploomber-engine's

    def send(self, cell: LaunchingCell, kind: str, content: dict[str, Any]) -> None:
        """Publish a message as output of `cell`; without a kernel, print it. Any thread may call it."""
        if self._kernel is None:
            _print(kind, content, colored=self._shell.colors.lower() != "nocolor")
        if self._kernel is None or cell.parent is None:
            return
        topic = f"stream.{content['name']}".encode() if kind == "stream" else self._topic(kind)
        self._kernel.session.send(self._kernel.iopub_socket, kind, content, parent=cell.parent, ident=topic)

    def forward(
        self,
        parent: dict[str, Any] | None,
        kind: str,
        content: dict[str, Any],
        buffers: list[Any],
        metadata: dict[str, Any],
    ) -> None:
        """Pass on a message of a widget in another kernel. Any thread may call it."""
        if self._kernel is not None:
            self._kernel.session.send(
                self._kernel.iopub_socket, kind, content, parent=parent, buffers=buffers, metadata=metadata,
                ident=self._topic(kind),
            )  # fmt: skip

    def send_hidden(self, display_id: str, data: dict[str, Any]) -> None:
        """Publish an update of a display that no document has: no front end shows it. Any thread may call it.

        A server counts it as activity, and the JupyterLab extension reads it.
        """
        if self._kernel is not None:
            content = {"data": data, "metadata": {}, "transient": {"display_id": display_id}}
            self._kernel.session.send(self._kernel.iopub_socket, "update_display_data", content, parent={})

    def answer_comm_info(self, target: str, answer: Callable[[Any], dict[str, Any]]) -> PatchSet:
        """The patch that answers requests of front ends for comms of `target` on the control channel.

        The request is what their content has under "nbtasks"; `answer` is called on the thread of that channel, which
        is free while a cell runs.
        """
        kernel = self._kernel
        if kernel is None:
            return PatchSet([])

        def make(original: Any) -> Any:
            async def comm_info_request(stream: Any, ident: Any, parent: Any) -> None:
                content = parent["content"]
                if content.get("target_name") != target:
                    await original(stream, ident, parent)
                    return
                reply = {"status": "ok", "comms": {}, "nbtasks": answer(content.get("nbtasks"))}
                kernel.session.send(stream, "comm_info_reply", reply, parent, ident)

            return comm_info_request

        return PatchSet([ItemPatch(kernel.control_handlers, "comm_info_request", make)])

    def write_stderr(self, line: str) -> None:
        """Write a line to the standard error of the process, which ipykernel replaces by cell output."""
        copied: int | None = getattr(sys.stderr, "_original_stdstream_copy", None)
        if copied is not None:
            os.write(copied, f"{line}\n".encode())
        elif sys.__stderr__ is not None:
            print(line, file=sys.__stderr__, flush=True)

    def encode(self, data: dict[str, Any]) -> dict[str, Any]:
        """The mime bundle, ready to be sent: images in base64, everything JSON-safe."""
        if self._kernel is None:
            return data
        from ipykernel.jsonutil import encode_images, json_clean

        encoded: dict[str, Any] = json_clean(encode_images(data))
        return encoded

    def _topic(self, kind: str) -> bytes:
        """The topic of a message, as the kernel's own messages of that kind have it."""
        return f"kernel.{self._kernel.ident}.{kind}".encode()


Deliver = Callable[[dict[str, Any]], None]
"""Sends a message of a front end to the process of a comm."""


class CommRoutes:
    """Routes messages of front ends to comms in worker processes.

    Front ends take a message for handled when its idle status arrives: they hold back the next one until then, and
    have output redirected into Output widgets. So that status is published when the worker has handled the message.

    `_lock` guards the routes and the messages that are not handled yet. Any thread may call any method.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._lock = threading.Lock()
        self._routes: dict[str, list[Deliver]] = {}
        self._elsewhere: dict[str, _CommElsewhere] = {}
        self._unhandled: dict[str, _Unhandled] = {}

    def patches(self) -> PatchSet:
        """The patches of the kernel through which messages of front ends arrive."""
        handlers = self._kernel.shell_handlers
        return PatchSet([ItemPatch(handlers, kind, self._routing) for kind in ("comm_msg", "comm_close")])

    def add(self, comm_id: str, deliver: Deliver, target: str | None = None) -> None:
        """Have messages to this comm delivered; `target` is that of a comm of a worker.

        A message to a comm that the kernel has is handled here, too.
        """
        with self._lock:
            self._routes.setdefault(comm_id, []).append(deliver)
            if target is not None:
                here = _CommElsewhere(comm_id, target)
                self._kernel.comm_manager.comms[comm_id] = self._elsewhere[comm_id] = here

    def remove(self, deliver: Deliver, comm_id: str | None = None) -> None:
        """Deliver no more messages there: none of one comm, or none at all.

        Those that were not handled there are handled here if the kernel has the comm by now.
        """
        with self._lock:
            for route in list(self._routes) if comm_id is None else [comm_id]:
                self._remove(route, deliver)
            ids = [key for key, one in self._unhandled.items() if one.deliver == deliver and one.is_about(comm_id)]
            left = [self._unhandled.pop(key) for key in ids]
        for one in left:
            if one.comm_id in self._kernel.comm_manager.comms:
                self._kernel.comm_manager.comm_msg(None, [], one.message)
            self._publish_idle(one)

    def _remove(self, comm_id: str, deliver: Deliver) -> None:
        routes = self._routes.get(comm_id, [])
        if deliver not in routes:
            return
        routes.remove(deliver)
        if not routes:
            del self._routes[comm_id]
        here, comms = self._elsewhere.pop(comm_id, None), self._kernel.comm_manager.comms
        if here is not None and comms.get(comm_id) is here:
            del comms[comm_id]

    def handled(self, request_id: str) -> None:
        """The worker has handled this message."""
        with self._lock:
            handled = self._unhandled.pop(request_id, None)
        if handled is not None:
            self._publish_idle(handled)

    def _routing(self, handle: Callable[..., None]) -> Callable[..., None]:
        def route(stream: Any, ident: Any, message: dict[str, Any]) -> None:
            comm_id = message["content"].get("comm_id")
            with self._lock:
                routes = list(self._routes.get(comm_id, ()))
                is_here = comm_id not in self._elsewhere
                if not is_here:
                    self._unhandled[message["header"]["msg_id"]] = _Unhandled(comm_id, message, routes[0])
            for deliver in routes:
                deliver(message)
            if is_here:
                handle(stream, ident, message)

        return route

    def holds_idle(self, request_id: str) -> bool:
        """Whether the status idle of this message has to wait until a worker has handled it."""
        if not self._unhandled:
            return False
        with self._lock:
            unhandled = self._unhandled.get(request_id)
            if unhandled is not None:
                unhandled.has_left = True
            return unhandled is not None

    def _publish_idle(self, handled: _Unhandled) -> None:
        if handled.has_left:
            self._kernel._publish_status("idle", "shell", handled.message)


@dataclass(slots=True)
class _Unhandled:
    """A message that a worker has not handled yet."""

    comm_id: str
    message: dict[str, Any]
    deliver: Deliver
    has_left: bool = False
    """Whether the kernel has passed it on, and would publish its idle status."""

    def is_about(self, comm_id: str | None) -> bool:
        return comm_id is None or comm_id == self.comm_id


class _CommElsewhere:
    """Stands for a comm in another process, for front ends that ask for all comms."""

    def __init__(self, comm_id: str, target_name: str) -> None:
        self.comm_id = comm_id
        self.target_name = target_name

    def handle_msg(self, message: dict[str, Any]) -> None:
        """Do nothing: messages are routed before, while the extension is loaded."""

    handle_close = handle_msg


def _print(kind: str, content: dict[str, Any], *, colored: bool) -> None:
    """Print output that code of the cell has not printed itself: its value, its error, notes of nbtasks."""
    if kind == "stream":
        stream = sys.stderr if content["name"] == "stderr" else sys.stdout
        stream.write(content["text"])
        stream.flush()
    elif kind == "error":
        text = "\n".join(content["traceback"])
        print(text if colored else plain_text(text), flush=True)
    elif "data" in content:
        print(content["data"].get("text/plain", ""), flush=True)
