"""How tasks come in: `create_task`, `add_task`, and the checks of all that a new task is given.

Must not know what becomes of a task once it is in: that is the business of `dispatch`.
"""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop
from collections.abc import Sequence
from contextvars import copy_context
from types import CodeType, FunctionType
from typing import Any, Unpack

from nbtasks.asking import Catalogue
from nbtasks.backends import Backends
from nbtasks.backends.base import Attempt, Backend
from nbtasks.backends.loop import LoopThread
from nbtasks.checks import (
    checked_interval,
    checked_name,
    checked_priority,
    checked_retry,
    checked_tags,
    checked_timeout,
)
from nbtasks.exceptions import (
    AlreadyAddedError,
    DependencyCycleError,
    RetryError,
    UnknownBackendError,
    WorkError,
    unknown,
)
from nbtasks.options import TaskOptions, spelled_out
from nbtasks.task import Task, fresh
from nbtasks.threads import here, protected
from nbtasks.work import Once, described, is_async, is_usual

__all__ = ["Intake"]

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
        priority, tags = checked_priority(given["priority"]), checked_tags(given["tags"])
        timeout, retry = checked_timeout(template.timeout), checked_retry(template.retry)
        interval, name = checked_interval(given["update_sleep_time"]), checked_name(template.name)
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
