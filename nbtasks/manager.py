"""`TaskManager`: all that a user asks of nbtasks, in one object; and the process's one manager.

It checks what it is given and ties the core together. The life of tasks is the business of `dispatch`.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from asyncio import _get_running_loop
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from inspect import CO_COROUTINE
from types import FunctionType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from nbtasks.backends.base import Attempt, Backend
from nbtasks.backends.loop import LoopBackend, LoopThread
from nbtasks.backends.thread import ThreadBackend
from nbtasks.checks import (
    checked_callback,
    checked_interval,
    checked_keep,
    checked_name,
    checked_priority,
    checked_retry,
    checked_tags,
    checked_timeout,
)
from nbtasks.clock import Clock, SystemClock, Timer
from nbtasks.dispatch import Dispatcher
from nbtasks.events import Callback, EventStream, Subscription, checked_events
from nbtasks.exceptions import (
    AlreadyAddedError,
    DependencyCycleError,
    InvalidValueError,
    RetryError,
    UnknownBackendError,
    WorkError,
    unknown,
)
from nbtasks.history.methods import WRITE_SECONDS, HistoryMethods
from nbtasks.hooks import wait_ended
from nbtasks.lanes import STANDARD_LANES, Lanes
from nbtasks.progress import CURRENT
from nbtasks.recurring.methods import RecurringMethods
from nbtasks.states import LIVE_STATES
from nbtasks.steering import Steering
from nbtasks.task import Task, fresh
from nbtasks.threads import here, protected, uninterrupted
from nbtasks.waiting import Waits, finish, result_of
from nbtasks.work import UNUSUAL, Once, described, is_async

if TYPE_CHECKING:
    import os

    from nbtasks.history.history import History
    from nbtasks.recurring.scheduler import Scheduler
    from nbtasks.retry import Retry

__all__ = ["TaskManager", "get_manager"]

STOP_SECONDS = 5.0
"""How long `stop` waits for the work to stop, unless it is told otherwise."""


class TaskManager(Steering, RecurringMethods, HistoryMethods):
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
        self._threads = ThreadBackend()
        self.backends: dict[str, Backend] = {"loop": LoopBackend(), "thread": self._threads}
        """Where work can run, by name. More can be put in."""
        every_lane = Lanes(limits, max_concurrent_tasks)
        self._dispatcher = Dispatcher(self, every_lane, self.clock, self.backends, self._threads.call)
        self._dispatcher.keep = checked_keep(max_succeeded_tasks)
        self.bus = self._dispatcher.bus
        self._waits = Waits(self._dispatcher)
        self._on_stop: list[Callable[[], object]] = []
        self._idle_lock = threading.Lock()
        if history is not None:
            self.history = history
        _managers.add(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.get_stats().items() if name != "total" and count)
        return f"<TaskManager: {counts or 'no tasks'}{', stopped' if self._dispatcher.stopped else ''}>"

    # -- tasks in ---------------------------------------------------------------------------------------------

    def create_task(
        self,
        name: str,
        work: Any,
        priority: int = 0,
        *,
        lane: str = "default",
        backend: str | None = None,
        timeout: float | timedelta | None = None,
        retry: Retry | None = None,
        after: Iterable[Task | str] | Task | str = (),
        parent: Task | str | None = None,
        tags: Iterable[str] = (),
        parameters: Mapping[str, Any] | None = None,
        heading: str | None = None,
        body: str | None = None,
        img: Any = None,
    ) -> Task:
        """Run `work` in the background: a function or coroutine function that takes the task or nothing, or a
        coroutine.

        Plain functions go to a thread and coroutines to the loop, unless `backend` says otherwise. It starts as soon as
        its `lane` has room, higher `priority` first, and what it comes `after` has completed. Raises an error of the
        tree in `nbtasks.exceptions` for what is not allowed, with nothing started.
        """
        # The hottest path of all: what is usual is settled here, what is not by `described` and `_add`.
        if work.__class__ is FunctionType and not (
            (code := work.__code__).co_flags & UNUSUAL
            or code.co_kwonlyargcount
            or code.co_argcount > 1
            or work.__defaults__
        ):
            takes_task, coroutine = code.co_argcount == 1, code.co_flags & CO_COROUTINE
        else:
            work, takes_task, coroutine = described(work)
        task = fresh(Task)
        task.name = name
        task._priority = priority
        task._lane = lane
        task._work = work
        task._takes_task = takes_task
        if (
            name.__class__ is str
            and priority.__class__ is int
            and backend is None
            and timeout is None
            and retry is None
            and parent is None
            and parameters is None
            and heading is None
            and body is None
            and img is None
            and here.gate is None
            and after == ()
            and tags == ()
            and name
        ):
            if coroutine:
                task._backend = "loop"
                task._loop = _get_running_loop() or self.default_loop()
            else:
                task._backend = "thread"
                task._loop = _get_running_loop() or self.loop
            task._context = copy_context()
            self._dispatcher.submit(task)
            return task
        task._backend = backend or ("loop" if coroutine else "thread")
        task.timeout = timeout
        task.retry = retry
        task.after = after
        task.tags = tags
        task.parameters = parameters
        task._heading = heading
        task._body = body
        task._img = img
        protected(self._add, task, parent)
        return task

    def add_task(self, task: Task) -> Task:
        """Run an instance of a `Task` subclass in the background; returns it."""
        if not isinstance(task, Task):
            raise WorkError(f"add_task takes an instance of a Task subclass, not {task!r}")
        protected(self._add, task, task.parent_id)
        return task

    def create_child(self, parent: Task, name: str, work: Any, priority: int = 0, **options: Any) -> Task:
        """`create_task` with that parent, in its lane unless `lane` says otherwise."""
        return self.create_task(name, work, priority, **{"lane": parent.lane, "parent": parent, **options})

    def _add(self, task: Task, parent: Task | str | None, taker: Backend | None = None) -> Attempt | None:
        """Check all that can be wrong with a new task, and give it to the dispatcher (see there for `taker`)."""
        if task._manager is not None:
            raise AlreadyAddedError(f"{task.name!r} ({task.id}) was added before; a task runs once")
        after = self._checked_after(task)
        parent_task = None if parent is None else self._known(parent)
        self._check_template(task)
        task.after = tuple(other.id for other in after)
        if parent is not None:
            task.parent_id = parent_task.id if parent_task is not None else str(parent)
        # That of the schedule which made it comes first: it may be asked to run by a front end, on a loop of no use.
        loop = task._loop or _get_running_loop()
        if loop is None or loop.is_closed():
            loop = self.default_loop() if task._backend == "loop" else self.loop
        task._loop = loop
        task._context = copy_context()
        return self._dispatcher.submit(task, after, parent_task, taker)

    def _check_template(self, template: Task) -> None:
        """Raise what is wrong with the fields of a task that was not added; else put them into their usual form."""
        kind = type(template)
        if template._work is None and kind.run is Task.run:
            raise WorkError(f"{kind.__name__} has no run(self): a Task subclass needs one")
        fields = {name: getattr(template, name) for name in ("priority", "lane", "tags", "update_sleep_time")}
        given = {name: Task._class_defaults[name] if value is None else value for name, value in fields.items()}
        backend = template.backend or ("loop" if is_async(template._work or template.run) else "thread")
        if backend not in self.backends:
            raise UnknownBackendError(unknown("backend", backend, self.backends))
        lane = self._dispatcher.lanes[given["lane"]].name
        priority, tags = checked_priority(given["priority"]), checked_tags(given["tags"])
        timeout, retry = checked_timeout(template.timeout), checked_retry(template.retry)
        interval, name = checked_interval(given["update_sleep_time"]), checked_name(template.name)
        if retry is not None and isinstance(template._work, Once):
            raise RetryError(f"{name!r}: a coroutine object runs once; to retry it give the coroutine function")
        template.name, template._lane, template._priority, template._backend = name, lane, priority, backend
        template.timeout, template.tags, template.update_sleep_time = timeout, tags, interval

    def _checked_after(self, task: Task) -> list[Task]:
        wanted = [task.after] if isinstance(task.after, Task | str) else list(task.after)
        for other in wanted:
            if isinstance(other, Task) and other._manager is None:
                _check_cycle(task, other)
        return [self._existing(other) for other in wanted]

    # -- waiting ----------------------------------------------------------------------------------------------

    async def wait_all(self, timeout: float | None = None) -> None:
        """Return when all that is pending or running now is over. Raises WaitTimeoutError, which tells what runs on."""
        await self._waits.until_over(None, timeout)

    def wait(self, *tasks: Task | str, timeout: float | None = None) -> None:
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

    def _wait_in_thread(self, task: Task, timeout: float | None) -> Any:
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
        with self._idle_lock:
            for backend in self.backends.values():
                backend.close()
            self._loop_thread.close()
            self.bus.finish()
            self._dispatcher.timer.close()
            if self._history is not None:
                self._history.close(WRITE_SECONDS)

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

    def default_loop(self) -> asyncio.AbstractEventLoop:
        """The loop for coroutines that were made where none runs."""
        if self.loop is not None and not self.loop.is_closed():
            return self.loop
        return self._loop_thread.loop()


def _can_end(task: Task) -> bool:
    """Whether the task's work can stop while this thread waits for it."""
    attempt = task._attempt
    if attempt is None or task is CURRENT.get():
        return False
    loop: asyncio.AbstractEventLoop | None = attempt.loop if attempt.backend.name == "loop" else None
    return loop is None or (loop.is_running() and loop is not _get_running_loop())


def _check_cycle(task: Task, other: Task) -> None:
    """Whether `other`, which was not added yet, comes after `task` itself."""
    todo: list[tuple[Task, ...]] = [(task, other)]
    while todo:
        way = todo.pop()
        if way[-1] is task:
            names = " after ".join(repr(one.name) for one in way)
            raise DependencyCycleError(f"tasks that come after each other never start: {names}")
        after: Any = way[-1].after
        following: Sequence[Any] = [after] if isinstance(after, Task | str) else list(after or ())
        todo += [(*way, one) for one in following if isinstance(one, Task) and one not in way[1:]]


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
