"""Callbacks of widgets in a worker process, called while the cell runs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

from jupyter_client.session import extract_header

from nbtasks.interrupts import start_thread
from nbtasks.notebook.patches.matplotlib import Plots
from nbtasks.patch import Patch, PatchSet
from nbtasks.workers.messages import COMM_MESSAGES

__all__ = ["WidgetReceiver"]

_SHOW = COMM_MESSAGES | {"stream", "error", "execute_result", "display_data", "update_display_data", "clear_output"}
"""The kinds of messages of a callback that belong to the message that has called it."""

_handled: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("nbtasks_handled", default=None)
"""The message of a front end that is handled in this context."""


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

    def patches(self) -> PatchSet:
        """Patches of the kernel: in the context of a callback, the message that has called it is the parent.

        ipykernel 6 has one parent for all threads, and later versions keep it in several places.
        """
        kernel, shell = self._kernel, self._kernel.shell
        return PatchSet(
            [
                Patch(kernel, "get_parent", _parent_by_context),
                Patch(shell, "get_parent", _parent_by_context),
                Patch(shell, "set_parent", _set_outside_of_callbacks),
                Patch(kernel.session, "msg", _with_parent_by_context),
            ]
        )

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
        _handled.set(message)
        for stream in (sys.stdout, sys.stderr):  # they send later, on another thread
            parent = getattr(stream, "_parent_header", None)
            if isinstance(parent, contextvars.ContextVar):
                parent.set(extract_header(message))
        Plots().enter()
        try:
            getattr(self._kernel.comm_manager, message["msg_type"])(None, [], message)
        except BaseException:  # noqa: BLE001 - such as `exit()`; errors are shown by the widget itself
            self._kernel.shell.showtraceback()


def _parent_by_context(get_parent: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get_parent)
    def get(channel: str | None = None) -> Any:
        message = _handled.get()
        if message is not None and channel != "control":
            return message
        return get_parent() if channel is None else get_parent(channel)

    return get


def _set_outside_of_callbacks(set_parent: Callable[[Any], None]) -> Callable[[Any], None]:
    """An Output widget sets the parent that it has got, for all threads."""

    @functools.wraps(set_parent)
    def set_outside(parent: Any) -> None:
        if _handled.get() is None:
            set_parent(parent)

    return set_outside


def _with_parent_by_context(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def make_message(msg_type: str, content: Any = None, parent: Any = None, *args: Any, **kwargs: Any) -> Any:
        message = _handled.get()
        if message is not None and msg_type in _SHOW:
            parent = message
        return make(msg_type, content, parent, *args, **kwargs)

    return make_message
