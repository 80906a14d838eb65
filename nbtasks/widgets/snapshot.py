"""Snapshots: what views show of a task, a recurring task or a group at one moment.

Data only: `html` and `text` render it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from nbtasks.backends.base import runs_in_thread, usage_of
from nbtasks.dependencies import live_children
from nbtasks.formatting import clock, listed, one_line, plain_text, plural, shortened, took
from nbtasks.history.records import TaskRecord
from nbtasks.progress import Meter, meters_of
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.states import TaskState
from nbtasks.task import Task
from nbtasks.widgets.images import image_source

__all__ = [
    "FINAL_STATES",
    "STATE_STYLES",
    "Pace",
    "Snapshot",
    "StateStyle",
    "attempt_text",
    "children_text",
    "group_snapshot",
    "loop_text",
    "progress_state",
    "rate_text",
    "record_snapshot",
    "recurring_state",
    "snapshot_of",
    "task_snapshot",
    "until_text",
    "when_lost",
]


class StateStyle(NamedTuple):
    """How a state looks in every view."""

    sign: str
    label: str
    colour: str


STATE_STYLES = {
    "pending": StateStyle("◌", "pending", "#757575"),
    "running": StateStyle("▶", "running", "#1976d2"),
    "cancelling": StateStyle("◼", "cancelling", "#b26a00"),
    "completed": StateStyle("✔", "completed", "#2e7d32"),
    "failed": StateStyle("✖", "failed", "#c62828"),
    "cancelled": StateStyle("◼", "cancelled", "#b26a00"),
    "lost": StateStyle("?", "lost with the kernel", "#757575"),
    # Recurring tasks between two runs.
    "scheduled": StateStyle("◷", "scheduled", "#1976d2"),
    "paused": StateStyle("‖", "paused", "#757575"),
    "ended": StateStyle("◼", "ended", "#757575"),
    "removed": StateStyle("◼", "removed", "#757575"),
}
FINAL_STATES = ("completed", "failed", "cancelled")

BODY_CHARACTERS = 10_000
ERROR_CHARACTERS = 300
"""Longer errors are cut; the traceback below the panel, and `task.error`, are whole."""

LOOP_LEVELS = 4
"""Maximum number of nested loops in a panel."""
LOOP_CHARACTERS = 20
"""Longer names of loops are cut where their rate is shown."""
ESTIMATE_SECONDS = 1.0
"""Minimum running time before progress that is set by hand gives an estimate of the time left."""
NAMES_LISTED = 3
"""How many names that stay in a process the state names."""
GROUP_NAMES = 3
"""Maximum number of task names in the title of a group."""
GROUP_NAME_CHARACTERS = 40
GROUP_ERRORS = 5
"""Maximum number of errors below the panel of a group."""

_ALMOST_NEVER = 1e9
"""Estimates of more seconds than this are not shown."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The content of a panel at one moment. Equal snapshots look the same."""

    state: str
    """A key of STATE_STYLES."""
    title: str
    body: str = ""
    error: str = ""
    progress: float | None = None
    """0.0 to 100.0; None if unknown."""
    elapsed: float | None = None
    """Seconds from the start to the end, or whole ones up to now; None before the start."""
    cancel_seconds: int | None = None
    """Whole seconds since the cancel was requested, while the work is still running."""
    runs_in_thread: bool = False
    """Whether a process could be ended where the work cannot be stopped."""
    output_tail: str = ""
    """The last lines of output that is held back from the cell because there is too much of it."""
    rate: str = ""
    """Rate of the innermost loop: "12 file/s"; with its name if loops are nested: "batch 40 it/s"."""
    seconds_left: int | None = None
    """Estimated whole seconds until the end; None if unknown."""
    loops: str = ""
    """Positions of nested loops: "epoch 3/10 · batch 40/200"."""
    attempt: str = ""
    """The number of the attempt, from the second one on: "attempt 2 of 3"."""
    children: str = ""
    """Live children by state: "2 running, 1 pending"."""
    process_usage: str = ""
    """Memory and CPU time of the worker process, if there is one."""
    image: str = ""
    """The `src` of the image."""
    state_text: str = ""
    """Text in place of the state's label: "2 running, 3 completed"."""
    kept_names: int = 0
    """How many names a cell that failed or was cancelled has left to the notebook."""
    names_in_process: tuple[str, ...] = ()
    """The names whose live objects a cell has left in its worker process."""
    last_error: str = ""
    """Why the last attempt failed, while a retry is pending."""
    schedule: str = ""
    """Runs and next fire of a recurring task: "3 runs · next in 0:42". Empty for tasks."""

    @property
    def finished(self) -> bool:
        """Whether the state is final; a recurring task is finished once it is removed."""
        if self.state == "lost":
            return True
        return self.state == "removed" if self.schedule else self.state in FINAL_STATES

    @property
    def indeterminate(self) -> bool:
        """Whether the task is running with unknown progress."""
        return self.state == "running" and self.progress is None

    @property
    def note(self) -> str:
        """The line below the bar: the error, or why a cancel takes long, or the body."""
        if self.error:
            return self.error
        if self.state == "pending" and self.last_error:
            return f"the last attempt failed: {self.last_error}"
        if self.cancel_seconds is not None and self.cancel_seconds >= 2:
            waiting = f"cannot be stopped yet; cancel requested {clock(self.cancel_seconds)} ago"
            waiting += "; next time, run it in a process: --backend process" if self.runs_in_thread else ""
            return f"{self.body} ({waiting})" if self.body else waiting
        return self.body

    @property
    def percent(self) -> str:
        """The progress as text: "40%"; empty if unknown."""
        return "" if self.progress is None else f"{self.progress:.0f}%"

    @property
    def figures(self) -> str:
        """The parts of the figures: "40% · 0:18 left · 0:12 · 12 it/s"; at the end "took 6 min 29 s"."""
        return " · ".join(self.figure_parts)

    @property
    def figure_parts(self) -> tuple[str, ...]:
        """Percent and time left, elapsed time, rate, next fire, runs: the most important first, none empty."""
        if self.state in FINAL_STATES and self.elapsed is not None:
            percent = "" if self.state == "completed" else self.percent
            return tuple(filter(None, (percent, took(self.elapsed))))
        left = "" if self.seconds_left is None else f"{clock(self.seconds_left)} left"
        first = " · ".join(filter(None, (self.percent, left)))
        runs_and_fire = reversed(self.schedule.split(" · "))
        return tuple(filter(None, (first, self.elapsed_text, self.rate, *runs_and_fire)))

    @property
    def last_figures(self) -> str:
        """Of the figures those that stay true when the kernel has ended: "40% · 0:12"."""
        return " · ".join(filter(None, (self.percent, self.elapsed_text)))

    @property
    def status(self) -> str:
        """The state as text: "running, attempt 2 of 3", "failed; 3 names kept; g stays in its process"."""
        label = self.state_text or STATE_STYLES[self.state].label
        if self.attempt:
            label += f", {self.attempt}"
        if self.kept_names:
            label += f"; {plural(self.kept_names, 'name')} kept"
        if self.names_in_process:
            stay = "stays" if len(self.names_in_process) == 1 else "stay"
            label += f"; {listed(self.names_in_process, NAMES_LISTED)} {stay} in its process"
        return label

    @property
    def details(self) -> str:
        """Loops, children and usage of the process in one line."""
        children = f"children: {self.children}" if self.children else ""
        return " · ".join(filter(None, (self.loops, children, self.process_usage)))

    @property
    def elapsed_text(self) -> str:
        """The elapsed time: "0:12"; empty before the start."""
        return "" if self.elapsed is None else clock(int(self.elapsed))


