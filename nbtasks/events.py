"""Events of tasks: `EventType`, the `EventBus`, subscriptions and streams.

The manager publishes events; the bus delivers them to callbacks and to async iterators.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from enum import StrEnum
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Protocol, Self

from nbtasks.exceptions import UnknownEventError, unknown
from nbtasks.interrupts import start_thread, uninterrupted
from nbtasks.task import Task

__all__ = ["ALL_EVENTS", "STATE_CHANGES", "EventBus", "EventStream", "EventType", "Subscription"]

logger = logging.getLogger("nbtasks")

UNWATCHED_SECONDS = 0.5
COALESCE_SECONDS = 0.1
"""`progress` and `output` are delivered at most this often for one task."""
LOOP_CHECK_SECONDS = 0.5
"""How soon a wait for an async callback notices that its loop was closed: a loop tells no other thread that it is."""


class EventType(StrEnum):
    """A type of event. Compares equal to its string."""

    CREATED = "created"
    STARTED = "started"
    PROGRESS = "progress"
    OUTPUT = "output"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PRUNED = "pruned"
    SCHEDULED = "scheduled"
    SKIPPED = "skipped"


COALESCED = frozenset({EventType.PROGRESS, EventType.OUTPUT})
ALL_EVENTS = frozenset(EventType)
STATE_CHANGES = ALL_EVENTS - COALESCED
"""The events of a callback that names none."""

Callback = Callable[[Any, EventType], Any]


class _Timer(Protocol):
    def call_later(self, seconds: float, callback: Callable[[], object]) -> object: ...


class Listener:
    """A receiver of events, with those not delivered yet, which the bus's lock guards."""

    def __init__(self, bus: EventBus, events: frozenset[EventType], task: Task | None) -> None:
        self.events = events
        self.task = task
        self.dropped = False
        """Whether its events will never be read."""
        self.awaits = False
        """Whether it needs an event loop to receive events."""
        self._bus = bus
        self._undelivered: set[tuple[int, EventType]] = set()

    def offer(self, task: Any, event_type: EventType) -> None:
        """Under the bus's lock: queue the event, if it is wanted and not queued already."""
        if event_type not in self.events or (self.task is not None and self.task is not task):
            return
        if event_type in COALESCED:
            mark = (id(task), event_type)
            if mark in self._undelivered:
                return
            self._undelivered.add(mark)
        self._put(task, event_type)

    def finish(self) -> None:
        """Receive nothing new; queued events are still delivered."""
        self._bus.remove(self)

    def drain(self, timeout: float | None = None) -> bool:
        """`finish`, and wait until all is delivered; return False after `timeout` seconds."""
        raise NotImplementedError

    def _put(self, task: Any, event_type: EventType) -> None:
        raise NotImplementedError

    def _taken(self, task: Any, event_type: EventType) -> None:
        if event_type in COALESCED:
            self._undelivered.discard((id(task), event_type))


