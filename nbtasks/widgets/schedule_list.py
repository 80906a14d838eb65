"""The schedules of a manager, a page of them at a time, each with its controls; and the means to add one.

Written by the live writer's thread only; what a front end asks for is noted on its thread, and done by the manager.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from nbtasks.exceptions import InvalidValueError
from nbtasks.manager import TaskManager
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.widgets.cron_controls import CONTROLS_STYLE, CronControls, ScheduleEditor
from nbtasks.widgets.recurring_shown import board_bundle
from nbtasks.widgets.widget_factory import Parts, put

__all__ = ["Repeats", "ScheduleBoard"]

VIEW_TYPE = "application/vnd.jupyter.widget-view+json"
PAGE = 5
"""So many schedules are shown at once."""
LOOK_SECONDS = 1.0
"""How often at most it is looked what could be repeated."""


class Repeats(Protocol):
    """Puts tasks that there are on a schedule. Both are called on any thread."""

    def repeatable(self) -> list[str]:
        """Names of tasks that can be put on a schedule."""

    def repeat(self, name: str, schedule: str, timezone: str) -> RecurringTask:
        """Put the newest task of that name on a schedule. Raises what is ours."""


class ScheduleBoard:
    """The controls of the `chosen` recurring tasks, or of all of the manager's; a view for the live writer."""

    def __init__(
        self,
        manager: TaskManager,
        wake: Callable[[ScheduleBoard], None],
        repeats: Repeats,
        chosen: Sequence[RecurringTask] | None = None,
    ) -> None:
        self._manager = manager
        self._wake = lambda: wake(self)
        self._chosen = chosen
        self._page = 0
        self._shown: list[RecurringTask] = []
        parts = self._parts = Parts()
        self._controls: list[CronControls] = []
        self._note = parts.html(padding="4px 0")
        self._back = parts.button("Previous", "The page before", lambda: self._turn(-1), margin="0 8px 0 0")
        self._on = parts.button("Next", "The page after", lambda: self._turn(1), margin="0 0 0 8px")
        self._where = parts.html()
        self._pager = parts.row(self._back, self._where, self._on, align_items="center", padding="6px 0 0 0")
        self._adding = None if chosen is not None else _Adding(parts, repeats, self._wake)
        self._style = parts.html(CONTROLS_STYLE, display="none")
        self.widget = parts.column(width="100%", max_width="900px", padding="0 0 6px 6px")
        self.widget.add_class("nbtasks-schedules")
        self.refresh()

    @property
    def ticks(self) -> bool:
        """Times run where a schedule is on; and there may be more to repeat."""
        return self._adding is not None or any(controls.ticks for controls in self._controls[: len(self._shown)])

    def refresh(self) -> int:
        """Write to the widgets what differs from what they show; how many messages that took."""
        now = datetime.now(UTC)
        tasks = self._manager.list_recurring_tasks() if self._chosen is None else list(self._chosen)
        pages = max(1, -(-len(tasks) // PAGE))
        self._page = min(max(self._page, 0), pages - 1)
        first = self._page * PAGE
        self._shown = tasks[first : first + PAGE]
        while len(self._controls) < len(self._shown):
            self._controls.append(CronControls(self._parts, self._wake))
        sent = put(self._note, value="" if tasks else "<div>no schedules</div>")
        children = [self._style, self._note]
        for controls, task in zip(self._controls, self._shown, strict=False):
            sent += controls.show(task, now)
            children.append(controls.widget)
        if pages > 1:
            sent += put(self._where, value=f"<span>{first + 1} to {first + len(self._shown)} of {len(tasks):,}</span>")
            sent += put(self._back, disabled=self._page == 0) + put(self._on, disabled=self._page == pages - 1)
            children.append(self._pager)
        if self._adding is not None:
            sent += self._adding.refresh(now)
            if self._adding.possible:
                children.append(self._adding.widget)
        return sent + put(self.widget, children=tuple(children))

    def bundle(self) -> dict[str, Any]:
        """The mime bundle that shows the live controls, with a table for viewers that show no widgets."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        chosen = self._manager.list_recurring_tasks() if self._chosen is None else self._chosen
        return {VIEW_TYPE: view, **board_bundle(chosen, datetime.now(UTC))}

    def close(self) -> None:
        """Close the widgets, on the writer's thread."""
        self._parts.close()

    def _turn(self, by: int) -> None:
        self._page += by
        self._wake()


class _Adding:
    """The line with which a task that ran is put on a schedule."""

    def __init__(self, parts: Parts, repeats: Repeats, wake: Callable[[], None]) -> None:
        self._repeats = repeats
        self._looked_at = float("-inf")
        self._message = ""
        self._names = parts.choice([("Repeat …", "")], {"width": "170px", "margin": "0 6px 4px 0"}, "What is to recur")
        self._names.observe(lambda _change: wake(), names="value")
        self._editor = ScheduleEditor(parts, "Add", "Run it on this schedule from now on", self._add, wake)
        fields = parts.row(self._names, *self._editor.fields, flex_flow="wrap", align_items="center")
        self._said = parts.html()
        self.widget = parts.column(fields, self._editor.note, self._said, width="100%", padding="6px 0 0 0")
        self.widget.add_class("nbtasks-controls")

    @property
    def possible(self) -> bool:
        """Whether there is anything to repeat."""
        return len(self._names.options) > 1

    def refresh(self, now: datetime) -> int:
        """Offer what there is to repeat; how many messages that took."""
        sent = 0
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = time.monotonic()
            offered = (("Repeat …", ""), *((name, name) for name in self._repeats.repeatable()))
            if tuple(self._names.options) != offered:
                chosen = self._names.value
                with self._names.hold_sync():
                    self._names.options = offered
                    self._names.value = chosen if (chosen, chosen) in offered else ""
                sent += 1
        said = f'<div role="status">{html.escape(self._message)}</div>' if self._message else ""
        return sent + self._editor.refresh(None, now, name=self._names.value) + put(self._said, value=said)

    def _add(self, expression: str, zone: str) -> None:
        self._message = ""
        name = self._names.value
        if not name:
            raise InvalidValueError("choose first what is to recur")
        recurring = self._repeats.repeat(name, expression, zone)
        self._message = f"{recurring.name}: {recurring.describe()}"
