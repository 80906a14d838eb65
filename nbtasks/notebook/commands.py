"""The commands of the line magic `%bgtask`: `list`, `wait`, `cancel` and others."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from IPython.core.error import UsageError

from nbtasks.exceptions import NbtasksError, unknown
from nbtasks.formatting import plural
from nbtasks.history.history import History
from nbtasks.history.records import ScheduleRecord
from nbtasks.notebook.adoption import adopt
from nbtasks.notebook.cells.cell_task import CellTask
from nbtasks.notebook.cells.errors import without_own_frames
from nbtasks.notebook.history_table import statistics_table, task_table
from nbtasks.notebook.options import OptionParser
from nbtasks.notebook.past import offered_schedules
from nbtasks.notebook.session import NotebookSession
from nbtasks.schedules.export import TARGETS, export, exported_cell
from nbtasks.schedules.interval import parse_interval
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task
from nbtasks.task_list import Sweep, TaskList, first_unsuccessful
from nbtasks.widgets.run_list import statistics_html
from nbtasks.widgets.run_query import RunQuery
from nbtasks.widgets.snapshot import task_snapshot, until_text
from nbtasks.widgets.text import task_list

__all__ = ["Commands"]

MOST_ROWS = 50
NO_RAISE = "--no-raise"

Named = TypeVar("Named")


class Commands:
    """The commands of `%bgtask`.

    A name stands for the newest task or schedule of that name. Each command is a method that takes the words after its
    name; its docstring is its line in `%bgtask help`.
    """

    def __init__(self, session: NotebookSession) -> None:
        self._session = session
        self._manager = session.manager
        self._of_tasks: dict[str, Callable[[list[str]], Task | None]] = {
            "list": self._list,
            "show": self._show,
            "wait": self._wait,
            "cancel": self._cancel,
            "adopt": self._adopt,
            "retry": self._retry,
            "debug": self._debug,
            "prune": self._prune,
            "timeline": self._timeline,
            "workers": self._workers,
        }
        self._of_schedules: dict[str, Callable[[list[str]], Task | None]] = {
            "schedules": self._schedules,
            "pause": self._pause,
            "resume": self._resume,
            "run": self._run,
            "remove": self._remove,
            "export": self._export,
        }
        self._all: dict[str, Callable[[list[str]], Task | None]] = {
            **self._of_tasks,
            **self._of_schedules,
            "serve": self._serve,
            "history": self._history,
            "restore": self._restore,
            "help": self._help,
        }

    def run(self, line: str) -> Task | None:
        """Run the command that stands after `%bgtask`; without one, show the task table.

        Returns a task whose error is to be raised.
        """
        if not line.strip():
            self._session.show_table()
            return None
        command, *words = line.split()
        if command in ("--help", "-h"):
            command = "help"
        if command not in self._all:
            raise UsageError(f"%bgtask: {unknown('command', command, self._all)}")
        return self._all[command](words)

    def complete(self, line: str) -> list[str]:
        """Completions of the last word of a line that starts with `%bgtask`."""
        words = line.split(" ")[1:]
        if len(words) <= 1:
            return list(self._all)
        if words[0] == "restore":
            return [offer.name for offer in self._offers_or_none()]
        if words[0] == "export":
            return list(TARGETS) if words[-2] == "--to" else [*self._schedules_by_name(), "--to", "--notebook"]
        if words[0] in self._of_schedules:
            return list(self._schedules_by_name())
        return [*dict.fromkeys(task.name for task in self._manager.list_tasks()), *self._task_lists()]

    def tasks(self, command: str, names: list[str]) -> list[Task]:
        """The newest task of each name; `command` is named in errors.

        The name of a variable that is a sweep, or a list of `manager.map`, stands for all of its tasks.
        """
        tasks = {task.name: task for task in self._manager.list_tasks()}
        known: dict[str, Task | TaskList] = {**self._task_lists(), **tasks}
        found = _named(command, "task", names, known)
        return [task for one in found for task in (one if isinstance(one, TaskList) else [one])]

    def _task_lists(self) -> dict[str, TaskList]:
        variables = self._session.shell.user_ns.copy()
        return {name: value for name, value in variables.items() if type(value) in (TaskList, Sweep)}

    # -- tasks ----------------------------------------------------------------------------------------------------

    def _list(self, words: list[str]) -> None:
        """Print the tasks, oldest first."""
        _check_no_words("list", words)
        print(task_list(self._manager.list_tasks()))

    def _show(self, names: list[str]) -> None:
        """Show panel and output of tasks or schedules in this cell: NAME ..."""
        known: dict[str, Task | RecurringTask | TaskList] = {**self._task_lists()}
        known.update({task.name: task for task in self._manager.list_tasks()})
        known.update(self._schedules_by_name())
        for one in _named("%bgtask show", "task", names, known):
            if isinstance(one, RecurringTask):
                self._session.show_schedule(one)
            elif isinstance(one, TaskList):
                self._session.show_tasks(one)
            else:
                self._session.show(one)

    def _wait(self, words: list[str]) -> Task | None:
        """Wait for tasks, by default all; raise the error of one that failed: [NAME ...] [--no-raise]"""
        parser = OptionParser("wait")
        parser.add_argument("names", nargs="*")
        parser.add_argument(NO_RAISE, action="store_true")
        options = parser.parse_args(words)
        names = options.names
        every = [*self._session.unseen_failures(), *self._manager.active_tasks]
        tasks = self.tasks("%bgtask wait", names) if names else every
        with self._session.panels.while_waiting(tasks):
            for task in tasks:
                self._manager.wait(task)
                snapshot = task_snapshot(task, datetime.now(UTC))
                print(f"{task.name}: {snapshot.state}" + (f" ({snapshot.error})" if snapshot.error else ""))
        if options.no_raise:
            return None
        return first_unsuccessful(tasks)

    def _cancel(self, names: list[str]) -> None:
        """Cancel tasks: NAME ..."""
        for task in self.tasks("%bgtask cancel", names):
            if not self._manager.cancel_task(task):
                print(f"{task.name} is already {task.state.value}")

    def _adopt(self, words: list[str]) -> None:
        """Send the running cell to the background, at this line; the cells after it run: [NAME]"""
        if len(words) > 1:
            raise UsageError(f"%bgtask adopt: takes one name at most, not {' '.join(words)!r}")
        adopt(*words)

    def _retry(self, names: list[str]) -> None:
        """Run finished tasks once more, with their output in this cell: NAME ..."""
        for task in self.tasks("%bgtask retry", names):
            if not task.done:
                raise UsageError(f"%bgtask retry: {task.name!r} is still {task.state.value}")
            self._session.run_again(task)

    def _debug(self, names: list[str]) -> None:
        """Open the debugger where a task failed: NAME"""
        tasks = self.tasks("%bgtask debug", names[:1])
        task = first_unsuccessful(tasks) or tasks[0]
        error = task.exception
        if error is None or error.__traceback__ is None:
            raise UsageError(f"%bgtask debug: {task.name!r} is {task.state.value}; there is no error to debug")
        if isinstance(task, CellTask) and task.released:
            raise UsageError(
                f"%bgtask debug: the variables of {task.name!r} were released, as no variable of the notebook refers "
                "to the task; run the cell again"
            )
        debugger = self._session.shell.debugger_cls()
        debugger.reset()
        debugger.interaction(None, without_own_frames(error.__traceback__))

    def _prune(self, words: list[str]) -> None:
        """Remove all finished tasks from the list."""
        _check_no_words("prune", words)
        count = sum(self._manager.prune(state) for state in ("completed", "cancelled", "failed"))
        print(f"pruned {plural(count, 'task')}")

    def _timeline(self, words: list[str]) -> None:
        """Show when tasks ran, by lane, and the next runs; since the first start, or of the last: [30m | 6h]"""
        if len(words) > 1:
            raise UsageError(f"%bgtask timeline: takes one length of time, such as 30m or 6h, not {' '.join(words)!r}")
        self._session.show_timeline(parse_interval(words[0]) if words else None)

    def _workers(self, words: list[str]) -> None:
        """List the worker processes, with their memory and CPU time."""
        _check_no_words("workers", words)
        print(self._session.workers.listing())

    def _serve(self, words: list[str]) -> None:
        """Serve the tasks as a web page, also through a proxy: [--port N] [--host NAME] [--stop]"""
        options = _serve_options(words)
        if options.stop:
            print("The web page is not served any more" if self._session.stop_serving() else "Nothing was served")
            return
        try:
            server = self._session.serve(options.port, options.host)
        except NbtasksError as error:
            raise UsageError(f"%bgtask serve: {error}") from None
        print(f"Tasks of this notebook: {server.address}")
        print("Keep the address to yourself: its token lets a browser cancel tasks and run them again")

    # -- schedules ------------------------------------------------------------------------------------------------

    def _schedules(self, names: list[str]) -> None:
        """Show the controls of schedules, by default of all: [NAME ...]"""
        self._session.show_schedules(self._recurring("schedules", names) if names else None)
        offers = [] if names else self._offers_or_none()
        if offers:
            found = f"{plural(len(offers), 'schedule')} of an earlier kernel of this notebook"
            print(f"{found}: {', '.join(offer.name for offer in offers)}; to restore: %bgtask restore")

    def _pause(self, names: list[str]) -> None:
        """Pause schedules; running tasks continue: NAME ..."""
        for one in self._recurring("pause", names):
            print(f"{one.name} is paused" if one.disable() else f"{one.name} was not active")

    def _resume(self, names: list[str]) -> None:
        """Resume paused schedules: NAME ..."""
        for one in self._recurring("resume", names):
            if one.enable():
                print(f"{one.name} is resumed; next run in {until_text(one, datetime.now(UTC))}")
            else:
                print(f"{one.name} was active" if one.enabled else f"{one.name} cannot be resumed: {one.ended}")

    def _run(self, names: list[str]) -> None:
        """Run schedules once now, besides their times: NAME ..."""
        for one in self._recurring("run", names):
            if one.run_now() is None:
                print(f"skipped: {one.name!r} is already running (max_concurrent={one.max_concurrent})")

    def _remove(self, names: list[str]) -> None:
        """Remove schedules; running tasks continue: NAME ..."""
        for one in self._recurring("remove", names):
            one.remove()

    def _export(self, words: list[str]) -> None:
        """Print what runs a recurring cell by another scheduler: NAME --to cron|systemd|... [--notebook PATH]"""
        options = _export_options(words)
        [recurring] = self._recurring("export", [options.name])
        if not isinstance(recurring.template, CellTask):
            raise UsageError(f"%bgtask export: {options.name!r} is no cell; nbtasks run --only runs cells")
        notebook = self._notebook_path(options.notebook)
        cell = exported_cell(recurring, notebook, sys.executable)
        print(export(options.to, cell))
        if not re.search(rf"%%bgtask\s+{re.escape(cell.name)}(?![^\s\"\\])", notebook.read_text(errors="replace")):
            print(f"- save the notebook first: {notebook.name} has no cell that begins with %%bgtask {cell.name}")

    def _notebook_path(self, given: str | None) -> Path:
        """The notebook's file: the one given, or that of this kernel."""
        name = given or self._session.kernel.notebook_name
        if name is None:
            raise UsageError("%bgtask export: this kernel does not know its notebook's file; add --notebook PATH")
        # Servers pass the path from their root folder; a kernel runs in the folder of its notebook.
        paths = [Path(name).expanduser().absolute()] + ([] if given else [Path(Path(name).name).absolute()])
        for path in paths:
            if path.is_file():
                return path
        raise UsageError(f"%bgtask export: there is no notebook {name!r}; add --notebook PATH, the path of its file")

    def _recurring(self, command: str, names: list[str]) -> list[RecurringTask]:
        """The newest schedule of each name."""
        return _named(f"%bgtask {command}", "schedule", names, self._schedules_by_name())

    def _schedules_by_name(self) -> dict[str, RecurringTask]:
        return {one.name: one for one in self._manager.list_recurring_tasks()}

    # -- history --------------------------------------------------------------------------------------------------

    def _history(self, words: list[str]) -> None:
        """Show runs by name: [NAME] [--failed] [--since 2d] [--notebook NAME|all] [--statistics]"""
        options = _history_options(words)
        history = self._kept_history("history")
        everywhere = options.notebook == "all"
        notebook = None if everywhere else options.notebook or history.notebook
        if options.statistics:
            statistics = history.statistics(options.name, since=options.since, notebook=notebook, limit=MOST_ROWS)
            text = statistics_table(statistics)
            last = {one.name: history.last_runs(one.name, since=options.since, notebook=notebook) for one in statistics}
            self._session.panels.show_static({"text/html": statistics_html(statistics, last), "text/plain": text})
            return
        state = "failed" if options.failed else None
        records = history.tasks(options.name, state=state, since=options.since, notebook=notebook, limit=MOST_ROWS + 1)
        note = f"the newest {MOST_ROWS}; all: manager.history.tasks()" if len(records) > MOST_ROWS else ""
        text = task_table(records[-MOST_ROWS:], with_notebook=everywhere, note=note)
        query = RunQuery(options.name, state, notebook, options.since)
        self._session.show_history(history, query, text)

    def _restore(self, names: list[str]) -> None:
        """Restore schedules that an earlier kernel of this notebook had, by default all: [NAME ...]"""
        history = self._kept_history("restore")
        offers = {offer.name: offer for offer in offered_schedules(self._manager)}
        if not names and not offers:
            print("nothing to restore")
            return
        chosen = _named("%bgtask restore", "schedule", names, offers) if names else list(offers.values())
        for offer in chosen:
            self._restore_one(history, offer)

    def _restore_one(self, history: History, offer: ScheduleRecord) -> None:
        if "lost" in offer.details:
            print(f"{offer.name} cannot be restored: {offer.details['lost']}")
            return
        if not history.claim(offer):
            print(f"{offer.name} was restored in another kernel")
            return
        try:
            template = self._session.restored_template(offer)
            recurring = self._manager.restore_recurring_task(offer.name, offer.id, offer.details, template)
        except (NbtasksError, SyntaxError) as error:
            history.release(offer)
            print(f"{offer.name} cannot be restored: {error}")
            return
        except BaseException:
            history.release(offer)
            raise
        until = until_text(recurring, datetime.now(UTC))
        print(f"{offer.name} is restored; {f'next run in {until}' if until else 'it is paused'}")
        self._session.bind(recurring.name, recurring)
        self._session.show_schedule(recurring)

    def _kept_history(self, command: str) -> History:
        if self._manager.history is None:
            raise UsageError(
                f"%bgtask {command}: no history is kept; the environment variable NBTASKS_HISTORY sets its file, or off"
            )
        return self._manager.history

    def _offers_or_none(self) -> list[ScheduleRecord]:
        """The same, for commands that need not fail where the history cannot be read."""
        try:
            return offered_schedules(self._manager)
        except NbtasksError:
            return []

    def _help(self, words: list[str]) -> None:
        """Show this help."""
        _check_no_words("help", words)
        print(f"{'%bgtask':18} Show the task table.")
        for name, command in self._all.items():
            print(f"%bgtask {name:10} {command.__doc__}")
        print("%%bgtask? lists the options of %%bgtask, which runs a cell as a task.")


