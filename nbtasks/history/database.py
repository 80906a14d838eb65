"""The SQLite file of the history: opening, migrations, statements that write."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbtasks.exceptions import HistoryError
from nbtasks.history.records import TASK_COLUMNS

__all__ = ["END_KERNEL", "Database", "make_private"]

BUSY_SECONDS = 2.0
"""How long to wait for another kernel that is writing."""

MIGRATIONS: Mapping[str, str] = {
    "kernels, tasks and schedules": """
        CREATE TABLE kernels (
            id TEXT PRIMARY KEY, pid INTEGER NOT NULL, notebook TEXT, started_at REAL NOT NULL, ended_at REAL);
        CREATE TABLE tasks (
            id TEXT PRIMARY KEY, kernel TEXT NOT NULL REFERENCES kernels, name TEXT NOT NULL, parent_id TEXT,
            lane TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
            created_at REAL NOT NULL, started_at REAL, completed_at REAL,
            kind TEXT NOT NULL, error TEXT, source TEXT, tail TEXT);
        CREATE INDEX tasks_by_time ON tasks (created_at);
        CREATE INDEX live_tasks ON tasks (kernel) WHERE state IN ('pending', 'running');
        CREATE TABLE schedules (
            id TEXT PRIMARY KEY, kernel TEXT NOT NULL REFERENCES kernels, name TEXT NOT NULL, notebook TEXT,
            details TEXT NOT NULL, removed INTEGER NOT NULL, updated_at REAL NOT NULL)
    """,
    # It has all that lists of runs and statistics need: they do not read the tasks with their sources and outputs.
    "tasks by name": """
        CREATE INDEX tasks_by_name ON tasks (name, created_at, state, kernel, started_at, completed_at)
    """,
}

_VALUES = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(1, len(TASK_COLUMNS)))
_UPDATES = ", ".join(f"{column} = excluded.{column}" for column in TASK_COLUMNS[1:])
# All rows in one statement, from JSON, which SQLite reads without the GIL. With a statement for each row the writing
# thread would wait for the GIL after each of them while other threads compute.
WRITE_TASKS = f"""
    INSERT INTO tasks (id, kernel, {", ".join(TASK_COLUMNS[1:])})
    SELECT ? || '-' || json_extract(value, '$[0]'), ?, {_VALUES} FROM json_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE SET {_UPDATES}
"""
WRITE_SCHEDULES = """
    INSERT INTO schedules (id, kernel, name, notebook, details, removed, updated_at)
    SELECT json_extract(value, '$[0]'), ?, json_extract(value, '$[1]'), ?, json_extract(value, '$[2]'),
        json_extract(value, '$[3]'), ? FROM json_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE SET kernel = excluded.kernel, name = excluded.name, details = excluded.details,
        removed = excluded.removed, updated_at = excluded.updated_at WHERE kernel = excluded.kernel
"""
END_KERNEL = (
    "UPDATE tasks SET state = 'lost', error = 'the kernel died while it ran' WHERE kernel = ? AND state = 'running'",
    "UPDATE tasks SET state = 'cancelled', error = 'the kernel died before it started' "
    "WHERE kernel = ? AND state = 'pending'",
    "UPDATE kernels SET ended_at = CAST(strftime('%s', 'now') AS REAL) WHERE id = ? AND ended_at IS NULL",
)


class Database:
    """A connection to the file at `path`, for one thread.

    All methods may raise sqlite3.Error, HistoryError and OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_private(path)
        self._connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        # Texts may hold half a character, as names of files do.
        self._connection.text_factory = lambda text: text.decode(errors="replace")
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            # Written rows survive the end of any process; a crash of the machine loses the last moments.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._migrate()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all statements inside or, on an error, none; other connections cannot write meanwhile."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # a full disk has ended it already
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def execute(self, statement: str, *values: Any) -> int:
        """Run one statement; how many rows it changed."""
        return self._connection.execute(statement, values).rowcount

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows that a statement returns."""
        return self._connection.execute(statement, values).fetchall()

    def write(
        self,
        kernel: str,
        notebook: str | None,
        now: float,
        tasks: Mapping[str, Sequence[tuple[Any, ...]]],
        schedules: Sequence[tuple[Any, ...]],
    ) -> None:
        """Insert or replace tasks, by the prefix of their ids, and schedules that are this kernel's."""
        texts = {prefix: json.dumps(rows) for prefix, rows in tasks.items()}
        with self.transaction():
            for prefix, text in texts.items():
                self.execute(WRITE_TASKS, prefix, kernel, text)
            if schedules:
                self.execute(WRITE_SCHEDULES, kernel, notebook, now, json.dumps(schedules))

    def _migrate(self) -> None:
        with self.transaction():
            self.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)")
            done = {name for (name,) in self.query("SELECT name FROM migrations")}
            newer = done - MIGRATIONS.keys()
            if newer:
                raise HistoryError(f"{self.path} was written by a newer nbtasks (it has {', '.join(sorted(newer))!r})")
            for name, statements in MIGRATIONS.items():
                if name not in done:
                    for statement in statements.split(";"):
                        self.execute(statement)
                    self.execute("INSERT INTO migrations VALUES (?)", name)


def make_private(path: Path) -> None:
    """Make the file, and its folder if that is new, readable by the owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if hasattr(os, "fchmod") and os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
