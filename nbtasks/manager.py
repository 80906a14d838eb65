"""`TaskManager`: all that a user asks of nbtasks, in one object; and the process's one manager.

It ties the core together. Must not know the life of tasks: that is the business of `dispatch`.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from asyncio import _get_running_loop
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nbtasks.backends import Backends
from nbtasks.backends.base import Attempt
from nbtasks.backends.loop import LoopBackend, LoopThread
from nbtasks.backends.thread import ThreadBackend
from nbtasks.checks import checked_callback, checked_keep
from nbtasks.clock import Clock, SystemClock, Timer
from nbtasks.dispatch import Dispatcher
from nbtasks.events import Callback, EventStream, Listener, Subscription, checked_events
from nbtasks.exceptions import InvalidValueError
from nbtasks.history.methods import WRITE_SECONDS, HistoryMethods
from nbtasks.hooks import wait_ended
from nbtasks.intake import Intake
from nbtasks.lanes import STANDARD_LANES, Lanes
from nbtasks.progress import CURRENT
from nbtasks.recurring.methods import RecurringMethods
from nbtasks.states import LIVE_STATES
from nbtasks.steering import Steering
from nbtasks.task import Task
from nbtasks.threads import protected, start_thread, uninterrupted
from nbtasks.waiting import Waits, finish, result_of

if TYPE_CHECKING:
    import os

    from nbtasks.executor import TaskExecutor
    from nbtasks.history.history import History
    from nbtasks.recurring.scheduler import Scheduler

__all__ = ["TaskManager", "get_manager"]

STOP_SECONDS = 5.0
"""How long `stop` waits for the work to stop, unless it is told otherwise."""


class TaskManager(Intake, Steering, RecurringMethods, HistoryMethods):
    """Runs tasks in the background, in lanes, and keeps track of them. All methods may be called on any thread.

    `max_concurrent_tasks` limits all lanes together; `lanes` adds to the standard ones or changes their limits; of the
    completed tasks the newest `max_succeeded_tasks` are kept (None: all), and as many cancelled ones. Coroutines run on
    the loop that runs where they are created, else on `loop`, else on a private loop thread.
    """

    def __init__(
        self,
        max_concurrent_tasks: int | None = None,
        lanes: Mapping[str, int | None] | None = None,
        max_succeeded_tasks: int | None = 10,
        history: History | str | os.PathLike[str] | None = None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Clock | None = None,
    ) -> None:
        limits: dict[str, int | None] = dict(STANDARD_LANES)
        if max_concurrent_tasks is not None:
            limits["default"] = max_concurrent_tasks
        limits.update(lanes or {})
        self.clock = clock or SystemClock()
        self.loop = loop
        """The notebook's event loop, where there is one."""
        self._loop_thread = LoopThread()
        self._threads, self.loop_backend = ThreadBackend(), LoopBackend(self._loop_thread.loop)
        self.backends = Backends(loop=self.loop_backend, thread=self._threads)
        """Where work can run, by name. More can be put in."""
        every_lane = Lanes(limits, max_concurrent_tasks)
        self._dispatcher = Dispatcher(self, every_lane, self.clock, self.backends, self._threads.call)
        self._dispatcher.keep = checked_keep(max_succeeded_tasks)
        self.bus = self._dispatcher.bus
        self._waits = Waits(self._dispatcher)
        self._on_stop: list[Callable[[], object]] = []
        self._idle_once = threading.Lock()
        if history is not None:
            self.history = history
        _managers.add(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.get_stats().items() if name != "total" and count)
        return f"<TaskManager: {counts or 'no tasks'}{', stopped' if self._dispatcher.stopped else ''}>"

    def as_executor(self, lane: str | None = None, backend: str | None = None, **options: Any) -> TaskExecutor:
        """The manager as a `concurrent.futures.Executor`: each call is a task in that lane, on that backend.

        `max_workers=N` in place of `lane` gives it a lane of its own. Further options: `priority`, `timeout`, `retry`
        and `tags`, for each call.
        """
        from nbtasks.executor import TaskExecutor

        return TaskExecutor(self, lane=lane, backend=backend, **options)

    # -- waiting ----------------------------------------------------------------------------------------------

    async def wait_all(self, timeout: float | timedelta | None = None) -> None:
        """Return when all that is pending or running now is over.

        Raises WaitTimeoutError after `timeout` seconds, which tells what runs on.
        """
        await self._waits.until_over(None, timeout)

    def wait(self, *tasks: Task | str, timeout: float | timedelta | None = None) -> None:
        """The same from plain code, for these tasks or, if none is named, for all: blocks.

        It does not raise what the tasks raised. An interrupt (Ctrl-C) ends the wait and leaves the tasks running.
        """
        self._waits.block_until_over([self._existing(task) for task in tasks] if tasks else None, timeout)

    def _wait_in_loop(self, task: Task) -> Generator[Any, Any, Any]:
        if task._state in LIVE_STATES and CURRENT.get() is None:
            yield  # one turn of the loop: many a task is over then, and nobody needs to be told
        if task._state in LIVE_STATES:
            yield from self._waits.until_over([task]).__await__()
        else:
            wait_ended(task)
        return result_of(task)

    def _wait_in_thread(self, task: Task, timeout: float | timedelta | None) -> Any:
        if task._state in LIVE_STATES:
            self._waits.block_until_over([task], timeout)
        else:
            wait_ended(task)
        return result_of(task)

    # -- events -----------------------------------------------------------------------------------------------

    def add_event_callback(
        self, callback: Callback, events: str | Iterable[str] | None = None, *, task: Task | str | None = None
    ) -> Subscription:
        """Call `callback(task, event_type)`, plain or async, for these events; by default for changes of state.

        With `task`, only for that one.
        """
        wanted = checked_events(events)
        only = None if task is None else self._existing(task)
        loop = _get_running_loop()
        subscription = Subscription(
            self.bus, checked_callback(callback), wanted, only, lambda: loop or self.default_loop()
        )
        self.bus.add(subscription)
        return subscription

    def events(self, events: str | Iterable[str] | None = None, *, task: Task | str | None = None) -> EventStream:
        """An async iterator over the same events, `async for task, event in manager.events()`; ends when this stops."""
        return EventStream(self.bus, checked_events(events), None if task is None else self._existing(task))

    # -- the end ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(timeout=0)
        with suppress(TimeoutError):
            await self._waits.until_over(None, STOP_SECONDS)

    async def run_tasks(self) -> None:
        """Serve until `stop()`, for scripts. Coroutines created elsewhere run on this loop meanwhile."""
        loop = asyncio.get_running_loop()
        before, self.loop = self.loop, loop
        stopped = loop.create_future()
        self._on_stop.append(partial(loop.call_soon_threadsafe, finish, stopped))
        try:
            if not self._dispatcher.stopped:
                await stopped
        finally:
            self.loop = before
            await self.__aexit__(None, None, None)

    @uninterrupted
    def stop(self, timeout: float | None = STOP_SECONDS) -> None:
        """Take no more tasks and cancel all; wait at most `timeout` seconds for the work to stop.

        Coroutines on the loop of the calling thread stop when that loop turns again. Threads and the like are let go
        when the last work has stopped.
        """
        dispatcher = self._dispatcher
        with dispatcher.lock:
            first, dispatcher.stopped = not dispatcher.stopped, True
            live = dispatcher.registry.tasks(LIVE_STATES)
            on_stop, self._on_stop = self._on_stop, []
        if self._scheduler is not None:
            self._scheduler.stop()
        for call in on_stop:
            call()
        for task in live:
            dispatcher.cancel(task, reason="the manager was stopped")
        with suppress(TimeoutError):
            self._waits.block_until_over([task for task in live if _can_end(task)], timeout, quietly=True)
        if first and not len(self.active_tasks):
            self._idle()
        elif self._history is not None:
            self._history.flush(WRITE_SECONDS)

    def _idle(self) -> None:
        """The manager was stopped, and the last work has: let go of all that it used."""
        if not self._idle_once.acquire(blocking=False):
            return  # somebody did, or is at it, and may be waiting for this very thread to end
        for backend in self.backends.values():
            backend.close()
        awaiting = [listener for listener in self.bus.finish() if listener.awaits]
        if awaiting:
            start_thread(partial(self._close_loop_after, awaiting), "nbtasks-closing")
        else:
            self._loop_thread.close()
        self._dispatcher.timer.close()
        if self._history is not None:
            self._history.close(WRITE_SECONDS)

    def _close_loop_after(self, subscriptions: Iterable[Listener]) -> None:
        """Async callbacks are told the last events on the private loop, before it is closed."""
        for subscription in subscriptions:
            subscription.drain(STOP_SECONDS)
        self._loop_thread.close()

    # -- schedules --------------------------------------------------------------------------------------------

    def _make_scheduler(self) -> Scheduler:
        from nbtasks.recurring.scheduler import Scheduler

        scheduler = Scheduler(
            create=self._create_instance,
            forget=self._forget_instance,
            call_in_thread=self._threads.call,
            clock=self.clock,
            timer=self.timer,
            bus=self.bus,
        )
        scheduler.tell(None if self._history is None else self._history.note)
        return scheduler

    def _create_instance(self, instance: Task, loop: asyncio.AbstractEventLoop | None, *, here: bool) -> Attempt | None:
        instance._loop = loop if loop is not None else self.loop
        return protected(self._add, instance, instance.parent_id, self._threads if here else None)

    def _forget_instance(self, instance: Task) -> None:
        """Under the lock."""
        self._drop([instance])

    def _note_with(self, note: Callable[[Any], object] | None) -> None:
        with self._dispatcher.lock:
            self._dispatcher.note = note
            if note is not None:
                for task in self._dispatcher.registry.tasks(LIVE_STATES):
                    note(task)
        if self._scheduler is not None:
            self._scheduler.tell(note)

    # -- small parts ------------------------------------------------------------------------------------------

    @property
    def timer(self) -> Timer:
        """The one timer thread: time-outs, retries, schedules and whatever else must not wait for a loop."""
        return self._dispatcher.timer