def _named(command: str, what: str, names: list[str], known: Mapping[str, Named]) -> list[Named]:
    """The tasks or schedules of these names. Raises UsageError, in the name of `command`."""
    if not names:
        raise UsageError(f"{command}: {what} name required")
    for name in names:
        if name.startswith("--") and name not in known:
            raise UsageError(f"{command}: takes {what} names and no option {name}; see %bgtask help")
        if name not in known:
            raise UsageError(f"{command}: {_unknown(what, name, known)}")
    return [known[name] for name in names]


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    return unknown(what, name, known) if known else f"unknown {what} {name!r}: there are no {what}s"


def _check_no_words(command: str, words: list[str]) -> None:
    if words:
        raise UsageError(f"%bgtask {command}: takes no names, not {' '.join(words)!r}")


def _serve_options(words: list[str]) -> argparse.Namespace:
    parser = OptionParser("serve")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", action="append", default=[])
    parser.add_argument("--stop", action="store_true")
    return parser.parse_args(words)


def _export_options(words: list[str]) -> argparse.Namespace:
    parser = OptionParser("export")
    parser.add_argument("name")
    parser.add_argument("--to")
    parser.add_argument("--notebook")
    try:
        options = parser.parse_args(shlex.split(" ".join(words)))
    except ValueError as error:  # an open quote
        raise UsageError(f"%bgtask export: {error}") from None
    if options.to is None:
        raise UsageError(f"%bgtask export: add --to and one of {', '.join(TARGETS)}")
    return options


def _history_options(words: list[str]) -> argparse.Namespace:
    parser = OptionParser("history")
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
        raise UsageError("%bgtask history: use either --failed or --statistics, which counts failures itself, not both")
    return options
