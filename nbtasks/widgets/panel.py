"""The panel of one task: its state, progress, time and body, with a Cancel button, in stock ipywidgets.

Written by the live writer's thread only. Knows the manager only to cancel by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import ipywidgets

from nbtasks.manager import TaskManager
from nbtasks.task import Task
from nbtasks.widgets.images import image_html
from nbtasks.widgets.output_view import OutputView, kept_output
from nbtasks.widgets.pace import reading
from nbtasks.widgets.snapshot import (
    BAR_HEIGHT,
    LOOKS,
    TRACK_COLOUR,
    PanelPicture,
    Shown,
    figures_html,
    label_html,
    note_html,
)
from nbtasks.widgets.widget_factory import Parts, put

__all__ = ["LivePanel"]

VIEW_TYPE = "application/vnd.jupyter.widget-view+json"

FIGURES_SECONDS = 0.5
"""How long the figures stand at least while a task runs: the bar moves more often, and each of them is a message."""

# What traits of stock widgets cannot say. It travels in the label, which is sent only when the state changes.
STYLE = f"""<style>
.nbtasks-panel {{ container-type: inline-size; }}
.nbtasks-panel .widget-html-content {{ min-width: 0; line-height: 1.5 !important; }}
.nbtasks-panel .progress {{ margin: 0 !important; background: {TRACK_COLOUR}; border-radius: 3px; overflow: hidden; }}
.nbtasks-panel .progress-bar {{ border-radius: 3px; }}
.nbtasks-panel .jupyter-button {{ line-height: 24px; }}
.nbtasks-row > :nth-child(3) {{ margin-left: auto !important; }}
.nbtasks-panel button:focus-visible {{
    outline: 2px solid var(--jp-brand-color1, #1976d2) !important; outline-offset: 1px;
}}
.nbtasks-panel .progress-bar {{ transition: none; }}
.nbtasks-indeterminate .progress-bar {{
    width: 30% !important; animation: nbtasks-to-and-fro 1.5s ease-in-out infinite alternate;
}}
@keyframes nbtasks-to-and-fro {{ to {{ transform: translateX(233.4%); }} }}
@container (max-width: 430px) {{
    .nbtasks-row {{ flex-wrap: wrap; height: auto !important; row-gap: 4px; padding-bottom: 4px; }}
    .nbtasks-row > :first-child {{ flex: 1 0 calc(100% - 110px) !important; }}
    .nbtasks-row > :nth-child(2) {{ min-width: 110px; text-align: right; }}
}}
@media (prefers-reduced-motion: reduce) {{
    .nbtasks-indeterminate .progress-bar {{ width: 100% !important; opacity: .35; animation: none; }}
}}
</style>"""


class LivePanel:
    """The live panel of one task; a view for the live writer."""

    def __init__(
        self, task: Task, manager: TaskManager, wake: Callable[[LivePanel], None], beside: tuple[Any, ...] = ()
    ) -> None:
        self.task = task
        self.beside = beside
        """Widgets of others that are in the panel, and show nothing."""
        self.taken = False
        """Whether another view shows inside its widget: it writes nothing more."""
        self.replace: Callable[[PanelPicture], None] | None = None
        """Puts a picture in the place of the widget in its document: called once, when the task is over."""
        self._shown: Shown | None = None
        self._figures_at = float("-inf")
        self._figures_late = False
        parts = self._parts = Parts()
        # A click may come on any thread; it only calls the manager, whose events bring the change back here.
        self._label = parts.html(flex="0 1 auto", min_width="0")
        self._figures = parts.html(flex="0 0 auto")
        self._cancel = parts.button(
            "Cancel",
            "Cancel this task",
            lambda: manager.cancel_task(task),
            height="24px",
            min_width="84px",
            margin="0 0 0 6px",
        )
        self._switch = parts.make(
            ipywidgets.ToggleButton,
            {"flex": "0 0 auto", "width": "auto", "height": "24px", "margin": "0 0 0 auto"},
            description="Output",
            tooltip="Show here what this task wrote",
        )
        self._switch.observe(lambda _change: wake(self), names="value")
        output = kept_output(task)
        self._output = OutputView(output) if output is not None else None
        self._row = parts.row(align_items="center", height="28px")
        self._row.add_class("nbtasks-row")
        self._bar = parts.make(
            ipywidgets.FloatProgress, {"width": "auto", "height": f"{BAR_HEIGHT}px"}, min=0.0, max=100.0
        )
        self._note, self._image = parts.html(), parts.html()
        self.widget = parts.column(width="100%", max_width="760px", padding="0 0 6px 6px")
        self.widget.add_class("nbtasks-panel")
        self.refresh()

    @property
    def ticks(self) -> bool:
        """The elapsed time runs while the task does."""
        return self._shown is None or not self._shown.over or (self._output is not None and self._output.due)

    def reading(self) -> object:
        """What the work says of itself."""
        return reading(self.task)

    def refresh(self) -> int:
        """Write to the widgets what differs from what they show; how many messages that took."""
        if self.taken:
            return 0
        shown, sent = Shown.of(self.task, datetime.now(UTC)), 0
        if shown != self._shown or self._figures_late:
            sent = self._write(shown)
            self._shown = shown
        if self._output is not None:
            self._output.refresh(on=self._switch.value, final=shown.over)
        if shown.over and self.replace is not None:
            replace, self.replace = self.replace, None
            replace(PanelPicture(shown))
            sent += 1
        return sent

    def _write(self, shown: Shown) -> int:
        sent = put(self._label, value=STYLE + label_html(shown)) + self._write_figures(shown)
        moves = ("nbtasks-indeterminate",) if shown.indeterminate else ()
        sent += put(self._bar, value=shown.progress or 0.0, _dom_classes=moves)
        sent += put(self._bar.style, bar_color=LOOKS[shown.state][2])
        sent += put(self._note, value=note_html(shown)) + put(self._image, value=image_html(shown.image, shown.title))
        stopping = shown.state == "cancelling"
        sent += put(self._cancel, disabled=stopping, description="Cancelling…" if stopping else "Cancel")
        switch = [self._switch] if self._output is not None else []
        cancel = [] if shown.over else [self._cancel]
        sent += put(self._row, children=(self._label, self._figures, *switch, *cancel))
        below = [widget for widget in (self._note, self._image) if widget.value]
        output = [self._output.widget] if self._output is not None else []
        return sent + put(self.widget, children=(self._row, self._bar, *below, *output, *self.beside))

    def _write_figures(self, shown: Shown) -> int:
        now, same_state = time.monotonic(), self._shown is not None and self._shown.state == shown.state
        self._figures_late = same_state and now - self._figures_at < FIGURES_SECONDS
        sent = 0 if self._figures_late else put(self._figures, value=figures_html(shown))
        if sent:
            self._figures_at = now
        return sent

    def bundle(self) -> dict[str, Any]:
        """The mime bundle that shows the live panel, with its picture for viewers that show no widgets."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        shown = self._shown or Shown.of(self.task, datetime.now(UTC))
        return {VIEW_TYPE: view, **PanelPicture(shown).bundle()}

    def close(self) -> None:
        """Close the widgets, on the writer's thread."""
        if self._output is not None:
            self._output.close()
        self._parts.close()
