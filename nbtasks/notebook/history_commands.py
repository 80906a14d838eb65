"""The history in the notebook: where its file is, whose it is, and the commands `%bgtask history` and `restore`.

Knows nothing of how records are kept.
"""

from __future__ import annotations

import argparse
import html
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from nbtasks.exceptions import NbtasksError
from nbtasks.history.history import History
from nbtasks.history.records import ScheduleRecord, Statistics, TaskRecord
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.widgets.recurring_shown import span_text, until_text

if TYPE_CHECKING:
    from nbtasks.notebook.extension import Extension

__all__ = ["HistoryTable", "PastCommands", "history_path", "keep_history", "notebook_name"]

OFF = ("", "0", "off", "no", "none")
MOST_ROWS = 50
NOTE = f"the newest {MOST_ROWS}; manager.history.tasks() has them all"
_COLUMNS = ("when", "name", "state", "took", "error")
_STATISTICS = ("name", "runs", "failures", "median", "95 of 100 within")


def history_path() -> Path | None:
    """Where NBTASKS_HISTORY says, which may be "off"; else in Jupyter's data folder."""
    said = os.environ.get("NBTASKS_HISTORY")
    if said is not None:
        return None if said.strip().lower() in OFF else Path(said)
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "nbtasks" / "history.sqlite"


def notebook_name(shell: InteractiveShell) -> str | None:
    """The notebook that the kernel belongs to, as the server or the editor says; None where nobody does."""
    return os.environ.get("JPY_SESSION_NAME") or shell.user_ns.get("__vsc_ipynb_file__") or None


def keep_history(extension: Extension) -> None:
    """Have the notebook's manager keep a history, unless it does or is not to."""
    path = history_path()
    if extension.manager.history is None and path is not None:
        extension.manager.history = History(path, notebook=notebook_name(extension.shell))


class PastCommands:
    """The commands about what other kernels left."""

    def __init__(self, extension: Extension) -> None:
        self._extension = extension
        self._manager = extension.manager
        self.by_name: dict[str, Callable[[list[str]], None]] = {"history": self._history, "restore": self._restore}

    def offers(self) -> list[ScheduleRecord]:
        """Schedules of this notebook that earlier kernels had; of each name the newest, none that is here again."""
        history = self._manager.history
        if history is None or history.notebook is None:
            return []
        here = {one.name for one in self._manager.list_recurring_tasks()}
        offered = [one for one in history.schedules(notebook=history.notebook) if one.offered]
        offered.sort(key=lambda one: one.updated_at)
        return list({one.name: one for one in offered if one.name not in here}.values())

    @property
    def names(self) -> list[str]:
        """Of what is offered; of nothing where the history cannot be read."""
        try:
            return [one.name for one in self.offers()]
        except NbtasksError:
            return []

    def tell_of_offers(self) -> None:
        """Say which schedules can be restored, if any; a history that cannot be read is not worth an error here."""
        names = self.names
        if names:
            said = f"{len(names)} schedule{'' if len(names) == 1 else 's'} of an earlier kernel of this notebook"
            print(f"{said}: {', '.join(names)}; to take up again: %bgtask restore")

    def _kept(self, command: str) -> History:
        if self._manager.history is None:
            raise UsageError(f"%bgtask {command}: no history is kept; NBTASKS_HISTORY says where, or off")
        return self._manager.history

    def _history(self, words: list[str]) -> None:
        """What ran, in all kernels: [NAME] [--failed] [--since 2d] [--notebook NAME or all] [--statistics]."""
        options = _history_options(words)
        history = self._kept("history")
        notebook = history.notebook if options.notebook is None else options.notebook
        asked: dict[str, Any] = {"since": options.since, "notebook": None if notebook == "all" else notebook}
        if options.statistics:
            table = HistoryTable(_STATISTICS, map(_statistics_row, history.statistics(options.name, **asked)))
        else:
            state = "failed" if options.failed else None
            records = history.tasks(options.name, state=state, limit=MOST_ROWS + 1, **asked)
            everywhere = notebook == "all"
            columns = ("notebook", *_COLUMNS) if everywhere else _COLUMNS
            rows = [((record.notebook or "",) if everywhere else ()) + _row(record) for record in records[-MOST_ROWS:]]
            table = HistoryTable(columns, rows, NOTE if len(records) > MOST_ROWS else "")
        if self._extension.kernel.exists:
            display(table)
        else:
            print(table)

    def _restore(self, names: list[str]) -> None:
        """Take up schedules again that an earlier kernel of this notebook had, all or those named."""
        history = self._kept("restore")
        offers = {one.name: one for one in self.offers()}
        for name in names:
            if name not in offers:
                raise UsageError(f"%bgtask restore: {name!r} is not offered; there are {', '.join(offers) or 'none'}")
        if not offers:
            print("there is nothing to restore")
        for name in names or offers:
            self._take_up(history, offers[name])

    def _take_up(self, history: History, offer: ScheduleRecord) -> None:
        if "lost" in offer.details:
            print(f"{offer.name} cannot be restored: {offer.details['lost']}")
            return
        if not history.claim(offer):
            print(f"{offer.name} was taken up by another kernel")
            return
        try:
            recurring: RecurringTask = self._manager.restore_recurring_task(
                offer.name, offer.id, offer.details, self._extension.template_of_cell(offer)
            )
        except (NbtasksError, SyntaxError) as error:
            history.release(offer)
            print(f"{offer.name} cannot be restored: {error}")
            return
        except BaseException:
            history.release(offer)
            raise
        until = until_text(recurring, datetime.now(UTC))
        print(f"{offer.name} is restored: {f'it fires next in {until}' if until else 'it is off'}")
        self._extension.bind(recurring.name, recurring)
        self._extension.show_schedule(recurring)


