"""Tables of history records and statistics, as text (`%bgtask history`)."""

from __future__ import annotations

from collections.abc import Iterable

from nbtasks.formatting import align_columns, duration
from nbtasks.history.records import Statistics, TaskRecord

__all__ = ["statistics_table", "task_table"]

_EMPTY = "nothing is recorded"
_TASK_COLUMNS = ("when", "name", "state", "took", "error")
_STATISTICS_COLUMNS = ("name", "runs", "failures", "median", "p95")


def task_table(records: Iterable[TaskRecord], *, with_notebook: bool, note: str = "") -> str:
    """One line for each task, with the notebook of each in front if asked for."""
    columns = ("notebook", *_TASK_COLUMNS) if with_notebook else _TASK_COLUMNS
    return _table(
        columns,
        [((record.notebook or "",) if with_notebook else ()) + _task_row(record) for record in records],
        note,
    )


def statistics_table(statistics: Iterable[Statistics]) -> str:
    """One line for each name: its runs, failures and durations."""
    return _table(_STATISTICS_COLUMNS, list(map(_statistics_row, statistics)))


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]], note: str = "") -> str:
    return "\n".join([*align_columns([columns, *rows]), *filter(None, [note])]) if rows else _EMPTY


def _task_row(record: TaskRecord) -> tuple[str, ...]:
    when = f"{(record.started_at or record.created_at).astimezone():%Y-%m-%d %H:%M:%S}"
    took = "" if record.duration is None else duration(record.duration)
    error = (record.error or "").strip().splitlines()
    return when, record.name, record.state.value, took, error[0][:200] if error else ""


def _statistics_row(one: Statistics) -> tuple[str, ...]:
    times = ("" if seconds is None else duration(seconds) for seconds in (one.median, one.percentile_95))
    return one.name, str(one.runs), str(one.failures), *times
