"""`History`: the record of tasks and schedules in an SQLite file, and its queries."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from nbtasks.exceptions import HistoryError
from nbtasks.history.database import END_KERNEL, Database, make_private
from nbtasks.history.process_lock import ProcessLock, is_alive
from nbtasks.history.records import (
    NamedRuns,
    NamePage,
    Run,
    ScheduleRecord,
    Statistics,
    TaskRecord,
    moment,
    tail_of,
    task_row,
)
from nbtasks.interrupts import start_thread, uninterrupted
from nbtasks.packages import require
from nbtasks.schedules.interval import parse_interval
from nbtasks.schedules.persistence import record_of
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.states import LIVE_STATES, TaskState, task_state
from nbtasks.task import Task, id_prefix

__all__ = ["KEPT_DAYS", "History", "clean"]

logger = logging.getLogger("nbtasks")
KEPT_DAYS = 90
WRITE_SECONDS = 0.4
"""The interval of writing: a killed kernel loses what changed in this time and that of one write."""
CLEAN_SECONDS = 86_400.0
RETRY_SECONDS = 3.0
"""The interval of writing after an error."""
MOST_WAITING = 500_000
MOST_OWED = 10_000
"""How many records of tasks are kept while nothing can be written; beyond that the oldest are dropped."""
_RECORD_COLUMNS = (
    "tasks.id, name, kernels.notebook, kind, parent_id, lane, state, attempts, created_at, tasks.started_at, "
    "completed_at, error, source, tail"
)
_TASKS = "tasks INDEXED BY tasks_by_name"
"""The tasks without their texts, which that index leaves out: they are not read."""
_STATISTICS = f"""
    WITH started AS (
        SELECT name, state, completed_at - started_at AS took FROM {_TASKS} {{where}} AND started_at IS NOT NULL),
    ranked AS (
        SELECT name, state, took, row_number() OVER (PARTITION BY name, state ORDER BY took) AS rank,
        count(*) OVER (PARTITION BY name, state) AS number FROM started)
    SELECT name, count(*), sum(state = 'failed'),
        avg(CASE WHEN state = 'completed' AND rank IN ((number + 1) / 2, (number + 2) / 2) THEN took END),
        min(CASE WHEN state = 'completed' AND rank >= 0.95 * number THEN took END)
    FROM ranked GROUP BY name ORDER BY name
