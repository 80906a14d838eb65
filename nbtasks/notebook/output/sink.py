"""`Sink`: receivers of the output of tasks, selected by a context variable.

Code may run where the variable is not set: in a greenlet, which begins with an empty context, and in a thread that C
code started. A greenlet runs on a thread of a task, which has the task's context; for threads of C code, see
`unknown_threads.py`.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from nbtasks.notebook.output.away_cells import away_cell

__all__ = [
    "Sink",
    "current_parent",
    "current_sink",
    "find_sinks_of_unknown_threads",
    "use_context_on_thread",
    "use_parent",
    "use_sink",
    "value_here",
]

T = TypeVar("T")


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

    @property
    def sync_displays(self) -> Callable[[], None]:
        """A function that does so if there are displays among it."""

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
_MAIN = threading.main_thread().ident


class _OnThread(threading.local):
    context: contextvars.Context | None = None


_on_thread = _OnThread()
_find_sink: Callable[[], Sink | None] | None = None


def current_sink() -> Sink | None:
    """The sink of the task in whose context this is called; None in the foreground.

    Also None in a forked child, which has no publisher.
    """
    sink = value_here(_sink)
    if sink is None and (cell := away_cell()) is not None:
        sink = cell.sink
    if sink is None and _find_sink is not None and threading.get_ident() != _MAIN:
        sink = _find_sink()
    return sink if sink is None or os.getpid() == _PID else None


def value_here(variable: contextvars.ContextVar[T | None]) -> T | None:
    """The value of a variable in this context, else in that of the task whose thread this is; else None."""
    value = variable.get()
    if value is None and _on_thread.context is not None:
        value = _on_thread.context.get(variable)
    return value


def use_context_on_thread(context: contextvars.Context | None) -> None:
    """Let code on this thread that has no context of its own have the sink of this one."""
    _on_thread.context = context


_OF_THE_KERNEL = frozenset(("parent_header", "shell_parent", "shell_parent_ident"))
"""Names of ipykernel's context variables: the request that code belongs to."""


def thread_context() -> contextvars.Context:
    """A new context for a thread that the code here starts: only to which cell and request it belongs.

    In the foreground a thread starts in an empty context, so that it has no decimal context or numpy error state of
    the code that has started it. From Python 3.14 `sys.flags.thread_inherit_context` decides; it is off by default.
    """
    here = contextvars.copy_context()
    if getattr(sys.flags, "thread_inherit_context", False):
        return here
    context = contextvars.Context()
    context.run(_set_kept, here)
    return context


def _set_kept(here: contextvars.Context) -> None:
    for variable, value in here.items():
        if variable.name in _OF_THE_KERNEL or variable.name.startswith("nbtasks_"):
            variable.set(value)


def find_sinks_of_unknown_threads(find: Callable[[], Sink | None] | None) -> None:
    """Call `find` for the sink, on threads other than the main one whose context has none."""
    global _find_sink
    _find_sink = find


def current_parent() -> dict[str, Any] | None:
    """The request that launched the task in whose context this is called; None in the foreground."""
    parent = value_here(_parent)
    if parent is None and (cell := away_cell()) is not None:
        return cell.parent
    return parent


def use_parent(parent: dict[str, Any] | None) -> None:
    """Make `parent` the current request in this context, and in threads that are started from it."""
    _parent.set(parent)


def use_sink(sink: Sink) -> contextvars.Token[Sink | None]:
    """Send the output of this context, and of threads that are started from it, to `sink`."""
    return _sink.set(sink)
