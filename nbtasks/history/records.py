"""Rows that the history writes, and records that its queries return."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from statistics import median
from typing import Any

from nbtasks.states import TaskState
from nbtasks.task import Task, TaskInternals

__all__ = ["TASK_COLUMNS", "ScheduleRecord", "Statistics", "TaskRecord", "moment", "statistics_of", "task_row"]

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


def statistics_of(rows: Iterable[tuple[str, str, float | None, float | None]]) -> list[Statistics]:
    """Statistics in order of names, from (name, state, started_at, completed_at) of started tasks."""
    by_name: dict[str, list[tuple[str, float | None, float | None]]] = {}
    for name, *rest in rows:
        by_name.setdefault(name, []).append(tuple(rest))  # type: ignore[arg-type]
    return [_statistics(name, runs) for name, runs in sorted(by_name.items())]


def _statistics(name: str, runs: Sequence[tuple[str, float | None, float | None]]) -> Statistics:
    durations = sorted(
        end - start
        for state, start, end in runs
        if state == TaskState.COMPLETED and start is not None and end is not None
    )
    failures = sum(state == TaskState.FAILED for state, _, _ in runs)
    if not durations:
        return Statistics(name, len(runs), failures, None, None)
    # The nearest rank: the smallest duration that 95 of 100 do not exceed.
    return Statistics(name, len(runs), failures, median(durations), durations[math.ceil(0.95 * len(durations)) - 1])
