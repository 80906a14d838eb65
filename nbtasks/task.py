"""`Task`: the record of one piece of background work, and the user's handle on it.

Must not know when, where or by whom a task is run: it asks the manager that it was added to.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import math
import os
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import Field, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, TypeVar, cast

from nbtasks import validation
from nbtasks.exceptions import NotAddedError, ReadOnlyError, ResultNotReadyError, WorkError
from nbtasks.states import LIVE_STATES, TaskState

if TYPE_CHECKING:
    import asyncio

    from nbtasks.retry import Retry

__all__ = [
    "Bus",
    "CellDetails",
    "ClassDefault",
    "InitSignature",
    "KeptOutput",
    "KeptRun",
    "KeptRuns",
    "Kind",
    "Outcome",
    "PastAttempt",
    "Task",
    "TaskOwner",
    "adopt_class_defaults",
    "can_run_again",
    "jsonable",
    "published",
    "settled",
]



class KeptOutput(Protocol):
    """The output of a cell task, as views show it."""

    @property
    def excerpt(self) -> list[dict[str, Any]]:
        """Notebook outputs (nbformat 4); of very long output the first and last lines."""

    @property
    def tail(self) -> str:
        """The last lines of output that is held back from the cell because there is too much of it."""


class CellDetails(Protocol):
    """What views show of a task made from a notebook cell, besides the fields of every task."""

    @property
    def source(self) -> str:
        """The text of the cell."""

    @property
    def namespace(self) -> dict[str, Any]:
        """The names that the cell bound."""

    @property
    def output(self) -> KeptOutput:
        """What the cell wrote."""

    @property
    def notify(self) -> bool:
        """Whether the browser shows a notification when the task finishes."""


class KeptRun(Protocol):
    """One of the last runs of a recurring cell."""

    number: int
    started_at: datetime | None
    state: str

    @property
    def output(self) -> KeptOutput:
        """What the run wrote."""


class KeptRuns(Protocol):
    """The last runs of a recurring cell."""

    @property
    def shows(self) -> bool:
        """Whether a cell shows the output of the runs."""

    @property
    def kept(self) -> Sequence[KeptRun]:
        """The last runs, oldest first."""


class Kind:
    """The part of `Task` that its subclasses override."""

    __slots__ = ()

    _awaits_result: ClassVar[bool] = True
    """Whether an awaitable that plain work returns is awaited, as part of the work."""

    def run(self) -> Any:
        """Do the work; its return value is the task's result. Subclasses override it, as a plain or async method."""
        raise WorkError(f"{type(self).__name__} has no run(self): a Task subclass needs one")

    def progress_hook(self) -> Any:
        """Set `self.progress` and the like, or return the progress, from a file, an API, a log; plain or async.

        Called while the task runs, never twice at a time. If it raises, the last progress stays.
        """

    # -- hooks for kinds of tasks of our own ------------------------------------------------------------------

    def _may_follow(self, other: Task) -> bool:
        """Whether it may start, now that `other`, which it comes after, ended as it did."""
        return other._state is TaskState.COMPLETED

    def _attempt_ended(self, outcome: Outcome) -> Outcome | None:  # noqa: ARG002 - its name is for subclasses
        """Called once per attempt, where it ended, before the state is final; what it returns replaces the outcome."""
        return None

    def remote_work(self, attempt: Any) -> Any:  # noqa: ARG002 - its name is for subclasses
        """Return the `RemoteWork` that a worker process does for this attempt; None: a call of its function.

        For kinds of tasks that are more than one call of a function, such as cells.
        """
        return None

    def _wait_ended(self) -> None:
        """Called where somebody waited for this task, which is over, before the result or error is handed over."""

    def _release(self) -> None:
        """Drop what a kind of task holds besides; also called when the manager prunes the task."""

    def cell_details(self) -> CellDetails | None:
        """Source, names and output, if this is a task made from a notebook cell."""
        return None

    def kept_runs(self) -> KeptRuns | None:
        """The last runs, if this is the template of a recurring cell."""
        return None




