"""`TaskManager`: create, find, cancel, prune and wait for tasks; `get_manager`."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import reprlib
import threading
import weakref
from asyncio import _get_running_loop
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import copy_context
from datetime import datetime, timedelta, tzinfo
from functools import partial
from operator import attrgetter
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from nbtasks import validation
from nbtasks.backends import Backends
from nbtasks.backends.base import Attempt, Backend
from nbtasks.backends.loop import LoopBackend, LoopThread
from nbtasks.backends.thread import ThreadBackend
from nbtasks.callables import Once, describe, is_async
from nbtasks.clock import Clock, SystemClock, Timer
from nbtasks.dispatcher import Dispatcher
from nbtasks.events import Callback, EventStream, Listener, Subscription, checked_events
from nbtasks.exceptions import (
    AlreadyAddedError,
    DependencyCycleError,
    InvalidValueError,
    LaneError,
    RetryError,
    UnknownBackendError,
    UnknownTaskError,
    WorkError,
    unknown,
)
from nbtasks.formatting import plural
from nbtasks.interrupts import protected, start_thread, uninterrupted
from nbtasks.lanes import STANDARD_LANES, Lane, Lanes
from nbtasks.progress import CURRENT
from nbtasks.registry import PRUNED_STATES, matches, states_of
from nbtasks.states import FINAL_STATES, LIVE_STATES, TaskState
from nbtasks.task import PastAttempt, Task, TaskInternals, call_hook, number_of
from nbtasks.task_list import TaskList
from nbtasks.waiting import Waits, finish, result_of

if TYPE_CHECKING:
    from nbtasks.executor import TaskExecutor
    from nbtasks.history.history import History
    from nbtasks.retry import Retry
    from nbtasks.schedules import Schedule
    from nbtasks.schedules.recurring_task import RecurringTask
    from nbtasks.schedules.scheduler import Scheduler

__all__ = ["ActiveTasks", "TaskManager", "get_manager", "log_failure"]

logger = logging.getLogger("nbtasks")

STOP_SECONDS = 5.0
"""How long `stop` waits for the work to stop, by default."""
EXIT_SECONDS = 0.5
"""The same when the interpreter exits."""
WRITE_SECONDS = 2.0
"""How long a manager that stops waits at most for the history to be written."""


class TaskManager:
    """Runs tasks in the background, in lanes, and keeps track of them.

    All methods may be called on any thread. `max_concurrent_tasks` limits all lanes together; `lanes` adds to the
    standard ones or changes their limits; of the completed tasks the newest `max_succeeded_tasks` are kept (None: all),
    and as many cancelled ones. Coroutines run on the loop that runs where they are created, else on `loop`, else on a
    private loop thread. Every method that takes a task takes its id as well.
    """

    backends: Backends
    """Where work can run, by name. More can be put in."""
    loop: asyncio.AbstractEventLoop | None
    """The notebook's event loop, where there is one."""

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
        self._loop_thread = LoopThread()
        self._threads, self.loop_backend = ThreadBackend(), LoopBackend(self._loop_thread.loop)
        self.backends = Backends(loop=self.loop_backend, thread=self._threads)
        self._dispatcher = Dispatcher(
            self,
            Lanes(limits, max_concurrent_tasks),
            self.clock,
            self.backends,
            call_on_thread=self._threads.call,
            default_loop=self.default_loop,
            on_idle=self._close_all,
        )
        self._dispatcher.keep = validation.keep_count(max_succeeded_tasks)
        self.bus = self._dispatcher.bus
        self._waits = Waits(self._dispatcher)
        self._history: History | None = None
        self._history_later: Callable[[], History] | None = None
        """Makes the history with the first task or schedule, or when it is first used."""
        self._making_history = threading.Lock()
        self._scheduler: Scheduler | None = None
        self._making_scheduler = threading.Lock()
        self.exit_grace = 0.0
        """How many seconds tasks may still run when the interpreter exits."""
        self.report_cut_off: Callable[[str], object] = logger.warning
        """Called with a line about the tasks that the exit of the interpreter has cut off."""
        self.report_failure: Callable[[Task], object] = log_failure
        """Called with a task that failed, in the context in which it was created, unless its class shows the error."""
        self.on_exit: Callable[[], object] | None = None
        """Called at the exit of the interpreter, when the tasks were stopped."""
        self._on_stop: list[Callable[[], object]] = []
        self._closed_once = threading.Lock()
        if history is not None:
            self.history = history
        _managers.add(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.get_stats().items() if name != "total" and count)
        return f"<TaskManager: {counts or 'no tasks'}{', stopped' if self._dispatcher.stopped else ''}>"

    # -- adding tasks -----------------------------------------------------------------------------------------

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
        """Run `work` in the background.

        `work` is a function or coroutine function that takes the task or nothing, or a coroutine. Plain functions run
        on a thread and coroutines on the loop, unless `backend` is given. The task starts when its `lane` has a free
        slot, higher `priority` first, and the tasks of `after` have completed. `timeout` is in seconds, for each
        attempt; a task is cancelled with its `parent`. Raises an error of the tree in `nbtasks.exceptions` for values
        that are not allowed, and starts nothing then.
        """
        internals = TaskInternals()
        internals.work, internals.takes_task, is_coroutine = describe(work)
        internals.name, internals.priority, internals.lane = name, priority, lane
        internals.backend = backend or ("loop" if is_coroutine else "thread")
        internals.timeout, internals.retry, internals.after, internals.tags = timeout, retry, after, tags
        internals.parameters, internals.heading, internals.body, internals.img = parameters, heading, body, img
        task = Task.of(internals)
        protected(self._add, task, parent)
        return task

    def map(
        self, work: Callable[..., Any], items: Iterable[Any], *, name: str | None = None, **options: Any
    ) -> TaskList:
        """Run `work(item)` in the background for each item: a task each, in order.

        Their names are `name`, by default that of the function, with a number. `options` are those of `create_task`,
        and the same for all.
        """
        if not callable(work):
            raise WorkError(f"map takes a function and items, not {work!r}")
        stem = name or getattr(work, "__name__", None) or type(work).__name__
        stem = "map" if stem == "<lambda>" else stem
        tasks = []
        for number, item in enumerate(items, start=1):
            call = partial(work, item)
            options_of_one = {"heading": f"{stem}({reprlib.repr(item)})", **options}
            tasks.append(self.create_task(f"{stem}-{number}", call, **options_of_one))
        return TaskList(tasks)

    def add_task(self, task: Task) -> Task:
        """Run an instance of a `Task` subclass in the background; returns it."""
        if not isinstance(task, Task):
            raise WorkError(f"add_task takes an instance of a Task subclass, not {task!r}")
        protected(self._add, task, task.parent_id)
        return task

    def add_checked_task(self, task: Task) -> None:
        """Run a new task without dependencies or parent.

        `check_task` has checked it, or a task with the same fields.
        """
        protected(self._submit, task)

    def create_child(self, parent: Task, name: str, work: Any, priority: int = 0, **options: Any) -> Task:
        """`create_task` with that parent, in its lane unless `lane` says otherwise."""
        return self.create_task(name, work, priority, **{"lane": parent.lane, "parent": parent, **options})

    def check_task(self, task: Task) -> None:
        """Raise what adding this task would raise for its fields; else bring them into their usual form."""
        internals = task.internals
        work, backend = internals.work, internals.backend
        if work is None and type(task).run is Task.run:
            raise WorkError(f"{type(task).__name__} has no run(self): a Task subclass needs one")
        if backend is None:
            backend = "loop" if is_async(work or task.run) else "thread"
        if backend not in self.backends:
            raise UnknownBackendError(unknown("backend", backend, self.backends.names))
        _ = self.backends[backend]  # imports it now, and not where the dispatcher's lock is held
        internals.backend = backend
        internals.lane = self._dispatcher.lanes[internals.lane].name
        internals.name = validation.name(internals.name)
        internals.priority = validation.priority(internals.priority)
        if internals.tags != ():
            internals.tags = validation.tags(internals.tags)
        if internals.timeout is not None:
            internals.timeout = validation.timeout(internals.timeout)
        if internals.update_sleep_time != 1.0:
            internals.update_sleep_time = validation.update_interval(internals.update_sleep_time)
        if internals.retry is not None:
            _check_retry(internals)

    def default_loop(self) -> asyncio.AbstractEventLoop:
        """The loop for coroutines that are created where none runs."""
        if self.loop is not None and not self.loop.is_closed():
            return self.loop
        return self._loop_thread.loop()

    def _add(self, task: Task, parent: Task | str | None, taker: Backend | None = None) -> Attempt | None:
        """Check a new task, and give it to the dispatcher (see there for `taker`)."""
        internals = task.internals
        if internals.manager is not None:
            raise AlreadyAddedError(f"{task.name!r} ({task.id}) was added before; a task runs once")
        after = [] if internals.after == () else self._dependencies(task)
        parent_task = None if parent is None else self._known(parent)
        self.check_task(task)
        internals.after = tuple([other.id for other in after]) if after else ()
        if parent is not None:
            internals.parent_id = parent_task.id if parent_task is not None else str(parent)
        return self._submit(task, after, parent_task, taker)

    def _submit(
        self, task: Task, after: Sequence[Task] = (), parent: Task | None = None, taker: Backend | None = None
    ) -> Attempt | None:
        """Give a checked task to the dispatcher, with its event loop and the context of this thread."""
        if self._history_later is not None:
            self._begin_history()
        internals = task.internals
        # The loop of the schedule that created it comes first: a front end may have started it, on a loop of no use.
        if internals.loop is None:
            internals.loop = _get_running_loop()
        elif internals.loop.is_closed():
            internals.loop = None
        if internals.loop is None:
            internals.loop = self.default_loop() if internals.backend == "loop" else self.loop
        internals.context = copy_context()
        return self._dispatcher.submit(task, after, parent, taker)

    def _dependencies(self, task: Task) -> list[Task]:
        after = _listed(task.internals.after)
        for other in after:
            if isinstance(other, Task) and other.internals.manager is None:
                _check_cycle(task, other)
        return [self._existing(other) for other in after]

    # -- finding tasks ----------------------------------------------------------------------------------------

    def get_task(self, task: Task | str) -> Task | None:
        """The task of that id; None if this manager does not have it (any more)."""
        registry = self._dispatcher.registry
        with self._dispatcher.lock:
            if isinstance(task, Task):
                return task if task in registry else None
            number = number_of(task)
            return None if number is None else registry.get(number)

    def list_tasks(self, state: TaskState | str | None = None) -> list[Task]:
        """All tasks, or those in one state, oldest first. Raises UnknownStateError."""
        states = states_of(state)
        with self._dispatcher.lock:
            tasks = self._dispatcher.registry.tasks(states)
        return sorted(tasks, key=attrgetter("number"))

    def search_tasks(self, **criteria: Any) -> list[Task]:
        """The tasks, oldest first, whose attributes have these values or satisfy these predicates.

        `state` takes a state or several; `task_type` a class or its name; `tags` one tag or several, all of which the
        task must have. Own fields of subclasses count too; a task that lacks an attribute does not match.
        """
        return [task for task in self.list_tasks(criteria.pop("state", None)) if matches(task, criteria)]

    def past_attempts(self, task: Task | str) -> list[PastAttempt]:
        """The attempts of a task that failed and were followed by another, oldest first; the last 100 of them."""
        known = self._known(task)
        with self._dispatcher.lock:
            return [] if known is None else list(self._dispatcher.past_attempts.get(known, ()))

    def get_stats(self) -> dict[str, int]:
        """How many tasks there are: total, pending, running, completed, failed, cancelled."""
        by_state = self._dispatcher.registry.by_state
        with self._dispatcher.lock:
            stats = {state.value: len(tasks) for state, tasks in by_state.items() if state is not TaskState.LOST}
        return {"total": sum(stats.values()), **stats}

    @property
    def active_tasks(self) -> ActiveTasks:
        """The pending and running tasks, live: `len()`, iteration, `task in manager.active_tasks`."""
        return ActiveTasks(self._dispatcher)

    def _known(self, task: Task | str) -> Task | None:
        """The task, if it is or was one of this manager."""
        if isinstance(task, Task):
            return task if task.internals.manager is self else None
        return self.get_task(task)

    def _existing(self, task: Task | str) -> Task:
        known = self._known(task)
        if known is None:
            raise UnknownTaskError(f"this manager has no task {task!r}")
        return known

    # -- controlling tasks ------------------------------------------------------------------------------------

    @uninterrupted
    def cancel_task(
        self, task: Task | str, *, children: bool = True, running: bool = True, reason: str | None = None
    ) -> bool:
        """Cancel a task and its children; False if it is unknown or finished already.

        A pending task is cancelled at once; a running one is interrupted, again at each call, and is cancelled when its
        work has stopped. Without `running`, only a pending task is cancelled. `reason` becomes the task's `error`.
        """
        known = self._known(task)
        return known is not None and self._dispatcher.cancel(known, children=children, running=running, reason=reason)

    @uninterrupted
    def set_priority(self, task: Task | str, priority: int) -> bool:
        """Move a pending task in its queue, at once; False if it is unknown or not pending."""
        known = self._known(task)
        number = validation.priority(priority)
        return known is not None and self._dispatcher.change(partial(self._change_priority, known, number))

    def _change_priority(self, task: Task, priority: int) -> bool:
        if task.state is not TaskState.PENDING:
            return False
        lane = self._dispatcher.lane_of(task)
        queued = lane.discard(task)
        task.internals.priority = priority
        if queued:
            lane.push(task)
        return True

    def update_progress(self, task: Task | str, progress: float | None, body: str | None = None) -> bool:
        """Set a task's progress and, if given, its body; False if it is unknown or finished."""
        known = self._known(task)
        if known is None or known.done:
            return False
        known.progress = progress
        if body is not None:
            known.body = body
        return True

    # -- pruning ----------------------------------------------------------------------------------------------

    @uninterrupted
    def remove_task(self, task: Task | str) -> bool:
        """Remove a finished task; False if it is unknown or not finished. References to it remain valid."""
        known = self._known(task)
        return known is not None and self._dispatcher.change(partial(self._prune, [known])) == 1

    @uninterrupted
    def prune(self, state: TaskState | str | None = None, older_than: float | timedelta | None = None) -> int:
        """Remove finished tasks, the completed and cancelled ones or those in `state`; returns how many.

        `older_than`: only those that ended more than that many seconds ago, and those with no time of completion.
        """
        states = list(PRUNED_STATES) if state is None else states_of(state)
        if not set(states) <= FINAL_STATES:
            raise InvalidValueError(f"only finished tasks can be pruned, not {state!r} ones")
        before = None if older_than is None else self._dispatcher.time() - validation.age(older_than)
        registry = self._dispatcher.registry
        return self._dispatcher.change(lambda: self._prune(registry.completed_before(states, before)))

    @property
    def pruned_tasks(self) -> int:
        """How many tasks were pruned since the manager was made; a history still has them."""
        return self._dispatcher.pruned_tasks

    @property
    def max_succeeded_tasks(self) -> int | None:
        """How many completed tasks are kept, and how many cancelled ones; None: all. May be changed."""
        return self._dispatcher.keep

    @max_succeeded_tasks.setter
    @uninterrupted
    def max_succeeded_tasks(self, keep: int | None) -> None:
        dispatcher = self._dispatcher
        dispatcher.keep = validation.keep_count(keep)
        for state in PRUNED_STATES:
            dispatcher.change(partial(self._prune_surplus, state, keep))

    def _prune_surplus(self, state: TaskState, keep: int | None) -> int:
        return self._prune(self._dispatcher.registry.surplus(state, keep))

    def _prune(self, tasks: Iterable[Task]) -> int:
        """Under the lock: remove those of the tasks that are finished; returns how many there were."""
        registry = self._dispatcher.registry
        finished = [task for task in tasks if task.done and task in registry]
        for task in finished:
            registry.remove(task)
            self._dispatcher.pruned(task)
        return len(finished)

    # -- lanes ------------------------------------------------------------------------------------------------

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The lanes by name, read-only: each has a `limit` and counts `running` and `pending` tasks."""
        return MappingProxyType(self._dispatcher.lanes.by_name)

    @uninterrupted
    def add_lane(self, name: str, limit: int | None) -> Lane:
        """Add a lane in which `limit` tasks may run at once (None: any number). Raises LaneError."""
        with self._dispatcher.lock:
            return self._dispatcher.lanes.add(name, limit)

    @uninterrupted
    def resize_lane(self, name: str, limit: int | None) -> None:
        """Change a lane's limit; 0 lets nothing start. Tasks beyond a lower one continue. Raises LaneError."""
        self._dispatcher.change(lambda: self._dispatcher.fill([self._dispatcher.lanes.resize(name, limit)]))

    @uninterrupted
    def remove_lane(self, name: str) -> None:
        """Remove a lane that no pending or running task is in; raises LaneError."""
        with self._dispatcher.lock:
            users = [task.name for task in self._dispatcher.registry.tasks(LIVE_STATES) if task.lane == name]
            if users:
                raise LaneError(f"the lane {name!r} is in use by {plural(len(users), 'task')}, {users[0]!r} among them")
            self._dispatcher.lanes.remove(name)

    @property
    def max_concurrent_tasks(self) -> int | None:
        """How many tasks may run at once in all lanes together; None: no limit. May be changed."""
        return self._dispatcher.lanes.max_running

    @max_concurrent_tasks.setter
    @uninterrupted
    def max_concurrent_tasks(self, limit: int | None) -> None:
        lanes = self._dispatcher.lanes

        def change() -> None:
            lanes.limit_all(limit)
            self._dispatcher.fill(lanes.values())

        self._dispatcher.change(change)

    # -- waiting ----------------------------------------------------------------------------------------------

    async def wait_all(self, timeout: float | timedelta | None = None) -> None:
        """Return when all tasks that are pending or running now have finished.

        Raises WaitTimeoutError after `timeout` seconds, which names those still running.
        """
        await self._waits.until_finished(None, timeout)

    def wait(self, *tasks: Task | str, timeout: float | timedelta | None = None) -> None:
        """The same from plain code, for these tasks or, if none is named, for all: blocks.

        It does not raise what the tasks raised. An interrupt (Ctrl-C) ends the wait and leaves the tasks running.
        """
        self._waits.block_until_finished([self._existing(task) for task in tasks] if tasks else None, timeout)

    @property
    def around_waits(self) -> Callable[[Sequence[Task]], AbstractContextManager[object]]:
        """Makes the context manager around blocking waits, from the tasks: a terminal shows them."""
        return self._waits.around

    @around_waits.setter
    def around_waits(self, around: Callable[[Sequence[Task]], AbstractContextManager[object]]) -> None:
        self._waits.around = around

    def await_result(self, task: Task) -> Generator[Any, Any, Any]:
        """`await task`."""
        if not task.done and CURRENT.get() is None:
            yield  # one turn of the loop: many a task has finished then, and needs no waiter
        if not task.done:
            yield from self._waits.until_finished([task]).__await__()
        else:
            call_hook(task.on_wait_end)
        return result_of(task)

    def wait_for_result(self, task: Task, timeout: float | timedelta | None) -> Any:
        """`task.wait(timeout)`."""
        if not task.done:
            self._waits.block_until_finished([task], timeout)
        else:
            call_hook(task.on_wait_end)
        return result_of(task)

    # -- events -----------------------------------------------------------------------------------------------

    def add_event_callback(
        self, callback: Callback, events: str | Iterable[str] | None = None, *, task: Task | str | None = None
    ) -> Subscription:
        """Call `callback(task, event_type)`, plain or async, for these events.

        By default those are the changes of state. With `task`, only for that one.
        """
        types = checked_events(events)
        only = None if task is None else self._existing(task)
        loop = _get_running_loop()
        subscription = Subscription(
            self.bus, validation.callback(callback), types, only, lambda: loop or self.default_loop()
        )
        self.bus.add(subscription)
        return subscription

    def events(self, events: str | Iterable[str] | None = None, *, task: Task | str | None = None) -> EventStream:
        """An async iterator over events: `async for task, event in manager.events()`."""
        return EventStream(self.bus, checked_events(events), None if task is None else self._existing(task))

    # -- recurring tasks --------------------------------------------------------------------------------------

    def add_recurring_task(
        self,
        schedule: str | timedelta | Schedule,
        template: Task | Callable[..., Any],
        *,
        name: str | None = None,
        max_concurrent: int = 1,
        timezone: str | tzinfo | None = None,
        misfire_grace: timedelta | float | str | None = None,
        jitter: timedelta | float | str = 0,
        max_runs: int | None = None,
        until: datetime | None = None,
        only_if: Callable[[datetime], Any] | None = None,
        retry: Retry | None = None,
        max_consecutive_failures: int | None = None,
        enabled: bool = True,
        **options: Any,
    ) -> RecurringTask:
        """Run clones of `template` on a schedule: a cron expression, or an interval between starts.

        `template` is a Task that was not added, or a function, for which `priority`, `lane`, `backend`, `timeout`,
        `tags`, `parameters`, `heading`, `body` and `img` may be given. `timezone` is that of a cron expression, by
        default the machine's. For the other options see `Rules`. Raises InvalidScheduleError for a schedule that is
        wrong or never fires, UnknownTimezoneError, WorkError; then nothing is scheduled.
        """
        from nbtasks.schedules.recurring_task import make, template_of

        prepared = template_of(template, name, options)
        recurring = make(
            schedule,
            prepared,
            name=name,
            timezone=timezone,
            rules={
                "max_concurrent": max_concurrent,
                "misfire_grace": misfire_grace,
                "jitter": jitter,
                "max_runs": max_runs,
                "until": until,
                "only_if": only_if,
                "retry": retry,
                "max_consecutive_failures": max_consecutive_failures,
            },
        )
        self.check_task(prepared)
        recurring.loop = _get_running_loop()
        self._schedules().add(recurring, enabled=enabled)
        return recurring

    def restore_recurring_task(self, name: str, recurring_id: str, record: Any, template: Task | None = None) -> Any:
        """Add a schedule of another kernel from the history, with its counters, enabled if it was.

        `template` is its work, where that is no importable class or function. The caller has claimed the record.
        """
        from nbtasks.schedules.persistence import made_from, template_from

        recurring = made_from(name, recurring_id, record, template_from(record) if template is None else template)
        self.check_task(recurring.template)
        self._schedules().add(recurring, enabled=bool(record["enabled"]))
        if not recurring.enabled:
            recurring.ended = record["ended"]
        return recurring

    def get_recurring_task(self, recurring: RecurringTask | str) -> RecurringTask | None:
        """The recurring task of that id; None if this manager does not have it (any more)."""
        if self._scheduler is None:
            return None
        known = self._scheduler.get(recurring if isinstance(recurring, str) else recurring.id)
        return known if isinstance(recurring, str) or known is recurring else None

    def list_recurring_tasks(self) -> list[RecurringTask]:
        """All recurring tasks, oldest first."""
        return [] if self._scheduler is None else self._scheduler.list()

    @property
    def has_schedules_on(self) -> bool:
        """Whether any recurring task is enabled."""
        return self._scheduler is not None and self._scheduler.is_on

    def enable_recurring_task(self, recurring: RecurringTask | str) -> bool:
        """Enable a schedule; False if it is unknown, enabled already, or has no fires left."""
        known = self.get_recurring_task(recurring)
        return known is not None and known.enable()

    def disable_recurring_task(self, recurring: RecurringTask | str) -> bool:
        """Disable a schedule; running tasks continue. False if it is unknown or disabled already."""
        known = self.get_recurring_task(recurring)
        return known is not None and known.disable()

    def remove_recurring_task(self, recurring: RecurringTask | str) -> bool:
        """Remove a schedule; running tasks continue. False if it is unknown."""
        known = self.get_recurring_task(recurring)
        return known is not None and known.remove()

    def change_recurring_task(self, recurring: RecurringTask | str, **changes: Any) -> RecurringTask:
        """Change `schedule`, `timezone`, `name` or rules; raises what adding it would raise."""
        known = self._known_recurring(recurring)
        known.change(**changes)
        return known

    def run_now(self, recurring: RecurringTask | str) -> Task | None:
        """Start an instance at once; None, counted as skipped, if `max_concurrent` are running."""
        return self._known_recurring(recurring).run_now()

    def _known_recurring(self, recurring: RecurringTask | str) -> RecurringTask:
        known = self.get_recurring_task(recurring)
        if known is None:
            raise UnknownTaskError(f"this manager has no recurring task {recurring!r}")
        return known

    def _schedules(self) -> Scheduler:
        """The manager's one scheduler, made on first use."""
        with self._making_scheduler:
            if self._scheduler is None:
                from nbtasks.schedules.scheduler import Scheduler

                self._scheduler = Scheduler(
                    create=self._create_instance,
                    forget=lambda instance: self._prune([instance]),
                    call_in_thread=self._threads.call,
                    clock=self.clock,
                    timer=self.timer,
                    bus=self.bus,
                )
                history = self.history
                self._scheduler.notify(None if history is None else history.note)
            return self._scheduler

    def _create_instance(self, instance: Task, loop: asyncio.AbstractEventLoop | None, *, here: bool) -> Attempt | None:
        instance.internals.loop = loop if loop is not None else self.loop
        try:
            return protected(self._add, instance, instance.parent_id, self._threads if here else None)
        except BaseException as error:  # the attempt that this thread was to run is gone with it
            self._dispatcher.recover(error, instance)
            raise

    # -- history and executor ---------------------------------------------------------------------------------

    @property
    def history(self) -> History | None:
        """The record of tasks and schedules that outlives the process, if one is kept.

        Set it, to a History or to the path of its file, to have one kept from now on.
        """
        if self._history_later is not None:
            self._begin_history()
        return self._history

    @history.setter
    @uninterrupted
    def history(self, history: History | str | os.PathLike[str] | None) -> None:
        if isinstance(history, str | os.PathLike):
            from nbtasks.history.history import History

            history = History(history)
        before, self._history, self._history_later = self._history, history, None
        note = None if history is None else history.note
        with self._dispatcher.lock:
            self._dispatcher.note = note
            if note is not None:
                for task in self._dispatcher.registry.tasks(LIVE_STATES):
                    note(task)
        if self._scheduler is not None:
            self._scheduler.notify(note)
        if before is not None:
            before.close()

    def keep_history(self, make: Callable[[], History]) -> None:
        """Keep the history that `make` makes, from the first task or schedule on, unless one is kept already."""
        with self._making_history:
            if self._history is None:
                self._history_later = make

    @uninterrupted
    def _begin_history(self) -> None:
        with self._making_history:
            if self._history_later is not None:
                self.history = self._history_later()

    def as_executor(self, lane: str | None = None, backend: str | None = None, **options: Any) -> TaskExecutor:
        """The manager as a `concurrent.futures.Executor`: each call is a task in that lane, on that backend.

        `max_workers=N` in place of `lane` gives it a lane of its own. Further options: `priority`, `timeout`, `retry`
        and `tags`, for each call.
        """
        from nbtasks.executor import TaskExecutor

        return TaskExecutor(self, lane=lane, backend=backend, **options)

    # -- running and stopping ---------------------------------------------------------------------------------

    @property
    def timer(self) -> Timer:
        """The one timer thread, for timeouts, retries, schedules and whatever else must not wait for a loop."""
        return self._dispatcher.timer

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
            await self._waits.until_finished(None, STOP_SECONDS)

    async def run_tasks(self) -> None:
        """Run tasks until `stop()`, for scripts. Coroutines created elsewhere run on this loop meanwhile."""
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
        """Accept no more tasks and cancel all; wait at most `timeout` seconds for the work to stop.

        Coroutines on the loop of the calling thread stop when that loop turns again. Threads and processes end when the
        last work has stopped.
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
            self._waits.block_until_finished([task for task in live if _can_end(task)], timeout, quietly=True)
        if first and not len(self.active_tasks):
            self._close_all()
        elif self._history is not None:
            self._history.flush(WRITE_SECONDS)

    def stop_at_exit(self) -> None:
        """At the exit of the interpreter: give the tasks their grace time, stop, and report what was cut off."""
        live = list(self.active_tasks)
        with suppress(TimeoutError):
            self._waits.block_until_finished([task for task in live if _can_end(task)], self.exit_grace, quietly=True)
        cut_off = [f"{task.name!r} ({_how_far(task)})" for task in live if not task.done]
        self.stop(timeout=EXIT_SECONDS)
        if self.on_exit is not None:
            self.on_exit()
        if cut_off:
            number = plural(len(cut_off), "unfinished task")
            self.report_cut_off(f"nbtasks: the end of the process has cut off {number}: {', '.join(cut_off)}")

    def _close_all(self) -> None:
        """Close all that the manager has used: it was stopped, and the last work has ended."""
        if not self._closed_once.acquire(blocking=False):
            return  # another thread did, or is doing it, and may be waiting for this very thread to end
        for backend in self.backends.values():
            try:
                backend.close()
            except Exception:  # the others are closed all the same
                logger.exception("the backend %r could not be closed", backend.name)
        awaiting = [listener for listener in self.bus.finish() if listener.awaits]
        if awaiting:
            start_thread(partial(self._close_loop_after, awaiting), "nbtasks-closing")
        else:
            self._loop_thread.close()
        self._dispatcher.timer.close()
        if self._history is not None:
            self._history.close(WRITE_SECONDS)

    def _close_loop_after(self, listeners: Iterable[Listener]) -> None:
        """Deliver the last events to async callbacks on the private loop, before it is closed."""
        for listener in listeners:
            listener.drain(STOP_SECONDS)
        self._loop_thread.close()


class ActiveTasks:
    """The pending and running tasks of a manager, as a live collection."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __len__(self) -> int:
        with self._dispatcher.lock:
            return self._dispatcher.registry.count(*LIVE_STATES)

    def __iter__(self) -> Iterator[Task]:
        with self._dispatcher.lock:
            tasks = self._dispatcher.registry.tasks(LIVE_STATES)
        return iter(sorted(tasks, key=attrgetter("number")))

    def __contains__(self, task: object) -> bool:
        return isinstance(task, Task) and not task.done and task.internals.manager is self._dispatcher.owner

    def __repr__(self) -> str:
        return f"<{plural(len(self), 'active task')}>"


