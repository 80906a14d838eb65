"""The timeline in a widget, with a choice of time spans.

Written on the live writer's thread only; clicks arrive on the front end's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from nbtasks.manager import TaskManager
from nbtasks.widgets.live_writer import View
from nbtasks.widgets.static_views import HtmlTimeline
from nbtasks.widgets.timeline import SPAN
from nbtasks.widgets.widget_factory import WidgetFactory, update, widget_bundle

__all__ = ["LiveTimeline"]

SPANS = {"10 min": timedelta(minutes=10), "1 h": SPAN, "6 h": timedelta(hours=6), "24 h": timedelta(hours=24)}


class LiveTimeline(HtmlTimeline):
    """The live timeline."""

    def __init__(self, manager: TaskManager, touch: Callable[[View], None], span: timedelta = SPAN) -> None:
        super().__init__(manager, span)
        self._touch = touch
        factory = self._factory = WidgetFactory()
        spans = SPANS if span in SPANS.values() else {f"{span.total_seconds():g} s": span, **SPANS}
        self._buttons = {
            choice: factory.button(label, f"Show the last {label}", partial(self._choose, choice), margin="0 6px 4px 0")
            for label, choice in spans.items()
        }
        self._picture = factory.html()
        buttons = factory.row(*self._buttons.values(), flex_flow="wrap")
        self.widget = factory.column(buttons, self._picture, width="100%", padding="0 6px 6px")
        self._show()

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the live timeline, with a static one for viewers without widgets."""
        return widget_bundle(self.widget, super().bundle())

    def close(self) -> None:
        """Close the widgets."""
        self._factory.close()

    def _show(self) -> int:
        for choice, button in self._buttons.items():
            update(button, button_style="primary" if choice == self._span else "")
        return update(self._picture, value=self._bundle["text/html"])

    def _choose(self, span: timedelta) -> None:
        """Called on the front end's thread."""
        self._span, self._next_drawing = span, float("-inf")
        self._touch(self)