class Subscription(Listener):
    """A callback that receives events until `close()`; also a context manager.

    The callback runs on its own thread, one event after the other, in a copy of the context in which it was
    subscribed: its prints appear with the output of that code. A coroutine function runs on the event loop.
    """

    def __init__(
        self,
        bus: EventBus,
        callback: Callback,
        events: frozenset[EventType],
        task: Task | None,
        loop: Callable[[], asyncio.AbstractEventLoop],
    ) -> None:
        super().__init__(bus, events, task)
        self._callback = callback
        self._loop = loop
        self.awaits = inspect.iscoroutinefunction(callback)
        self._context = contextvars.copy_context()
        self._queue: SimpleQueue[tuple[Any, EventType] | None] = SimpleQueue()
        self._closed = False
        self._thread = start_thread(self._serve, f"nbtasks-events-{getattr(callback, '__name__', 'callback')}")

    def __repr__(self) -> str:
        return f"<Subscription of {self._callback!r}{' (closed)' if self._closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Receive nothing any more, not even queued events. Idempotent; any thread."""
        self._closed = True
        self.finish()

    def finish(self) -> None:
        """Receive nothing new; queued events are still delivered, and then the thread ends."""
        super().finish()
        self._queue.put(None)

    def drain(self, timeout: float | None = None) -> bool:
        """`finish`, and wait until all is delivered; return False after `timeout` seconds."""
        self.finish()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _put(self, task: Any, event_type: EventType) -> None:
        self._queue.put((task, event_type))

    def _serve(self) -> None:
        while (event := self._queue.get()) is not None and not self._closed:
            self._taken(*event)
            try:
                self._deliver(*event)
            except BaseException:  # a callback that fails still receives the next event
                logger.exception("%r failed for %s of %r", self._callback, event[1].value, event[0])
            del event  # so that waiting for the next event keeps no task alive

    def _deliver(self, task: Any, event_type: EventType) -> None:
        answer = self._context.run(self._callback, task, event_type)
        if not inspect.isawaitable(answer):
            return
        self.awaits = True
        done = threading.Lock()
        done.acquire()
        loop = self._loop()
        try:
            loop.call_soon_threadsafe(self._start_on, loop, answer, done)
        except RuntimeError:  # it is closed
            if inspect.iscoroutine(answer):
                answer.close()
            raise
        while not done.acquire(timeout=LOOP_CHECK_SECONDS):
            if loop.is_closed():  # before it has called what was scheduled, or while the callback was waiting
                if inspect.iscoroutine(answer) and inspect.getcoroutinestate(answer) == inspect.CORO_CREATED:
                    answer.close()
                raise RuntimeError("Event loop is closed")

    def _start_on(self, loop: asyncio.AbstractEventLoop, answer: Any, done: threading.Lock) -> None:
        aio_task = loop.create_task(_logged(self._callback, answer), context=self._context)
        aio_task.add_done_callback(lambda _: done.release())


async def _logged(callback: Callback, answer: Any) -> None:
    try:
        await answer
    except Exception:  # the callback's own
        logger.exception("%r failed", callback)


class _Feed(Listener):
    """The queue of an event stream and its waiting reader; the bus's lock guards both."""

    def __init__(self, bus: EventBus, events: frozenset[EventType], task: Task | None) -> None:
        super().__init__(bus, events, task)
        self.waiting: deque[tuple[Any, EventType]] = deque()
        self.over = False
        self._reader: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    def next_event(self) -> tuple[Any, EventType]:
        """Take the first event of a queue that is not empty."""
        event = self.waiting.popleft()
        self._taken(*event)
        return event

    def wake_me(self, loop: asyncio.AbstractEventLoop, ready: asyncio.Future[None]) -> None:
        """Set `ready` when there is an event, or when the stream ends."""
        with self._bus.lock:
            self._reader = (loop, ready)
            if self.waiting or self.over:
                self._wake()

    def finish(self) -> None:
        """End the stream after the queued events."""
        super().finish()
        with self._bus.lock:
            self.over = True
            self._wake()

    def _put(self, task: Any, event_type: EventType) -> None:
        self.waiting.append((task, event_type))
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is None:
            return
        loop, ready = reader
        try:
            loop.call_soon_threadsafe(_set, ready)
        except RuntimeError:  # the reader's loop is closed, and the reader with it
            logger.debug("the loop of an event stream is gone")


