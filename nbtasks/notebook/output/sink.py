"""`Sink`: receivers of the output of tasks, selected by a context variable."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable
from typing import Any, Protocol

from nbtasks.notebook.output.away_cells import away_cell

__all__ = ["Sink", "current_parent", "current_sink", "use_parent", "use_sink"]


class Sink(Protocol):
    """A receiver of the output of a task: its `Output`, or a capture within it."""

    @property
    def stdout(self) -> Callable[[str], int]:
        """A function that adds text to standard output and returns its length."""

    @property
    def stderr(self) -> Callable[[str], int]:
        """A function that adds text to standard error and returns its length."""

    @property
    def error(self) -> Callable[[str, str, list[str]], None]:
        """A function that adds an error: name, message and formatted traceback."""

    @property
    def flush(self) -> Callable[[], None]:
        """A function that does what `sys.stdout.flush()` does."""

    @property
    def page(self) -> Callable[[dict[str, Any]], None]:
        """A function that takes a mime bundle for the pager."""

    @property
    def sync(self) -> Callable[[], None]:
        """A function that sends all output to the front end at once."""

    def display(
        self, data: dict[str, Any], metadata: dict[str, Any], transient: dict[str, Any], *, update: bool = False
    ) -> None:
        """Add a mime bundle, or replace those that have the same display id."""

    def result(self, data: dict[str, Any], metadata: dict[str, Any], execution_count: int | None) -> None:
        """Add the value of a last expression as a mime bundle."""

    def clear(self, *, wait: bool = False) -> None:
        """Clear the output; with `wait`, when something new is added."""


_sink: contextvars.ContextVar[Sink | None] = contextvars.ContextVar("nbtasks_sink", default=None)
_parent: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("nbtasks_parent", default=None)
_PID = os.getpid()


def current_sink() -> Sink | None:
    """The sink of the task in whose context this is called; None in the foreground.

    Also None in a forked child, which has no publisher.
    """
    sink = _sink.get()
    if sink is None and (cell := away_cell()) is not None:
        sink = cell.sink
    return sink if sink is None or os.getpid() == _PID else None


def current_parent() -> dict[str, Any] | None:
    """The request that launched the task in whose context this is called; None in the foreground."""
    parent = _parent.get()
    if parent is None and (cell := away_cell()) is not None:
        return cell.parent
    return parent


def use_parent(parent: dict[str, Any] | None) -> None:
    """Make `parent` the current request in this context, and in threads that are started from it."""
    _parent.set(parent)


def use_sink(sink: Sink) -> contextvars.Token[Sink | None]:
    """Send the output of this context, and of threads that are started from it, to `sink`."""
    return _sink.set(sink)