def _can_end(task: Task) -> bool:
    """Whether the task's work can stop while this thread waits for it."""
    attempt = task._attempt
    if attempt is None or task is CURRENT.get():
        return False
    loop: asyncio.AbstractEventLoop | None = attempt.loop if attempt.backend.name == "loop" else None
    return loop is None or (loop.is_running() and loop is not _get_running_loop())


_managers: weakref.WeakSet[TaskManager] = weakref.WeakSet()
_the_manager: TaskManager | None = None
_the_lock = threading.Lock()


def get_manager(**settings: Any) -> TaskManager:
    """The kernel's (or process's) one manager, made on first use, with these settings of `TaskManager`.

    Where it exists already, `loop` becomes its loop, and other settings are refused.
    """
    global _the_manager
    with _the_lock:
        if _the_manager is None or _the_manager._dispatcher.stopped:
            _the_manager = TaskManager(**settings)
        elif set(settings) <= {"loop"}:
            _the_manager.loop = settings.get("loop", _the_manager.loop)
        else:
            raise InvalidValueError(f"there is a manager already; it cannot be given {', '.join(sorted(settings))} now")
        return _the_manager


@atexit.register
def _stop_all() -> None:
    """An interpreter that exits does not wait for tasks."""
    for manager in list(_managers):
        manager.stop(timeout=0.5)
