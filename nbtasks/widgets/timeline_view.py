"""The timeline in a widget: a choice of time spans, zoom, and details of a bar.

Written on the live writer's thread only; clicks arrive on the front end's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from html import escape
from typing import Any

from nbtasks.manager import TaskManager
from nbtasks.widgets.details import details_html
from nbtasks.widgets.live_writer import View
from nbtasks.widgets.static_views import HtmlTimeline
from nbtasks.widgets.timeline import SPAN, Bar
from nbtasks.widgets.widget_factory import WidgetFactory, update, widget_bundle

__all__ = ["LiveTimeline"]

SPANS = {"10 min": timedelta(minutes=10), "1 h": SPAN, "6 h": timedelta(hours=6), "24 h": timedelta(hours=24)}
SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=90)
HOLD_SECONDS = 60.0
"""How long the picture stands still, at most, while a bar has the focus: a new one would take the focus from it."""


class LiveTimeline(HtmlTimeline):
    """The live timeline."""

    def __init__(self, manager: TaskManager, touch: Callable[[View], None], span: timedelta | None = None) -> None:
        super().__init__(manager, span)
        self._touch = touch
        # Set on the front end's thread, each in one assignment.
        self._selected = ""
        """The key of the bar whose details are shown."""
        self._held_until = float("-inf")
        factory = self._factory = WidgetFactory()
        spans = SPANS if span is None or span in SPANS.values() else {f"{span.total_seconds():g} s": span, **SPANS}
        margin = {"margin": "0 6px 4px 0"}
        self._buttons: dict[timedelta | None, Any] = {
            None: factory.button("fit", "From the first start to now", partial(self._choose, None), **margin)
        }
        for label, choice in spans.items():
            self._buttons[choice] = factory.button(
                label, f"Show the last {label}", partial(self._choose, choice), **margin
            )
        steps = {
            "zoom in": ("Half the time span, around the selected bar", lambda: self._zoom(0.5)),
            "zoom out": ("Twice the time span", lambda: self._zoom(2.0)),
            "earlier": ("Half a time span earlier", lambda: self._move(-0.5)),
            "later": ("Half a time span later", lambda: self._move(0.5)),
        }
        self._steps = [factory.button(label, tooltip, act, **margin) for label, (tooltip, act) in steps.items()]
        self._field = factory.text("", "0px", {"display": "none"})
        self._field.add_class("nbtasks-selected")
        self._field.observe(lambda change: self._select(str(change["new"])), names="value")
        self._picture = factory.html(width="100%")
        self._details = factory.html(width="100%", padding="4px 0 4px 8px")
        self._details.add_class("nbtasks-more")
        self._close_details = factory.button(
            "Close details", "Close the details", partial(self._show_details, ""), align_self="flex-start"
        )
        self._style = factory.style_sheet()
        self._buttons_row = factory.row(*self._buttons.values(), *self._steps, flex_flow="wrap")
        self.widget = factory.column(width="100%", padding="0 6px 6px")
        self.widget.add_class("nbtasks-table")
        self.widget.add_class("nbtasks-timeline-view")
        self._show()

    def refresh(self) -> int:
        """Draw again if it is time to, and no bar has the focus."""
        held = time.monotonic() < self._held_until
        return self._show() if held else super().refresh() or self._show()

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the live timeline, with a static one for viewers without widgets."""
        return widget_bundle(self.widget, super().bundle())

    def close(self) -> None:
        """Close the widgets."""
        self._factory.close()

    def _show(self) -> int:
        sent = 0
        for choice, button in self._buttons.items():
            chosen = self._until is None and choice == self._span
            classes = ("nbtasks-chip", "nbtasks-chosen") if chosen else ("nbtasks-chip",)
            sent += update(button, _dom_classes=classes)
        sent += update(self._picture, value=self._bundle["text/html"])
        details = self._details_html()
        sent += update(self._details, value=details)
        opened = (self._details, self._close_details) if details else ()
        return sent + update(
            self.widget, children=(self._style, self._buttons_row, self._field, self._picture, *opened)
        )

    def _details_html(self) -> str:
        """Of a task that the manager has, its details; of another what the bar itself tells."""
        bar = self._selected_bar()
        if bar is None:
            return ""
        summary = f'<div style="white-space:pre-wrap">{escape(self._timeline.describe(bar))}</div>'
        task = self._manager.get_task(bar.task_id)
        return summary if task is None else summary + details_html(task, self._manager.past_attempts(task))

    def _selected_bar(self) -> Bar | None:
        key = self._selected
        return next((bar for bar in self._timeline.bars if bar.key == key), None) if key else None

    # -- on the front end's thread ----------------------------------------------------------------------------

    def _select(self, key: str) -> None:
        """Show the details of the bar that got the focus; without a key, the focus has left the picture."""
        self._held_until = time.monotonic() + HOLD_SECONDS if key else float("-inf")
        self._show_details(key or self._selected)

    def _show_details(self, key: str) -> None:
        self._selected = key
        self._touch(self)

    def _choose(self, span: timedelta | None) -> None:
        self._show_span(span, None)

    def _zoom(self, factor: float) -> None:
        """Around the middle of the selected bar, or from the end on."""
        now = datetime.now(UTC)
        span = min(LONGEST, max(SHORTEST, self._timeline.span * factor))
        bar = self._selected_bar()
        if bar is None or factor > 1:
            self._show_span(span, self._until)
            return
        begin = bar.started_at or bar.waits_from
        middle = begin + ((bar.ended_at or now) - begin) / 2
        self._show_span(span, middle + span / 2)

    def _move(self, spans: float) -> None:
        span = self._timeline.span
        self._show_span(span, (self._until or datetime.now(UTC)) + span * spans)

    def _show_span(self, span: timedelta | None, until: datetime | None) -> None:
        """Draw this span at once; one that would end in the future ends now."""
        self._until = None if until is None or until >= datetime.now(UTC) else until
        self._span, self._next_drawing, self._held_until = span, float("-inf"), float("-inf")
        self._touch(self)
