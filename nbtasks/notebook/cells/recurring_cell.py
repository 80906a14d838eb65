"""Recurring cells (`%%bgtask --every`): the template, its runs and their output."""

from __future__ import annotations

import functools
import itertools
import re
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Self

from nbtasks.notebook.cells.cell_task import WAITS_FOR_EARLIER, CellTask, Notebook
from nbtasks.notebook.cells.source import CellSource
from nbtasks.notebook.kernel import LaunchingCell
from nbtasks.notebook.output.output import Message, Output, Send
from nbtasks.notebook.output.publisher import Publisher
from nbtasks.notebook.output.replaced_output import ReplacedOutput
from nbtasks.schedules.interval import looks_like_interval
from nbtasks.schedules.persistence import rule_from, rule_record
from nbtasks.states import TaskState
from nbtasks.task import Outcome, jsonable

__all__ = ["KEPT_RUNS", "CellRun", "CellRuns", "Run", "repeated", "restored_template", "run_once"]

KEPT_RUNS = 10
"""How many of the newest runs of a recurring cell keep their output."""
HOLD_SECONDS = 2.0
"""A run that takes less time is shown when it has ended: its outputs replace those of the one before at once."""
_SCHEDULE_OPTIONS = re.compile(r"""\s--(every|cron|tz)[\s=]+("[^"]*"|'[^']*'|\S+)(?=\s)""")
SWITCH_SECONDS = 0.25
"""The shortest time for which the cell shows one run, however short the interval of the schedule."""


@dataclass(eq=False)
class Run:
    """One run of a recurring cell."""

    output: Output = field(default_factory=Output)
    number: int = 0
    """Counts the runs of the cell, from 1 on; 0 before the run begins."""
    started_at: datetime | None = None
    began_at: float = 0.0
    """On the monotonic clock."""
    state: str = "pending"


class CellRuns:
    """The runs of one recurring cell, which shows the output of the newest.

    `send` publishes messages in the cell; without it, only the panel shows the output. `_lock` guards which run the
    cell shows, and the kept runs.
    """

    def __init__(self, send: Send | None, publisher: Publisher, line: str = "") -> None:
        self.header: Callable[[], Message | None] | None = None
        """Makes the message that shows the panel again, if the front end has cleared the cell; else returns None."""
        self.takes_over: Callable[[], Message | None] | None = None
        """Makes the panel of a cell that has other output, which the first run clears."""
        self.launched: tuple[str, str] | None = None
        """Expression and time zone with which the cell was launched."""
        self._line = line
        """The options of the cell's first line; empty if another kernel had launched it, or a view."""
        self._send = send
        self._replaced = None if send is None else ReplacedOutput(send)
        self._publisher = publisher
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._kept: deque[Run] = deque(maxlen=KEPT_RUNS)
        self._shown = 0
        self._switched_at = float("-inf")
        self._filled = False

    @property
    def shows(self) -> bool:
        """Whether a cell shows the output, not only the panel."""
        return self._send is not None

    @property
    def kept(self) -> list[Run]:
        """The newest runs that have begun, oldest first."""
        with self._lock:
            return list(self._kept)

    def line_to_paste(self, expression: str, zone: str) -> str:
        """The first line that gives the cell this schedule; empty if its own line does, or is unknown."""
        if not self._line or self.launched in (None, (expression, zone)):
            return ""
        line = _SCHEDULE_OPTIONS.sub(" ", f" {self._line} ").strip()
        if looks_like_interval(expression):
            options = f"--every {expression}"
        else:
            options = f'--cron "{expression}"' + ("" if zone == "local" else f" --tz {zone}")
        return f"%%bgtask {line} {options}"

    def make(self, on_publish: Callable[[], None], *, shows_pages: bool) -> Run:
        """A run that has not begun; `on_publish` is called when it has published output."""
        run = Run()
        run.output = _RunOutput(
            functools.partial(self._publish, run),
            self._publisher,
            functools.partial(self._may_publish, run),
            functools.partial(self._flush, run),
        )
        run.output.shows_pages = shows_pages
        run.output.on_publish = on_publish
        return run

    def began(self, run: Run) -> None:
        """Begin a run. The cell shows the output of the run before until there is new output."""
        with self._lock:
            run.number, run.started_at, run.state = next(self._numbers), datetime.now(UTC), "running"
            run.began_at = time.monotonic()
            self._kept.append(run)
        run.output.clear(wait=True)

    def ended(self, run: Run, state: TaskState) -> None:
        """Finish a run. If it wrote nothing, the output of the run before is cleared."""
        run.state = state.value
        silent = not run.output.outputs
        if silent and self._filled and run.number >= self._shown:
            run.output.clear()
            run.output.publish(final=True)
        self._filled = not silent

    def _may_publish(self, run: Run) -> bool:
        """Whether the cell may show the run: nothing newer, and all at once if the run is short."""
        now = time.monotonic()
        if run.number <= self._shown:
            return True
        held = run.state == "running" and now - run.began_at < HOLD_SECONDS
        return not held and now - self._switched_at >= SWITCH_SECONDS

    def _publish(self, run: Run, kind: str, content: dict[str, Any]) -> None:
        """Take a message of `run`, unless the cell shows a later run."""
        with self._lock:
            if run.number > self._shown:
                self._shown, self._switched_at = run.number, time.monotonic()
            if run.number == self._shown and self._replaced is not None:
                self._replaced.take(kind, content)

    def _flush(self, run: Run, *, final: bool) -> None:
        """Show what was taken."""
        with self._lock:
            if run.number != self._shown or self._replaced is None or self._send is None:
                return
            header = None if self.header is None else self.header()
            if self.takes_over is not None:
                takes_over, self.takes_over = self.takes_over, None
                self._send("clear_output", {"wait": True})
                header = takes_over()
            if header is not None:
                self._send(*header)
                self._replaced.forget()
            self._replaced.flush(final=final)


