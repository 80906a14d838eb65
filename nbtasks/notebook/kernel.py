"""The Jupyter kernel: its event loop, the launching cell, messages to front ends."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from IPython.core.async_helpers import get_asyncio_loop
from IPython.core.interactiveshell import InteractiveShell

from nbtasks.formatting import plain_text
from nbtasks.patch import ItemPatch, PatchSet

__all__ = ["Kernel", "LaunchingCell"]


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
        self, cell: LaunchingCell, kind: str, content: dict[str, Any], buffers: list[Any], metadata: dict[str, Any]
    ) -> None:
        """Pass on a message of a widget in another kernel. Any thread may call it."""
        if self._kernel is not None:
            self._kernel.session.send(
                self._kernel.iopub_socket, kind, content, parent=cell.parent, buffers=buffers, metadata=metadata,
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
