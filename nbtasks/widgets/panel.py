"""Panel of one task: state, progress, time and body, with Cancel and Output.

Used on the live writer's thread only; a click may come on any thread, and only calls the manager.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nbtasks.manager import TaskManager
from nbtasks.task import Task
from nbtasks.widgets.html import (
    FIGURES_SHRINK,
    figures_html,
    image_html,
    label_html,
    note_html,
    panel_bundle,
    style_html,
)
from nbtasks.widgets.live_writer import View, ViewCount
from nbtasks.widgets.output_view import OutputView, kept_output
from nbtasks.widgets.snapshot import STATE_STYLES, Snapshot, progress_state, task_snapshot
from nbtasks.widgets.widget_factory import WidgetFactory, update, widget_bundle

__all__ = ["LivePanel", "PanelHead"]

FIGURES_SECONDS = 0.5
"""Minimum time between two changes of the figures of a running task: each is a message besides that of the bar."""


class PanelHead:
    """The first line of a panel, with state and figures, and the progress bar."""

    def __init__(
        self, factory: WidgetFactory, height: str = "28px", figures_flex: str = f"0 {FIGURES_SHRINK} auto"
    ) -> None:
        self.label = factory.html(flex="0 1 auto", min_width="0")
        self.figures = factory.html(flex=figures_flex, min_width="0")
        self.row = factory.row(align_items="center", height=height)
        self.row.add_class("nbtasks-row")
        self.bar = factory.progress_bar()

    def show(self, snapshot: Snapshot, *buttons: Any, figures: bool = True, style: str = "") -> int:
        """Show a snapshot and these buttons, and the figures unless left out; returns the number of messages."""
        sent = update(self.label, value=style + label_html(snapshot, live=True))
        if figures:
            sent += update(self.figures, value=figures_html(snapshot, live=True))
        classes = ("nbtasks-indeterminate",) if snapshot.indeterminate else ()
        sent += update(self.bar, value=snapshot.progress or 0.0, _dom_classes=classes)
        sent += update(self.bar.style, bar_color=STATE_STYLES[snapshot.state].colour)
        return sent + update(self.row, children=(self.label, self.figures, *buttons))


class LivePanel(View):
    """The live panel of one task.

    Where the output of the task stands below the panel in its cell (`output_below`), the panel does not open it too.
    """

    watches_progress = True

    def __init__(
        self,
        task: Task,
        manager: TaskManager,
        touch: Callable[[View], None],
        extra_widgets: tuple[Any, ...] = (),
        *,
        output_below: bool = True,
    ) -> None:
        self.task = task
        self.extra_widgets = extra_widgets
        """Invisible widgets that the panel contains."""
        self.replaced = False
        """Whether a group panel shows inside the widget of this one, which then writes nothing more."""
        self.replace: Callable[[Snapshot], None] | None = None
        """Shows a static panel in place of the widget; called once, when the task is finished."""
        self._snapshot: Snapshot | None = None
        self._figures_at = float("-inf")
        self._figures_due = False
        factory = self._factory = WidgetFactory()
        self._head = PanelHead(factory)
        self._cancel = factory.button(
            "Cancel",
            "Cancel this task",
            lambda: task.cancelling or manager.cancel_task(task),
            min_width="84px",
            margin="0 0 0 6px",
        )
        self._switch = factory.toggle(
            "Output", "", lambda: touch(self), value=not output_below, margin="0 0 0 auto"
        )
        if output_below:
            self._switch.add_class("nbtasks-output-below")
        output = kept_output(task)
        self._output = None if output is None else OutputView(factory, output)
        self._note, self._image = factory.html(), factory.html()
        self.widget = factory.view("nbtasks-panel")
        self.views = ViewCount(self.widget)
        self.refresh()

    @property
    def ticks(self) -> bool:
        """The elapsed time runs while the task does."""
        output_due = self._output is not None and self._output.refresh_due
        return self._snapshot is None or not self._snapshot.finished or output_due

    def progress_state(self) -> object:
        """That of the task."""
        return progress_state(self.task)

    def refresh(self) -> int:
        """Write what has changed; returns the number of messages."""
        if self.replaced:
            return 0
        snapshot, sent = task_snapshot(self.task, datetime.now(UTC)), 0
        if snapshot != self._snapshot or self._figures_due:
            sent = self._write(snapshot)
            self._snapshot = snapshot
        sent += self._factory.name_toggle(self._switch, "the output of this task")
        if self._output is not None and (output := kept_output(self.task)) is not None:
            self._output.refresh(output, on=self._switch.value, final=snapshot.finished)
        if snapshot.finished and self.replace is not None:
            replace, self.replace = self.replace, None
            replace(snapshot)
            sent += 1
        return sent

    def _write(self, snapshot: Snapshot) -> int:
        cancelling = snapshot.state == "cancelling"
        buttons = [self._switch] if self._output is not None else []
        buttons += [] if snapshot.finished else [self._cancel]
        # The style sheet travels in the label, which changes only with the state.
        sent = self._head.show(snapshot, *buttons, figures=self._may_write_figures(snapshot), style=style_html())
        # Not disabled: it would lose the focus of the keyboard.
        sent += update(self._cancel, description="Cancelling…" if cancelling else "Cancel")
        sent += update(self._note, value=note_html(snapshot))
        sent += update(self._image, value=image_html(snapshot.image, snapshot.title))
        below = [widget for widget in (self._note, self._image) if widget.value]
        below += [self._output.widget] if self._output is not None else []
        return sent + update(self.widget, children=(self._head.row, self._head.bar, *below, *self.extra_widgets))

    def _may_write_figures(self, snapshot: Snapshot) -> bool:
        now, same_state = time.monotonic(), self._snapshot is not None and self._snapshot.state == snapshot.state
        self._figures_due = same_state and now - self._figures_at < FIGURES_SECONDS
        if not self._figures_due and self._head.figures.value != figures_html(snapshot, live=True):
            self._figures_at = now
        return not self._figures_due

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the live panel, with a static one for viewers without widgets."""
        snapshot = self._snapshot or task_snapshot(self.task, datetime.now(UTC))
        return widget_bundle(self.widget, panel_bundle(snapshot))

    def close(self) -> None:
        """Close the widgets."""
        self._factory.close()
