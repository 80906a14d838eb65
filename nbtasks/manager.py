"""`TaskManager`: all that a user asks of nbtasks, in one object; and the process's one manager.

It ties the core together. Must not know the life of tasks: that is the business of `dispatch`.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import threading
import weakref
from asyncio import _get_running_loop
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import copy_context
from datetime import datetime, timedelta, tzinfo
from functools import partial
from operator import attrgetter
from types import CodeType, FunctionType, MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack

from nbtasks import validation
from nbtasks.backends import Backends
from nbtasks.backends.base import Attempt, Backend
from nbtasks.backends.loop import LoopBackend, LoopThread
from nbtasks.backends.thread import ThreadBackend
from nbtasks.callables import Once, described, is_async, is_usual
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
from nbtasks.interrupts import here, protected, start_thread, uninterrupted
from nbtasks.lanes import STANDARD_LANES, Lane, Lanes
from nbtasks.progress import CURRENT
from nbtasks.registry import PRUNED_STATES, matches, states_of
from nbtasks.retry import checked_retry
from nbtasks.states import FINAL_STATES, LIVE_STATES, TaskState
from nbtasks.task import PastAttempt, Task, fresh, number_of
from nbtasks.task_hooks import wait_ended
from nbtasks.waiting import Waits, finish, result_of

if TYPE_CHECKING:
    from nbtasks.executor import TaskExecutor
    from nbtasks.history.history import History
    from nbtasks.retry import Retry
    from nbtasks.schedules import Schedule
    from nbtasks.schedules.recurring_task import RecurringTask
    from nbtasks.schedules.scheduler import Scheduler

__all__ = [
    "ActiveTasks",
    "Catalogue",
    "HistoryMethods",
    "Intake",
    "RecurringMethods",
    "Steering",
    "TaskManager",
    "TaskOptions",
    "get_manager",
    "spelled_out",
]

F = TypeVar("F", bound=Callable[..., Any])


class TaskOptions(TypedDict, total=False):
    """The options of `manager.create_task`. What is left out is as a `Task` has it: None, or empty."""

    backend: str | None
    """Where it runs; None: plain functions in a thread, coroutines on the loop."""
    timeout: float | timedelta | None
    """Seconds that one attempt may take."""
    retry: Retry | None
    after: Iterable[Task | str] | Task | str
    """Tasks that must complete before it starts."""
    parent: Task | str | None
    """The task with which it is cancelled."""
    tags: Iterable[str]
    parameters: Mapping[str, Any] | None
    heading: str | None
    body: str | None
    img: Any
_EMPTY = ("after", "tags")


def spelled_out(function: F) -> F:
    """Have the signature of a function that takes `**options` name them all, for help and completion.

    Python looks at every keyword that a function declares, given or not, at each call: for a function that hands on a
    task in three microseconds that is a twentieth of its time.
    """
    signature = inspect.signature(function)
    *others, last = signature.parameters.values()
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=() if name in _EMPTY else None,
            annotation=kind.__forward_arg__,  # the text of it, as `from __future__ import annotations` leaves it
        )
        for name, kind in TaskOptions.__annotations__.items()
    ]
    if last.kind is not last.VAR_KEYWORD:
        raise TypeError(f"{function!r} takes no **options")
    function.__signature__ = signature.replace(parameters=[*others, *options])  # type: ignore[attr-defined]
    return function




class Catalogue:
    """The part of `TaskManager` that is asked."""

    _dispatcher: Dispatcher

    def get_task(self, task: Task | str) -> Task | None:
        """The task of that id, if this manager has it (still)."""
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
        tasks.sort(key=attrgetter("_number"))
        return tasks

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
        """How many tasks there are: total, pending, running, completed, failed, cancelled. Does not walk them."""
        by_state = self._dispatcher.registry.by_state
        with self._dispatcher.lock:
            stats = {state.value: len(tasks) for state, tasks in by_state.items() if state is not TaskState.LOST}
        return {"total": sum(stats.values()), **stats}

    @property
    def active_tasks(self) -> ActiveTasks:
        """The pending and running tasks, live: `len()`, iteration, `task in manager.active_tasks`."""
        return ActiveTasks(self._dispatcher)

    def _known(self, task: Task | str) -> Task | None:
        """The task that is meant, if it is or was this manager's."""
        if isinstance(task, Task):
            return task if task._manager is self._dispatcher.owner else None
        return self.get_task(task)

    def _existing(self, task: Task | str) -> Task:
        known = self._known(task)
        if known is None:
            raise UnknownTaskError(f"this manager has no task {task!r}")
        return known