def snapshot_of(subject: Task | RecurringTask, now: datetime, *, compact: bool = False) -> Snapshot:
    """The snapshot of a task or recurring task at the aware moment `now`.

    A compact one is without children, process and image.
    """
    if isinstance(subject, RecurringTask):
        return _recurring_snapshot(subject, now, compact=compact)
    return task_snapshot(subject, now, compact=compact)


def task_snapshot(task: Task, now: datetime, *, compact: bool = False) -> Snapshot:
    """The snapshot of a task at `now`; a compact one is without children, process and image."""
    final = task.done
    cancelling = task.cancelling and not final
    end = task.completed_at if final and task.completed_at is not None else now
    pace = Pace.of(task) if task.state is TaskState.RUNNING else Pace()
    error = shortened(_error_text(task), ERROR_CHARACTERS)
    return Snapshot(
        state="cancelling" if cancelling else task.state.value,
        title=one_line(task.heading or task.name),
        body=shortened(plain_text(str(task.body or "")), BODY_CHARACTERS),
        error=error if final else "",
        last_error="" if final else error,
        progress=task.progress if pace.progress is None else pace.progress,
        elapsed=_seconds(task.started_at, end) if final else _whole_seconds(task.started_at, end),
        cancel_seconds=_whole_seconds(task.cancel_requested_at, now) if cancelling else None,
        runs_in_thread=cancelling and runs_in_thread(task),
        output_tail="" if final else _output_tail(task),
        rate=pace.rate,
        seconds_left=None if cancelling else pace.seconds_left,
        loops=pace.loops,
        attempt=attempt_text(task),
        children="" if compact else children_text(task),
        process_usage="" if final or compact else usage_of(task),
        image="" if compact else image_source(task),
        kept_names=_kept_names(task) if final else 0,
        names_in_process=_names_in_process(task) if final else (),
    )


