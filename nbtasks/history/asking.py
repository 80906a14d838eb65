"""What can be asked of the history: tasks, statistics, schedules; and what is taken out of it.

Must not know who writes it, nor how what was written last gets into the file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from nbtasks.cron.interval import parse_interval
from nbtasks.history.database import Database
from nbtasks.history.records import ScheduleRecord, Statistics, TaskRecord, moment, statistics_of
from nbtasks.states import TaskState, task_state

__all__ = ["KEPT_DAYS", "Asking", "clean"]

KEPT_DAYS = 90


class Asking:
    """The part of `History` that answers."""

    kernel: str

    def _reading(self) -> AbstractContextManager[Database]:
        """A connection of the caller's own, to a file that has what happened up to now. Raises HistoryError."""
        raise NotImplementedError

    def tasks(
        self,
        name: str | None = None,
        *,
        state: str | Iterable[str] | None = None,
        notebook: str | None = None,
        since: datetime | timedelta | str | None = None,
        limit: int | None = None,
    ) -> list[TaskRecord]:
        """The recorded tasks of all kernels, oldest first; with `limit` the newest so many.

        `since` is an aware moment, or how long ago: a timedelta or text such as "2d"; `notebook` a path, or
        the end of one. Raises HistoryError if the file cannot be read, InvalidValueError for what is not allowed.
        """
        where, values = _conditions(name, state, notebook, since)
        most = "" if limit is None else f" LIMIT {int(limit)}"
        with self._reading() as database:
            rows = database.query(
                "SELECT tasks.id, name, kernels.notebook, kind, parent_id, lane, state, attempts, created_at, "
                "tasks.started_at, completed_at, error, source, tail "
                f"FROM tasks JOIN kernels ON kernels.id = kernel {where} "
                f"ORDER BY created_at DESC, tasks.rowid DESC{most}",
                *values,
            )
        return [_task_record(row) for row in reversed(rows)]

    def statistics(
        self,
        name: str | None = None,
        *,
        notebook: str | None = None,
        since: datetime | timedelta | str | None = None,
    ) -> list[Statistics]:
        """How the tasks that were started went, by name: runs, failures, median and 95th percentile of durations."""
        where, values = _conditions(name, None, notebook, since)
        with self._reading() as database:
            rows = database.query(
                "SELECT name, state, tasks.started_at, completed_at FROM tasks "
                f"JOIN kernels ON kernels.id = kernel {where} AND tasks.started_at IS NOT NULL",
                *values,
            )
        return statistics_of(rows)

    def schedules(self, *, notebook: str | None = None) -> list[ScheduleRecord]:
        """The recorded schedules, those of one notebook or all, oldest first."""
        where, values = ("", ()) if notebook is None else ("WHERE schedules.notebook = ?", (notebook,))
        with self._reading() as database:
            rows = database.query(
                "SELECT schedules.id, name, schedules.notebook, details, removed, updated_at, ended_at IS NOT NULL "
                f"FROM schedules JOIN kernels ON kernels.id = kernel {where} ORDER BY schedules.rowid",
                *values,
            )
        return [_schedule_record(row) for row in rows]

    def claim(self, schedule: ScheduleRecord) -> bool:
        """Make an offered schedule this kernel's own; False if another was quicker, or it is gone."""
        with self._reading() as database, database.transaction():
            changed = database.execute(
                "UPDATE schedules SET kernel = ? WHERE id = ? AND NOT removed AND kernel IN "
                "(SELECT id FROM kernels WHERE ended_at IS NOT NULL)",
                *(self.kernel, schedule.id),
            )
        return changed == 1

    def release(self, schedule: ScheduleRecord) -> None:
        """Offer a schedule again that was claimed and could not be taken up."""
        with self._reading() as database, database.transaction():
            database.execute(
                "UPDATE schedules SET kernel = (SELECT id FROM kernels WHERE ended_at IS NOT NULL LIMIT 1) "
                "WHERE id = ? AND kernel = ?",
                *(schedule.id, self.kernel),
            )

    def cleanup(self, older_than: timedelta | str | None = None) -> int:
        """Delete the records of tasks that ended, and schedules that were removed, longer ago than this; how many.

        By default 90 days, after which it is done without asking.
        """
        span = timedelta(days=KEPT_DAYS) if older_than is None else parse_interval(older_than)
        with self._reading() as database:
            return clean(database, time.time() - span.total_seconds())


def _conditions(
    name: str | None,
    state: str | Iterable[str] | None,
    notebook: str | None,
    since: datetime | timedelta | str | None,
) -> tuple[str, list[Any]]:
    """A WHERE clause and its values."""
    clauses, values = ["true"], list[Any]()
    if name is not None:
        clauses.append("name = ?")
        values.append(name)
    if state is not None:
        states = [task_state(one).value for one in ([state] if isinstance(state, str) else state)]
        clauses.append(f"state IN ({', '.join('?' * len(states))})")
        values += states
    if notebook is not None:
        clauses.append("(kernels.notebook = ? OR substr(kernels.notebook, -length(?) - 1) = '/' || ?)")
        values += [notebook] * 3
    if since is not None:
        clauses.append("created_at >= ?")
        if isinstance(since, datetime):
            values.append(since.timestamp())
        else:
            values.append(time.time() - parse_interval(since).total_seconds())
    return f"WHERE {' AND '.join(clauses)}", values


def clean(database: Database, before: float) -> int:
    """Delete what ended before this moment; how many tasks and schedules."""
    with database.transaction():
        gone = database.execute(
            "DELETE FROM tasks WHERE COALESCE(completed_at, started_at, created_at) < ? "
            "AND state NOT IN ('pending', 'running')",
            before,
        )
        gone += database.execute("DELETE FROM schedules WHERE removed AND updated_at < ?", before)
        database.execute(
            "DELETE FROM kernels WHERE ended_at < ? AND id NOT IN "
            "(SELECT kernel FROM tasks UNION SELECT kernel FROM schedules)",
            before,
        )
    return gone


def _task_record(row: tuple[Any, ...]) -> TaskRecord:
    *first, state, attempts, created_at, started_at, completed_at, error, source, tail = row
    created = moment(created_at)
    assert created is not None
    times = (created, moment(started_at), moment(completed_at))
    rest: tuple[Any, ...] = (*first, TaskState(state), attempts, *times, error, source, tail)
    return TaskRecord(*rest)


def _schedule_record(row: tuple[Any, ...]) -> ScheduleRecord:
    schedule_id, name, notebook, details, removed, updated_at, ended = row
    updated = moment(updated_at)
    assert updated is not None
    offered = bool(ended) and not removed
    return ScheduleRecord(schedule_id, name, notebook, json.loads(details), bool(removed), updated, offered)
