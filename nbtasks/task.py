"""`Task`: the record of one piece of background work, and hooks for subclasses."""

from __future__ import annotations

import inspect
import itertools
import logging
import math
import os
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import Field, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, TypeVar

from nbtasks import validation
from nbtasks.exceptions import NotAddedError, ReadOnlyError, ResultNotReadyError, WorkError
from nbtasks.formatting import error_text
from nbtasks.states import LIVE_STATES, TaskState

if TYPE_CHECKING:
    import asyncio

    from nbtasks.retry import Retry

__all__ = [
    "COMPLETED",
    "CellDetails",
    "KeptOutput",
    "KeptRun",
    "KeptRuns",
    "Outcome",
    "PastAttempt",
    "Task",
    "TaskBus",
    "TaskField",
    "TaskInternals",
    "TaskOwner",
    "bus_of",
    "call_hook",
    "can_run_again",
    "id_prefix",
    "jsonable",
    "keep_progress",
    "number_of",
    "read_progress_from",
    "signature_of",
    "use_id_prefix",
]

logger = logging.getLogger("nbtasks")
T = TypeVar("T")

# -- values -------------------------------------------------------------------------------------------------------


class PastAttempt(NamedTuple):
    """A failed attempt that was followed by another; times are aware, UTC."""

    number: int
    started_at: datetime
    ended_at: datetime
    error: str


class Outcome(NamedTuple):
    """How the work ended: `state` is `completed`, `failed` or `cancelled`."""

    state: TaskState
    result: Any = None
    exception: BaseException | None = None


COMPLETED = Outcome(TaskState.COMPLETED)
"""The outcome of work that returned None."""


# -- what a task needs of others ----------------------------------------------------------------------------------


class TaskBus(Protocol):
    """The event bus as tasks and progress counters use it."""

    watches_progress: bool
    watches_output: bool

    def progressed(self, task: Task) -> None:
        """Report that progress, heading, body or img changed."""

    def wrote(self, task: Task) -> None:
        """Report that the task wrote output."""

    def follow(self, task: Task, changed: Callable[[], bool | None]) -> None:
        """Call `changed` periodically until it returns None; where it returns True, the progress has changed."""


class TaskOwner(Protocol):
    """The manager as its tasks use it."""

    @property
    def bus(self) -> TaskBus:
        """Receives progress and output."""

    def cancel_task(self, task: Task | str, *, children: bool = True) -> bool:
        """See `Task.cancel`."""

    def set_priority(self, task: Task | str, priority: int) -> bool:
        """See `Task.priority`."""

    def create_child(self, parent: Task, name: str, work: Any, priority: int = 0, **options: Any) -> Task:
        """See `Task.create_child`."""

    def await_result(self, task: Task) -> Generator[Any, Any, Any]:
        """See `Task.__await__`."""

    def wait_for_result(self, task: Task, timeout: float | timedelta | None) -> Any:
        """See `Task.wait`."""

    @property
    def report_failure(self) -> Callable[[Task], object]:
        """Reports that a task failed which shows its error nowhere itself."""


class KeptOutput(Protocol):
    """The output of a cell task, as views show it."""

    @property
    def excerpt(self) -> list[dict[str, Any]]:
        """Notebook outputs (nbformat 4); of very long output the first and last lines."""

    @property
    def tail(self) -> str:
        """The last lines of output that is held back from the cell because there is too much of it."""

    def ending(self, characters: int) -> str:
        """The last characters that the cell wrote."""


class CellDetails(Protocol):
    """What views show of cell tasks besides the fields of every task."""

    @property
    def source(self) -> str:
        """The text of the cell."""

    @property
    def namespace(self) -> dict[str, Any]:
        """The names that the cell bound."""

    @property
    def kept_names(self) -> int:
        """How many names a cell that failed or was cancelled has left to the notebook."""

    @property
    def names_in_process(self) -> tuple[str, ...]:
        """The names whose live objects it has left in its worker process."""

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

    def line_to_paste(self, expression: str, zone: str) -> str:
        """The first line that gives the cell this schedule; empty if its own line does, or is unknown."""

    @property
    def kept(self) -> Sequence[KeptRun]:
        """The last runs, oldest first."""