class Bus(Protocol):
    """Where a task says that something has changed."""

    watches_progress: bool
    watches_output: bool

    def progressed(self, task: Task) -> None:
        """Its progress, heading, body or img changed."""

    def follow(self, task: Task, changed: Callable[[], bool | None]) -> None:
        """Call `changed` periodically until it returns None; where it returns True, the progress has changed."""

    def wrote(self, task: Task) -> None:
        """It wrote output."""


class TaskOwner(Protocol):
    """What a task asks of its manager."""

    bus: Bus

    def cancel_task(self, task: Task | str, *, children: bool = True) -> bool:
        """See `Task.cancel`."""

    def set_priority(self, task: Task | str, priority: int) -> bool:
        """See `Task.priority`."""

    def create_child(self, parent: Task, name: str, work: Any, priority: int = 0, **options: Any) -> Task:
        """See `Task.create_child`."""

    def _wait_in_loop(self, task: Task) -> Generator[Any, Any, Any]: ...
    def _wait_in_thread(self, task: Task, timeout: float | timedelta | None) -> Any: ...


_IDENTITY = ("__eq__", "__hash__", "__repr__")


class ClassDefault:
    """A field of the base class as its subclasses see it: where an instance was given none, the class's default shows.

    (A plain class attribute would hide the slot in which instances keep the value.)
    """

    def __init__(self, name: str, slot: Any) -> None:
        self._name = name
        self._slot = slot

    def __get__(self, task: Any, owner: type[Any]) -> Any:
        if task is None:
            return owner._class_defaults.get(self._name)
        value = self._slot.__get__(task)
        return type(task)._class_defaults.get(self._name) if value is None else value

    def __set__(self, task: Any, value: Any) -> None:
        self._slot.__set__(task, value)


class InitSignature:
    """The `__signature__` of a class that has a `__new__` which takes anything: that of its `__init__`, for help."""

    def __get__(self, instance: Any, owner: type[Any]) -> inspect.Signature:
        signature = inspect.signature(owner.__init__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])


def adopt_class_defaults(cls: type[Any], base: type[Any], names: Collection[str], reserved: Collection[str]) -> None:
    """Turn what the class body says for fields in `names` into class defaults, before `@dataclass` looks at it.

    Raises WorkError for a field that has a `reserved` name.
    """
    own = cls.__dict__
    annotations: dict[str, Any] = own.get("__annotations__", {})
    for name in annotations:
        if name in reserved:
            raise WorkError(
                f"{cls.__name__}.{name}: every task has a {name!r} of its own; call the field something else"
            )
    said = {name: own[name] for name in names if name in own and not isinstance(own[name], ClassDefault)}
    for name, value in said.items():
        annotations.pop(name, None)
        said[name] = value.default if isinstance(value, Field) else value
    cls._class_defaults = {**cls._class_defaults, **said}
    if "name" not in said and cls._class_defaults.get("name") in {None, *(kind.__name__ for kind in cls.__mro__)}:
        cls._class_defaults["name"] = cls.__name__
    for name in names if base in cls.__bases__ else said:
        setattr(cls, name, ClassDefault(name, base.__dict__[name]))
    # In the subclass's own dict, where `@dataclass` leaves them alone: tasks are told apart by identity.
    for name in _IDENTITY:
        if own.get(name) is None:
            setattr(cls, name, getattr(base, name))


def published(slot: Any, tell: Callable[[Any], None]) -> property:
    """A slot of which every change is told; None until it is set."""
    read, store = slot.__get__, slot.__set__

    def value(task: Any) -> Any:
        try:
            return read(task)
        except AttributeError:
            return None

    def change(task: Any, value: Any) -> None:
        store(task, value)
        tell(task)

    return property(value, change)


def settled(slot: Any, change: Callable[[Any, Any], None]) -> property:
    """A slot that is free until the task is added to a manager, and then changed by `change`."""
    store = slot.__set__

    def set_value(task: Any, value: Any) -> None:
        if task._manager is None:
            store(task, value)
        else:
            change(task, value)

    return property(slot.__get__, set_value)


