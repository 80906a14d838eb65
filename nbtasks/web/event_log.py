"""Server-sent events: a log of a manager's events, encoded once for all listeners.

A listener is a position in the log, not a queue: a thousand of them share the encoded bytes, and while nothing happens
each is one coroutine that waits for its client to leave. A listener that reads too slowly to keep up finds that the log
has moved on; it then receives the newest state of all tasks and continues from there.

Written on ASGI itself, below Starlette's responses and sse-starlette: these keep two to four asyncio tasks for each
stream, which alone take more than the 10 kB that a listener may cost.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import islice
from typing import Any

from nbtasks.events import EventType, Subscription
from nbtasks.manager import TaskManager
from nbtasks.task import Task
from nbtasks.web.records import output_tail, task_record

__all__ = ["EventLog"]

LOG_SIZE = 20_000
"""How many events are kept for listeners that reconnect or are behind."""
CHUNK = 100
"""How many events are sent to a listener in one write."""
SNAPSHOT_TASKS = 500
"""How many tasks, the newest, are in a snapshot."""
TAIL_CHARACTERS = 2_000
"""How much of a task's output is sent with an `output` event."""
HEARTBEAT = b": keep-alive\n\n"
HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Listener:
    """A client: the number of its next event (None: a snapshot), and its sending task."""

    __slots__ = ("position", "send", "sending")

    def __init__(self, send: Send, position: int | None) -> None:
        self.send = send
        self.position = position
        self.sending: asyncio.Task[None] | None = None


class EventLog:
    """The numbered events of a manager.

    The manager is observed only while there are listeners and for `linger` seconds after, so that the interface costs
    nothing without them.
    `_lock` guards the log and `_waking`; events are added on the manager's notifier thread. All else is used on the
    event loop of the server.
    """

    def __init__(self, manager: TaskManager, *, heartbeat: float = 15.0, linger: float = 60.0) -> None:
        self._manager = manager
        self._heartbeat = heartbeat
        self._linger = linger
        self._lock = threading.Lock()
        self._events: deque[bytes] = deque(maxlen=LOG_SIZE)
        self._next = 1
        self._epoch = secrets.token_hex(4)
        self._subscription: Subscription | None = None
        self._listeners: set[_Listener] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waking = False
        self._closing: asyncio.TimerHandle | None = None
        self._beating: asyncio.TimerHandle | None = None

    @property
    def listeners(self) -> int:
        """How many clients listen now."""
        return len(self._listeners)

    @property
    def observing(self) -> bool:
        """Whether the manager's events are being logged."""
        return self._subscription is not None

    async def listen(
        self, last_id: str | None, headers: list[tuple[bytes, bytes]], receive: Receive, send: Send
    ) -> None:
        """Stream to one client until it leaves: the events after `last_id`, or a snapshot and later events.

        `headers` are sent besides the stream's own.
        """
        self._begin()
        listener = _Listener(send, self._position_after(last_id))
        self._listeners.add(listener)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *headers]})
            self._start_sending(listener)
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._listeners.discard(listener)
            if listener.sending is not None:
                listener.sending.cancel()
            self._end()

    # -- the manager's side -------------------------------------------------------------------------------------

    def _add(self, task: Task, event: EventType) -> None:
        data: dict[str, Any] = {"task": task_record(task)}
        if event is EventType.OUTPUT:
            data["tail"] = output_tail(task, TAIL_CHARACTERS)
        payload = json.dumps(data, separators=(",", ":"))
        with self._lock:
            self._events.append(self._encode(event.value, payload, self._next))
            self._next += 1
            loop = self._loop
            if self._waking or loop is None:
                return
            self._waking = True
        try:
            loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the server's loop is closed, and so are its listeners
            with self._lock:
                self._waking = False

    def _encode(self, event: str, payload: str, number: int) -> bytes:
        return f"id: {self._epoch}-{number}\nevent: {event}\ndata: {payload}\n\n".encode()

    # -- the listeners' side: all on the loop of the server ------------------------------------------------------

    def _begin(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._beating is None:
            self._beating = loop.call_later(self._heartbeat, self._beat)
        if self._subscription is None:
            self._subscription = self._manager.add_event_callback(self._add, events=list(EventType))

    def _end(self) -> None:
        if not self._listeners and self._loop is not None and not self._loop.is_closed():
            self._closing = self._loop.call_later(self._linger, self._stop)

    def _start_sending(self, listener: _Listener, *, heartbeat: bool = False) -> None:
        """Send what the listener lacks; each has a task only as long as there is something to send."""
        if listener.sending is None:
            listener.sending = asyncio.get_running_loop().create_task(self._send(listener, heartbeat))

    async def _send(self, listener: _Listener, heartbeat: bool) -> None:
        try:
            if heartbeat:
                await listener.send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
            while chunk := self._next_chunk(listener):
                await listener.send({"type": "http.response.body", "body": chunk, "more_body": True})
        except OSError:  # the client has left
            return
        finally:
            listener.sending = None

    def _next_chunk(self, listener: _Listener) -> bytes:
        chunk = b""
        if listener.position is not None:
            chunk, listener.position = self._read(listener.position)
        if listener.position is None:
            chunk, listener.position = self._snapshot()
        return chunk

    def _wake(self) -> None:
        with self._lock:
            self._waking = False
        for listener in self._listeners:
            self._start_sending(listener)

    def _beat(self) -> None:
        """Show a sign of life on every idle stream, so that no proxy takes it for dead."""
        self._beating = None
        if self._listeners and self._loop is not None:
            self._beating = self._loop.call_later(self._heartbeat, self._beat)
        for listener in self._listeners:
            self._start_sending(listener, heartbeat=True)

    def _stop(self) -> None:
        """Stop observing; numbers of events start over under another name, so that none is taken for another."""
        if self._listeners or self._subscription is None:
            return
        self._subscription.close()
        with self._lock:
            self._subscription = None
            self._events.clear()
            self._epoch = secrets.token_hex(4)

    def close(self) -> None:
        """Stop observing the manager, after the server's loop has ended."""
        self._listeners.clear()
        self._stop()

    def _position_after(self, last_id: str | None) -> int | None:
        epoch, _, number = (last_id or "").partition("-")
        if epoch != self._epoch or not (number.isascii() and number.isdigit()) or len(number) > 18:
            return None
        position = int(number) + 1
        with self._lock:
            return position if self._next - len(self._events) <= position <= self._next else None

    def _read(self, position: int) -> tuple[bytes, int | None]:
        """The events from `position` and the position after them; None for it if the log has moved on."""
        with self._lock:
            first = self._next - len(self._events)
            if position < first:
                return b"", None
            start = position - first
            events = list(islice(self._events, start, start + CHUNK)) if position < self._next else []
        return b"".join(events), position + len(events)

    def _snapshot(self) -> tuple[bytes, int]:
        """The newest state of all tasks as one event."""
        with self._lock:
            number = self._next - 1
        tasks = self._manager.list_tasks()
        data = {
            "tasks": [task_record(task) for task in tasks[-SNAPSHOT_TASKS:]],
            "stats": self._manager.get_stats(),
            "left_out": max(len(tasks) - SNAPSHOT_TASKS, 0),
        }
        return self._encode("snapshot", json.dumps(data, separators=(",", ":")), number), number + 1
