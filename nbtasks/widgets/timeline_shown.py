"""The timeline of a manager: what its tasks, its history and its schedules have to show, drawn anew now and then.

Knows nothing of widgets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from nbtasks.exceptions import NbtasksError
from nbtasks.history.records import TaskRecord
from nbtasks.manager import TaskManager
from nbtasks.task import Task
from nbtasks.widgets.timeline import Bar, Fire, Timeline

__all__ = ["SPAN", "PictureTimeline", "timeline_of"]

SPAN = timedelta(hours=1)
DRAW_SECONDS = 2.0
BYTES_A_SECOND, DRAW_SHARE = 50_000, 50
"""How often the picture is drawn anew: every two seconds, larger ones and those that took long less often."""
FIRES = 20
MOST_BARS = 3_000
"""How many that were started are drawn, the newest."""


def timeline_of(manager: TaskManager, span: timedelta = SPAN, now: datetime | None = None) -> Timeline:
    """What there was in the last `span`: of the tasks that the manager has, and of those that its history has."""
    now = now or datetime.now(UTC)
    tasks = manager.list_tasks()
    bars = [bar for task in tasks for bar in _bars(manager, task) if (bar.ended_at or now) >= now - span]
    known = {task.id for task in tasks}
    bars += [bar for record in _records(manager, span) if record.id not in known and (bar := _past_bar(record))]
    bars.sort(key=lambda bar: bar.waits_from)
    begun = [bar for bar in bars if bar.started_at is not None]
    waiting = [bar for bar in bars if bar.started_at is None]
    schedules = [one for one in manager.list_recurring_tasks() if one.enabled]
    fires = [Fire(one.name, at) for one in schedules for at in one.next_fires(FIRES)]
    return Timeline([*begun[-MOST_BARS:], *waiting], fires, now, span)


def _bars(manager: TaskManager, task: Task) -> list[Bar]:
    """One for each attempt, the last one last."""
    state, created = task.state.value, task.created_at
    if created is None:
        return []
    bars, waits_from = [], created
    for past in manager.past_attempts(task):
        note = f"attempt {past.number}: {past.error}"
        bars.append(Bar(task.name, task.lane, "failed", waits_from, past.started_at, past.ended_at, note))
        waits_from = past.ended_at
    began = task.started_at if task.started_at is not None and task.started_at >= waits_from else None
    note = f"attempt {len(bars) + 1}" if bars else ""
    note = f"{note} {task.error or ''}".strip() if task.done else note
    shown = "cancelling" if task.cancelling else state
    return [*bars, Bar(task.name, task.lane, shown, waits_from, began, task.completed_at, note)]


def _records(manager: TaskManager, span: timedelta) -> list[TaskRecord]:
    history = manager.history
    if history is None:
        return []
    try:
        return list(history.tasks(since=span, notebook=history.notebook, limit=MOST_BARS))
    except NbtasksError:  # a history that cannot be read has said so itself; the picture goes without it
        return []


def _past_bar(record: TaskRecord) -> Bar | None:
    if record.completed_at is None:
        return None
    state = record.state.value
    return Bar(
        record.name, record.lane, state, record.created_at, record.started_at, record.completed_at, record.error or ""
    )


class PictureTimeline:
    """The timeline as a picture that is replaced in its document; a view for the live writer."""

    def __init__(self, manager: TaskManager, span: timedelta = SPAN) -> None:
        self.replace: Callable[[dict[str, Any]], None] | None = None
        """Puts a new bundle in the place of the last one."""
        self._manager = manager
        self._span = span
        self._due = float("-inf")
        self._bundle = self._draw()

    @property
    def ticks(self) -> bool:
        """Time goes on."""
        return True

    def refresh(self) -> int:
        """Draw it anew, unless that was done a moment ago."""
        if time.monotonic() < self._due:
            return 0
        bundle = self._draw()
        if bundle == self._bundle:
            return 0
        self._bundle = bundle
        return self._show()

    def bundle(self) -> dict[str, Any]:
        """The mime bundle as it was last drawn."""
        return self._bundle

    def close(self) -> None:
        """There is nothing to close: the picture stays."""
        self.replace = None

    def _draw(self) -> dict[str, Any]:
        start = time.thread_time()
        timeline = timeline_of(self._manager, self._span)
        bundle = {"text/html": timeline.html(), "text/plain": timeline.text()}
        took = time.thread_time() - start
        self._due = time.monotonic() + max(DRAW_SECONDS, len(bundle["text/html"]) / BYTES_A_SECOND, DRAW_SHARE * took)
        return bundle

    def _show(self) -> int:
        if self.replace is None:
            return 0
        self.replace(self._bundle)
        return 1
