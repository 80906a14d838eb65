"""Views without widgets: panel, table and timeline as HTML that is replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from nbtasks.manager import TaskManager
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task
from nbtasks.widgets.html import panel_bundle, table_bundle
from nbtasks.widgets.live_writer import View, ViewCount
from nbtasks.widgets.snapshot import Snapshot, progress_state, snapshot_of
from nbtasks.widgets.timeline import timeline_of

__all__ = ["HtmlPanel", "HtmlTable", "HtmlTimeline"]

TABLE_SECONDS = 1.0
"""Minimum time between two versions of the table."""
TIMELINE_SECONDS = 2.0
"""Minimum time between two drawings of the timeline; large and slow ones are drawn less often."""
TIMELINE_BYTES_PER_SECOND = 50_000
TIMELINE_TIME_SHARE = 50
"""Minimum time between two drawings, as a multiple of the time that one takes."""

Replace = Callable[[dict[str, Any]], None]


class HtmlPanel(View):
    """The panel of a task or a recurring task."""

    watches_progress = True

    def __init__(self, task: Task | RecurringTask) -> None:
        self.task = task
        self.replace: Callable[[Snapshot], None] | None = None
        """Shows a new snapshot in place of the last one."""
        self.views = ViewCount()
        self._snapshot = snapshot_of(task, datetime.now(UTC))

    @property
    def ticks(self) -> bool:
        """The elapsed time runs while the task does."""
        return not self._snapshot.finished

    def progress_state(self) -> object:
        """That of the task, or of the live runs."""
        return [
            progress_state(task)
            for task in (self.task.instances if isinstance(self.task, RecurringTask) else [self.task])
        ]

    def refresh(self) -> int:
        """Replace the panel if it differs."""
        snapshot = snapshot_of(self.task, datetime.now(UTC))
        if snapshot == self._snapshot or self.replace is None:
            return 0
        self._snapshot = snapshot
        self.replace(snapshot)
        return 1

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the panel as it was last shown."""
        return panel_bundle(self._snapshot)

    def close(self) -> None:
        """Stop replacing: the panel stays in its document."""
        self.replace = None


class HtmlTable(View):
    """The task table."""

    def __init__(self, manager: TaskManager) -> None:
        self.replace: Replace | None = None
        """Shows a new bundle in place of the last one."""
        self._manager = manager
        self._bundle = table_bundle(manager)
        self._drawn_at = time.monotonic()

    @property
    def ticks(self) -> bool:
        """Elapsed times run while a task does."""
        return self.refresh_due or len(self._manager.active_tasks) > 0

    def refresh(self) -> int:
        """Replace the table if it differs, at most once a second."""
        self.refresh_due = time.monotonic() - self._drawn_at < TABLE_SECONDS
        if self.refresh_due or self.replace is None:
            return 0
        bundle, self._drawn_at = table_bundle(self._manager), time.monotonic()
        if bundle == self._bundle:
            return 0
        self._bundle = bundle
        self.replace(bundle)
        return 1

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the table as it was last drawn."""
        return self._bundle

    def close(self) -> None:
        """Stop replacing: the table stays in its document."""
        self.replace = None


class HtmlTimeline(View):
    """The timeline of a time span; None: from the first start on."""

    def __init__(self, manager: TaskManager, span: timedelta | None = None) -> None:
        self.replace: Replace | None = None
        """Shows a new bundle in place of the last one."""
        self._manager = manager
        self._span = span
        self._until: datetime | None = None
        self._next_drawing = float("-inf")
        self._bundle = self._draw()

    @property
    def ticks(self) -> bool:
        """The axis moves all the time."""
        return True

    def refresh(self) -> int:
        """Draw again if it is time to."""
        if time.monotonic() < self._next_drawing:
            return 0
        bundle = self._draw()
        if bundle == self._bundle:
            return 0
        self._bundle = bundle
        return self._show()

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the timeline as it was last drawn."""
        return self.picture()

    def picture(self) -> dict[str, Any]:
        """The same without widgets."""
        return self._bundle

    def close(self) -> None:
        """Stop replacing: the timeline stays in its document."""
        self.replace = None

    def _draw(self) -> dict[str, Any]:
        start = time.thread_time()
        timeline = self._timeline = timeline_of(self._manager, self._span, until=self._until)
        bundle = {"text/html": timeline.html(), "text/plain": timeline.text()}
        took = time.thread_time() - start
        pause = max(TIMELINE_SECONDS, len(bundle["text/html"]) / TIMELINE_BYTES_PER_SECOND, TIMELINE_TIME_SHARE * took)
        self._next_drawing = time.monotonic() + pause
        return bundle

    def _show(self) -> int:
        if self.replace is None:
            return 0
        self.replace(self._bundle)
        return 1
