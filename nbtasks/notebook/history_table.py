"""Tables of history records and statistics, as text and HTML (`%bgtask history`)."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from nbtasks.formatting import align_columns, duration
from nbtasks.history.records import Statistics, TaskRecord

__all__ = ["HistoryTable", "statistics_table", "task_table"]

_EMPTY = "nothing is recorded"
_TASK_COLUMNS = ("when", "name", "state", "took", "error")
_STATISTICS_COLUMNS = ("name", "runs", "failures", "median", "p95")


class HistoryTable:
    """Rows under a heading, with a note below."""

    def __init__(self, columns: Sequence[str], rows: Iterable[tuple[str, ...]], note: str = "") -> None:
        self._columns = tuple(columns)
        self._rows = list(rows)
        self._note = note

    def __repr__(self) -> str:
        if not self._rows:
            return _EMPTY
        return "\n".join([*align_columns([self._columns, *self._rows]), *filter(None, [self._note])])

    def _repr_html_(self) -> str:
        if not self._rows:
            return f"<p>{_EMPTY}</p>"
        cell = 'style="text-align:left;vertical-align:top;white-space:pre-wrap"'
        head = "".join(f'<th scope="col" {cell}>{column}</th>' for column in self._columns)
        body = "".join(
            f"<tr>{''.join(f'<td {cell}>{html.escape(value)}</td>' for value in row)}</tr>" for row in self._rows
        )
        note = f"<p>{self._note}</p>" if self._note else ""
        return f'<table class="nbtasks-history"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}'


def task_table(records: Iterable[TaskRecord], *, with_notebook: bool, note: str = "") -> HistoryTable:
    """One row for each task, with the notebook of each in front if asked for."""
    columns = ("notebook", *_TASK_COLUMNS) if with_notebook else _TASK_COLUMNS
    rows = [((record.notebook or "",) if with_notebook else ()) + _task_row(record) for record in records]
    return HistoryTable(columns, rows, note)


def statistics_table(statistics: Iterable[Statistics]) -> HistoryTable:
    """One row for each name: its runs, failures and durations."""
    return HistoryTable(_STATISTICS_COLUMNS, map(_statistics_row, statistics))


def _task_row(record: TaskRecord) -> tuple[str, ...]:
    when = f"{(record.started_at or record.created_at).astimezone():%Y-%m-%d %H:%M:%S}"
    took = "" if record.duration is None else duration(record.duration)
    error = (record.error or "").strip().splitlines()
    return when, record.name, record.state.value, took, error[0][:200] if error else ""


def _statistics_row(one: Statistics) -> tuple[str, ...]:
    times = ("" if seconds is None else duration(seconds) for seconds in (one.median, one.percentile_95))
    return one.name, str(one.runs), str(one.failures), *times
