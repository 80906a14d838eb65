"""`Task`: the record of one piece of background work, and the user's handle on it.

Must not know when, where or by whom a task is run: it asks the manager that it was added to.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import warnings
from collections.abc import Generator, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, cast

from nbtasks.exceptions import (
    AlreadyAddedError,
    NotAddedError,
    ProgressError,
    ReadOnlyError,
    ResultNotReadyError,
    WorkError,
)
from nbtasks.states import LIVE_STATES, TaskState

if TYPE_CHECKING:
    import asyncio

    from nbtasks.retry import Retry

__all__ = ["Outcome", "Task", "TaskOwner", "next_number"]

logger = logging.getLogger("nbtasks")

_PREFIX = os.urandom(4).hex()
"""Tells the tasks of this process from those of every other kernel, past ones in the history included."""
next_number = itertools.count(1).__next__
"""Counts the tasks of this process."""

_PENDING, _RUNNING, _COMPLETED = TaskState.PENDING, TaskState.RUNNING, TaskState.COMPLETED

UNSET = cast("Any", None)
"""What a field holds until the class's own default, or the manager's, is taken."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work ended: `state` is `completed`, `failed` or `cancelled`."""

    state: TaskState
    result: Any = None
    exception: BaseException | None = None


class TaskOwner(Protocol):
    """What a task asks of its manager."""

    @property
    def watches_progress(self) -> bool:
        """Whether anybody wants to know of progress."""

    @property
    def watches_output(self) -> bool:
        """Whether anybody wants to know of output."""

    def cancel_task(self, task: Task | str, *, children: bool = True) -> bool:
        """Ask the task's work to stop."""

    def create_child(self, parent: Task, name: str, work: Any, priority: int, **options: Any) -> Task:
        """Run work as a child of `parent`."""

    def _progressed(self, task: Task) -> None: ...
    def _wrote_output(self, task: Task) -> None: ...
    def _wait_in_loop(self, task: Task) -> Generator[Any, Any, Any]: ...
    def _wait_in_thread(self, task: Task, timeout: float | None) -> Any: ...


