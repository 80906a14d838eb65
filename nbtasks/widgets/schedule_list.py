"""Live list of schedules with their controls, in pages, and a line that adds one.

Written on the live writer's thread only; clicks arrive on the front end's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from nbtasks.exceptions import InvalidValueError
from nbtasks.manager import TaskManager
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.widgets.cron_controls import CronControls, ScheduleEditor
from nbtasks.widgets.html import message_html, schedules_bundle
from nbtasks.widgets.live_writer import View
from nbtasks.widgets.widget_factory import Pager, WidgetFactory, update, widget_bundle

__all__ = ["RepeatableTasks", "ScheduleList"]

PAGE_SCHEDULES = 5
OFFER_SECONDS = 1.0
"""Minimum time between two looks at the tasks that can be repeated."""


class RepeatableTasks(Protocol):
    """Puts existing tasks on a schedule. Both methods are called on any thread."""

    def repeatable(self) -> list[str]:
        """The names of the tasks that can be put on a schedule."""

    def repeat(self, name: str, schedule: str, timezone: str) -> RecurringTask:
        """Put the newest task of that name on a schedule. Raises an NbtasksError if that is not possible."""


class ScheduleList(View):
    """The controls of the `chosen` recurring tasks, or of all of the manager's."""

    def __init__(
        self,
        manager: TaskManager,
        touch: Callable[[View], None],
        repeatable: RepeatableTasks,
        chosen: Sequence[RecurringTask] | None = None,
    ) -> None:
        self._manager = manager
        self._touch = lambda: touch(self)
        self._chosen = chosen
        self._page = 0
        self._shown: Sequence[RecurringTask] = ()
        factory = self._factory = WidgetFactory()
        self._controls: list[CronControls] = []
        self._note = factory.html(padding="4px 0")
        self._pager = Pager(factory, self._turn)
        self._adding = None if chosen is not None else _AddLine(factory, repeatable, self._touch)
        self._style = factory.style_sheet()
        self.widget = factory.view("nbtasks-schedules")
        self.refresh()

    @property
    def ticks(self) -> bool:
        """Times of schedules that are on run; and more tasks may become repeatable."""
        return self._adding is not None or any(controls.ticks for controls in self._controls[: len(self._shown)])

    def refresh(self) -> int:
        """Write what has changed; returns the number of messages."""
        now, schedules = datetime.now(UTC), self._schedules()
        pages = max(1, -(-len(schedules) // PAGE_SCHEDULES))
        self._page = min(max(self._page, 0), pages - 1)
        first = self._page * PAGE_SCHEDULES
        self._shown = schedules[first : first + PAGE_SCHEDULES]
        while len(self._controls) < len(self._shown):
            self._controls.append(CronControls(self._factory, self._touch))
        sent = update(self._note, value="" if schedules else "<div>no schedules</div>")
        children = [self._style, self._note]
        for controls, recurring in zip(self._controls, self._shown, strict=False):
            sent += controls.show(recurring, now)
            children.append(controls.widget)
        if pages > 1:
            rows = range(first, first + len(self._shown))
            sent += self._pager.show(self._page, pages, rows, len(schedules))
            children.append(self._pager.widget)
        if self._adding is not None:
            sent += self._adding.refresh(now)
            if self._adding.possible:
                children.append(self._adding.widget)
        return sent + update(self.widget, children=tuple(children))

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the live list, with a static one for viewers without widgets."""
        return widget_bundle(self.widget, schedules_bundle(self._schedules(), datetime.now(UTC)))

    def close(self) -> None:
        """Close the widgets."""
        self._factory.close()

    def _schedules(self) -> Sequence[RecurringTask]:
        return self._manager.list_recurring_tasks() if self._chosen is None else self._chosen

    def _turn(self, by: int) -> None:
        self._page += by
        self._touch()


class _AddLine:
    """The line that puts a task on a schedule."""

    def __init__(self, factory: WidgetFactory, repeatable: RepeatableTasks, touch: Callable[[], None]) -> None:
        self._tasks = repeatable
        self._next_offer = float("-inf")
        self._message = ""
        layout = {"width": "170px", "margin": "0 6px 4px 0"}
        self._names = factory.choice([("Repeat …", "")], layout, "The task to repeat")
        self._names.observe(lambda _change: touch(), names="value")
        self._editor = ScheduleEditor(factory, "Add", "Run it on this schedule from now on", self._add, touch)
        fields = factory.row(self._names, *self._editor.fields, flex_flow="wrap", align_items="center")
        self._note = factory.html()
        self.widget = factory.column(fields, self._editor.note, self._note, width="100%", padding="6px 0 0 0")
        self.widget.add_class("nbtasks-controls")

    @property
    def possible(self) -> bool:
        """Whether there is a task to repeat."""
        return len(self._names.options) > 1

    def refresh(self, now: datetime) -> int:
        """Offer the tasks that can be repeated now; returns the number of messages."""
        sent = 0
        if time.monotonic() >= self._next_offer:
            self._next_offer = time.monotonic() + OFFER_SECONDS
            options = (("Repeat …", ""), *((name, name) for name in self._tasks.repeatable()))
            if tuple(self._names.options) != options:
                chosen = self._names.value
                with self._names.hold_sync():
                    self._names.options = options
                    self._names.value = chosen if (chosen, chosen) in options else ""
                sent += 1
        return (
            sent
            + self._editor.refresh(None, now, name=self._names.value)
            + update(self._note, value=message_html(self._message))
        )

    def _add(self, expression: str, zone: str) -> None:
        self._message = ""
        name = self._names.value
        if not name:
            raise InvalidValueError("no task chosen: choose the task to repeat first")
        recurring = self._tasks.repeat(name, expression, zone)
        self._message = f"{recurring.name}: {recurring.describe()}"