class _RunOutput(Output):
    """The output of a run, which is published when the cell may show the run."""

    def __init__(
        self, send: Send, publisher: Publisher, may_publish: Callable[[], bool], flush: Callable[..., None]
    ) -> None:
        super().__init__(send, publisher)
        self._may_publish = may_publish
        self._flush = flush
        self._owes_final = False

    def publish(self, *, now: bool = False, final: bool = False, in_place: bool = False) -> int:
        """Send what waits, if the run may publish now; a `final` that came too early is made up for."""
        if not self._may_publish():
            if final:
                self._owes_final = True
                self._changed()
            return 0
        final, self._owes_final = final or self._owes_final, False
        sent = super().publish(now=now, final=final, in_place=in_place)
        if sent or final:
            self._flush(final=final)
        return sent

    @property
    def pending(self) -> bool:
        """Whether something waits to be sent."""
        return self._owes_final or super().pending


@dataclass(kw_only=True)
class CellRun(CellTask):
    """A run of a recurring cell, or the template of its runs, which never runs itself."""

    runs: CellRuns = field(repr=False)
    _run: Run = field(default_factory=Run, init=False, repr=False)

    def kept_runs(self) -> CellRuns:
        """The runs of this recurring cell."""
        return self.runs

    def enter(self) -> dict[str, Any]:
        """Enter the task's own world; the first attempt begins the run."""
        if self.attempts == 1:
            self.runs.began(self._run)
        self._run.state = "running"
        return super().enter()

    def on_attempt_end(self, outcome: Outcome) -> Outcome:
        """End the run, too."""
        outcome = super().on_attempt_end(outcome)
        self.runs.ended(self._run, outcome.state)
        return outcome

    def work_record(self) -> dict[str, Any]:
        """What another kernel needs to run this cell on its schedule: see `restored_template`."""
        names = ("priority", "lane", "backend", "timeout", "shared", "atomic")
        options = {name: jsonable(getattr(self, name)) for name in names}
        return {"cell": self.source, "name": self.name, "options": options, "retry": rule_record(self.retry)}

    def clone(self, *, parent_id: str | None = None) -> Self:
        """The task of one run, with an output of its own; without `parent_id` another template."""
        twin = super().clone(parent_id=parent_id)
        if parent_id is not None:
            # The runs keep the output, but not the task.
            on_publish = functools.partial(_call_if_alive, weakref.WeakMethod(twin.output_written))
            twin._run = self.runs.make(on_publish, shows_pages=self.output.shows_pages)
            twin.output = twin._run.output
            self.earlier_runs = twin.earlier_runs = tuple(run for run in self.earlier_runs if not run.done)
            if twin.earlier_runs:
                twin.after, twin.body = twin.earlier_runs, WAITS_FOR_EARLIER
        return twin


def restored_template(
    work: Mapping[str, Any], notebook: Notebook, here: LaunchingCell, publisher: Publisher
) -> CellRun | None:
    """The template of a recurring cell that another kernel recorded; None for other records.

    The cell itself cannot be found again in the front end, so only the panel shows the output.
    """
    if "cell" not in work:
        return None
    code = CellSource(notebook.shell, work["cell"], here.execution_count)
    return CellRun(
        name=work["name"],
        retry=rule_from(work["retry"]),
        code=code,
        notebook=notebook,
        cell=here,
        output=Output(),
        runs=CellRuns(None, publisher),
        **work["options"],
    )


def run_once(task: CellTask, *, cell: LaunchingCell, output: Output) -> CellTask:
    """A new task that runs the cell of `task` once, which may have been a run of a recurring cell."""
    return CellTask(**{**_independent_fields(task), "cell": cell, "output": output})


def repeated(task: CellTask, send: Send, publisher: Publisher) -> CellRun:
    """The template of a recurring cell that repeats `task`, with its output in the same cell."""
    output = Output(None, publisher)
    output.shows_pages = task.output.shows_pages
    return CellRun(**{**_independent_fields(task), "output": output, "runs": CellRuns(send, publisher)})


def _independent_fields(task: CellTask) -> dict[str, Any]:
    """The arguments that make a task like `task`, without its relations to other tasks."""
    given = {one.name: getattr(task, one.name) for one in fields(CellTask) if one.init}
    return {**given, "after": (), "earlier_runs": (), "raises_in_cell": False, "parent_id": None} | (
        task.fields_to_run_again()
    )


def _call_if_alive(method: weakref.WeakMethod[Any]) -> None:
    call = method()
    if call is not None:
        call()
