"""Callbacks of widgets in a worker process, called while the cell runs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import sys
import threading
from typing import Any

from nbtasks.interrupts import start_thread
from nbtasks.notebook.patches.matplotlib import Plots

__all__ = ["WidgetReceiver"]


class WidgetReceiver:
    """Handles the messages of front ends to the widgets of the cell, one by one.

    Messages arrive on the thread of the control channel. While the cell computes, they are handled on a thread of
    their own, as on that of a subshell. In a cell that awaits they are handled by its event loop, between its awaits,
    where callbacks may set futures. Each has a context of its own: its output and the messages of widgets belong to
    the message of the front end, its plots are not those of the cell.

    `_handling` is held while a message is handled: none begins once `_is_open` is false.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._handling = threading.RLock()
        self._is_open = False
        self._context = contextvars.Context()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def open(self, context: contextvars.Context, *, awaits: bool) -> None:
        """Handle messages, each in a copy of `context`; on the running loop if the cell `awaits`."""
        self._context = context
        self._loop = asyncio.get_running_loop() if awaits else None
        self._messages = queue.SimpleQueue()  # the notebook handles what is in that of a cell which has ended
        self._is_open = True
        if not awaits:
            start_thread(self._serve, "nbtasks-widgets")

    def close(self) -> None:
        """Handle none from now on, and wait for the end of a callback; an interrupt ends the wait."""
        self._is_open = False
        self._messages.put(None)
        with contextlib.suppress(KeyboardInterrupt), self._handling:
            pass

    async def take(self, _stream: Any, _ident: Any, request: dict[str, Any]) -> None:
        """Take a message of a front end; on the thread of the control channel."""
        about = request["content"]
        header = about["header"]
        message = {
            "header": header,
            "msg_id": header["msg_id"],
            "msg_type": header["msg_type"],
            "parent_header": {},
            "metadata": about["metadata"],
            "content": about["content"],
            "buffers": request["buffers"],
        }
        if self._loop is None:
            self._messages.put(message)
        else:
            self._loop.call_soon_threadsafe(self._handle, message)

    def _serve(self) -> None:
        messages = self._messages
        while (message := messages.get()) is not None:
            self._handle(message)

    def _handle(self, message: dict[str, Any]) -> None:
        with self._handling:
            if not self._is_open:
                return  # the notebook handles it
            self._context.copy().run(self._call, message)
            with contextlib.suppress(Exception):  # what the cell has put there
                sys.stdout.flush()
                sys.stderr.flush()
            kernel = self._kernel
            kernel.session.send(kernel.iopub_socket, "nbtasks_handled", {}, parent=message, ident=b"nbtasks_handled")

    def _call(self, message: dict[str, Any]) -> None:
        self._use_parent(message)
        Plots().enter()
        try:
            getattr(self._kernel.comm_manager, message["msg_type"])(None, [], message)
        except BaseException:  # noqa: BLE001 - such as `exit()`; errors are shown by the widget itself
            self._kernel.shell.showtraceback()

    def _use_parent(self, message: dict[str, Any]) -> None:
        """Have output of this context belong to the message, where the kernel keeps that per context."""
        parent = getattr(self._kernel, "_shell_parent", None)
        if isinstance(parent, contextvars.ContextVar):
            parent.set(message)
        set_parent = getattr(self._kernel.shell, "set_thread_parent", None)
        if set_parent is not None:
            set_parent(message)
