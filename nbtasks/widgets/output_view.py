"""The kept output of a task in a widget, live, wherever its panel is shown.

Written by the live writer's thread only. Knows of a task's output no more than that it has an excerpt.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import ipywidgets

from nbtasks.widgets.snapshot import TRACK_COLOUR

__all__ = ["KeptOutput", "OutputView", "kept_output"]

# An Output widget sends all that it shows with every change.
SECONDS_BETWEEN = 1.0


class KeptOutput(Protocol):
    """What a task wrote."""

    @property
    def excerpt(self) -> list[dict[str, Any]]:
        """As notebook outputs, of a flood the first and last lines."""

    @property
    def tail(self) -> str:
        """The last lines of a flood that is held back from the cell; else nothing."""


def kept_output(task: object) -> KeptOutput | None:
    """What `task` wrote, if it is a kind of task that keeps it."""
    output = getattr(task, "output", None)
    return output if hasattr(output, "excerpt") else None


class OutputView:
    """Shows the output of a task while it is switched on; at most one change a second."""

    def __init__(self, output: KeptOutput) -> None:
        self.output = output
        """What is shown. Another may take its place: the widget stays."""
        self._shown_at = float("-inf")
        # The line to its left tells it from the cell's own output, which often follows.
        self.widget = ipywidgets.Output(
            layout=ipywidgets.Layout(
                display="none",
                max_height="400px",
                overflow="auto",
                margin="6px 0 0 0",
                padding="0 0 0 6px",
                border_left=f"3px solid {TRACK_COLOUR}",
            )
        )
        self.due = False
        """Whether it would show more if it were asked again in a moment."""

    def refresh(self, *, on: bool, final: bool) -> None:
        """Show what there is now, if the switch is on; nothing otherwise."""
        self.widget.layout.display = None if on else "none"
        now = time.monotonic()
        self.due = on and not final and now - self._shown_at < SECONDS_BETWEEN
        if not on or self.due:
            return
        self._shown_at = now
        outputs = tuple(self.output.excerpt)
        if outputs != self.widget.outputs:
            self.widget.outputs = outputs

    def close(self) -> None:
        """Close the widget."""
        self.widget.layout.close()
        self.widget.close()
