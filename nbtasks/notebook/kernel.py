"""What is particular to a Jupyter kernel: the launching cell's parent, messages to it, and its input.

Knows nothing of tasks. Everything that depends on the version of ipykernel is in here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from IPython.core.async_helpers import get_asyncio_loop
from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Kernel", "LaunchingCell"]


@dataclass(frozen=True, slots=True)
class LaunchingCell:
    """The cell that a task was launched from: where its output goes.

    `parent` is the request's message (None in a terminal), `execution_count` the cell's number, `cell_id` the front
    end's id for it, if it gives one.
    """

    parent: dict[str, Any] | None = field(default=None, repr=False)
    execution_count: int | None = None
    cell_id: str | None = None
    headless: bool = False
    """Whether a program runs the notebook, which shows nothing and asks nobody: nbclient and the like."""

    @property
    def request_id(self) -> str | None:
        """The id of the request that the cell ran in; a re-run has another."""
        header = (self.parent or {}).get("header") or {}
        return header.get("msg_id")

    @property
    def place(self) -> str:
        """What tells the cell from others in the front end, over its runs; where it has no id, the one run."""
        return self.cell_id or self.request_id or ""


class Kernel:
    """The kernel that an IPython shell lives in; in a terminal there is none and nothing is sent."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._kernel = getattr(shell, "kernel", None)

    @property
    def exists(self) -> bool:
        """Whether this is a kernel, with front ends that display messages."""
        return self._kernel is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that the kernel runs foreground cells on."""
        io_loop = getattr(self._kernel, "io_loop", None)
        return getattr(io_loop, "asyncio_loop", None)

    @property
    def passing_loop(self) -> asyncio.AbstractEventLoop | None:
        """In a terminal: the loop on which cells that await run, and which stands still after them."""
        return None if self.exists else get_asyncio_loop()

    def launching_cell(self) -> LaunchingCell:
        """The cell whose request is being executed in this thread now."""
        parent = self._shell.get_parent() if self.exists else None
        metadata = (parent or {}).get("metadata") or {}
        cell_id = metadata.get("cellId")
        # Front ends name the cell; a console has no cells, but answers `input()`. Programs do neither.
        asked = ((parent or {}).get("content") or {}).get("allow_stdin", True)
        # The displayhook knows the number of the cell that runs: the shell's own count is one ahead, or not yet.
        return LaunchingCell(
            parent or None, self._shell.displayhook.prompt_count, cell_id, cell_id is None and not asked
        )

    def send(self, cell: LaunchingCell, kind: str, content: dict[str, Any]) -> None:
        """Publish a message as output of `cell`. Any thread may call it."""
        if self._kernel is None or cell.parent is None:
            return
        topic = f"stream.{content['name']}".encode() if kind == "stream" else self._kernel._topic(kind)
        self._kernel.session.send(self._kernel.iopub_socket, kind, content, parent=cell.parent, ident=topic)

    def forward(
        self, cell: LaunchingCell, kind: str, content: dict[str, Any], buffers: list[Any], metadata: dict[str, Any]
    ) -> None:
        """Hand on what another kernel's widgets say. Any thread may call it."""
        if self._kernel is not None:
            self._kernel.session.send(
                self._kernel.iopub_socket, kind, content, parent=cell.parent, buffers=buffers, metadata=metadata,
                ident=self._kernel._topic(kind),
            )  # fmt: skip

    def tell_alive(self) -> None:
        """Publish a message that no front end shows: it is activity to a server that looks for idle kernels."""
        if self._kernel is not None:
            content = {"data": {}, "metadata": {}, "transient": {"display_id": "nbtasks-alive"}}
            self._kernel.session.send(self._kernel.iopub_socket, "update_display_data", content, parent={})

    def encode(self, data: dict[str, Any]) -> dict[str, Any]:
        """A mime bundle as it may be sent: images in base64, all JSON-safe."""
        if self._kernel is None:
            return data
        from ipykernel.jsonutil import encode_images, json_clean

        encoded: dict[str, Any] = json_clean(encode_images(data))
        return encoded