"""
# The nearest rank: the smallest duration that 95 of 100 do not exceed.
_numbers = itertools.count(1)


class Batch:
    """Rows to write: the newest of each task and schedule."""

    def __init__(self) -> None:
        self.tasks: dict[int, tuple[Any, ...]] = {}
        self.schedules: dict[str, tuple[Any, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self.tasks or self.schedules)

    def clear(self) -> None:
        """Remove all, after they were written."""
        self.tasks.clear()
        self.schedules.clear()

    def shorten(self) -> None:
        """Drop the oldest, while nothing can be written."""
        for number in list(self.tasks)[:-MOST_OWED]:
            del self.tasks[number]


class History:
    """The record of tasks and schedules of all kernels in an SQLite file.

    `notebook` is the name under which those of this kernel are recorded in the file at `path`. A file that is locked,
    full or broken costs one warning in the log, never a task; only the queries raise HistoryError. One thread writes;
    each query opens a connection.
    """

    def __init__(self, path: str | os.PathLike[str], *, notebook: str | None = None) -> None:
        self.path = Path(path).expanduser().absolute()
        self.notebook = notebook
        self.kernel = f"{id_prefix()}-k{next(_numbers)}"
        self._changes: deque[Task | RecurringTask] = deque(maxlen=MOST_WAITING)
        self.note = self._changes.append
        """Records a task or recurring task that has changed. Atomic, for it is called where tasks start and end."""
        self._writing: dict[Task, str | None] = {}
        """The running tasks that write output, and the end of it that is recorded."""
        self._owed = Batch()
        self._warned = False
        self._wake = threading.Event()
        self._closed = False
        self._requested, self._answered = 0, threading.Condition()
        self._done = 0
        self._database: Database | None = None
        self._lock: ProcessLock | None = None
        self._clean_at = 0.0
        self._thread = start_thread(self._serve, "nbtasks-history")

    def __repr__(self) -> str:
        return f"<History in {str(self.path)!r}{' (closed)' if self._closed else ''}>"

    # -- queries ------------------------------------------------------------------------------------------------------

    def tasks(
        self,
        name: str | None = None,
        *,
        state: str | Iterable[str] | None = None,
        notebook: str | None = None,
        since: datetime | timedelta | str | None = None,
        text: str = "",
        limit: int | None = None,
        offset: int = 0,
    ) -> list[TaskRecord]:
        """The recorded tasks of all kernels, oldest first; with `limit` the newest ones.

        `offset` leaves out that many that are newer. `since` is an aware moment, or an age: a timedelta or text such
        as "2d"; `notebook` is a path, or the end of one; `text` is part of a name or an error. Raises HistoryError if
        the file cannot be read, InvalidValueError for what is not allowed.
        """
        where, values = _conditions(name, state, notebook, since, text)
        with self._reading() as database:
            rows = _records(database, where, values, limit, offset)
        return [_task_record(row) for row in reversed(rows)]

    def to_frame(
        self,
        name: str | None = None,
        *,
        state: str | Iterable[str] | None = None,
        notebook: str | None = None,
        since: datetime | timedelta | str | None = None,
        limit: int | None = None,
    ) -> Any:
        """The recorded tasks as a pandas DataFrame, one row for each, oldest first.

        The arguments are those of `tasks`.
        Columns: `id`, `name`, `notebook`, `kind`, `parent_id`, `lane`, `error`, `source` and `output` (the end of what
        it wrote) are text (`string`); `state` is a category with all states as categories; `attempts` is a number
        (`int64`); `created_at`, `started_at` and `completed_at` are `datetime64[us, UTC]`; `duration` is seconds from
        the start of the last attempt to the end (`float64`). What is not known is missing: NA, NaT or NaN.
        Raises MissingPackageError without pandas.
        """
        pandas = require("pandas", "History.to_frame", extra="")
        where, values = _conditions(name, state, notebook, since)
        with self._reading() as database:
            rows = _records(database, where, values, limit)
        return _frame(pandas, rows[::-1])

    def runs_by_name(
        self,
        name: str | None = None,
        *,
        text: str = "",
        state: str | Iterable[str] | None = None,
        notebook: str | None = None,
        since: datetime | timedelta | str | None = None,
        limit: int = 20,
        offset: int = 0,
        last: int = 30,
    ) -> NamePage:
        """The names of the recorded tasks, that of the newest task first, each with its `last` runs.

        The arguments are those of `tasks`; `limit` and `offset` count names.
        """
        where, values = _conditions(name, state, notebook, since, text)
        in_any_state, their_values = _conditions(name, None, notebook, since, text)
        counts = ", ".join(f"sum(state = '{one}')" for one in TaskState)
        with self._reading() as database:
            [numbers] = database.query(f"SELECT {counts} FROM {_TASKS} {in_any_state}", *their_values)
            [(total,)] = database.query(f"SELECT count(DISTINCT name) FROM {_TASKS} {where}", *values)
            found = database.query(
                f"SELECT name, count(*) FROM {_TASKS} {where} GROUP BY name ORDER BY max(created_at) DESC, name "
                f"LIMIT {int(limit)} OFFSET {int(offset)}",
                *values,
            )
            names = [NamedRuns(one, runs, _last_runs(database, one, notebook, since, last)) for one, runs in found]
        states = {state.value: number or 0 for state, number in zip(TaskState, numbers, strict=True)}
        return NamePage(names, total, states)

    def last_runs(
        self,
        name: str,
        *,
        notebook: str | None = None,
        since: datetime | timedelta | str | None = None,
        limit: int = 500,
    ) -> list[Run]:
        """The last recorded tasks of one name, without their texts, oldest first."""
        with self._reading() as database:
            return _last_runs(database, name, notebook, since, limit)

    def statistics(
        self,
        name: str | None = None,
        *,
        notebook: str | None = None,
        since: datetime | timedelta | str | None = None,
        limit: int | None = None,
    ) -> list[Statistics]:
        """Statistics of the tasks that were started, by name; with `limit` of the names that ran last."""
        where, values = _conditions(name, None, notebook, since)
        chosen, twice = where, values
        if limit is not None:
            names = f"SELECT name FROM {_TASKS} {where} GROUP BY name ORDER BY max(created_at) DESC LIMIT {int(limit)}"
            chosen, twice = f"{where} AND name IN ({names})", values * 2
        with self._reading() as database:
            rows = database.query(_STATISTICS.format(where=chosen), *twice)
        return [Statistics(*row) for row in rows]

    def newest_tasks(
        self,
        names: Iterable[str],
        *,
        notebook: str | None = None,
        since: datetime | timedelta | str | None = None,
    ) -> dict[str, TaskRecord]:
        """The newest recorded task of each of these names."""
        found: dict[str, TaskRecord] = {}
        with self._reading() as database:
            for name in names:
                where, values = _conditions(name, None, notebook, since)
                found.update((name, _task_record(row)) for row in _records(database, where, values, 1))
        return found

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

    def has_live_kernel(self, notebook: str) -> bool:
        """Whether another kernel of this notebook, which keeps its history in this file, is alive."""
        with self._reading() as database:
            rows = database.query(
                "SELECT id FROM kernels WHERE ended_at IS NULL AND notebook = ? AND id != ?", notebook, self.kernel
            )
        return bool(rows)

    def claim(self, schedule: ScheduleRecord) -> bool:
        """Assign an offered schedule to this kernel; False if another kernel has it, or it was removed."""
        with self._reading() as database, database.transaction():
            changed = database.execute(
                "UPDATE schedules SET kernel = ? WHERE id = ? AND NOT removed AND kernel IN "
                "(SELECT id FROM kernels WHERE ended_at IS NOT NULL)",
                *(self.kernel, schedule.id),
            )
        return changed == 1

    def release(self, schedule: ScheduleRecord) -> None:
        """Offer a claimed schedule again, because it could not be restored."""
        with self._reading() as database, database.transaction():
            database.execute(
                "UPDATE schedules SET kernel = (SELECT id FROM kernels WHERE ended_at IS NOT NULL LIMIT 1) "
                "WHERE id = ? AND kernel = ?",
                *(schedule.id, self.kernel),
            )

    def cleanup(self, older_than: timedelta | str | None = None) -> int:
        """Delete the records of tasks that finished and of schedules that were removed longer ago than this.

        Returns how many. By default 90 days, after which records are deleted automatically.
        """
        span = timedelta(days=KEPT_DAYS) if older_than is None else parse_interval(older_than)
        with self._reading() as database:
            return clean(database, time.time() - span.total_seconds())

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Database]:
        """A new connection, to a file that has all changes up to now. Raises HistoryError."""
        self.flush(timeout=WRITE_SECONDS + 2.0)
        try:
            with contextlib.closing(Database(self.path)) as database:
                self._end_dead_kernels(database)
                yield database
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(f"the history in {self.path} cannot be used: {error}") from error

    # -- writing ----------------------------------------------------------------------------------------------

    @uninterrupted
    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all changes up to now are written, or could not be; False after `timeout` seconds."""
        with self._answered:
            self._requested += 1
            wanted = self._requested
            self._wake.set()
            return self._answered.wait_for(lambda: self._done >= wanted or not self._thread.is_alive(), timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Write the last changes, and stop. Schedules that are on are offered to the next kernel."""
        self._closed = True
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _serve(self) -> None:
        while True:
            closed, requested = self._closed, self._requested
            self._wake.clear()
            pause = WRITE_SECONDS
            try:
                self._write(last=closed)
            except Exception as error:  # noqa: BLE001 - whatever it is: the tasks run on, and so does this thread
                self._owed.shorten()
                self._warn(error)
                pause = RETRY_SECONDS
            if closed:
                with contextlib.suppress(sqlite3.Error, OSError):  # what could be written is written
                    self._close_file()
            with self._answered:
                self._done = requested
                self._answered.notify_all()
            if closed:
                return
            if self._requested == requested and not self._closed:
                self._wake.wait(pause)

    def _write(self, *, last: bool) -> None:
        """Write the changes, if there are any."""
        self._take()
        if self._database is None:
            if not self._owed and not self._requested:
                return
            self._open()
        assert self._database is not None
        if time.monotonic() >= self._clean_at:
            clean(self._database, time.time() - KEPT_DAYS * 86_400)
            self._clean_at = time.monotonic() + CLEAN_SECONDS
        if self._owed:
            tasks, schedules = list(self._owed.tasks.values()), list(self._owed.schedules.values())
            self._database.write(self.kernel, self.notebook, time.time(), {id_prefix(): tasks}, schedules)
            self._owed.clear()
        if last:
            self._end()

    def _take(self) -> None:
        """Turn the changes into rows to write: a file that cannot be written keeps no task alive."""
        changes, changed = self._changes, dict[Task | RecurringTask, None]()
        while changes:
            changed[changes.popleft()] = None
        for task in changed:
            if isinstance(task, Task) and type(task) is not Task and task.state is TaskState.RUNNING:
                self._writing.setdefault(task, None)
        for task, recorded in list(self._writing.items()):
            tail = tail_of(task)
            if tail != recorded:
                changed[task] = None
                self._writing[task] = tail
            if task.state not in LIVE_STATES:
                changed[task] = None
                del self._writing[task]
        for one in changed:
            try:
                self._add_row(one)
            except Exception as error:  # noqa: BLE001 - of the user's class; the other records are written
                self._warn(error)

    def _add_row(self, one: Task | RecurringTask) -> None:
        if isinstance(one, Task):
            self._owed.tasks[one.number] = task_row(one)
        else:
            self._owed.schedules[one.id] = (one.id, one.name, json.dumps(record_of(one)), int(one.removed))

    def _open(self) -> None:
        make_private(self.path)
        if self._lock is None:
            self._lock = ProcessLock(_lock_file(self.path, self.kernel))
        database = Database(self.path)
        try:
            database.execute(
                "INSERT OR IGNORE INTO kernels VALUES (?, ?, ?, ?, NULL)",
                *(self.kernel, os.getpid(), self.notebook, time.time()),
            )
            self._end_dead_kernels(database)
        except BaseException:
            database.close()
            raise
        self._database = database

    def _end(self) -> None:
        """Record that this kernel has ended."""
        assert self._database is not None
        with self._database.transaction():
            for statement in END_KERNEL:
                self._database.execute(statement, self.kernel)
            self._database.execute("UPDATE kernels SET ended_at = ? WHERE id = ?", time.time(), self.kernel)

    def _close_file(self) -> None:
        if self._database is not None:
            self._database.close()
        if self._lock is not None:
            self._lock.release()

    def _end_dead_kernels(self, database: Database) -> None:
        """Record the running tasks of kernels that died as lost."""
        for kernel, pid in database.query("SELECT id, pid FROM kernels WHERE ended_at IS NULL"):
            file = _lock_file(self.path, kernel)
            if kernel == self.kernel or is_alive(file, pid):
                continue
            with database.transaction():
                for statement in END_KERNEL:
                    database.execute(statement, kernel)
            file.unlink(missing_ok=True)

    def _warn(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        logger.warning("the history in %s cannot be written; tasks run without it: %s", self.path, error)


def _lock_file(path: Path, kernel: str) -> Path:
    return path.with_name(f"{path.name}-kernels") / kernel


def _conditions(
    name: str | None,
    state: str | Iterable[str] | None,
    notebook: str | None,
    since: datetime | timedelta | str | None,
    text: str = "",
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
        kernels = "SELECT id FROM kernels WHERE notebook = ? OR substr(notebook, -length(?) - 1) = '/' || ?"
        clauses.append(f"kernel IN ({kernels})")
        values += [notebook] * 3
    if text:
        pattern = "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"
        # Tasks in the other states have no error; so theirs are not read.
        error = r"(state NOT IN ('completed', 'running', 'pending') AND error LIKE ? ESCAPE '\')"
        clauses.append(rf"(name LIKE ? ESCAPE '\' OR {error})")
        values += [pattern] * 2
    if since is not None:
        clauses.append("created_at >= ?")
        if isinstance(since, datetime):
            values.append(since.timestamp())
        else:
            values.append(time.time() - parse_interval(since).total_seconds())
    return f"WHERE {' AND '.join(clauses)}", values


def _records(
    database: Database, where: str, values: Iterable[Any], limit: int | None, offset: int = 0
) -> list[tuple[Any, ...]]:
    """Rows of _RECORD_COLUMNS, newest first."""
    most = -1 if limit is None else int(limit)
    return database.query(
        f"SELECT {_RECORD_COLUMNS} FROM tasks JOIN kernels ON kernels.id = kernel {where} "
        f"ORDER BY created_at DESC, tasks.rowid DESC LIMIT {most} OFFSET {int(offset)}",
        *values,
    )


def _last_runs(
    database: Database, name: str, notebook: str | None, since: datetime | timedelta | str | None, limit: int
) -> list[Run]:
    where, values = _conditions(name, None, notebook, since)
    rows = database.query(
        f"SELECT id, state, created_at, started_at, completed_at FROM {_TASKS} {where} "
        f"ORDER BY created_at DESC LIMIT {int(limit)}",
        *values,
    )
    runs = []
    for task_id, state, created_at, started_at, completed_at in reversed(rows):
        began = moment(created_at if started_at is None else started_at)
        assert began is not None
        took = None if started_at is None or completed_at is None else completed_at - started_at
        runs.append(Run(task_id, TaskState(state), began, took))
    return runs


def _frame(pandas: Any, rows: list[tuple[Any, ...]]) -> Any:
    """A frame of rows of _RECORD_COLUMNS; see `History.to_frame`."""
    names = ("id", "name", "notebook", "kind", "parent_id", "lane", "state", "attempts", "created_at", "started_at")
    frame = pandas.DataFrame(rows, columns=[*names, "completed_at", "error", "source", "output"], dtype=object)
    for column in ("id", "name", "notebook", "kind", "parent_id", "lane", "error", "source", "output"):
        frame[column] = frame[column].astype("string")
    frame["state"] = pandas.Categorical(frame["state"], categories=[state.value for state in TaskState])
    frame["attempts"] = frame["attempts"].astype("int64")
    seconds = {column: frame[column].astype("float64") for column in ("created_at", "started_at", "completed_at")}
    for column, values in seconds.items():
        moments = pandas.to_datetime(values, unit="s", utc=True)
        frame[column] = moments.dt.round("us").astype("datetime64[us, UTC]")
    frame.insert(11, "duration", seconds["completed_at"] - seconds["started_at"])
    return frame


def clean(database: Database, before: float) -> int:
    """Delete what finished or was removed before this moment, in seconds since 1970; how many records."""
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