def _check_retry(internals: TaskInternals) -> None:
    from nbtasks.retry import checked_retry

    if checked_retry(internals.retry) is not None and isinstance(internals.work, Once):
        name = internals.name
        raise RetryError(f"{name!r}: a coroutine object runs once; to retry it give the coroutine function")


def _listed(after: Any) -> list[Any]:
    return [after] if isinstance(after, Task | str) else list(after or ())


def _check_cycle(task: Task, other: Task) -> None:
    """Raise DependencyCycleError if `other`, which was not added yet, comes after `task` itself."""
    todo: list[tuple[Task, ...]] = [(task, other)]
    while todo:
        path = todo.pop()
        if path[-1] is task:
            names = " after ".join(repr(one.name) for one in path)
            raise DependencyCycleError(f"tasks that come after each other never start: {names}")
        following = _listed(path[-1].internals.after)
        todo += [(*path, one) for one in following if isinstance(one, Task) and one not in path[1:]]


def _how_far(task: Task) -> str:
    progress = task.progress
    return task.state.value if progress is None else f"{task.state.value}, {progress:.0f}%"


def _can_end(task: Task) -> bool:
    """Whether the task's work can stop while this thread waits for it."""
    attempt: Attempt | None = task.internals.attempt
    if attempt is None or task is CURRENT.get():
        return False
    loop = attempt.loop if attempt.backend.name == "loop" else None
    return loop is None or (loop.is_running() and loop is not _get_running_loop())


_managers: weakref.WeakSet[TaskManager] = weakref.WeakSet()
_default_manager: TaskManager | None = None
_default_lock = threading.Lock()


def get_manager(**settings: Any) -> TaskManager:
    """The kernel's (or process's) one manager, made on first use, with these settings of `TaskManager`.

    If it exists already, `loop` becomes its loop, and other settings are refused.
    """
    global _default_manager
    with _default_lock:
        if _default_manager is None or _default_manager._dispatcher.stopped:
            _default_manager = TaskManager(**settings)
        elif set(settings) <= {"loop"}:
            _default_manager.loop = settings.get("loop", _default_manager.loop)
        else:
            raise InvalidValueError(f"there is a manager already; it cannot be given {', '.join(sorted(settings))} now")
        return _default_manager


def log_failure(task: Task) -> None:
    """Log that a task failed, with its traceback."""
    logger.error("task %r failed: %s", task.name, task.error, exc_info=task.exception)


@atexit.register
def _stop_all() -> None:
    """Stop all managers when the interpreter exits."""
    for manager in list(_managers):
        manager.stop_at_exit()