# -- the data behind a task ---------------------------------------------------------------------------------------

_id_prefix = os.urandom(4).hex()


def id_prefix() -> str:
    """The prefix of the ids of this process's tasks, unique among all kernels, past ones too."""
    return _id_prefix


def use_id_prefix(prefix: str) -> None:
    """In a worker process: give tasks the ids that they have in the notebook."""
    global _id_prefix
    _id_prefix = prefix


def number_of(task_id: object) -> int | None:
    """The number in the id of a task of this process; None for anything else."""
    prefix, _, number = task_id.rpartition("-") if isinstance(task_id, str) else ("", "", "")
    return int(number) if prefix == _id_prefix and number.isdecimal() else None


@dataclass(slots=True, eq=False, repr=False)
class TaskInternals:
    """The data of a task (`Task.internals`), for nbtasks and its backends.

    Once the task was added, the manager's lock guards all of it but `progress`, `heading`, `body` and `img`, which work
    sets without a lock. Only `Registry.move` changes `state`. Times are seconds since 1970.
    """

    # The fields of `Task`, and their defaults.
    name: str | None = None
    priority: int = 0
    lane: str = "default"
    backend: str | None = None
    timeout: float | timedelta | None = None
    retry: Retry | None = None
    after: Iterable[Task | str] | Task | str = ()
    parent_id: str | None = None
    tags: Iterable[str] = ()
    parameters: Mapping[str, Any] | None = None
    heading: str | None = None
    body: str | None = None
    img: Any = None
    update_sleep_time: float = 1.0

    work: Any = None
    """What is called; None: the `run` of the class."""
    takes_task: bool = False
    """Whether `work` is called with the task."""
    state: TaskState = TaskState.PENDING
    manager: TaskOwner | None = None
    attempts: int = 0
    progress: float | Callable[[], float] | None = None
    """A number, or a function that computes it from the count of a loop."""
    result: Any = None
    exception: BaseException | None = None
    reason: str | None = None
    """Why it was cancelled; of a released task, the error."""
    created_at: float | None = None
    started_at: float | None = None
    completed_at: float | None = None
    cancel_requested_at: float | None = None
    context: Context | None = None
    loop: asyncio.AbstractEventLoop | None = None
    """The event loop for coroutines."""
    attempt: Any = None
    """The running attempt (`backends.base.Attempt`)."""
    relations: Any = None
    """Relations to other tasks and to waiters (`dependencies.Relations`), of tasks that have any."""
    wanted: int = 0
    """How many running tasks wait for this one."""
    number: int = field(default_factory=itertools.count(1).__next__)


class TaskField:
    """A field of `Task` as a descriptor: the value is kept in `task.internals`.

    None stands for the default of the class, which a subclass gives in its body (`lane = "single"`).
    `change(task, name, value)` is called to set the value; without it the value is stored.
    """

    def __init__(self, change: Callable[[Any, str, Any], None] | None = None) -> None:
        self._change = change

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, task: Any, owner: type[Any]) -> Any:
        if task is None:
            return owner.class_defaults.get(self._name)
        return getattr(task.internals, self._name)

    def __set__(self, task: Any, value: Any) -> None:
        if value is None:
            value = task.class_defaults.get(self._name)
        if self._change is None:
            setattr(task.internals, self._name, value)
        else:
            self._change(task, self._name, value)


def _task_field(change: Callable[[Any, str, Any], None] | None = None) -> Any:
    return TaskField(change)


def _set_priority(task: Task, name: str, value: Any) -> None:
    manager = task.internals.manager
    if manager is None:
        setattr(task.internals, name, value)
    elif not manager.set_priority(task, value):
        raise ReadOnlyError(f"cannot change priority of {task.name!r}: it is {task.state.value}, not pending")


