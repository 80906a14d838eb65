"""Queries of the list of the history: what is asked for, and what is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nbtasks.history.history import History
from nbtasks.history.records import NamePage, Run, Statistics, TaskRecord
from nbtasks.widgets.run_list import run_list_html

__all__ = [
    "PAGE_NAMES",
    "PAGE_RUNS",
    "ListAnswer",
    "OpenAnswer",
    "RunQuery",
    "read_list",
    "read_open",
    "run_list_bundle",
]

PAGE_NAMES, PAGE_RUNS = 20, 10


@dataclass(frozen=True, slots=True)
class RunQuery:
    """What is shown: the arguments of `History.tasks`, the page, and what is open."""

    name: str | None = None
    state: str | None = None
    notebook: str | None = None
    since: str | None = None
    text: str = ""
    page: int = 0
    opened: str | None = None
    """The name whose runs are open."""
    opened_page: int = 0
    run: str | None = None
    """The id of the run whose details are open; None: the newest one; "" none."""

    @property
    def where(self) -> dict[str, Any]:
        """The arguments that the last runs of a name are chosen by."""
        return {"notebook": self.notebook, "since": self.since}

    @property
    def of_list(self) -> RunQuery:
        """The same with nothing open."""
        return replace(self, opened=None, opened_page=0, run=None)


@dataclass(frozen=True, slots=True)
class ListAnswer:
    """The names on a page, and the newest run of each."""

    page: NamePage
    newest: Mapping[str, TaskRecord]


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """What is shown below an open line."""

    statistics: Statistics | None
    last: Sequence[Run]
    records: Sequence[TaskRecord]
    """A page of its runs, newest first."""


def read_list(history: History, query: RunQuery) -> ListAnswer:
    """Read one page of names. Raises HistoryError."""
    page = history.runs_by_name(
        query.name,
        **{"text": query.text, "state": query.state, **query.where},
        limit=PAGE_NAMES,
        offset=query.page * PAGE_NAMES,
    )
    return ListAnswer(page, history.newest_tasks([named.name for named in page.names], **query.where))


def read_open(history: History, query: RunQuery) -> OpenAnswer | None:
    """Read what is shown below the open line; None if none is open. Raises HistoryError."""
    if query.opened is None:
        return None
    found = history.tasks(
        query.opened,
        **{"text": query.text, "state": query.state, **query.where},
        limit=PAGE_RUNS,
        offset=query.opened_page * PAGE_RUNS,
    )
    statistics = history.statistics(query.opened, **query.where)
    last = history.last_runs(query.opened, **query.where)
    return OpenAnswer(statistics[0] if statistics else None, last, found[::-1])


def run_list_bundle(answer: ListAnswer, text: str) -> dict[str, Any]:
    """The mime bundle of the static list, with `text` for viewers without HTML."""
    left_out = answer.page.total - len(answer.page.names)
    note = f" · {left_out:,} more names: manager.history.tasks()" if left_out > 0 else ""
    return {"text/html": run_list_html(answer.page, answer.newest, note), "text/plain": text}
