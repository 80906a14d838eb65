"""`Router`: hands requests of the shell channel to the thread that serves.

ipykernel hands all requests without a subshell to the main thread, which handles one after the other. While a cell is
away, that is, continues there in the background, another thread handles them, in the same order. Nothing else changes
before a cell is sent away: messages take their usual way, and the router only notes which have not begun yet.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import zmq

from nbtasks.notebook.shell_channel.cell_thread import CellThread, Replies, current_cell_thread
from nbtasks.notebook.shell_channel.request import Request, is_stop_aborting
from nbtasks.patch import Patch, PatchSet

__all__ = ["NotReadyError", "Router", "RouterEvents"]

_LOADED = b"nbtasks loaded"
"""A message to the main thread: whatever was sent before has begun when this arrives."""


class NotReadyError(Exception):
    """The running request is not in its code: it cannot be sent away now."""


class RouterEvents(Protocol):
    """What the router calls. None of it may block, or use the router."""

    def ended_away(self, request: Request) -> None:
        """A request that was sent away has been handled. On its thread."""

    def began_serving(self, thread: CellThread) -> None:
        """Another thread than the main one is about to handle its first request. On that thread."""

    def stopped_serving(self, thread: CellThread) -> None:
        """It has handled its last one for now. On that thread."""

    def main_begins(self) -> None:
        """The main thread is about to handle a request. On the main thread."""

    def main_is_free(self) -> None:
        """The main thread has nothing to do, while another one serves. On the main thread."""


class Router:
    """Which thread serves, and which requests it has not begun yet.

    `server` is None while the main thread serves. `lock` guards all fields; sockets are used by the thread of the
    shell channel only. A request moves only before it has begun: it stays in `_waiting` until a thread takes it, and
    a copy that ipykernel has handed to the main thread already is ignored there (`_taken`). The main thread serves
    again when it has seen all such copies, so that the order stays.
    """

    def __init__(self, kernel: Any, events: RouterEvents) -> None:
        self._kernel = kernel
        self._events = events
        self._channel = kernel.shell_channel_thread
        self._manager = self._channel.manager
        self.lock = threading.Lock()
        self.server: CellThread | None = None
        self.running: dict[CellThread | None, Request] = {}
        """The request that each thread handles now."""
        self._away: set[Request] = set()
        self._waiting: dict[str, Request] = {}
        self._taken: set[str] = set()
        self._stops: deque[Request] = deque()
        self._handed_to_main = 0
        self._loaded = False
        self._departing = False
        self._threads: list[CellThread] = []
        self._concurrent_comms = "concurrent" in inspect.signature(kernel.dispatch_shell).parameters
        self._socket_of = self._manager.get_shell_channel_to_subshell_socket
        self._dispatch = kernel.dispatch_shell
        self.patches = PatchSet(
            [
                Patch(self._manager, "get_shell_channel_to_subshell_socket", self._route),
                Patch(self._manager, "get_subshell_to_shell_channel_socket", self._route_replies),
                Patch(kernel, "dispatch_shell", self._watch_main),
            ]
        )
        if hasattr(self._manager, "_shell_socket"):  # see `_send_replies_by_stream`; this is for subshells
            send = kernel.shell_stream.send_multipart
            self.patches.add(Patch(self._manager, "_send_on_shell_channel", lambda _: send))

    @property
    def is_used(self) -> bool:
        """Whether a request is away, or another thread than the main one serves."""
        return self.server is not None or bool(self._away)

    @property
    def foreground(self) -> Request | None:
        """The request that the serving thread handles now."""
        return self.running.get(self.server)

    def note_begin(self, execution_count: int) -> None:
        """The request that the calling thread, the serving one, handles has begun a cell, or a cell in it."""
        request = self.foreground
        if request is not None and request.execution_count is None:
            request.task = asyncio.current_task()
            request.execution_count = execution_count

    def is_foreground_thread(self) -> bool:
        """Whether the calling thread is the one that serves."""
        thread = current_cell_thread()
        if thread is None:
            return self.server is None and threading.current_thread() is self._channel_parent
        return thread is self.server

    @property
    def _channel_parent(self) -> threading.Thread:
        return getattr(self._channel, "parent_thread", None) or threading.main_thread()

    def started(self) -> None:
        """The patches are applied: have the main thread report when it is past all that was sent before."""
        self._loaded = False
        self._channel.io_loop.add_callback(lambda: self._socket_of(None).send(_LOADED, copy=False))
        if hasattr(self._manager, "_shell_socket"):  # before ipykernel 7.4
            self._channel.io_loop.add_callback(self._send_replies_by_stream)

    def _send_replies_by_stream(self) -> None:
        """On the shell channel's thread: send the main thread's replies as ipykernel does from 7.4.

        Sent by the socket itself, a reply can hide a request that arrives at that moment: nothing shows to the event
        loop that there is one, and it stays there until another comes.
        """
        self._manager._main_to_shell_channel.on_recv(self._channel.io_loop, self._kernel.shell_stream.send_multipart)

    # -- the way of a request -------------------------------------------------------------------------------------

    def _route(self, socket_of: Callable[[str | None], Any]) -> Callable[[str | None], Any]:
        door = _Door(self)

        def socket(subshell_id: str | None) -> Any:
            return door if subshell_id is None else socket_of(subshell_id)

        return socket

    def _route_replies(self, socket_of: Callable[[str | None], Any]) -> Callable[[str | None], Any]:
        def socket(subshell_id: str | None) -> Any:
            thread = current_cell_thread()
            return thread.replies if subshell_id is None and thread is not None else socket_of(subshell_id)

        return socket

    def hand_over(self, frames: Sequence[Any]) -> None:
        """On the shell channel's thread: a message to the main shell has come."""
        request = Request(self._kernel.session, frames)
        with self.lock:
            if not request.kind and not is_stop_aborting(frames):  # the kernel reports it as invalid
                self._send_to_main(frames)
                return
            self._waiting[request.key] = request
            if self.server is None:
                self._hand_to_main(request)
            else:
                self._hand_to_thread(self.server, request)

    def _hand_to_main(self, request: Request) -> None:
        self._handed_to_main += 1
        if not request.kind:
            self._stops.append(request)
        self._send_to_main(request.frames)

    def _send_to_main(self, frames: Sequence[Any]) -> None:
        self._socket_of(None).send_multipart(frames, copy=False)

    def _hand_to_thread(self, thread: CellThread, request: Request) -> None:
        if self._concurrent_comms and request.is_comm:
            thread.wake_for_comm(request)
        else:
            thread.wake()

    # -- the main thread ------------------------------------------------------------------------------------------

    def _watch_main(self, dispatch: Callable[..., Any]) -> Callable[..., Any]:
        async def dispatch_shell(frames: Sequence[Any], /, subshell_id: str | None = None, **options: Any) -> None:
            if subshell_id is not None:
                await dispatch(frames, subshell_id=subshell_id, **options)
                return
            request = self._begin_on_main(frames, beside_cell=bool(options))
            if request is None:
                return
            self._events.main_begins()
            try:
                await dispatch(frames, subshell_id=subshell_id, **options)
            finally:
                self._end_on_main(request)

        return dispatch_shell

    def _begin_on_main(self, frames: Sequence[Any], *, beside_cell: bool) -> Request | None:
        """Note that the main thread begins a request; None if it is not to handle this message."""
        if len(frames) == 1 and bytes(frames[0].buffer) == _LOADED:
            self._loaded = True
            return None
        with self.lock:
            if is_stop_aborting(frames) and self._stops:
                request = self._stops.popleft()
            else:
                request = Request(self._kernel.session, frames)
            if request.key in self._taken:
                self._taken.discard(request.key)
                self._handed_to_main -= 1
                self._go_home_if_due()
                return None
            known = self._waiting.pop(request.key, None)  # else it came before the extension was loaded
            if known is not None:
                self._handed_to_main -= 1
                request = known
            if request.runs_cell:
                self._note_state(request, contextvars.copy_context())
            if not beside_cell:
                self.running[None] = request
            return request

    def _note_state(self, request: Request, context: contextvars.Context) -> None:
        request.context = context
        request.began_at = time.monotonic()
        request.threads = frozenset(threading.enumerate())
        request.streams = self.streams()

    def streams(self) -> tuple[Any, ...]:
        """What `sys.stdout`, `sys.stderr` and the display publisher are now."""
        return (*(vars(sys)[name] for name in ("stdout", "stderr")), self._kernel.shell.display_pub)

    def _end_on_main(self, request: Request) -> None:
        with self.lock:
            if self.running.get(None) is request:
                del self.running[None]
            server = self.server
        self._ended(request)
        if server is not None and None not in self.running:
            self._events.main_is_free()
            server.wake()  # it stops serving

    def _ended(self, request: Request) -> None:
        if request in self._away:
            self._events.ended_away(request)
            with self.lock:
                self._away.discard(request)

    # -- other threads --------------------------------------------------------------------------------------------

    def begin(self, thread: CellThread) -> Request | None:
        """See `Source.begin`."""
        with self.lock:
            if self.server is not thread or self._departing:
                return None
            stops = None not in self.running
            request = None if stops or not self._waiting else self._waiting.pop(next(iter(self._waiting)))
            if stops:
                self._departing = True
            elif request is not None:
                if request.runs_cell:
                    self._note_state(request, thread.context.copy())
                self.running[thread] = request
        if stops:
            if thread.serves:
                self._events.stopped_serving(thread)
            self._channel.io_loop.add_callback(self._come_home)
        elif request is not None and not thread.serves:
            thread.serves = True
            self._events.began_serving(thread)
        return request

    def begin_comm(self, thread: CellThread, request: Request) -> bool:
        """See `Source.begin_comm`."""
        with self.lock:
            if self.server is not thread or thread not in self.running:
                return False
            return self._waiting.pop(request.key, None) is not None

    def end(self, thread: CellThread, request: Request) -> None:
        """See `Source.end`."""
        with self.lock:
            self.running.pop(thread, None)
            leaves = self.server is not thread and thread.serves
        if leaves:  # the cell was sent away itself
            self._events.stopped_serving(thread)
            thread.serves = False
        self._ended(request)

    def _go_home_if_due(self) -> None:
        """Under the lock, on the main thread: it has seen a copy that it does not handle."""
        if self._departing and not self._handed_to_main:
            self._channel.io_loop.add_callback(self._come_home)

    def _come_home(self) -> None:
        """On the shell channel's thread: let the main thread serve again, if nothing keeps it from that."""
        with self.lock:
            if self._departing and not self._handed_to_main and self.server is not None:
                self.server.serves = False
                self.server, self._departing = None, False
                for request in self._waiting.values():
                    self._hand_to_main(request)

    # -- sending a cell away --------------------------------------------------------------------------------------

    def send_away(self, request: Request, prepare: Callable[[CellThread | None], None]) -> Future[None]:
        """Any thread: send the request away, if it is still the one that the serving thread handles.

        `prepare` is called first, on the shell channel's thread and under the lock, with the thread that handles the
        request, None for the main thread; what it raises is the error of the result, and nothing changes. No other
        request begins before `serve_others`.
        """

        def send_away() -> None:
            if self.foreground is not request or self._departing or request in self._away:
                raise NotReadyError
            prepare(self.server)
            self._away.add(request)

        return self._on_channel(send_away)

    def serve_others(self, request: Request) -> Future[None]:
        """Any thread: let the requests begin that come after one that was sent away."""

        def serve_others() -> None:
            if self.foreground is request:  # else it has ended meanwhile
                self._serve_by(self._free_thread(request))

        return self._on_channel(serve_others)

    def _on_channel(self, work: Callable[[], None]) -> Future[None]:
        """Call it on the shell channel's thread, under the lock."""
        result: Future[None] = Future()

        def call() -> None:
            try:
                with self.lock:
                    work()
            except BaseException as error:  # noqa: BLE001 - the caller's
                result.set_exception(error)
            else:
                result.set_result(None)

        self._channel.io_loop.add_callback(call)
        return result

    def _serve_by(self, server: CellThread | None) -> None:
        """Under the lock: let another thread serve, and hand it what has not begun."""
        before, self.server = self.server, server
        if server is None:
            for request in self._waiting.values():
                self._hand_to_main(request)
            return
        if before is None:
            self._taken.update(self._waiting)
        for request in self._waiting.values():
            self._hand_to_thread(server, request)

    def _free_thread(self, request: Request) -> CellThread | None:
        """Under the lock: the main thread if it is free, else another one."""
        if None not in self.running and not self._handed_to_main:
            return None
        free = next((one for one in self._threads if one not in self.running and not one.serves), None)
        if free is None:
            name = f"nbtasks-cells-{len(self._threads) + 1}"
            replies = Replies(self._channel.io_loop, self._kernel.shell_stream.send_multipart)
            free = CellThread(name, self, self._kernel, self._dispatch, replies)
            self._threads.append(free)
        free.use_context(request.context or contextvars.Context())
        return free

    @property
    def is_past_loading(self) -> bool:
        """Whether all that was sent before the extension was loaded has begun."""
        return self._loaded


class _Door:
    """The socket by which the shell channel's thread hands messages to the main one."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def send_multipart(self, frames: Sequence[Any], *_: Any, **__: Any) -> None:
        self._router.hand_over(frames)

    def send(self, message: Any, *_: Any, **__: Any) -> None:
        self._router.hand_over([zmq.Frame(message)])
