"""`ShownCell`: a cell that shows the output of a task below its panel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nbtasks.notebook.output.replaced_output import ReplacedOutput

__all__ = ["ShownCell"]

Message = tuple[str, dict[str, Any]]

ANIMATION_CLEARS = 2
"""From this clear on the output is an animation, whose frames replace each other in place."""


class ShownCell:
    """Sends the messages of an output to one cell, and keeps the panel at its top.

    After a `clear_output` a front end builds the whole cell again, its panel too, and a click there is lost. So only
    the first clears are sent; after that `ReplacedOutput` changes what is below the panel. `header` returns the message
    that shows the panel. Not thread-safe: `Output` has the lock.
    """

    def __init__(self, send: Callable[[str, dict[str, Any]], None], header: Callable[[], Message | None]) -> None:
        self._send = send
        self._header = header
        self._clears = 0
        self._replaced: ReplacedOutput | None = None

    def publish(self, messages: Iterable[Message]) -> None:
        """Show the messages."""
        for kind, content in messages:
            if self._replaced is not None:
                self._replaced.take(kind, content)
            elif kind == "clear_output":
                self._clear(content)
            else:
                self._send(kind, content)
        if self._replaced is not None:
            self._replaced.flush(final=True)

    def _clear(self, content: dict[str, Any]) -> None:
        """Clear the cell; its panel follows at once, so that it does not flicker."""
        header = self._header()
        if header is None:
            self._send("clear_output", content)
            return
        self._send("clear_output", {"wait": True})
        self._send(*header)
        self._clears += 1
        if self._clears >= ANIMATION_CLEARS:
            self._replaced = ReplacedOutput(self._send)

    def show_panel_again(self, header: Message) -> None:
        """The front end has cleared the cell, as Clear All Outputs does."""
        self._send(*header)
        if self._replaced is not None:
            self._replaced.forget()

    def settle(self, outputs: Iterable[Message]) -> None:
        """Put the outputs as they are in the place of an animation, as a foreground cell would have them."""
        if self._replaced is None:
            return
        self._clears, self._replaced = 0, None
        self.publish([("clear_output", {"wait": True}), *outputs])
