"""Recurring cells: the template that `%%bgtask --every` makes of a cell, its runs, and where their output shows.

Knows nothing of magics and widgets, nor of when a run is due.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Self

from nbtasks.exceptions import InvalidValueError
from nbtasks.manager import TaskManager
from nbtasks.notebook.cells.cell_task import CellPlace, CellTask
from nbtasks.notebook.cells.source import CellSource
from nbtasks.notebook.kernel import Kernel, LaunchingCell
from nbtasks.notebook.output.output import Message, Output, Send
from nbtasks.notebook.output.publisher import Publisher
from nbtasks.notebook.panels import Panels
from nbtasks.schedules.persistence import rule_from, rule_record
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.states import TaskState
from nbtasks.task import Outcome, Task, jsonable

__all__ = ["KEPT_RUNS", "CellRepeats", "CellRun", "CellRuns", "Run", "once_more", "repeated", "template_from"]

MOST_NAMES = 100


class CellRepeats:
    """Background cells, and tasks of a class of their own, put on a schedule; the newest of each name."""

    def __init__(self, manager: TaskManager, kernel: Kernel, panels: Panels, publisher: Publisher) -> None:
        self._manager = manager
        self._kernel = kernel
        self._panels = panels
        self._publisher = publisher

    def names(self) -> list[str]:
        """What could be repeated, the newest first: what has no schedule yet, and of very many the newest."""
        return list(self._newest())[:MOST_NAMES]

    def repeat(self, name: str, schedule: str, timezone: str) -> RecurringTask:
        """Put the newest task of that name on a schedule; of a cell, each run takes the place of its output.

        Raises InvalidValueError where there is none that could be, and what `add_recurring_task` raises.
        """
        task = self._newest().get(name)
        if task is None:
            raise InvalidValueError(f"there is no task {name!r} that could be put on a schedule")
        if not task.done:
            raise InvalidValueError(f"{name!r} is {task.state.value}: a template is never run itself; wait for it")
        if not isinstance(task, CellTask):
            return self._manager.add_recurring_task(schedule, task._clone(), timezone=timezone)
        template = repeated(task, functools.partial(self._kernel.send, task.cell), self._publisher)
        recurring = self._manager.add_recurring_task(schedule, template, timezone=timezone)
        template.runs.header = functools.partial(self._panels.header, recurring, task.cell)
        if template.output.shows_pages:
            self._panels.show(recurring, task.cell)
        return recurring

    def _newest(self) -> dict[str, Task]:
        scheduled = {one.name for one in self._manager.list_recurring_tasks()}
        newest: dict[str, Task] = {}
        for task in reversed(self._manager.list_tasks()):
            if type(task) is not Task and task.parent_id is None and task.name not in scheduled:
                newest.setdefault(task.name, task)
        return newest


KEPT_RUNS = 10
"""Of so many runs of a recurring cell, the newest, the output is kept."""
SWITCH_SECONDS = 0.25
"""The cell goes from one run to another no more often than this, however short the interval."""


@dataclass(eq=False)
class Run:
    """What is kept of one run. `number` counts the runs of the cell from 1 on; it is 0 before the run begins."""

    output: Output = field(default_factory=Output)
    number: int = 0
    started_at: datetime | None = None
    state: str = "pending"


class CellRuns:
    """The runs of one recurring cell. Each replaces, in the cell, what the one before has written there.

    `_lock` guards which run the cell shows, and the kept runs.
    """

    def __init__(self, send: Send | None, publisher: Publisher) -> None:
        self.header: Any = None
        """Gives the message that stays at the top of the cell: the panel."""
        self._send = send
        self._publisher = publisher
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._kept: deque[Run] = deque(maxlen=KEPT_RUNS)
        self._shown = 0
        self._switched_at = float("-inf")
        self._filled = False

    @property
    def shows(self) -> bool:
        """Whether a cell shows the runs; else only their panel can."""
        return self._send is not None

    @property
    def kept(self) -> list[Run]:
        """The last runs that have begun, oldest first."""
        with self._lock:
            return list(self._kept)

    def make(self, wrote: weakref.WeakMethod[Any], *, shows_pages: bool) -> Run:
        """A run that has not begun; `wrote` is called when it has published output."""
        run = Run()
        may_publish = functools.partial(self._may_publish, run)
        run.output = _RunOutput(functools.partial(self._publish, run), self._publisher, may_publish)
        run.output.shows_pages = shows_pages
        run.output.header = self._header
        run.output.on_publish = functools.partial(_call, wrote)  # a kept output is not to keep the task
        return run

    def began(self, run: Run) -> None:
        """Its work begins. What the cell shows stays until there is something to show in its place."""
        with self._lock:
            run.number, run.started_at, run.state = next(self._numbers), datetime.now(UTC), "running"
            self._kept.append(run)
        run.output.clear(wait=True)

    def ended(self, run: Run, state: TaskState) -> None:
        """It is over. One that wrote nothing leaves nothing of the one before."""
        run.state = state.value
        silent = not run.output.outputs
        if silent and self._filled and run.number >= self._shown:
            run.output.clear()
            run.output.publish(final=True)
        self._filled = not silent

    def _may_publish(self, run: Run) -> bool:
        return run.number <= self._shown or time.monotonic() - self._switched_at >= SWITCH_SECONDS

    def _header(self) -> Message | None:
        header: Message | None = self.header() if self.header is not None else None
        return header

    def _publish(self, run: Run, kind: str, content: dict[str, Any]) -> None:
        """Send a message of `run`, unless a later one has taken the cell."""
        with self._lock:
            if run.number > self._shown:
                self._shown, self._switched_at = run.number, time.monotonic()
            if run.number == self._shown and self._send is not None:
                self._send(kind, content)


class _RunOutput(Output):
    """The output of a run, which waits for its turn in the cell."""

    def __init__(self, send: Send, publisher: Publisher, may_publish: Callable[[], bool]) -> None:
        super().__init__(send, publisher)
        self._may_publish = may_publish
        self._owes_final = False

    def publish(self, *, now: bool = False, final: bool = False) -> int:
        """Send what waits, once it may; what the end of the run had to send then comes with it."""
        if not self._may_publish():
            if final:
                self._owes_final = True
                self._changed()
            return 0
        final, self._owes_final = final or self._owes_final, False
        return super().publish(now=now, final=final)

    @property
    def pending(self) -> bool:
        """Whether something waits to be published that `publish` would send by now or soon."""
        return self._owes_final or super().pending


@dataclass(kw_only=True)
class CellRun(CellTask):
    """One run of a recurring cell; or its template, which is never run itself."""

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

    def _attempt_ended(self, outcome: Outcome) -> Outcome:
        outcome = super()._attempt_ended(outcome)
        self.runs.ended(self._run, outcome.state)
        return outcome

    def _work_record(self) -> dict[str, Any]:
        """What the history needs to have for another kernel to run this cell on its schedule."""
        options = {name: jsonable(getattr(self, name)) for name in ("priority", "lane", "backend", "timeout", "shared")}
        return {"cell": self.source, "name": self.name, "options": options, "retry": rule_record(self.retry)}

    def _clone(self, *, parent_id: str | None = None) -> Self:
        twin = super()._clone(parent_id=parent_id)
        if parent_id is not None:
            wrote = weakref.WeakMethod(twin._output_written)
            twin._run = self.runs.make(wrote, shows_pages=self.output.shows_pages)
            twin.output = twin._run.output
        return twin


def template_from(
    work: Mapping[str, Any], place: CellPlace, here: LaunchingCell, publisher: Publisher
) -> CellRun | None:
    """The template of a recurring cell, from what another kernel recorded; None if that was no cell.

    The cell it was in is not known: its output is shown by its panel.
    """
    if "cell" not in work:
        return None
    code = CellSource(place.shell, work["cell"], here.execution_count)
    return CellRun(
        name=work["name"],
        retry=rule_from(work["retry"]),
        code=code,
        place=place,
        cell=here,
        output=Output(),
        runs=CellRuns(None, publisher),
        **work["options"],
    )


def once_more(task: CellTask, **changes: Any) -> CellTask:
    """A cell task that does what `task` did, on its own: a run of a recurring cell too runs once then."""
    return CellTask(**{**_alone(task), **changes})


def repeated(task: CellTask, send: Send, publisher: Publisher) -> CellRun:
    """The template of a recurring cell that does what `task` did, in the same cell."""
    output = Output(None, publisher)
    output.shows_pages = task.output.shows_pages
    return CellRun(**{**_alone(task), "output": output, "runs": CellRuns(send, publisher)})


def _alone(task: CellTask) -> dict[str, Any]:
    """What `task` was given, without its ties to other tasks and to whoever waits."""
    given = {one.name: getattr(task, one.name) for one in fields(CellTask) if one.init}
    return {**given, "after": (), "earlier_runs": (), "raises_in_cell": False, "parent_id": None}


def _call(method: weakref.WeakMethod[Any]) -> None:
    call = method()
    if call is not None:
        call()