class EventStream:
    """Events as an async iterator that ends when the manager stops.

    It receives the events from its creation on. Also an async context manager. A stream without references, as after a
    `break` out of its loop, is closed.
    """

    def __init__(self, bus: EventBus, events: frozenset[EventType], task: Task | None) -> None:
        self._feed = _Feed(bus, events, task)
        bus.add(self._feed)

    def __aiter__(self) -> AsyncIterator[tuple[Any, EventType]]:
        return self

    async def __anext__(self) -> tuple[Any, EventType]:
        feed = self._feed
        while not feed.waiting:
            if feed.over:
                raise StopAsyncIteration
            loop = asyncio.get_running_loop()
            ready: asyncio.Future[None] = loop.create_future()
            feed.wake_me(loop, ready)
            await ready
        return feed.next_event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration after the queued events."""
        self._feed.finish()

    def __del__(self) -> None:
        # No lock may be acquired here: this may run at any instruction. The bus removes the feed at its next event.
        self._feed.dropped = True


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class EventBus:
    """Delivers events to listeners in the order of the transitions.

    `lock` is the manager's: `publish` is called under it, so that queues fill in the order in which states change. It
    guards the listeners and their queues. Tasks are marked as progressed or written without it, from any thread, even
    one that may be interrupted, and the marks become events at most every tenth of a second.
    """

    def __init__(self, lock: threading.Lock, timer: _Timer) -> None:
        self.lock = lock
        self.listeners: tuple[Listener, ...] = ()
        self.watches_progress = False
        self.watches_output = False
        self._timer = timer
        self._progressed: dict[Task, None] = {}
        self._written: dict[Task, None] = {}
        self._armed = False

    def add(self, listener: Listener) -> None:
        """Deliver events to this listener from now on."""
        with self.lock:
            self._set_listeners((*self.listeners, listener))

    def remove(self, listener: Listener) -> None:
        """Deliver no more events to this listener."""
        with self.lock:
            self._set_listeners(tuple(other for other in self.listeners if other is not listener))

    def publish(self, task: Any, event_type: EventType) -> None:
        """Under the lock: offer an event to all listeners."""
        for listener in self.listeners:
            if listener.dropped:
                self._set_listeners(tuple(other for other in self.listeners if not other.dropped))
                continue
            try:
                listener.offer(task, event_type)
            except Exception:  # the other listeners and the state of the task do not depend on it
                logger.exception("%r of %r could not be offered to %r", event_type.value, task, listener)

    def progressed(self, task: Task) -> None:
        """Publish soon that the task's progress, heading, body or img changed. Any thread, no lock."""
        self._progressed[task] = None
        if not self._armed:
            self._arm()

    @uninterrupted
    def follow(self, task: Task, moved: Callable[[], bool | None]) -> None:
        """Poll `moved` on the timer's thread for changes of the task's progress, until it returns None.

        For loops that are too quick to report each step.
        """

        def look() -> None:
            answer = moved()
            if answer is None:
                return
            if answer and self.watches_progress:
                self.progressed(task)
            self._timer.call_later(COALESCE_SECONDS if self.watches_progress else UNWATCHED_SECONDS, look)

        self._timer.call_later(COALESCE_SECONDS, look)

    def wrote(self, task: Task) -> None:
        """Publish soon that the task wrote output. Any thread, no lock."""
        self._written[task] = None
        if not self._armed:
            self._arm()

    def settle(self, task: Task) -> None:
        """Under the lock: publish the marks of `task` at once, before the event of its end."""
        if self._progressed and self._progressed.pop(task, self) is None:
            self.publish(task, EventType.PROGRESS)
        if self._written and self._written.pop(task, self) is None:
            self.publish(task, EventType.OUTPUT)

    def flush(self) -> None:
        """Publish all marks."""
        with self.lock:
            for marks, event_type in (
                (self._progressed, EventType.PROGRESS),
                (self._written, EventType.OUTPUT),
            ):
                while marks:
                    self.publish(marks.popitem()[0], event_type)

    def finish(self) -> tuple[Listener, ...]:
        """Publish all marks, and end every subscription; return the listeners."""
        self.flush()
        listeners = self.listeners
        for listener in listeners:
            listener.finish()
        return listeners

    @uninterrupted
    def _arm(self) -> None:
        with self.lock:
            if self._armed:
                return
            self._armed = True
        try:
            self._timer.call_later(COALESCE_SECONDS, self._flush_marks)
        except BaseException:
            self._armed = False
            raise

    def _flush_marks(self) -> None:
        self._armed = False  # first: a mark that is set from now on arms the timer again
        self.flush()

    def _set_listeners(self, listeners: tuple[Listener, ...]) -> None:
        self.listeners = listeners
        wanted = frozenset().union(*(listener.events for listener in listeners))
        self.watches_progress = EventType.PROGRESS in wanted
        self.watches_output = EventType.OUTPUT in wanted


def checked_events(events: str | Iterable[str] | None) -> frozenset[EventType]:
    """Return the event types of these names, by default the changes of state. Raises UnknownEventError."""
    if events is None:
        return STATE_CHANGES
    wanted = set()
    for name in events if isinstance(events, Iterable) and not isinstance(events, str) else [events]:
        try:
            wanted.add(EventType(name))
        except ValueError:
            raise UnknownEventError(unknown("event type", name, EventType)) from None
    return frozenset(wanted)
