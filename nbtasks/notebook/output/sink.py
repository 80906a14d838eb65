"""Where the output of the code that runs goes, by a context variable: a task's sink, or, in the foreground, none.

Knows nothing of streams, nor of what a task is.
"""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Sink", "current_parent", "current_sink", "use_parent", "use_sink"]


class Sink(Protocol):
    """What can take the output of a task: its `Output`, or a capture within it."""

    @property
    def stdout(self) -> Callable[[str], int]:
        """Takes text of standard output, and returns its length."""

    @property
    def stderr(self) -> Callable[[str], int]:
        """Takes text of standard error."""

    @property
    def error(self) -> Callable[[str, str, list[str]], None]:
        """Takes an error's name, message and formatted traceback."""

    @property
    def flush(self) -> Callable[[], None]:
        """What `sys.stdout.flush()` does."""

    @property
    def page(self) -> Callable[[dict[str, Any]], None]:
        """Takes a mime bundle for the pager."""

    @property
    def sync(self) -> Callable[[], None]:
        """Sends what was taken to the front end, now."""

    def display(
        self, data: dict[str, Any], metadata: dict[str, Any], transient: dict[str, Any], *, update: bool = False
    ) -> None:
        """Take a mime bundle."""

    def result(self, data: dict[str, Any], metadata: dict[str, Any], execution_count: int | None) -> None:
        """Take the value of a last expression, as a mime bundle."""

    def clear(self, *, wait: bool = False) -> None:
        """Forget what was taken."""


_sink: contextvars.ContextVar[Sink | None] = contextvars.ContextVar("nbtasks_sink", default=None)
_parent: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("nbtasks_parent", default=None)
_PID = os.getpid()


def current_sink() -> Sink | None:
    """Where the output of this context goes, if it is a task's; None in the foreground.

    None in a forked child too, where nobody publishes what it is given.
    """
    sink = _sink.get()
    return sink if sink is None or os.getpid() == _PID else None


def current_parent() -> dict[str, Any] | None:
    """The request that this context's task belongs to; None in the foreground."""
    return _parent.get()


def use_parent(parent: dict[str, Any] | None) -> None:
    """From now on in this context, and in threads started in it, the request that runs is `parent`."""
    _parent.set(parent)


def use_sink(sink: Sink) -> contextvars.Token[Sink | None]:
    """Send what this context, and the threads started in it, writes from now on to `sink`."""
    return _sink.set(sink)