class HistoryTable:
    """Rows as a table, with a note below: text, and HTML where that shows."""

    def __init__(self, columns: Sequence[str], rows: Iterable[tuple[str, ...]], note: str = "") -> None:
        self._columns = tuple(columns)
        self._rows = list(rows)
        self._note = note

    def __repr__(self) -> str:
        if not self._rows:
            return "nothing is recorded"
        rows = [self._columns, *self._rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [" ".join(cell.ljust(width + 1) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(line.rstrip() for line in [*lines, *filter(None, [self._note])])

    def _repr_html_(self) -> str:
        if not self._rows:
            return "<p>nothing is recorded</p>"
        cell = 'style="text-align:left;vertical-align:top;white-space:pre-wrap"'
        head = "".join(f'<th scope="col" {cell}>{column}</th>' for column in self._columns)
        body = "".join(
            f"<tr>{''.join(f'<td {cell}>{html.escape(value)}</td>' for value in row)}</tr>" for row in self._rows
        )
        note = f"<p>{self._note}</p>" if self._note else ""
        return f'<table class="nbtasks-history"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}'


def _row(record: TaskRecord) -> tuple[str, ...]:
    when = f"{(record.started_at or record.created_at).astimezone():%Y-%m-%d %H:%M:%S}"
    took = "" if record.duration is None else _duration(record.duration)
    error = (record.error or "").strip().splitlines()
    return when, record.name, record.state.value, took, error[0][:200] if error else ""


def _statistics_row(one: Statistics) -> tuple[str, ...]:
    times = ("" if seconds is None else _duration(seconds) for seconds in (one.median, one.percentile_95))
    return one.name, str(one.runs), str(one.failures), *times


def _duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 60 else span_text(seconds)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"%bgtask history: {message}; see %bgtask help")


def _history_options(words: list[str]) -> Any:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--failed", action="store_true")
    parser.add_argument("--statistics", action="store_true")
    parser.add_argument("--since")
    parser.add_argument("--notebook")
    try:
        options = parser.parse_args(shlex.split(" ".join(words)))
    except ValueError as error:  # an open quote
        raise UsageError(f"%bgtask history: {error}") from None
    if options.failed and options.statistics:
        raise UsageError("%bgtask history: give --failed or --statistics, which counts failures itself, not both")
    return options