def _set_before_added(task: Task, name: str, value: Any) -> None:
    if task.internals.manager is not None:
        raise ReadOnlyError(f"cannot change lane or backend of {task.name!r} after it was added; not {value!r}")
    setattr(task.internals, name, value)


def _set_and_report(task: Task, name: str, value: Any) -> None:
    setattr(task.internals, name, value)
    manager = task.internals.manager
    if manager is not None and manager.bus.watches_progress:
        manager.bus.progressed(task)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function. Its annotations may name what does not exist yet, from Python 3.14."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


class _InitSignature:
    """The signature of a class: that of its `__init__`, as `__new__` accepts anything."""

    def __get__(self, instance: Any, owner: type[Any]) -> inspect.Signature:
        signature = signature_of(owner.__init__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])


# -- tasks --------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
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

    name: str = _task_field()
    priority: int = _task_field(_set_priority)
    """Higher ones start first. Setting it moves a pending task in its queue."""
    lane: str = _task_field(_set_before_added)
    backend: str | None = _task_field(_set_before_added)
    timeout: float | timedelta | None = _task_field()
    """Seconds that one attempt may take, from its start."""
    retry: Retry | None = _task_field()
    after: Iterable[Task | str] | Task | str = _task_field()
    """Tasks that must complete before this one starts; their ids, once it is added."""
    parent_id: str | None = _task_field()
    tags: Iterable[str] = _task_field()
    parameters: Mapping[str, Any] | None = _task_field()
    heading: str | None = _task_field(_set_and_report)
    body: str | None = _task_field(_set_and_report)
    img: Any = _task_field(_set_and_report)
    update_sleep_time: float = _task_field()
    """Seconds between two calls of `progress_hook`."""

    if TYPE_CHECKING:
        internals: TaskInternals = field(init=False)
        """The data of the task, for nbtasks itself and its backends."""
    else:  # for `@dataclass` it is no field, and for type checkers the fields are no descriptors
        __slots__ = ("__weakref__", "internals")

    class_defaults: ClassVar[dict[str, Any]] = {}
    """The defaults of the fields above, but those that are None; a subclass has its own."""
    awaits_result: ClassVar[bool] = True
    """Whether an awaitable that plain work returns is awaited, as part of the work."""
    __signature__: ClassVar[Any] = _InitSignature()

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """A new task has its internals, whatever a subclass's own `__init__` does or leaves out."""
        task = object.__new__(cls)
        task.internals = internals = TaskInternals()
        for name, value in cls.class_defaults.items():
            setattr(internals, name, value)
        return task

    @classmethod
    def of(cls, internals: TaskInternals) -> Self:
        """A new task with these internals; `__init__` is not called."""
        task = object.__new__(cls)
        task.internals = internals
        return task

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take the defaults in the class body out of it, before `@dataclass` looks at it.

        Raises WorkError for a field that has the name of an attribute of every task.
        """
        super().__init_subclass__(**kwargs)
        body = cls.__dict__
        for name in _annotated_names(cls):
            if name in _RESERVED:
                raise WorkError(
                    f"{cls.__name__}.{name}: every task has a {name!r} of its own; call the field something else"
                )
        defaults = {}
        for name in [name for name in _FIELDS if name in body]:
            value = body[name]
            delattr(cls, name)
            if not isinstance(value, MemberDescriptorType):  # `@dataclass(slots=True)` makes slots for all fields
                defaults[name] = value.default if isinstance(value, Field) else value
        _drop_annotations(cls, frozenset(defaults))
        cls.class_defaults = {**cls.class_defaults, **defaults}
        inherited = {None, *(base.__name__ for base in cls.__mro__)}
        if "name" not in defaults and cls.class_defaults.get("name") in inherited:
            cls.class_defaults["name"] = cls.__name__
        # In the subclass's own body, where `@dataclass` leaves them alone: tasks are compared by identity.
        for name in ("__eq__", "__hash__", "__repr__"):
            if body.get(name) is None:
                setattr(cls, name, getattr(Task, name))

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        state = "cancelling" if self.cancelling else self.state.value
        return f"<{type(self).__name__} {self.name!r} ({self.id}): {state}>"

    def __copy__(self) -> Self:
        return self.clone(parent_id=self.parent_id)

    # -- for subclasses ---------------------------------------------------------------------------------------

    def run(self) -> Any:
        """Do the work and return the result. Subclasses override it, as a plain or async method."""
        raise WorkError(f"{type(self).__name__} has no run(self): a Task subclass needs one")

    def progress_hook(self) -> Any:
        """Set or return the progress, read from a file, an API, a log; plain or async.

        Called while the task runs, never twice at a time. If it raises, the last progress stays.
        """

    # -- the record -------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Unique over all kernels."""
        return f"{_id_prefix}-{self.internals.number}"

    @property
    def number(self) -> int:
        """Counts the tasks of this process in the order of their creation."""
        return self.internals.number

    @property
    def attempts(self) -> int:
        """How many attempts were started."""
        return self.internals.attempts

    @property
    def state(self) -> TaskState:
        """`pending`, `running`, `completed`, `failed` or `cancelled`. Set by the manager alone."""
        return self.internals.state

    @state.setter
    def state(self, value: object) -> None:
        raise ReadOnlyError(f"task.state is set by the manager alone, not to {value!r}; to stop a task: task.cancel()")

    @property
    def progress(self) -> float | None:
        """0.0 to 100.0, or None where it is unknown; 100 when completed.

        May be set from any thread. Numbers out of range are clamped, with one warning; -1 and NaN mean unknown; what is
        not a number raises ProgressError. Once the task is finished, setting it does nothing.
        """
        internals = self.internals
        value = internals.progress
        if value is not None and not isinstance(value, float):
            value = value()
        return 100.0 if internals.state is TaskState.COMPLETED else value

    @progress.setter
    def progress(self, value: float | None) -> None:
        # No lock, and a single store: the innermost loop of work that may be interrupted sets this.
        if value.__class__ is not float or not 0.0 <= value <= 100.0:
            value = validation.progress(value, self.name)
        internals = self.internals
        if internals.state not in LIVE_STATES:
            return
        internals.progress = value
        manager = internals.manager
        if manager is not None and manager.bus.watches_progress:
            manager.bus.progressed(self)

    @property
    def result(self) -> Any:
        """What the work returned; None after a failure or a cancel. Raises ResultNotReadyError before the end."""
        if self.internals.state in LIVE_STATES:
            raise ResultNotReadyError(
                f"{self.name!r} is {self.state.value}: its result comes when it has completed; await it, or task.wait()"
            )
        return self.internals.result

    @property
    def exception(self) -> BaseException | None:
        """What the work raised, if it failed (between two attempts: what the last one raised)."""
        return self.internals.exception

    @property
    def error(self) -> str | None:
        """Why the task failed or was cancelled, as one message; None otherwise."""
        exception = self.internals.exception
        if exception is None:
            return self.internals.reason
        text = error_text(exception)
        return f"{type(exception).__name__}: {text}" if text else type(exception).__name__

    @property
    def created_at(self) -> datetime | None:
        """When it was added to the manager; aware, UTC, as all times here."""
        return _utc(self.internals.created_at)

    @property
    def started_at(self) -> datetime | None:
        """When its last attempt started."""
        return _utc(self.internals.started_at)

    @property
    def completed_at(self) -> datetime | None:
        """When it finished, in whatever state."""
        return _utc(self.internals.completed_at)

    @property
    def cancel_requested_at(self) -> datetime | None:
        """When it was first cancelled."""
        return _utc(self.internals.cancel_requested_at)

    @property
    def cancelling(self) -> bool:
        """Whether it was cancelled and its work has not stopped yet."""
        return self.internals.cancel_requested_at is not None and self.internals.state is TaskState.RUNNING

    @property
    def done(self) -> bool:
        """Whether the task is finished: completed, failed or cancelled."""
        return self.internals.state not in LIVE_STATES

    def as_dict(self) -> dict[str, Any]:
        """The record and the subclass's own fields as JSON types: see `jsonable`."""
        own = [f.name for f in fields(self) if f.name not in _FIELDS and not f.name.startswith("_")]
        record = {name: jsonable(getattr(self, name, None)) for name in (*_RECORD, *own)}
        return {**record, "task_type": type(self).__name__, "result": jsonable(self.internals.result)}

    # -- the handle -------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for the end; return the result, or raise the task's error or TaskCancelledError."""
        return self._owner().await_result(self)

    def wait(self, timeout: float | timedelta | None = None) -> Any:
        """The same as `await task` for plain code: blocks. Raises WaitTimeoutError after `timeout` seconds.

        An interrupt (Ctrl-C) ends the wait and leaves the task running.
        """
        return self._owner().wait_for_result(self, timeout)

    def cancel(self, *, children: bool = True) -> bool:
        """Stop the work, and that of its children; False if the task is finished already.

        A pending task is cancelled at once; a running one when its work has stopped.
        """
        return self._owner().cancel_task(self, children=children)

    def create_child(self, name: str, work: Any, priority: int = 0, **options: Any) -> Task:
        """`manager.create_task` with this task as parent, in its lane; it is cancelled with the parent."""
        return self._owner().create_child(self, name, work, priority, **options)

    def release(self) -> None:
        """Drop what the task still holds: result, exception, output. Its record stays."""
        internals = self.internals
        internals.result = None
        if internals.exception is not None:
            internals.reason, internals.exception = self.error, None
        self.on_release()

    def clone(self, *, parent_id: str | None = None) -> Self:
        """A new task of the same class with the same fields, not added to any manager. Raises WorkError."""
        if not can_run_again(self):
            raise WorkError(f"{self.name!r} cannot be run once more: its work was a coroutine, or is gone with its end")
        twin = Task.__new__(type(self))
        for name in (*_FIELDS, "work", "takes_task"):
            setattr(twin.internals, name, getattr(self.internals, name))
        for slot in _own_slots(type(self)):
            try:
                slot.__set__(twin, slot.__get__(self))
            except AttributeError:  # a slot that was never set
                continue
        if hasattr(self, "__dict__"):
            vars(twin).update(vars(self))
        twin.parent_id = parent_id
        return twin

    def output_written(self) -> None:
        """Report new output to subscribers of `output` events. Any thread."""
        manager = self.internals.manager
        if manager is not None and manager.bus.watches_output:
            manager.bus.wrote(self)

    def _owner(self) -> TaskOwner:
        manager = self.internals.manager
        if manager is None:
            raise NotAddedError(f"{self.name!r} has not been added to a manager: manager.add_task(task)")
        return manager

    # -- hooks for the kinds of tasks of nbtasks itself: cells, calls of an executor ---------------------------

    def may_follow(self, other: Task) -> bool:
        """Whether it may start after `other`, a task of its `after` that has finished."""
        return other.internals.state is TaskState.COMPLETED

    def remote_work(self, attempt: Any) -> Any:  # noqa: ARG002 - its name is for subclasses
        """Return the `RemoteWork` that a worker process does for this attempt; None: a call of its function.

        For kinds of tasks that are more than one call of a function, such as cells.
        """
        return None

    def on_attempt_end(self, outcome: Outcome) -> Outcome | None:  # noqa: ARG002 - as above
        """Called at the end of each attempt, before the state changes; may return another outcome."""
        return None

    def on_failure(self) -> None:
        """Report that the task failed; called once, when it has."""
        self._owner().report_failure(self)

    def on_end(self) -> None:
        """Called once when the task has finished, on the thread where it did, outside of locks."""

    def on_wait_end(self) -> None:
        """Called where code waited for this finished task, before that gets the result or the error."""

    def on_release(self) -> None:
        """Drop what the subclass holds besides; also called when the manager prunes the task."""

    def work_record(self) -> dict[str, Any] | None:
        """Return the record from which another kernel restores this template of a schedule, as JSON values.

        None: its class and its fields, or its function, are enough.
        """
        return None

    def cell_details(self) -> CellDetails | None:
        """Source, names and output, if this is a task made from a notebook cell."""
        return None

    def kept_runs(self) -> KeptRuns | None:
        """The last runs, if this is the template of a recurring cell."""
        return None


