"""Which tasks a table shows: filtered by state and text, sorted, one page of them.

Pure: knows tasks and lists of them, nothing of widgets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from nbtasks.states import TaskState
from nbtasks.task import Task

__all__ = ["COLUMNS", "PAGE_ROWS", "Query", "Selection", "Source", "select"]

PAGE_ROWS = 10

_RUNNING, _PENDING = TaskState.RUNNING, TaskState.PENDING
_STATE_ORDER = {
    state: number
    for number, state in enumerate(
        (TaskState.RUNNING, TaskState.PENDING, TaskState.FAILED, TaskState.CANCELLED, TaskState.COMPLETED)
    )
}


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for.

    `column` None: what runs, then what waits, in the order of its turn, then what ended, newest first.
    """

    state: str | None = None
    text: str = ""
    column: str | None = None
    descending: bool = True
    page: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """One page of what was asked for. `page` counts from 0; there is one at least."""

    tasks: tuple[Task, ...]
    total: int
    page: int
    pages: int


class Source(Protocol):
    """Tasks to choose from: a manager's, or some of them."""

    @property
    def active_tasks(self) -> Iterable[Task]:
        """Those that are not over."""

    def list_tasks(self, state: str | None = None) -> list[Task]:
        """All of them, or those in one state, as a list of its own."""

    def get_stats(self) -> dict[str, int]:
        """How many there are: `total`, and by state."""


def select(source: Source, query: Query, now: datetime | None = None) -> Selection:
    """The page of `query`, or the last one where there are fewer."""
    tasks = source.list_tasks(query.state)
    if words := query.text.casefold().split():
        tasks = [task for task in tasks if _says(task, words)]
    if query.column is None:
        tasks.sort(key=_usual)
    else:
        tasks.sort(key=COLUMNS[query.column](now or datetime.now(UTC)), reverse=query.descending)
    pages = max(1, -(-len(tasks) // PAGE_ROWS))
    page = max(0, min(query.page, pages - 1))
    first = page * PAGE_ROWS
    return Selection(tuple(tasks[first : first + PAGE_ROWS]), len(tasks), page, pages)


def _usual(task: Task) -> tuple[int, float, int]:
    state = task.state
    if state is _RUNNING:
        return 0, 0.0, task.number
    if state is _PENDING:
        return 1, -task.priority, task.number
    return 2, -(task.internals.completed_at or 0.0), -task.number


def _says(task: Task, words: list[str]) -> bool:
    """Whether each word is in what the task is called, where it runs, or why it failed."""
    said = f"{task.name}\n{task.heading or ''}\n{task.lane}\n{' '.join(task.tags)}\n{task.error or ''}".casefold()
    return all(word in said for word in words)


def _elapsed(task: Task, now: datetime) -> float:
    start = task.started_at
    return -1.0 if start is None else ((task.completed_at or now) - start).total_seconds()


Key = Callable[[Task], Any]

COLUMNS: dict[str, Callable[[datetime], Key]] = {
    "task": lambda _: lambda task: (task.heading or task.name).casefold(),
    "state": lambda _: lambda task: _STATE_ORDER.get(task.state, len(_STATE_ORDER)),
    "lane": lambda _: lambda task: task.lane,
    "priority": lambda _: lambda task: task.priority,
    "progress": lambda _: lambda task: -1.0 if task.progress is None else task.progress,
    "time": lambda now: lambda task: _elapsed(task, now),
}
"""What one may sort by: for each column, the key of a task at a moment."""
