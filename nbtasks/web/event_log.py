"""Server-sent events: the last events of a manager, encoded once for all listeners.

A listener is a position in the log, not a queue: a thousand of them share the encoded bytes. One that reads too slowly
to keep up finds that the log has moved on; it then receives the newest state of all tasks and continues from there.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator
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


class EventLog:
    """The events of a manager, by number, for as long as there are listeners and for `linger` seconds after.

    The manager is observed only during that time, so that the interface costs nothing while nobody listens.
    `_lock` guards the log and the list of waiting listeners; events are added on the manager's notifier thread, and
    listeners run on the event loop of the server.
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
        self._waiting: list[asyncio.Future[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waking = False
        self._closing: asyncio.TimerHandle | None = None
        self.listeners = 0
        """How many clients listen now."""

    @property
    def observing(self) -> bool:
        """Whether the manager's events are being logged."""
        return self._subscription is not None

    async def follow(self, last_id: str | None) -> AsyncIterator[bytes]:
        """The events after `last_id`, if the log still has them, else a snapshot and the events after it."""
        self._begin()
        self.listeners += 1
        try:
            position = self._position_after(last_id)
            while True:
                chunk, position = self._read(position) if position is not None else self._snapshot()
                if chunk:
                    yield chunk
                elif not await self._arrival(position):
                    yield b": keep-alive\n\n"
        finally:
            self.listeners -= 1
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
            if self._waking or loop is None or not self._waiting:
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
        self._loop = asyncio.get_running_loop()
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._subscription is None:
            self._subscription = self._manager.add_event_callback(self._add, events=list(EventType))

    def _end(self) -> None:
        if self.listeners == 0 and self._loop is not None and not self._loop.is_closed():
            self._closing = self._loop.call_later(self._linger, self._stop)

    def _stop(self) -> None:
        """Stop observing; numbers of events start over under another name, so that none is taken for another."""
        if self.listeners or self._subscription is None:
            return
        self._subscription.close()
        with self._lock:
            self._subscription = None
            self._events.clear()
            self._epoch = secrets.token_hex(4)

    def close(self) -> None:
        """Stop observing the manager. The server's loop has ended, or nobody listens."""
        self.listeners = 0
        self._stop()

    def _position_after(self, last_id: str | None) -> int | None:
        epoch, _, number = (last_id or "").partition("-")
        if epoch != self._epoch or not (number.isascii() and number.isdigit()) or len(number) > 18:
            return None
        position = int(number) + 1
        with self._lock:
            return position if self._next - len(self._events) <= position <= self._next else None

    def _read(self, position: int) -> tuple[bytes, int | None]:
        """The next events from `position`, and the position after them; None for it where the log has moved on."""
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

    async def _arrival(self, position: int | None) -> bool:
        """Wait for an event; False when it is time for a heartbeat."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if position is None or position < self._next:
                return True
            self._waiting.append(future)
        try:
            async with asyncio.timeout(self._heartbeat):
                await future
        except TimeoutError:
            return False
        finally:
            if not future.done() or future.cancelled():
                with self._lock:
                    if future in self._waiting:
                        self._waiting.remove(future)
        return True

    def _wake(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._waking = False
        for future in waiting:
            if not future.done():
                future.set_result(None)
