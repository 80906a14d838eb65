"""`CellThread`: a thread that serves cells while the main thread is busy."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any, Protocol

from IPython.core.interactiveshell import InteractiveShell

from nbtasks.interrupts import Gate, TaskInterrupt, start_thread
from nbtasks.notebook.shell_channel.request import Request

__all__ = ["CellGate", "CellThread", "Dispatch", "Source", "awaits_in_code", "current_cell_thread", "is_in_code"]

logger = logging.getLogger("nbtasks")

_RUN_CODE = InteractiveShell.run_code.__code__

Dispatch = Callable[..., Any]


class _KeyboardInterrupt(TaskInterrupt, KeyboardInterrupt):
    """Kernel > Interrupt, in a cell that another thread than the main thread runs."""


_KeyboardInterrupt.__name__ = _KeyboardInterrupt.__qualname__ = "KeyboardInterrupt"


class CellGate(Gate):
    """Lets interrupts into a thread only while it runs the code of a cell."""

    __slots__ = ()
    exception = _KeyboardInterrupt


class Source(Protocol):
    """What a thread serves: the router of the shell channel."""

    def begin(self, thread: CellThread) -> Request | None:
        """The next request for the thread, which it now handles; None if there is none."""

    def begin_comm(self, thread: CellThread, request: Request) -> bool:
        """Whether the thread is to handle this message now, beside the cell that it runs."""

    def end(self, thread: CellThread, request: Request) -> None:
        """The thread has handled the request."""


class _Here(threading.local):
    thread: CellThread | None = None


_here = _Here()


def current_cell_thread() -> CellThread | None:
    """The object of this thread, if it is one that serves cells."""
    return _here.thread


def is_in_code(thread: threading.Thread, frame: FrameType | None = None) -> bool:
    """Whether a thread is in the code of a cell, and not in an event loop or in the kernel's own code."""
    frame = frame or sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code is _RUN_CODE:
            return True
        frame = frame.f_back
    return False


def awaits_in_code(task: asyncio.Task[Any]) -> bool:
    """Whether an asyncio task is suspended in the code of a cell."""
    waiting: Any = task.get_coro()
    while waiting is not None:
        if getattr(waiting, "cr_code", None) is _RUN_CODE:
            return True
        waiting = getattr(waiting, "cr_await", None)
    return False


class Replies:
    """The socket of a thread for its replies: the shell channel's thread sends them."""

    def __init__(self, io_loop: Any, send: Callable[[Sequence[Any]], None]) -> None:
        self._io_loop = io_loop
        self._send = send

    def send_multipart(self, parts: Sequence[Any], *_: Any, **__: Any) -> None:
        self._io_loop.add_callback(self._send, list(parts))


class CellThread:
    """A thread that handles requests of the shell channel as the main thread does.

    Its event loop runs until the process ends: what a cell has started on it continues. `context` and `before` are
    used in the thread only, or while it handles nothing.
    """

    def __init__(self, name: str, source: Source, kernel: Any, dispatch: Dispatch, replies: Replies) -> None:
        self.name = name
        self.serves = False
        """Whether it has handled requests since it began to serve. Written by the router."""
        self.replies = replies
        self.before = contextvars.Context()
        """The context that its cells began with."""
        self.context = self.before.copy()
        """The context of its cells."""
        self.keeps_context = hasattr(kernel, "_shell_context")
        """Whether all cells run in one context, as from ipykernel 7.1 on the main thread."""
        self._depth = 0
        self._source, self._kernel, self._dispatch = source, kernel, dispatch
        self._serving: asyncio.Task[None] | None = None
        self._handling: asyncio.Task[None] | None = None
        self._comms: set[asyncio.Task[None]] = set()
        self.loop = asyncio.new_event_loop()
        self.gate: CellGate | None = None
        self.thread = start_thread(self._run, name)

    def __repr__(self) -> str:
        return f"<CellThread {self.name}>"

    def _run(self) -> None:
        _here.thread = self
        self.gate = CellGate()
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def use_context(self, context: contextvars.Context) -> None:
        """Begin with the variables of a context; while it handles nothing."""
        self.before = context.copy()
        self.before.run(self._kernel._shell_parent.set, {})
        self.context = self.before.copy()

    def wake(self) -> None:
        """Any thread: there may be requests."""
        self.loop.call_soon_threadsafe(self._serve_soon)

    def wake_for_comm(self, request: Request) -> None:
        """Any thread: there is a message to a comm, which need not wait for a cell that awaits."""
        self.loop.call_soon_threadsafe(self._serve_comm, request)

    def _serve_soon(self) -> None:
        if self._serving is None:
            self._serving = self.loop.create_task(self._serve(), context=contextvars.Context())

    async def _serve(self) -> None:
        try:
            while (request := self._source.begin(self)) is not None:
                await self._handle(request)
        finally:
            self._serving = None

    async def _handle(self, request: Request) -> None:
        context = self.context if self.keeps_context else self.context.copy()
        self._handling = self.loop.create_task(self._dispatch(request.frames, subshell_id=None), context=context)
        try:
            await asyncio.wait([self._handling])
            if not self._handling.cancelled() and (error := self._handling.exception()) is not None:
                logger.error("%r failed", request, exc_info=error)
        finally:
            self._handling = None
            self._source.end(self, request)

    def _serve_comm(self, request: Request) -> None:
        if not self._source.begin_comm(self, request):
            self._serve_soon()
            return
        task = self.loop.create_task(self._handle_comm(request), context=self.context.copy())
        self._comms.add(task)
        task.add_done_callback(self._comms.discard)

    async def _handle_comm(self, request: Request) -> None:
        """As ipykernel 7.4 does it: beside the cell, whose request is the latest one again afterwards."""
        kernel = self._kernel
        ident, parent = kernel._shell_parent_ident.get(b""), kernel._shell_parent.get({})
        try:
            await self._dispatch(request.frames, subshell_id=None, concurrent=True)
        except Exception:
            logger.exception("%r failed", request)
        finally:
            kernel.set_parent(ident, parent, channel="shell")

    def interrupt(self) -> None:
        """Any thread: interrupt the cell that it runs; harmless if it runs none."""
        gate = self.gate
        if gate is not None and gate.runs(self):
            start_thread(partial(self._interrupt, gate), "nbtasks-interrupt")

    def _interrupt(self, gate: CellGate) -> None:
        if is_in_code(self.thread):
            gate.interrupt_thread(self)
        else:
            self.loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._handling is not None and self.gate is not None and self.gate.runs(self):
            self._handling.cancel()

    def enter_cell(self) -> None:
        """Own thread: the code of a cell begins, or of a cell in it; it can be interrupted from now on."""
        self._depth += 1
        if self._depth == 1 and self.gate is not None:
            self.gate.enter(self)

    def leave_cell(self) -> None:
        """Own thread: the code of the cell has ended."""
        self._depth -= 1
        if self._depth == 0 and self.gate is not None:
            self.gate.leave()