def _recurring_snapshot(recurring: RecurringTask, now: datetime, *, compact: bool) -> Snapshot:
    """Its live run, if there is one; else its schedule."""
    schedule = plural(recurring.total_runs, "run")
    if (until := until_text(recurring, now)) and not recurring.removed:
        schedule += f" · next in {until}"
    if live := recurring.instances:
        shown = task_snapshot(live[-1], now, compact=compact)
        # The line below the bar stays between and during runs, so that the page does not jump.
        body = shown.body or recurring.describe()
        return replace(shown, body=body, rate="", seconds_left=None, schedule=schedule)
    return Snapshot(
        state=recurring_state(recurring),
        title=recurring.name,
        body=recurring.ended or recurring.describe(),
        error=recurring.last_error or "" if recurring.consecutive_failures else "",
        schedule=schedule,
    )


def group_snapshot(tasks: Sequence[Task], now: datetime, *, lost: bool = False) -> Snapshot:
    """Several tasks as one, with their average progress; unfinished ones are `lost` if the kernel ends."""
    counts = Counter(task.state.value for task in tasks)
    finished = not counts["running"] and not counts["pending"]
    state = next(state for state in ("running", "pending", "failed", "cancelled", "completed") if counts[state])
    progress = [100.0 if task.done else task_snapshot(task, now, compact=True).progress or 0.0 for task in tasks]
    starts = [task.started_at for task in tasks if task.started_at is not None]
    ends = [task.completed_at for task in tasks if task.completed_at is not None] if finished else [now]
    failed = [task for task in tasks if task.state is TaskState.FAILED]
    names = [one_line(task.heading or task.name, GROUP_NAME_CHARACTERS) for task in tasks[:GROUP_NAMES]]
    names += ["…"] if len(tasks) > GROUP_NAMES else []
    if lost and not finished:
        state, counts["lost"] = "lost", counts.pop("running", 0) + counts.pop("pending", 0)
    return Snapshot(
        state=state,
        title=f"{plural(len(tasks), 'task')}: {', '.join(names)}",
        error=_errors_text(failed) if finished else "",
        progress=sum(progress) / len(progress),
        elapsed=_group_seconds(starts, ends, finished=finished),
        state_text=", ".join(f"{counts[name]:,} {_state_text(name)}" for name in STATE_STYLES if counts[name]),
    )


def record_snapshot(record: TaskRecord) -> Snapshot:
    """The snapshot of a task of an earlier kernel, from its record."""
    error = "" if record.error in (None, record.state.value) else plain_text(record.error or "")
    if record.state is TaskState.LOST:
        return Snapshot(state="lost", title=one_line(record.name))
    return Snapshot(
        state=record.state.value,
        title=one_line(record.name),
        error=shortened(error, ERROR_CHARACTERS),
        progress=100.0 if record.state is TaskState.COMPLETED else None,
        elapsed=record.duration,
    )


def _state_text(state: str) -> str:
    return STATE_STYLES[state].label if state == "lost" else state


def when_lost(snapshot: Snapshot) -> Snapshot:
    """The last snapshot when the kernel ends: what is not finished is lost."""
    if snapshot.finished:
        return snapshot
    schedule = snapshot.schedule.partition(" · ")[0]
    return replace(snapshot, state="lost", rate="", seconds_left=None, children="", schedule=schedule)


def recurring_state(recurring: RecurringTask) -> str:
    """Its key of STATE_STYLES between runs; "ended" if its rules have switched it off."""
    if recurring.removed:
        return "removed"
    if recurring.enabled:
        return "scheduled"
    return "paused" if recurring.ended is None else "ended"


def progress_state(task: Task) -> tuple[object, ...]:
    """A value that differs whenever the work has reported progress; cheap to compute."""
    counts = [meter.count for meter in meters_of(task)] if task.state is TaskState.RUNNING else None
    return (task.progress, task.heading, task.body, id(task.img), task.cancelling, counts)