def jsonable(value: Any) -> Any:
    """The value, made of what JSON has: times as ISO strings, durations in seconds, other objects as their repr."""
    if isinstance(value, Enum):
        return jsonable(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    return repr(value)


logger = logging.getLogger("nbtasks")
_PREFIX = os.urandom(4).hex()
"""Tells the tasks of this process from those of every other kernel, past ones in the history included."""
_numbers = itertools.count(1)
_PENDING, _RUNNING, _COMPLETED = TaskState.PENDING, TaskState.RUNNING, TaskState.COMPLETED
UNSET = cast("Any", None)
"""What a field holds until the class's own default is taken."""
T = TypeVar("T", bound="Task")


class PastAttempt(NamedTuple):
    """An attempt that failed and was followed by another; `error` is its message. Times are aware, UTC."""

    number: int
    started_at: datetime
    ended_at: datetime
    error: str


class Outcome(NamedTuple):  # a frozen dataclass takes thrice the time to make
    """How the work ended: `state` is `completed`, `failed` or `cancelled`."""

    state: TaskState
    result: Any = None
    exception: BaseException | None = None


def fresh(cls: type[T], work: Any = None, takes_task: bool = False) -> T:
    """A new, pending record of that class, its fields at the defaults of `manager.create_task`.

    Written out, since creating a task is the hottest path of all: a generated `__init__` takes thrice the time, and
    each field counts. What few tasks have (heading, body, image) is not set; the context comes as a task is taken in.
    """
    task = object.__new__(cls)
    task._number = next(_numbers)
    task._attempts = task._wanted = 0
    task._state = _PENDING
    task._manager = task._attempt = task._ties = task._future = None
    task._progress = task._result = task._exception = task._reason = None
    task._created_at = task._started_at = task._completed_at = task._cancel_requested_at = None
    task._loop = task.timeout = task.retry = task.parent_id = task.parameters = None
    task.after = task.tags = ()
    task.update_sleep_time = 1.0
    task._work, task._takes_task = work, takes_task
    return task


@dataclass(slots=True, weakref_slot=True, kw_only=True, eq=False, repr=False)
class Task(Kind):
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

    name: str = UNSET
    priority: int = UNSET
    """Higher ones start first. Setting it while the task is pending moves the task among those that wait."""
    lane: str = UNSET
    backend: str | None = None
    timeout: float | timedelta | None = None
    """Seconds that one attempt may take, from its start."""
    retry: Retry | None = None
    after: Iterable[Task | str] | Task | str = UNSET
    """Tasks that must complete before this one starts; their ids, once it is added."""
    parent_id: str | None = None
    tags: Iterable[str] = UNSET
    parameters: Mapping[str, Any] | None = None
    heading: str | None = None
    body: str | None = None
    img: Any = None
    update_sleep_time: float = UNSET
    """Seconds between two calls of `progress_hook`."""

    _manager: TaskOwner | None = field(init=False)
    _number: int = field(init=False)
    _attempts: int = field(init=False)
    _wanted: int = field(init=False)  # how many running tasks wait for this one
    _state: TaskState = field(init=False)
    _progress: float | Callable[[], float] | None = field(init=False)
    _result: Any = field(init=False)
    _exception: BaseException | None = field(init=False)
    _reason: str | None = field(init=False)
    _created_at: float | None = field(init=False)
    _started_at: float | None = field(init=False)
    _completed_at: float | None = field(init=False)
    _cancel_requested_at: float | None = field(init=False)
    _work: Any = field(init=False)
    _takes_task: bool = field(init=False)
    _context: Context | None = field(init=False)
    _loop: asyncio.AbstractEventLoop | None = field(init=False)
    _attempt: Any = field(init=False)
    _ties: Any = field(init=False)
    _future: Any = field(init=False)  # of an executor's call; it learns of the end

    if TYPE_CHECKING:  # the slots behind the properties that stand in for these fields (see the end of this module)
        _priority: int = field(init=False)
        _lane: str = field(init=False)
        _backend: str | None = field(init=False)
        _heading: str | None = field(init=False)
        _body: str | None = field(init=False)
        _img: Any = field(init=False)

    _class_defaults: ClassVar[dict[str, Any]] = {
        "priority": 0,
        "lane": "default",
        "after": (),
        "tags": (),
        "update_sleep_time": 1.0,
    }

    __signature__: ClassVar[Any] = InitSignature()

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """A record that is fresh whatever a subclass's own `__init__` does, or leaves out."""
        task = fresh(cls)
        task.name = task._priority = task._lane = task.tags = task.after = task.update_sleep_time = UNSET
        task._backend = None
        return task

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super(Task, cls).__init_subclass__(**kwargs)  # `slots=True` makes a new class, which plain super() misses
        adopt_class_defaults(cls, Task, _FIELDS, _RESERVED)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        state = "cancelling" if self.cancelling else self._state.value
        return f"<{type(self).__name__} {self.name!r} ({self.id}): {state}>"

    # -- the record -------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Unique over all kernels."""
        return f"{_PREFIX}-{self._number}"

    @property
    def number(self) -> int:
        """Counts the tasks of this process in the order of their creation."""
        return self._number

    @property
    def attempts(self) -> int:
        """How many attempts were started."""
        return self._attempts

    @property
    def state(self) -> TaskState:
        """Where the task is in its life. Set by the manager alone."""
        return self._state

    @state.setter
    def state(self, value: object) -> None:
        raise ReadOnlyError(f"task.state is set by the manager alone, not to {value!r}; to stop a task: task.cancel()")

    @property
    def progress(self) -> float | None:
        """0.0 to 100.0, or None where it is unknown; 100 when completed.

        May be set from any thread. Numbers out of range are clamped, with one warning; -1 and NaN mean unknown; what is
        not a number raises ProgressError. Once the task is over, setting it does nothing.
        """
        value = self._progress
        if value is not None and value.__class__ is not float:
            value = value()  # type: ignore[operator]  # that of a loop which counts by itself
        return 100.0 if self._state is _COMPLETED else value

    @progress.setter
    def progress(self, value: float | None) -> None:
        # No lock here, and one store: this is called from the innermost loop of work that may be interrupted.
        if value.__class__ is not float or not 0.0 <= value <= 100.0:
            value = validation.progress(value, self.name)
        if self._state is not _RUNNING and self._state is not _PENDING:
            return
        self._progress = value
        manager = self._manager
        if manager is not None and manager.bus.watches_progress:
            manager.bus.progressed(self)

    @property
    def result(self) -> Any:
        """What the work returned; None after a failure or a cancel. Raises ResultNotReadyError before the end."""
        if self._state in LIVE_STATES:
            raise ResultNotReadyError(
                f"{self.name!r} is {self._state.value}: its result comes when it has completed; "
                "await it, or task.wait()"
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

    def wait(self, timeout: float | timedelta | None = None) -> Any:
        """The same as `await task` for plain code: blocks. Raises WaitTimeoutError after `timeout` seconds.

        An interrupt (Ctrl-C) ends the wait and leaves the task running.
        """
        return self._owner()._wait_in_thread(self, timeout)

    def cancel(self, *, children: bool = True) -> bool:
        """Ask the work to stop, and that of its children; True if it will be or is cancelled, False if it is over."""
        return self._owner().cancel_task(self, children=children)

    def create_child(self, name: str, work: Any, priority: int = 0, **options: Any) -> Task:
        """`manager.create_task` with this task as the parent, in its lane; cancelling the parent cancels the child."""
        return self._owner().create_child(self, name, work, priority, **options)

    def release(self) -> None:
        """Drop what the task still holds: result, exception, output. Its record stays."""
        self._result = None
        if self._exception is not None:
            self._reason, self._exception = self.error, None
        self._release()

    def as_dict(self) -> dict[str, Any]:
        """The record and the subclass's own fields, JSON-safe: times as ISO strings, other objects as their repr."""
        own = [f.name for f in fields(self) if f.name not in _BASE_NAMES and not f.name.startswith("_")]
        record = {name: jsonable(getattr(self, name, None)) for name in (*_RECORD, *own)}
        return {**record, "task_type": type(self).__name__, "result": jsonable(self._result)}

    def _log_failure(self) -> None:
        """Say that the task failed, for those who do not look; called once, at its end."""
        logger.error("task %r failed: %s", self.name, self.error, exc_info=self._exception)

    def _output_written(self) -> None:
        """Tell the subscribers of `output`, before long, that there is more. Any thread; nearly free without them."""
        manager = self._manager
        if manager is not None and manager.bus.watches_output:
            manager.bus.wrote(self)

    def _clone(self, *, parent_id: str | None = None) -> Self:
        """A new task of the same kind with the same fields, not added to any manager."""
        if not can_run_again(self):
            raise WorkError(f"{self.name!r} cannot be run once more: its work was a coroutine, or is gone with its end")
        twin = fresh(type(self))
        for slot in (*_TEMPLATE_SLOTS, *_own_slots(type(self))):
            try:
                value = slot.__get__(self)
            except AttributeError:  # a slot that was never set
                continue
            slot.__set__(twin, value)
        if hasattr(self, "__dict__"):
            vars(twin).update(vars(self))
        twin.parent_id = parent_id
        return twin

    def _owner(self) -> TaskOwner:
        if self._manager is None:
            raise NotAddedError(f"{self.name!r} has not been added to a manager: manager.add_task(task)")
        return self._manager


def can_run_again(task: Task) -> bool:
    """Whether the work of the task can run once more; that of a function task is dropped when it completes."""
    return type(task).run is not Task.run or callable(task._work)


def number_of(task_id: object) -> int | None:
    """The number of the task of that id; None if it is not from this process."""
    prefix, _, number = task_id.rpartition("-") if isinstance(task_id, str) else ("", "", "")
    return int(number) if prefix == _PREFIX and number.isdecimal() else None


def bus_of(task: Task) -> Bus | None:
    """The bus of the task's manager; None if it has not been added to one."""
    manager = task._manager
    return None if manager is None else manager.bus


def read_progress_from(task: Task, source: Callable[[], float]) -> None:
    """Compute the progress of a live task by `source` whenever it is read, until it is set otherwise."""
    task.progress = source()
    if task._state in LIVE_STATES:
        task._progress = source


def keep_progress(task: Task, source: Callable[[], float]) -> None:
    """Store the progress that `source` computes now, if it has not been set otherwise since."""
    if task._progress is source:
        task.progress = source()


def _own_slots(cls: type[Task]) -> list[Any]:
    """The slots that subclasses add."""
    kinds = [kind for kind in cls.__mro__ if issubclass(kind, Task) and kind is not Task]
    names = [(kind, name) for kind in kinds for name in kind.__dict__.get("__slots__", ())]
    return [kind.__dict__[name] for kind, name in names if name not in ("__weakref__", "__dict__")]


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _refuse(task: Task, value: Any) -> None:
    raise ReadOnlyError(f"the lane and backend of {task.name!r} are settled, now that it is added; not {value!r}")


def _reprioritise(task: Task, priority: Any) -> None:
    if not task._owner().set_priority(task, priority):
        raise ReadOnlyError(f"{task.name!r} is {task._state.value}: only what is pending has a place among others")


def _publish(task: Task) -> None:
    manager = task._manager
    if manager is not None and manager.bus.watches_progress:
        manager.bus.progressed(task)
_FIELDS = tuple(f.name for f in fields(Task) if f.init)
_BASE_NAMES = frozenset(f.name for f in fields(Task))
_RECORD = (
    *("id", "name", "state", "priority", "lane", "backend", "progress", "heading", "body", "img", "parameters"),
    *("error", "attempts", "parent_id", "tags", "after", "timeout"),
    *("created_at", "started_at", "completed_at", "cancel_requested_at"),
)
_RESERVED = frozenset(name for name in dir(Task) if not name.startswith("__")) - set(_FIELDS)
_TEMPLATE_SLOTS = tuple(Task.__dict__[name] for name in (*_FIELDS, "_work", "_takes_task"))
# These fields are more than slots. The slots themselves stay at hand, for `fresh` and for the manager.
for _name, _property in {
    "priority": settled(Task.__dict__["priority"], _reprioritise),
    "lane": settled(Task.__dict__["lane"], _refuse),
    "backend": settled(Task.__dict__["backend"], _refuse),
    "heading": published(Task.__dict__["heading"], _publish),
    "body": published(Task.__dict__["body"], _publish),
    "img": published(Task.__dict__["img"], _publish),
}.items():
    setattr(Task, f"_{_name}", Task.__dict__[_name])
    setattr(Task, _name, _property)