_FIELDS = tuple(f.name for f in fields(Task))
# Not before `@dataclass` has seen Task: in its constructor, and those of subclasses, None stands for the default.
Task.class_defaults = {f.name: f.default for f in fields(TaskInternals) if f.name in _FIELDS and f.default is not None}
_RESERVED = frozenset(name for name in dir(Task) if not name.startswith("__")) - set(_FIELDS)
_RECORD = (
    *("id", "name", "state", "priority", "lane", "backend", "progress", "heading", "body", "img", "parameters"),
    *("error", "attempts", "parent_id", "tags", "after", "timeout"),
    *("created_at", "started_at", "completed_at", "cancel_requested_at"),
)


def _annotated_names(kind: type) -> list[str]:
    """Return the names that the body of a class annotates, without evaluating the annotations."""
    if sys.version_info >= (3, 14) and kind.__annotate__ is not None:
        from annotationlib import Format, call_annotate_function

        return list(call_annotate_function(kind.__annotate__, Format.STRING, owner=kind))
    return list(vars(kind).get("__annotations__", ()))


def _drop_annotations(kind: type, names: frozenset[str]) -> None:
    """Take names out of the annotations of a class, so that for `@dataclass` they are no fields of it."""
    for name in names & vars(kind).get("__annotations__", {}).keys():
        del kind.__annotations__[name]
    if sys.version_info >= (3, 14) and not names.isdisjoint(_annotated_names(kind)):
        kind.__annotate__ = _AnnotateWithout(kind.__annotate__, names)