class ActiveTasks:
    """The pending and running tasks of a manager, as a collection that is always up to date."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __len__(self) -> int:
        with self._dispatcher.lock:
            return self._dispatcher.registry.count(*LIVE_STATES)

    def __iter__(self) -> Iterator[Task]:
        with self._dispatcher.lock:
            tasks = self._dispatcher.registry.tasks(LIVE_STATES)
        tasks.sort(key=attrgetter("_number"))
        return iter(tasks)

    def __contains__(self, task: object) -> bool:
        return isinstance(task, Task) and task._state in LIVE_STATES and task._manager is self._dispatcher.owner

    def __repr__(self) -> str:
        return f"<{len(self)} active tasks>"


_OPTION_SLOTS = {
    name: Task.__dict__.get(f"_{name}") or Task.__dict__[name]
    for name in TaskOptions.__annotations__
    if name != "parent"
}
"""Where a task keeps what it was given for an option."""


class Intake(Catalogue):
    """The part of `TaskManager` that takes tasks in."""

    backends: Backends
    loop: asyncio.AbstractEventLoop | None
    _loop_thread: LoopThread
    _seen: tuple[CodeType | None, bool, bool] = (None, False, False)
    """The code of the last function given in, and what `described` says of it: many tasks have the same."""

    @spelled_out
    def create_task(
        self,
        name: str,
        work: Any,
        priority: int = 0,
        *,
        lane: str = "default",
        **options: Unpack[TaskOptions],
    ) -> Task:
        """Run `work` in the background: a function or coroutine function that takes the task or nothing, or a
        coroutine.

        Plain functions go to a thread and coroutines to the loop, unless `backend` says otherwise. It starts as soon as
        its `lane` has room, higher `priority` first, and what it comes `after` has completed. Raises an error of the
        tree in `nbtasks.exceptions` for what is not allowed, with nothing started.
        """
        # The hottest path of all: what is usual is settled here, what is not by `described` and `_add`.
        code = work.__code__ if type(work) is FunctionType and work.__defaults__ is None else None
        seen, takes_task, coroutine = self._seen
        if code is None or code is not seen:
            work, takes_task, coroutine = described(work)
            if is_usual(work) and not work.__dict__:  # what decorators return has one code for all sorts of functions
                self._seen = code, takes_task, coroutine
        task = fresh(Task, work, takes_task)
        task.name = name
        task._priority = priority
        task._lane = lane
        if (
            not options
            and name.__class__ is str
            and priority.__class__ is int
            and lane.__class__ is str
            and here.gate is None
            and name
        ):
            running = _get_running_loop()
            if coroutine:
                task._backend = "loop"
                task._loop = self.default_loop() if running is None else running
            else:
                task._backend = "thread"
                task._loop = self.loop if running is None else running
            task._context = copy_context()
            self._dispatcher.submit(task, on_loop=coroutine and running is not None)
            return task
        parent = options.pop("parent", None)
        for option, value in options.items():
            if option not in _OPTION_SLOTS:
                raise TypeError(unknown("option of create_task", option, ["lane", *TaskOptions.__annotations__]))
            _OPTION_SLOTS[option].__set__(task, value)
        task._backend = options.get("backend") or ("loop" if coroutine else "thread")
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
            raise UnknownBackendError(unknown("backend", backend, self.backends.names))
        lane = self._dispatcher.lanes[given["lane"]].name
        priority, tags = validation.priority(given["priority"]), validation.tags(given["tags"])
        timeout, retry = validation.timeout(template.timeout), checked_retry(template.retry)
        interval, name = validation.update_interval(given["update_sleep_time"]), validation.name(template.name)
        if retry is not None and isinstance(template._work, Once):
            raise RetryError(f"{name!r}: a coroutine object runs once; to retry it give the coroutine function")
        template.name, template._lane, template._priority, template._backend = name, lane, priority, backend
        template.timeout, template.tags, template.update_sleep_time = timeout, tags, interval

    def _checked_after(self, task: Task) -> list[Task]:
        wanted = [task.after] if isinstance(task.after, Task | str) else list(task.after or ())
        for other in wanted:
            if isinstance(other, Task) and other._manager is None:
                _check_cycle(task, other)
        return [self._existing(other) for other in wanted]

    def default_loop(self) -> asyncio.AbstractEventLoop:
        """The loop for coroutines that were made where none runs."""
        if self.loop is not None and not self.loop.is_closed():
            return self.loop
        return self._loop_thread.loop()


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




class Steering(Catalogue):
    """The part of `TaskManager` that steers."""

    @uninterrupted
    def cancel_task(self, task: Task | str, *, children: bool = True) -> bool:
        """True: the task will be or is cancelled, and so will its children; False: it is unknown or already over.

        What is pending is cancelled at once, what runs is asked to stop, and again each time this is called.
        """
        known = self._known(task)
        return known is not None and self._dispatcher.cancel(known, children=children)

    @uninterrupted
    def set_priority(self, task: Task | str, priority: int) -> bool:
        """Change the place of a pending task among those that wait, at once; False if it is unknown or not pending."""
        known = self._known(task)
        number = validation.priority(priority)
        return known is not None and self._dispatcher.change(partial(self._prioritise, known, number))

    def _prioritise(self, task: Task, priority: int) -> bool:
        if task._state is not TaskState.PENDING:
            return False
        lane = self._dispatcher.lanes[task._lane]
        queued = lane.discard(task)
        task._priority = priority
        if queued:
            lane.push(task)
        return True

    def update_progress(self, task: Task | str, progress: float | None, body: str | None = None) -> bool:
        """Set a task's progress and, if given, its body; False if it is unknown or over."""
        known = self._known(task)
        if known is None or known.done:
            return False
        known.progress = progress
        if body is not None:
            known.body = body
        return True

    # -- what is kept -----------------------------------------------------------------------------------------

    @uninterrupted
    def remove_task(self, task: Task | str) -> bool:
        """Forget a task that is over; False if it is unknown or not over. Handles on it go on working."""
        known = self._known(task)
        return known is not None and self._dispatcher.change(partial(self._drop, [known])) == 1

    @uninterrupted
    def prune(self, state: TaskState | str | None = None, older_than: float | timedelta | None = None) -> int:
        """Forget tasks that are over, the completed and cancelled ones or those in `state`; how many.

        `older_than`: only those that ended longer ago than so many seconds, and those with no time of completion.
        """
        states = list(PRUNED_STATES) if state is None else states_of(state)
        if not set(states) <= FINAL_STATES:
            raise InvalidValueError(f"only tasks that are over can be pruned, not {state!r} ones")
        before = None if older_than is None else self._dispatcher.time() - validation.age(older_than)
        dispatcher = self._dispatcher
        return dispatcher.change(lambda: self._drop(dispatcher.registry.over(states, before)))

    @property
    def max_succeeded_tasks(self) -> int | None:
        """How many completed tasks are kept, the newest, and as many cancelled ones; None: all. May be changed."""
        return self._dispatcher.keep

    @max_succeeded_tasks.setter
    @uninterrupted
    def max_succeeded_tasks(self, keep: int | None) -> None:
        dispatcher = self._dispatcher
        dispatcher.keep = validation.keep_count(keep)
        for state in PRUNED_STATES:
            dispatcher.change(lambda state=state: self._drop(dispatcher.registry.surplus(state, keep)))  # type: ignore[misc]

    def _drop(self, tasks: Iterable[Task]) -> int:
        """Under the lock: let the registry forget these tasks, as far as they are over; how many it had."""
        registry = self._dispatcher.registry
        had = [task for task in tasks if task._state not in LIVE_STATES and task in registry]
        for task in had:
            registry.remove(task)
            self._dispatcher.forgotten(task)
        return len(had)

    # -- limits -----------------------------------------------------------------------------------------------

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The lanes by name, with their `limit`, and how many tasks are `running` and `pending` in them. To be read."""
        return MappingProxyType(self._dispatcher.lanes.by_name)

    @uninterrupted
    def add_lane(self, name: str, limit: int | None) -> Lane:
        """Add a lane in which `limit` tasks may run at once (None: any number). Raises LaneError."""
        with self._dispatcher.lock:
            return self._dispatcher.lanes.add(name, limit)

    @uninterrupted
    def resize_lane(self, name: str, limit: int | None) -> None:
        """Change a lane's limit. What runs beyond a lower one goes on; 0 lets nothing start. Raises LaneError."""
        self._dispatcher.change(lambda: self._dispatcher.fill([self._dispatcher.lanes.resize(name, limit)]))

    @uninterrupted
    def remove_lane(self, name: str) -> None:
        """Remove a lane that no pending or running task is in; raises LaneError."""
        with self._dispatcher.lock:
            users = [task.name for task in self._dispatcher.registry.tasks(LIVE_STATES) if task._lane == name]
            if users:
                raise LaneError(f"the lane {name!r} is in use by {len(users)} tasks, {users[0]!r} among them")
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


