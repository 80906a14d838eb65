"""Query of the task table: filter by state and text, sort, and cut into pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from nbtasks.states import TaskState
from nbtasks.task import Task

__all__ = ["COLUMNS", "PAGE_ROWS", "Page", "Query", "TaskSource", "run_query"]

PAGE_ROWS = 10

_STATE_ORDER = {
    state: number
    for number, state in enumerate(
        (TaskState.RUNNING, TaskState.PENDING, TaskState.FAILED, TaskState.CANCELLED, TaskState.COMPLETED)
    )
}


@dataclass(frozen=True, slots=True)
class Query:
    """Filter, order and page of the table.

    `column` None: running tasks, then pending ones in the order in which they will start, then finished ones, newest
    first.
    """

    state: str | None = None
    text: str = ""
    column: str | None = None
    descending: bool = True
    page: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """The tasks on one page. `number` counts from 0; there is at least one page."""

    tasks: tuple[Task, ...] = ()
    total: int = 0
    number: int = 0
    pages: int = 1
    found: Mapping[str, int] | None = None
    """How many tasks match the text, in total and by state; None without a text."""

    @property
    def rows(self) -> range:
        """The positions of the tasks among all that match."""
        first = self.number * PAGE_ROWS
        return range(first, first + len(self.tasks))


class TaskSource(Protocol):
    """The tasks to query: those of a manager, or some of them."""

    @property
    def active_tasks(self) -> Iterable[Task]:
        """The tasks that are pending or running."""

    def list_tasks(self, state: str | None = None) -> list[Task]:
        """A new list of the tasks in one state, or of all, oldest first."""

    def get_stats(self) -> dict[str, int]:
        """The number of tasks: `total`, and by state."""


def run_query(source: TaskSource, query: Query, now: datetime | None = None) -> Page:
    """The page that the query asks for, or the last one if there are fewer."""
    found: Counter[str] | None = None
    if words := query.text.casefold().split():
        matching = [task for task in source.list_tasks() if _matches(task, words)]
        found = Counter(task.state.value for task in matching)
        found["total"] = len(matching)
        tasks = [task for task in matching if query.state is None or task.state == query.state]
    else:
        tasks = source.list_tasks(query.state)
    if query.column is None:
        tasks = _in_usual_order(tasks)
    else:
        tasks.sort(key=COLUMNS[query.column](now or datetime.now(UTC)), reverse=query.descending)
    pages = max(1, -(-len(tasks) // PAGE_ROWS))
    number = max(0, min(query.page, pages - 1))
    first = number * PAGE_ROWS
    return Page(tuple(tasks[first : first + PAGE_ROWS]), len(tasks), number, pages, found)


def _in_usual_order(tasks: Iterable[Task]) -> list[Task]:
    running, pending, finished = [], [], []
    for task in tasks:
        state = task.state
        if state is TaskState.RUNNING:
            running.append(task)
        elif state is TaskState.PENDING:
            pending.append(task)
        else:
            finished.append(task)
    # The sorts are stable: tasks of one priority stay oldest first, tasks that finished at once newest first.
    pending.sort(key=lambda task: -task.priority)
    finished.reverse()
    finished.sort(key=lambda task: 0.0 if task.completed_at is None else -task.completed_at.timestamp())
    return [*running, *pending, *finished]


def _matches(task: Task, words: list[str]) -> bool:
    """Whether each word is in the name, heading, lane, tags or error of the task."""
    text = f"{task.name}\n{task.heading or ''}\n{task.lane}\n{' '.join(task.tags)}\n{task.error or ''}".casefold()
    return all(word in text for word in words)


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
"""The columns to sort by: for each, the key of a task at a moment."""