@dataclass(slots=True, weakref_slot=True, kw_only=True, eq=False, repr=False)
class Task:
    """One piece of background work.

    Made by `manager.create_task`, or subclassed for kinds of your own: a dataclass with a `run(self)`, plain or async,
    and optionally a `progress_hook(self)`, called every `update_sleep_time` seconds while it runs::

        @dataclass
        class Train(Task):
            epochs: int
            lane = "single"

            def run(self):
                ...

        task = manager.add_task(Train(epochs=20, name="train"))

    The fields below can be given to the constructor, by name, and a subclass may give them defaults of its own.
    Attributes may be read, and `progress`, `heading`, `body` and `img` set, from any thread.
    """

    _manager: TaskOwner | None = field(default=None, init=False)  # first: the setters of others ask for it
    name: str = UNSET
    priority: int = UNSET
    lane: str = UNSET
    backend: str | None = None
    timeout: float | timedelta | None = None
    """Seconds that one attempt may take, from its start."""
    retry: Retry | None = None
    after: Iterable[Task | str] = ()
    """Tasks that must complete before this one starts; their ids, once it is added."""
    parent_id: str | None = None
    tags: Iterable[str] = UNSET
    parameters: Mapping[str, Any] = UNSET
    heading: str | None = None
    body: str | None = None
    img: Any = None
    update_sleep_time: float = UNSET
    """Seconds between two calls of `progress_hook`."""

    number: int = field(init=False, default_factory=next_number)
    """Counts the tasks of this process in the order of their creation."""
    attempts: int = field(default=0, init=False)
    wanted: int = field(default=0, init=False)
    """How many running tasks wait for this one."""
    _state: TaskState = field(default=_PENDING, init=False)
    _progress: float | None = field(default=None, init=False)
    _result: Any = field(default=None, init=False)
    _exception: BaseException | None = field(default=None, init=False)
    _reason: str | None = field(default=None, init=False)
    _created_at: float | None = field(default=None, init=False)  # seconds since 1970, and so are these:
    _started_at: float | None = field(default=None, init=False)
    _completed_at: float | None = field(default=None, init=False)
    _cancel_requested_at: float | None = field(default=None, init=False)
    _work: Any = field(default=None, init=False)
    _takes_task: bool = field(default=False, init=False)
    _is_async: bool | None = field(default=None, init=False)  # None: not known yet
    _context: Context | None = field(default=None, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _attempt: Any = field(default=None, init=False)
    _ties: Any = field(default=None, init=False)

    _class_defaults: ClassVar[dict[str, Any]] = {
        "priority": 0,
        "lane": "default",
        "tags": (),
        "parameters": None,
        "update_sleep_time": 1.0,
    }

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super(Task, cls).__init_subclass__(
            **kwargs
        )  # `slots=True` makes a new class, which plain super() misses
        _adopt_class_defaults(cls)
        # In the subclass's own dict, where `@dataclass` leaves them alone: tasks are told apart by identity.
        for name in ("__eq__", "__hash__", "__repr__"):
            if name not in cls.__dict__ or (name == "__hash__" and cls.__dict__[name] is None):
                setattr(cls, name, getattr(Task, name))
        if Task in cls.__bases__ and "__new__" not in cls.__dict__:
            cls.__new__ = _new_record  # type: ignore[method-assign, assignment]

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        state = "cancelling" if self.cancelling else self._state.value
        return f"<{type(self).__name__} {self.name!r} ({self.id}): {state}>"

    # -- what a kind of task says -----------------------------------------------------------------------------

    def run(self) -> Any:
        """Do the work; its return value is the task's result. Subclasses override it, as a plain or async method."""
        raise WorkError(f"{type(self).__name__} has no run(self): a Task subclass needs one")

    def progress_hook(self) -> Any:
        """Set `self.progress` and the like from a file, an API, a log. Called while the task runs; plain or async."""

    # -- the record -------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Unique over all kernels."""
        return f"{_PREFIX}-{self.number}"

    @property
    def state(self) -> TaskState:
        """Where the task is in its life. Set by the manager alone."""
        return self._state

    @state.setter
    def state(self, value: object) -> None:
        raise ReadOnlyError(
            f"task.state is set by the manager alone, not to {value!r}; to stop a task: task.cancel()"
        )

    @property
    def progress(self) -> float | None:
        """0.0 to 100.0, or None where it is unknown; 100 when completed.

        May be set from any thread. Numbers out of range are clamped, with one warning; -1 and NaN mean unknown; what is
        not a number raises ProgressError.
        """
        return 100.0 if self._state is _COMPLETED else self._progress

    @progress.setter
    def progress(self, value: float | None) -> None:
        # No lock here, and one store: this is called from the innermost loop of work that may be interrupted.
        if value.__class__ is not float or not 0.0 <= value <= 100.0:
            value = _checked_progress(self, value)
        self._progress = value
        manager = self._manager
        if manager is not None and manager.watches_progress:
            manager._progressed(self)

    @property
    def result(self) -> Any:
        """What the work returned; None after a failure or a cancel. Raises ResultNotReadyError before the end."""
        if self._state in LIVE_STATES:
            raise ResultNotReadyError(
                f"{self.name!r} is {self._state.value}: its result comes when it has completed: await it, or wait()"
            )
        return self._result

    @property
    def exception(self) -> BaseException | None:
        """What the work raised, if it failed (while a retry is due: what the last attempt raised)."""
        return self._exception

    @property
    def error(self) -> str | None:
        """Why the task failed or was cancelled, as one message; None otherwise."""
        if self._exception is None:
            return self._reason
        text = str(self._exception)
        return f"{type(self._exception).__name__}: {text}" if text else type(self._exception).__name__

    @property
    def created_at(self) -> datetime | None:
        """When it was added to the manager; aware, UTC, as all times here."""
        return _moment(self._created_at)

    @property
    def started_at(self) -> datetime | None:
        """When its last attempt started."""
        return _moment(self._started_at)

    @property
    def completed_at(self) -> datetime | None:
        """When it was over, however it ended."""
        return _moment(self._completed_at)

    @property
    def cancel_requested_at(self) -> datetime | None:
        """When a cancel was first asked for."""
        return _moment(self._cancel_requested_at)

    @property
    def cancelling(self) -> bool:
        """Whether a cancel was asked for and the work has not stopped yet."""
        return self._cancel_requested_at is not None and self._state is _RUNNING

    @property
    def done(self) -> bool:
        """Whether the task is over."""
        return self._state not in LIVE_STATES

    # -- the handle -------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, Any, Any]:
        """Its result, when it is over; raises its error, or TaskCancelledError."""
        return self._owner()._wait_in_loop(self)

    def wait(self, timeout: float | None = None) -> Any:
        """The same as `await task` for plain code: blocks. Raises WaitTimeoutError after `timeout` seconds.

        An interrupt (Ctrl-C) ends the wait and leaves the task running.
        """
        return self._owner()._wait_in_thread(self, timeout)

    def cancel(self, *, children: bool = True) -> bool:
        """Ask the work to stop, and that of its children; True if it will be or is cancelled, False if it is over."""
        return self._owner().cancel_task(self, children=children)

    def create_child(self, name: str, work: Any, priority: int = 0, **options: Any) -> Task:
        """`manager.create_task` with this task as the parent: cancelling it cancels the child."""
        return self._owner().create_child(self, name, work, priority, **options)

    def release(self) -> None:
        """Drop what the task still holds: result, exception, output. Its record stays."""
        self._result = None
        if self._exception is not None:
            self._reason, self._exception = self.error, None
        self._release()

    def as_dict(self) -> dict[str, Any]:
        """The record and the subclass's own fields, JSON-safe: times as ISO strings, other objects as their repr."""
        names = ["id", "name", "state", "priority", "lane", "backend", "progress", "heading", "body", "img"]
        names += ["parameters", "error", "attempts", "parent_id", "tags", "after", "timeout"]
        names += ["created_at", "started_at", "completed_at", "cancel_requested_at"]
        record = {name: _jsonable(getattr(self, name)) for name in names}
        record["task_type"] = type(self).__name__
        record["result"] = _jsonable(self._result)
        for own in fields(self):
            if own.name not in _BASE_NAMES and not own.name.startswith("_"):
                record[own.name] = _jsonable(getattr(self, own.name, None))
        return record

    # -- hooks for kinds of tasks of our own ------------------------------------------------------------------

    def _may_follow(self, other: Task) -> bool:
        """Whether it may start, now that `other`, which it comes after, ended as it did."""
        return other._state is _COMPLETED

    def _attempt_ended(self, outcome: Outcome) -> Outcome | None:  # noqa: ARG002 - for those who override it
        """Called once per attempt, where it ended, before the state is final; what it returns replaces the outcome."""
        return None

    def _wait_ended(self) -> None:
        """Called where somebody waited for this task, which is over, before the result or error is handed over."""

    def _release(self) -> None:
        """Drop what a kind of task holds besides; also called when the manager prunes the task."""

    def _log_failure(self) -> None:
        """Say that the task failed, for those who do not look; called once, at its end."""
        error = self._exception
        logger.error("task %r failed: %s", self.name, self.error, exc_info=error)

    def _output_written(self) -> None:
        """Tell the subscribers of `output`, before long, that there is more. Any thread; nearly free without them."""
        manager = self._manager
        if manager is not None and manager.watches_output:
            manager._wrote_output(self)

    def _clone(self, *, parent_id: str | None = None) -> Self:
        """A new task of the same kind with the same fields, not added to any manager."""
        if type(self).run is Task.run and not callable(self._work):
            raise WorkError(
                f"{self.name!r} cannot be run once more: its work was a coroutine, or is gone with its end"
            )
        twin = object.__new__(type(self))
        fresh = Task()
        for name in _BASE_SLOTS:
            setattr(twin, name, getattr(fresh if name in _RUN_STATE else self, name))
        for name in _own_names(type(self)):
            if hasattr(self, name):
                object.__setattr__(twin, name, getattr(self, name))
        if hasattr(self, "__dict__"):
            vars(twin).update(vars(self))
        twin.parent_id = parent_id
        return twin

    def _owner(self) -> TaskOwner:
        if self._manager is None:
            raise NotAddedError(f"{self.name!r} has not been added to a manager: manager.add_task(task)")
        return self._manager

    def _begin(self, manager: TaskOwner) -> None:
        """Belong to `manager` from now on."""
        if self._manager is not None:
            raise AlreadyAddedError(f"{self.name!r} ({self.id}) was added before; a task runs once")
        self._manager = manager


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def number_of(task_id: str) -> int | None:
    """The number of the task of that id; None if it is not from this process."""
    prefix, _, number = task_id.rpartition("-") if isinstance(task_id, str) else ("", "", "")
    return int(number) if prefix == _PREFIX and number.isdecimal() else None


_BASE_NAMES = frozenset(f.name for f in fields(Task))
_INIT_NAMES = tuple(f.name for f in fields(Task) if f.init)
_RUN_STATE = _BASE_NAMES - set(_INIT_NAMES) - {"_work", "_takes_task", "_is_async"}
_FRESH = tuple((Task.__dict__[f.name], f.default) for f in fields(Task) if not f.init and f.name != "number")
_BASE_SLOTS = tuple(sorted(_BASE_NAMES))
_RESERVED = frozenset(name for name in dir(Task) if not name.startswith("__")) - set(_INIT_NAMES)


def _new_record(cls: type[Task], *_: Any, **__: Any) -> Task:
    """`__new__` of subclasses: a fresh record, whatever their own `__init__` does or leaves out."""
    task = object.__new__(cls)
    task.number = next_number()
    for slot, value in _FRESH:
        slot.__set__(task, value)
    return task


def _adopt_class_defaults(cls: type[Task]) -> None:
    """Let a subclass say `lane = "single"`, with or without an annotation, where Task has a slot of that name."""
    own = cls.__dict__
    annotations: dict[str, Any] = own.get("__annotations__", {})
    for name in annotations:
        if name in _RESERVED:
            raise WorkError(
                f"{cls.__name__}.{name}: every task has a {name!r} of its own; call the field something else"
            )
    said = {name: own[name] for name in _INIT_NAMES if name in own and not isinstance(own[name], _Default)}
    defaults = dict(cls._class_defaults)
    for name, value in said.items():
        annotations.pop(name, None)
        defaults[name] = getattr(value, "default", value)
    if "name" not in said and defaults.get("name", cls.__name__) in {base.__name__ for base in cls.__mro__}:
        defaults["name"] = cls.__name__
    cls._class_defaults = defaults
    for name in said:
        setattr(cls, name, _Default(name))
    if Task in cls.__bases__:
        for name in defaults:
            setattr(cls, name, _Default(name))


class _Default:
    """A field of Task in a subclass: where an instance was given none, the class's default shows."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._slot = Task.__dict__[name]

    def __get__(self, task: Task | None, owner: type[Task]) -> Any:
        if task is None:
            return owner._class_defaults[self._name]
        value = self._slot.__get__(task, Task)
        return type(task)._class_defaults[self._name] if value is None else value

    def __set__(self, task: Task, value: Any) -> None:
        self._slot.__set__(task, value)


def _own_names(cls: type[Task]) -> list[str]:
    """The slots that subclasses add."""
    return [
        slot
        for base in cls.__mro__
        if issubclass(base, Task) and base is not Task
        for slot in base.__dict__.get("__slots__", ())
        if slot not in ("__weakref__", "__dict__")
    ]


def _published(slot: Any) -> Any:
    """A slot of Task whose changes the subscribers of `progress` learn of."""
    store = slot.__set__

    def change(task: Task, value: Any) -> None:
        store(task, value)
        manager = task._manager
        if manager is not None and manager.watches_progress:
            manager._progressed(task)

    return property(slot.__get__, change, doc="Shown by the panel; may be set from any thread.")


for _name in ("heading", "body", "img"):
    setattr(Task, _name, _published(Task.__dict__[_name]))


def _checked_progress(task: Task, value: Any) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ProgressError(
            f"progress must be a number from 0 to 100, or None or -1 for unknown, not {value!r}"
        ) from None
    if number == -1 or math.isnan(number):
        return None
    if not 0.0 <= number <= 100.0:
        _warn_once(task, value)
        return min(100.0, max(0.0, number))
    return number


def _warn_once(task: Task, value: Any) -> None:
    """Once a task, and never as an error: progress does not fail the work."""
    try:
        warnings.warn(f"progress {value!r} of {task.name!r} is not from 0 to 100: clamped", stacklevel=4)
    except UserWarning as warning:
        logger.warning("%s", warning)


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, TaskState) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item) for item in value]
    return repr(value)