@dataclass(frozen=True)
class _AnnotateWithout:
    """An `__annotate__` function of a class, without some names."""

    annotate: Any
    names: frozenset[str]

    def __call__(self, how: int) -> dict[str, Any]:
        if sys.version_info >= (3, 14):
            from annotationlib import Format, call_annotate_function

            if how != Format.VALUE_WITH_FAKE_GLOBALS:
                found = call_annotate_function(self.annotate, Format(how))
                return {name: value for name, value in found.items() if name not in self.names}
        raise NotImplementedError  # the protocol of `__annotate__`


def call_hook(hook: Callable[..., T | None], *args: Any) -> T | None:
    """Call a hook of a task. An error of the hook is logged: it must not keep the task from ending."""
    try:
        return hook(*args)
    except Exception:
        logger.exception("%r: %s failed", getattr(hook, "__self__", None), hook.__name__)
        return None


def bus_of(task: Task) -> TaskBus | None:
    """The bus of the task's manager; None if it has not been added to one."""
    manager = task.internals.manager
    return None if manager is None else manager.bus


def read_progress_from(task: Task, source: Callable[[], float]) -> None:
    """Compute the progress of a live task by `source` whenever it is read, until it is set otherwise."""
    task.progress = source()
    if not task.done:
        task.internals.progress = source


def keep_progress(task: Task, source: Callable[[], float]) -> None:
    """Store the progress that `source` computes now, if it has not been set otherwise since."""
    if task.internals.progress is source:
        task.progress = source()


def can_run_again(task: Task) -> bool:
    """Whether the work can run once more; that of a function task is dropped when it completes."""
    return type(task).run is not Task.run or callable(task.internals.work)


def jsonable(value: Any) -> Any:
    """The value in JSON types: times as ISO strings, durations in seconds, other objects as repr."""
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


def _own_slots(cls: type[Task]) -> list[Any]:
    """The slots that subclasses add."""
    kinds = [kind for kind in cls.__mro__ if issubclass(kind, Task) and kind is not Task]
    return [slot for kind in kinds for slot in vars(kind).values() if isinstance(slot, MemberDescriptorType)]


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
