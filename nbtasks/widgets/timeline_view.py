"""The timeline in a widget, live, with the choice of how far it goes back.

Written by the live writer's thread only.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from nbtasks.manager import TaskManager
from nbtasks.widgets.timeline import SPAN, PictureTimeline
from nbtasks.widgets.widget_factory import Parts, put

__all__ = ["LiveTimeline"]

SPANS = {"10 min": timedelta(minutes=10), "1 h": SPAN, "6 h": timedelta(hours=6), "24 h": timedelta(hours=24)}
VIEW_TYPE = "application/vnd.jupyter.widget-view+json"


class LiveTimeline(PictureTimeline):
    """The same in a widget, with the choice of how far it goes back."""

    def __init__(self, manager: TaskManager, wake: Callable[[LiveTimeline], None], span: timedelta = SPAN) -> None:
        super().__init__(manager, span)
        self._wake = wake
        self._parts = Parts()
        spans = SPANS if span in SPANS.values() else {f"{span.total_seconds():g} s": span, **SPANS}
        self._choices = {
            chosen: self._parts.button(
                words, f"Show the last {words}", partial(self._choose, chosen), margin="0 6px 4px 0"
            )
            for words, chosen in spans.items()
        }
        self._picture = self._parts.html()
        self.widget = self._parts.column(
            self._parts.row(*self._choices.values(), flex_flow="wrap"), self._picture, width="100%", padding="0 6px 6px"
        )
        self._show()

    def bundle(self) -> dict[str, Any]:
        """The mime bundle that shows the live timeline, with its picture for viewers that show no widgets."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return {VIEW_TYPE: view, **self._bundle}

    def close(self) -> None:
        """Close the widgets, on the writer's thread."""
        self._parts.close()

    def _show(self) -> int:
        for chosen, button in self._choices.items():
            put(button, button_style="primary" if chosen == self._span else "")
        return put(self._picture, value=self._bundle["text/html"])

    def _choose(self, span: timedelta) -> None:
        """Called where a button was clicked."""
        self._span, self._due = span, float("-inf")
        self._wake(self)
