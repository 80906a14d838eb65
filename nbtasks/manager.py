"""`TaskManager`: all that a user asks of nbtasks, in one object; and the process's one manager.

It checks what it is given and ties the core together. The life of tasks is the business of `dispatch`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import threading
import weakref
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from nbtasks.backends.base import Attempt, Backend
from nbtasks.backends.loop import LoopBackend, LoopThread
from nbtasks.backends.thread import ThreadBackend
from nbtasks.checks import (
    check_cycle,
    check_retry,
    check_template,
    checked_keep,
    checked_priority,
    checked_tags,
    checked_timeout,
)
from nbtasks.clock import Clock, SystemClock, Timer
from nbtasks.dispatch import Dispatcher
from nbtasks.events import Callback, EventStream, Subscription, checked_callback, checked_events
from nbtasks.exceptions import (
    AlreadyAddedError,
    InvalidValueError,
    LaneError,
    UnknownBackendError,
    UnknownTaskError,
    WorkError,
    unknown,
)
from nbtasks.lanes import STANDARD_LANES, Lane, Lanes
from nbtasks.recurring.methods import RecurringMethods
from nbtasks.registry import matches, states_of
from nbtasks.states import FINAL_STATES, LIVE_STATES, TaskState
from nbtasks.task import Task, number_of
from nbtasks.threads import uninterrupted
from nbtasks.waiting import Waits, finish, handed_over, wait_ended
from nbtasks.work import described, is_async

if TYPE_CHECKING:
    from nbtasks.recurring.scheduler import Scheduler
    from nbtasks.retry import Retry

__all__ = ["TaskManager", "get_manager"]


class TaskManager(RecurringMethods):
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
        history: Any = None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Clock | None = None,
    ) -> None:
        limits: dict[str, int | None] = dict(STANDARD_LANES)
        if max_concurrent_tasks is not None:
            limits["default"] = max_concurrent_tasks
        limits.update(lanes or {})
        self.clock = clock or SystemClock()
        self.history = history
        self.loop = loop
        """The notebook's event loop, where there is one."""
        self._threads = ThreadBackend()
        self.backends: dict[str, Backend] = {"loop": LoopBackend(), "thread": self._threads}
        """Where work can run, by name. More can be put in."""
        self._dispatcher = Dispatcher(self, Lanes(limits, max_concurrent_tasks), self.clock, self.backends)
        self._bus = self._dispatcher.bus
        self._waits = Waits(self._dispatcher)
        self._loop_thread = LoopThread()
        self.max_succeeded_tasks = max_succeeded_tasks
        _managers.add(self)

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{count} {name}" for name, count in self.get_stats().items() if name != "total" and count
        )
        return f"<TaskManager: {counts or 'no tasks'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

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
        its `lane` has room, higher `priority` first, and what it comes `after` has completed.
        """
        function, takes_task, coroutine = described(work)
        task = Task(
            name=name,
            priority=priority,
            lane=lane,
            backend=backend or ("loop" if coroutine else "thread"),
            timeout=timeout,
            retry=retry,
            after=after,  # type: ignore[arg-type]  # one task alone is made a list of when it is added
            tags=tags,
            parameters=parameters,  # type: ignore[arg-type]
            heading=heading,
            body=body,
            img=img,
            update_sleep_time=1.0,
        )
        task._work = function
        task._takes_task = takes_task
        self._add(task, parent)
        return task

    def add_task(self, task: Task) -> Task:
        """Run an instance of a `Task` subclass in the background; returns it."""
        if not isinstance(task, Task):
            raise WorkError(f"add_task takes an instance of a Task subclass, not {task!r}")
        if task._manager is not None:
            raise AlreadyAddedError(f"{task.name!r} ({task.id}) was added before; a task runs once")
        if task._work is None and type(task).run is Task.run:
            raise WorkError(f"{type(task).__name__} has no run(self): a Task subclass needs one")
        if task.backend is None:
            task.backend = "loop" if is_async(task.run) else "thread"
        if type(task) is Task:
            task.name = task.name or "task"
            task.priority, task.lane = task.priority or 0, task.lane or "default"
        self._add(task, task.parent_id)
        return task

    def create_child(self, parent: Task, name: str, work: Any, priority: int = 0, **options: Any) -> Task:
        """`create_task` with that parent, in its lane unless `lane` says otherwise."""
        options.setdefault("lane", parent.lane)
        return self.create_task(name, work, priority, parent=parent, **options)

    @uninterrupted
    def _add(self, task: Task, parent: Task | str | None, taker: Backend | None = None) -> Attempt | None:
        """Check all that can be wrong with a new task, and give it to the dispatcher (see there for `taker`)."""
        if task.name.__class__ is not str or not task.name:
            raise InvalidValueError(f"a task's name must be a non-empty string, not {task.name!r}")
        if task.priority.__class__ is not int:
            task.priority = checked_priority(task.priority)
        if task.backend not in self.backends:
            raise UnknownBackendError(unknown("backend", task.backend, self.backends))
        if task.timeout is not None:
            task.timeout = checked_timeout(task.timeout)
        if task.retry is not None:
            check_retry(task)
        if task.tags.__class__ is not tuple:
            task.tags = checked_tags(task.tags)
        after: list[Task] = []
        if task.after:
            after = self._checked_after(task)
        task.after = tuple(other.id for other in after) if after else ()
        parent_task = None
        if parent is not None:
            parent_task = self._known(parent)
            task.parent_id = parent_task.id if parent_task is not None else str(parent)
        running = asyncio._get_running_loop()
        task._loop = running if running is not None else self._loop_for(task)
        task._context = contextvars.copy_context()
        return self._dispatcher.submit(task, after, parent_task, taker)

    def _create_instance(
        self, instance: Task, loop: asyncio.AbstractEventLoop | None, *, here: bool
    ) -> Attempt | None:
        instance._loop = loop
        return self._add(instance, instance.parent_id, self._threads if here else None)

    def _make_scheduler(self) -> Scheduler:
        from nbtasks.recurring.scheduler import Scheduler

        return Scheduler(
            create=self._create_instance,
            forget=self._forget_instance,
            call_in_thread=self._threads.call,
            clock=self.clock,
            timer=self.timer,
            bus=self._bus,
        )

    def _forget_instance(self, instance: Task) -> None:
        """Under the lock."""
        if instance in self._dispatcher.registry:
            self._dispatcher.drop(instance)

    def _check_template(self, template: Task) -> None:
        check_template(template, self._dispatcher.lanes, self.backends)

    # -- asking -----------------------------------------------------------------------------------------------

    def get_task(self, task: Task | str) -> Task | None:
        """The task of that id, if this manager has it (still)."""
        with self._dispatcher.lock:
            if isinstance(task, Task):
                return task if task in self._dispatcher.registry else None
            number = number_of(task)
            return None if number is None else self._dispatcher.registry.get(number)

    def list_tasks(self, state: TaskState | str | None = None) -> list[Task]:
        """All tasks, or those in one state, oldest first."""
        return self.search_tasks() if state is None else self.search_tasks(state=state)

    def search_tasks(self, **criteria: Any) -> list[Task]:
        """The tasks, oldest first, whose attributes have these values or satisfy these predicates.

        `state` takes a state or several; `task_type` a class or its name; `tags` one tag or several, all of which the
        task must have. Own fields of subclasses count too; a task that lacks an attribute does not match.
        """
        states = states_of(criteria.pop("state", None))
        with self._dispatcher.lock:
            candidates = self._dispatcher.registry.tasks(states)
        return [task for task in candidates if matches(task, criteria)]

    def get_stats(self) -> dict[str, int]:
        """How many tasks there are: total, pending, running, completed, failed, cancelled. Does not walk them."""
        count = self._dispatcher.registry.count
        with self._dispatcher.lock:
            stats = {state.value: count(state) for state in TaskState if state is not TaskState.LOST}
        return {"total": sum(stats.values()), **stats}

    @property
    def active_tasks(self) -> ActiveTasks:
        """The pending and running tasks, live: `len()`, iteration, `task in manager.active_tasks`."""
        return ActiveTasks(self)

    # -- steering ---------------------------------------------------------------------------------------------

    @uninterrupted
    def cancel_task(self, task: Task | str, *, children: bool = True) -> bool:
        """True: the task will be or is cancelled, and so will its children; False: it is unknown or already over."""
        known = self._known(task)
        return known is not None and self._dispatcher.cancel(known, children=children)

    @uninterrupted
    def set_priority(self, task: Task | str, priority: int) -> bool:
        """Change the place of a pending task among those that wait, at once; False if it is unknown or not pending."""
        known = self._known(task)
        return known is not None and self._dispatcher.set_priority(known, checked_priority(priority))

    def update_progress(self, task: Task | str, progress: float | None, body: str | None = None) -> bool:
        """Set a task's progress and, if given, its body; False if it is unknown or over."""
        known = self._known(task)
        if known is None or known.done:
            return False
        known.progress = progress
        if body is not None:
            known.body = body
        return True

    @uninterrupted
    def remove_task(self, task: Task | str) -> bool:
        """Forget a task that is over; False if it is unknown or not over."""
        known = self._known(task)
        return known is not None and self._dispatcher.drop_all([known]) == 1

    @uninterrupted
    def prune(self, state: TaskState | str | None = None, older_than: float | timedelta | None = None) -> int:
        """Forget tasks that are over, the completed and cancelled ones or those in `state`; how many.

        `older_than`: only those that ended longer ago than so many seconds, and those with no time of completion.
        """
        states = [TaskState.COMPLETED, TaskState.CANCELLED] if state is None else states_of(state)
        if not set(states) <= FINAL_STATES:
            raise InvalidValueError(f"only tasks that are over can be pruned, not {state!r} ones")
        before = None
        if older_than is not None:
            age = older_than if isinstance(older_than, timedelta) else timedelta(seconds=older_than)
            before = self.clock.now() - age
        with self._dispatcher.lock:
            victims = self._dispatcher.registry.over(states, before)
        return self._dispatcher.drop_all(victims)

    @property
    def max_succeeded_tasks(self) -> int | None:
        """How many completed tasks are kept, the newest, and as many cancelled ones; None: all. May be changed."""
        return self._dispatcher.keep

    @max_succeeded_tasks.setter
    def max_succeeded_tasks(self, keep: int | None) -> None:
        self._dispatcher.keep = checked_keep(keep)
        with self._dispatcher.lock:
            victims = [
                task
                for state in (TaskState.COMPLETED, TaskState.CANCELLED)
                for task in self._dispatcher.registry.surplus(state, keep)
            ]
        self._dispatcher.drop_all(victims)

    # -- lanes ------------------------------------------------------------------------------------------------

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The lanes by name, with their `limit`, and how many tasks are `running` and `pending` in them."""
        return MappingProxyType(self._dispatcher.lanes.by_name)

    @uninterrupted
    def add_lane(self, name: str, limit: int | None) -> Lane:
        """Add a lane in which `limit` tasks may run at once (None: any number)."""
        with self._dispatcher.lock:
            return self._dispatcher.lanes.add(name, limit)

    @uninterrupted
    def resize_lane(self, name: str, limit: int | None) -> None:
        """Change a lane's limit. What runs beyond a lower one goes on; 0 lets nothing start."""
        with self._dispatcher.lock:
            self._dispatcher.lanes.resize(name, limit)
        self._dispatcher.refill()

    @uninterrupted
    def remove_lane(self, name: str) -> None:
        """Remove a lane that no pending or running task is in; raises LaneError."""
        with self._dispatcher.lock:
            users = [task.name for task in self._dispatcher.registry.live() if task.lane == name]
            if users:
                raise LaneError(f"the lane {name!r} is in use by {len(users)} tasks, {users[0]!r} among them")
            self._dispatcher.lanes.remove(name)

    # -- the end ----------------------------------------------------------------------------------------------

    async def run_tasks(self) -> None:
        """Serve until `stop()`, for scripts. Coroutines created elsewhere run on this loop meanwhile."""
        loop = asyncio.get_running_loop()
        before, self.loop = self.loop, loop
        stopped = loop.create_future()
        self._dispatcher.on_stop.append(partial(loop.call_soon_threadsafe, finish, stopped))
        try:
            if not self._dispatcher.stopped:
                await stopped
        finally:
            self.loop = before
            self.stop(timeout=0)
            await self._waits.until_over(None)

    @uninterrupted
    def stop(self, timeout: float | None = 5.0) -> None:
        """Take no more tasks, cancel all, and let go of threads; wait at most `timeout` seconds for the work to stop.

        Coroutines on the loop of the calling thread stop when that loop turns again.
        """
        dispatcher = self._dispatcher
        with dispatcher.lock:
            if dispatcher.stopped:
                return
            dispatcher.stopped = True
            live = dispatcher.registry.live()
            on_stop, dispatcher.on_stop = dispatcher.on_stop, []
        if self._scheduler is not None:
            self._scheduler.stop()
        for call in on_stop:
            call()
        for task in live:
            dispatcher.cancel(task, reason="the manager was stopped")
        own = asyncio._get_running_loop()
        try:
            self._waits.block_until_over(
                [task for task in live if task._loop is not own or own is None], timeout
            )
        except TimeoutError:
            pass
        for backend in list(self.backends.values()):
            backend.close()
        self._loop_thread.close(timeout)
        self._bus.close()
        dispatcher.timer.close()

    # -- waiting ----------------------------------------------------------------------------------------------

    async def wait_all(self, timeout: float | None = None) -> None:
        """Return when all that is pending or running now is over. Raises WaitTimeoutError, which tells what runs on."""
        for task in await self._waits.until_over(None, timeout):
            wait_ended(task)

    def wait(self, *tasks: Task | str, timeout: float | None = None) -> None:
        """The same from plain code, for these tasks or, if none is named, for all: blocks.

        It does not raise what the tasks raised. An interrupt (Ctrl-C) ends the wait and leaves the tasks running.
        """
        wanted = [self._existing(task) for task in tasks] if tasks else None
        for task in (
            self._waits.block_until_over(wanted, timeout) if wanted is None else self._waited(wanted, timeout)
        ):
            wait_ended(task)

    def _waited(self, tasks: list[Task], timeout: float | None) -> list[Task]:
        self._waits.block_until_over(tasks, timeout)
        return tasks

    def _wait_in_loop(self, task: Task) -> Generator[Any, Any, Any]:
        if task._state in LIVE_STATES:
            yield from self._waits.until_over([task]).__await__()
        return handed_over(task)

    def _wait_in_thread(self, task: Task, timeout: float | None) -> Any:
        if task._state in LIVE_STATES:
            self._waits.block_until_over([task], timeout)
        return handed_over(task)

    # -- events -----------------------------------------------------------------------------------------------

    def add_event_callback(
        self, callback: Callback, events: str | Iterable[str] | None = None, *, task: Task | str | None = None
    ) -> Subscription:
        """Call `callback(task, event_type)`, plain or async, for these events; by default for changes of state.

        With `task`, only for that one.
        """
        wanted = checked_events(events)
        only = None if task is None else self._existing(task)
        loop = asyncio._get_running_loop()
        subscription = Subscription(
            self._bus, checked_callback(callback), wanted, only, lambda: loop or self.default_loop()
        )
        self._bus.add(subscription)
        return subscription

    def events(
        self, events: str | Iterable[str] | None = None, *, task: Task | str | None = None
    ) -> EventStream:
        """An async iterator over the same events, `async for task, event in manager.events()`; ends when this stops."""
        stream = EventStream(
            self._bus, checked_events(events), None if task is None else self._existing(task)
        )
        self._bus.add(stream)
        return stream

    @property
    def watches_progress(self) -> bool:
        """Whether anybody wants to know of progress."""
        return self._bus.watches_progress

    @property
    def watches_output(self) -> bool:
        """Whether anybody wants to know of output."""
        return self._bus.watches_output

    def _progressed(self, task: Task) -> None:
        self._bus.progressed(task)

    def _wrote_output(self, task: Task) -> None:
        self._bus.wrote(task)

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

    def _loop_for(self, task: Task) -> asyncio.AbstractEventLoop | None:
        if task._loop is not None and not task._loop.is_closed():  # that of the schedule which made it
            return task._loop
        return self.default_loop() if task.backend == "loop" else self.loop

    def _known(self, task: Task | str) -> Task | None:
        if isinstance(task, Task):
            owner: object = task._manager
            return task if owner is self else None
        return self.get_task(task)

    def _existing(self, task: Task | str) -> Task:
        known = self._known(task)
        if known is None:
            raise UnknownTaskError(f"this manager has no task {task!r}")
        return known

    def _checked_after(self, task: Task) -> list[Task]:
        wanted = [task.after] if isinstance(task.after, Task | str) else list(task.after)
        for other in wanted:
            if isinstance(other, Task) and other._manager is None:
                check_cycle(task, other)
        return [self._existing(other) for other in wanted]


class ActiveTasks:
    """The pending and running tasks of a manager, as a collection that is always up to date."""

    def __init__(self, manager: TaskManager) -> None:
        self._dispatcher = manager._dispatcher

    def __len__(self) -> int:
        with self._dispatcher.lock:
            return self._dispatcher.registry.count(*LIVE_STATES)

    def __iter__(self) -> Iterator[Task]:
        with self._dispatcher.lock:
            return iter(self._dispatcher.registry.live())

    def __contains__(self, task: object) -> bool:
        return (
            isinstance(task, Task) and task._state in LIVE_STATES and task._manager is self._dispatcher.owner
        )

    def __repr__(self) -> str:
        return f"<{len(self)} active tasks>"


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
            raise InvalidValueError(
                f"there is a manager already; it cannot be given {', '.join(sorted(settings))} now"
            )
        return _the_manager


@atexit.register
def _stop_all() -> None:
    """An interpreter that exits does not wait for tasks."""
    for manager in list(_managers):
        manager.stop(timeout=0.5)
