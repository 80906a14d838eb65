"""Rows that the history writes, and records that its queries return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from nbtasks.states import TaskState
from nbtasks.task import Task, TaskInternals

__all__ = [
    "TASK_COLUMNS",
    "NamePage",
    "NamedRuns",
    "Run",
    "ScheduleRecord",
    "Statistics",
    "TaskRecord",
    "moment",
    "task_row",
]

TAIL_CHARACTERS = 4_000
"""How many characters of the end of its output are recorded of a task."""

TASK_COLUMNS = (
    *("number", "name", "parent_id", "lane", "state", "attempts", "created_at", "started_at", "completed_at"),
    *("kind", "error", "source", "tail"),
)
# Read from every task, at once, since there may be tens of thousands a second.
_plain: Callable[[TaskInternals], tuple[Any, ...]] = attrgetter(
    *("number", "name", "parent_id", "lane", "state", "attempts", "created_at", "started_at", "completed_at")
)
_NO_MORE = ("Task", None, None, None)


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """The record of a task. Times are aware, UTC."""

    id: str
    name: str
    notebook: str | None
    kind: str
    """The name of its class: "CellTask", "Task"."""
    parent_id: str | None
    lane: str
    state: TaskState
    """As in the manager, or `lost`: its kernel died while it ran."""
    attempts: int
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    """None too if it is `lost`."""
    error: str | None
    source: str | None
    """The cell's text, of a cell task."""
    tail: str | None
    """The end of what it wrote."""

    @property
    def duration(self) -> float | None:
        """Seconds from the start of its last attempt to its end."""
        if self.started_at is None or self.completed_at is None:
            return None
        return (self.completed_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Run:
    """State and times of a recorded task, without its texts. The time is aware, UTC."""

    id: str
    state: TaskState
    began_at: datetime
    """Its start; of a task that was never started, its creation."""
    duration: float | None
    """Seconds; None if it has no start or no end."""


@dataclass(frozen=True, slots=True)
class NamedRuns:
    """The recorded tasks of one name."""

    name: str
    runs: int
    """How many were found."""
    last: Sequence[Run]
    """The last ones in any state, oldest first."""


@dataclass(frozen=True, slots=True)
class NamePage:
    """Some of the names that were found, that of the newest task first."""

    names: Sequence[NamedRuns]
    total: int
    """How many names were found."""
    states: Mapping[str, int]
    """How many tasks of all names were found, by state, whatever state was asked for."""


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """The record of a schedule."""

    id: str
    name: str
    notebook: str | None
    details: Mapping[str, Any]
    """Its work, times and counters, as `nbtasks.schedules.persistence.record_of` gives them."""
    removed: bool
    updated_at: datetime
    offered: bool
    """Whether its kernel has ended, so that another can restore it."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of the tasks of one name.

    Durations are seconds, of completed tasks; None if none completed.
    """

    name: str
    runs: int
    """How many were started."""
    failures: int
    median: float | None
    percentile_95: float | None


def task_row(task: Task) -> tuple[Any, ...]:
    """The values of TASK_COLUMNS; the tail of output as it is now."""
    if type(task) is Task and task.internals.exception is None and task.internals.reason is None:
        return _plain(task.internals) + _NO_MORE
    try:
        error, source = task.error, getattr(task, "source", None)
    except Exception as fault:  # noqa: BLE001 - of the error's `__str__`, or of a property of the user's class
        error, source = f"{type(fault).__name__} while the error was read", None
    source = source if isinstance(source, str) else None
    return (*_plain(task.internals), type(task).__name__, error, source, tail_of(task))


def tail_of(task: Task) -> str | None:
    """The end of the output of a task, if its class keeps output."""
    try:
        ending = getattr(getattr(task, "output", None), "ending", None)
    except Exception:  # noqa: BLE001 - of a property of the user's class
        return None
    return str(ending(TAIL_CHARACTERS)) if callable(ending) else None


def moment(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as an aware datetime."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
