"""The kept output of a task in a widget, live, wherever its panel is shown.

Used on the live writer's thread only.
"""

from __future__ import annotations

import time

from nbtasks.task import KeptOutput, Task
from nbtasks.widgets.widget_factory import WidgetFactory

__all__ = ["OutputView", "kept_output"]

CHANGE_SECONDS = 1.0
"""Minimum time between two changes: an Output widget sends all of its content each time."""


def kept_output(task: Task) -> KeptOutput | None:
    """The output of a cell task; None for other tasks."""
    cell = task.cell_details()
    return None if cell is None else cell.output


class OutputView:
    """Shows the output of a task while it is switched on; at most one change a second."""

    def __init__(self, factory: WidgetFactory, output: KeptOutput) -> None:
        self._output = output
        self._changed_at = float("-inf")
        self.widget = factory.kept_output()
        self.refresh_due = False
        """Whether there may be more to show once the time between two changes has passed."""

    def refresh(self, output: KeptOutput, *, on: bool, final: bool) -> None:
        """Show `output` if it is switched on; `final` and other output are shown at once."""
        now = time.monotonic()
        self.widget.layout.display = None if on else "none"
        at_once = final or output is not self._output
        self._output = output
        self.refresh_due = on and not at_once and now - self._changed_at < CHANGE_SECONDS
        if not on or self.refresh_due:
            return
        self._changed_at = now
        outputs = tuple(output.excerpt)
        if outputs != self.widget.outputs:
            self.widget.outputs = outputs