_making = threading.Lock()


class RecurringMethods:
    """Adds, finds and steers recurring tasks. All methods may be called on any thread, and take a task or its id."""

    _scheduler: Scheduler | None = None

    def _make_scheduler(self) -> Scheduler:
        """The manager's one scheduler."""
        raise NotImplementedError

    def _check_template(self, template: Task) -> None:
        """Raise what adding a task like this one would raise."""
        raise NotImplementedError

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
        """Run clones of `template` on a schedule: a cron expression, or an interval, which is from start to start.

        `template` is a Task that was not added, or a function, for which `priority`, `lane`, `backend`, `timeout`,
        `tags`, `parameters`, `heading`, `body` and `img` may be given. `timezone` is that of a cron expression, by
        default the machine's. For the other options see `Rules`. Raises InvalidScheduleError for what is wrong or never
        fires, UnknownTimezoneError, WorkError; then nothing is scheduled.
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
        self._check_template(prepared)
        recurring._loop = asyncio._get_running_loop()
        self._schedules().add(recurring, enabled=enabled)
        return recurring

    def restore_recurring_task(self, name: str, recurring_id: str, record: Any, template: Task | None = None) -> Any:
        """The schedule that another kernel left in the history, with its counters, on as it was there.

        `template` is its work, where that is no importable class or function. What is needed was claimed before.
        """
        from nbtasks.schedules.persistence import made_from, template_from

        recurring = made_from(name, recurring_id, record, template_from(record) if template is None else template)
        self._check_template(recurring.template)
        self._schedules().add(recurring, enabled=bool(record["enabled"]))
        if not recurring.enabled:
            recurring.ended = record["ended"]
        return recurring

    def get_recurring_task(self, recurring: RecurringTask | str) -> RecurringTask | None:
        """The recurring task of that id, if this manager has it (still)."""
        if self._scheduler is None:
            return None
        known = self._scheduler.get(recurring if isinstance(recurring, str) else recurring.id)
        return known if isinstance(recurring, str) or known is recurring else None

    def list_recurring_tasks(self) -> list[RecurringTask]:
        """All recurring tasks, oldest first."""
        return [] if self._scheduler is None else self._scheduler.list()

    @property
    def has_schedules_on(self) -> bool:
        """Whether any recurring task fires."""
        return self._scheduler is not None and self._scheduler.is_on

    def enable_recurring_task(self, recurring: RecurringTask | str) -> bool:
        """Let it fire, from now on; False if it is unknown, does already, or has nothing to come."""
        known = self.get_recurring_task(recurring)
        return known is not None and known.enable()

    def disable_recurring_task(self, recurring: RecurringTask | str) -> bool:
        """Let it fire no more; what runs goes on. False if it is unknown or does not fire."""
        known = self.get_recurring_task(recurring)
        return known is not None and known.disable()

    def remove_recurring_task(self, recurring: RecurringTask | str) -> bool:
        """Forget it; what runs goes on. False if it is unknown."""
        known = self.get_recurring_task(recurring)
        return known is not None and known.remove()

    def change_recurring_task(self, recurring: RecurringTask | str, **changes: Any) -> RecurringTask:
        """Change its `schedule`, `timezone`, `name` or rules; raises UnknownTaskError, and what adding it raises."""
        known = self._known_recurring(recurring)
        known.change(**changes)
        return known

    def run_now(self, recurring: RecurringTask | str) -> Task | None:
        """Start an instance at once, outside the schedule; None, and counted as skipped, if too many run already."""
        return self._known_recurring(recurring).run_now()

    def _known_recurring(self, recurring: RecurringTask | str) -> RecurringTask:
        known = self.get_recurring_task(recurring)
        if known is None:
            raise UnknownTaskError(f"this manager has no recurring task {recurring!r}")
        return known

    def _schedules(self) -> Scheduler:
        with _making:
            if self._scheduler is None:
                self._scheduler = self._make_scheduler()
            return self._scheduler


WRITE_SECONDS = 2.0
"""How long the end of a manager waits at most for the history to be written."""


class HistoryMethods:
    """Keeps a history, or none."""

    _history: History | None = None

    def _note_with(self, note: Callable[[Any], object] | None) -> None:
        """Have `note` called with each task and recurring task that changes, and with those that live now."""
        raise NotImplementedError

    @property
    def history(self) -> History | None:
        """The record of tasks and schedules that outlives the process, if one is kept: `manager.history.tasks(...)`.

        Set it, to a History or to the path of its file, to have one kept from now on.
        """
        return self._history

    @history.setter
    @uninterrupted
    def history(self, history: History | str | os.PathLike[str] | None) -> None:
        if isinstance(history, str | os.PathLike):
            from nbtasks.history.history import History

            history = History(history)
        before, self._history = self._history, history
        self._note_with(None if history is None else history.note)
        if before is not None:
            before.close()


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
        self._dispatcher.keep = validation.keep_count(max_succeeded_tasks)
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
            self.bus, validation.callback(callback), wanted, only, lambda: loop or self.default_loop()
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
        from nbtasks.schedules.scheduler import Scheduler

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
    def around_waits(self) -> Callable[[Sequence[Task]], AbstractContextManager[object]]:
        """Makes the context manager around each blocking wait for tasks: a terminal shows them meanwhile."""
        return self._waits.around

    @around_waits.setter
    def around_waits(self, around: Callable[[Sequence[Task]], AbstractContextManager[object]]) -> None:
        self._waits.around = around

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