# -- rate, time left and loops --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pace:
    """Rate, time left and loops of a running task. Unknown values are empty or None."""

    rate: str = ""
    seconds_left: int | None = None
    loops: str = ""
    progress: float | None = None
    """Progress of the loop that drives the task; more recent than `task.progress`, which is set now and then."""

    @classmethod
    def of(cls, task: Task) -> Pace:
        """The pace of `task` now."""
        now, meters = time.monotonic(), meters_of(task)[:LOOP_LEVELS]
        loops = " · ".join(loop_text(meter) for meter in meters)
        # A single loop of known length and without a name says no more than the bar.
        if len(meters) == 1 and meters[0].total and not meters[0].description:
            loops = ""
        driver = next((meter for meter in meters if meter.total), None)
        inner = meters[-1] if meters else None
        rate = None if inner is None else inner.rate(now)
        left = _estimated_seconds_left(task) if driver is None else driver.seconds_left(now)
        rate_of = "" if rate is None or inner is None else rate_text(rate, inner.unit)
        return cls(
            rate=_whose(inner) + rate_of if rate_of and inner is not None and len(meters) > 1 else rate_of,
            seconds_left=None if left is None or left > _ALMOST_NEVER else round(left),
            loops=loops,
            progress=None if driver is None else driver.percent,
        )


def loop_text(meter: Meter) -> str:
    """The position of a loop: "epoch 3/10", or "1,234 it" if its length is unknown."""
    count = f"{meter.count:,.10g}"
    position = f"{count}/{meter.total:,.10g}" if meter.total else f"{count} {meter.unit}"
    return f"{meter.description} {position}" if meter.description else position


def _whose(meter: Meter) -> str:
    """The loop that a rate belongs to."""
    if meter.description and meter.description != meter.unit:
        return f"{one_line(meter.description, LOOP_CHARACTERS)} "
    return "inner loop " if meter.unit == "it" else ""


def rate_text(rate: float, unit: str) -> str:
    """The rate as "33 file/s" or "2.1 s/file"; two digits, so that the text rarely changes."""
    if rate >= 1:
        return f"{_two_digits(rate)} {unit}/s"
    return f"{_two_digits(1 / rate)} s/{unit}"


def attempt_text(task: Task) -> str:
    """The number of the attempt, from the second one on: "attempt 2 of 3"."""
    number = task.attempts + (task.state is TaskState.PENDING)
    return "" if task.retry is None or number < 2 else f"attempt {number} of {task.retry.attempts}"


def children_text(task: Task) -> str:
    """Live children by state: "2 running, 1 pending"."""
    counts = Counter(child.state.value for child in live_children(task))
    return ", ".join(f"{counts[state]:,} {state}" for state in ("running", "pending") if counts[state])


def _estimated_seconds_left(task: Task) -> float | None:
    """The time left if progress that is set by hand grows evenly."""
    start, progress = task.started_at, task.progress
    elapsed = 0.0 if start is None else time.time() - start.timestamp()
    if not progress or elapsed < ESTIMATE_SECONDS:
        return None
    return elapsed * (100.0 - progress) / progress


def _two_digits(value: float) -> str:
    if value < 10:
        return f"{value:.1f}"
    scale = 10 ** max(0, len(str(int(value))) - 2)
    return f"{int(value / scale) * scale:,}"


# -- text -----------------------------------------------------------------------------------------------------


def _error_text(task: Task) -> str:
    """The error or the reason of a cancel; empty if it only repeats the state."""
    return "" if task.error is None or task.error == task.state.value else plain_text(task.error)


def _errors_text(failed: Sequence[Task]) -> str:
    errors = [
        one_line(f"{task.heading or task.name}: {task.error}", ERROR_CHARACTERS) for task in failed[:GROUP_ERRORS]
    ]
    more = [f"… and {len(failed) - GROUP_ERRORS} more"] if len(failed) > GROUP_ERRORS else []
    return "\n".join([*errors, *more])


def _output_tail(task: Task) -> str:
    cell = task.cell_details()
    return "" if cell is None else plain_text(cell.output.tail)


def _kept_names(task: Task) -> int:
    cell = task.cell_details()
    return 0 if cell is None else cell.kept_names


def _names_in_process(task: Task) -> tuple[str, ...]:
    cell = task.cell_details()
    return () if cell is None else cell.names_in_process


def _group_seconds(starts: list[datetime], ends: list[datetime], *, finished: bool) -> float | None:
    if not starts or not ends:
        return None
    return (_seconds if finished else _whole_seconds)(min(starts), max(ends))


def _seconds(start: datetime | None, end: datetime) -> float | None:
    return None if start is None else max(0.0, (end - start).total_seconds())


def _whole_seconds(start: datetime | None, end: datetime) -> int | None:
    return None if start is None else max(0, int((end - start).total_seconds()))


def until_text(recurring: RecurringTask, now: datetime) -> str:
    """The time until the next fire: "0:42", "1:02:05", "3 d 4 h"; empty if none is planned."""
    fire = recurring.next_run
    return "" if fire is None else clock((fire.astimezone(UTC) - now).total_seconds())
