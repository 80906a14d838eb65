"""Monkeypatches of `capture_output` (`%%capture`) and `shell.run_cell`.

In a background cell neither replaces a stream or a publisher of the process, and the foreground captures no output of
background cells.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import io
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from IPython.utils.capture import CapturedIO, capture_output

from nbtasks.notebook.output.sink import Sink, current_sink, use_sink
from nbtasks.notebook.patches.streams import current_streams
from nbtasks.patch import Patch, PatchSet

__all__ = ["capture_patches", "use_run_cell"]

RunCell = Callable[[str], ExecutionResult]

_run_cell: contextvars.ContextVar[RunCell | None] = contextvars.ContextVar("nbtasks_run_cell", default=None)


def use_run_cell(run_cell: RunCell) -> None:
    """In this context, and in threads started from it, `shell.run_cell` is this function."""
    _run_cell.set(run_cell)


def capture_patches(shell: InteractiveShell) -> PatchSet:
    """Patches of the class `capture_output`, and of the shell's method."""
    return PatchSet(
        [
            Patch(capture_output, "__enter__", _enter_by_context),
            Patch(capture_output, "__exit__", _exit_by_context),
            Patch(shell, "run_cell", _run_cell_by_context),
        ]
    )


def _enter_by_context(enter: Callable[[capture_output], CapturedIO]) -> Callable[[capture_output], CapturedIO]:
    @functools.wraps(enter)
    def begin(capture: capture_output) -> CapturedIO:
        sink = current_sink()
        return enter(capture) if sink is None else _begin_capture(capture, sink)

    return begin


def _exit_by_context(leave: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(leave)
    def end(capture: capture_output, *error: Any) -> None:
        inside: contextlib.ExitStack | None = capture.__dict__.pop("_nbtasks_inside", None)
        if inside is None:
            leave(capture, *error)
        else:
            inside.close()

    return end


def _run_cell_by_context(run_cell: Callable[..., ExecutionResult]) -> Callable[..., ExecutionResult]:
    @functools.wraps(run_cell)
    def run(raw_cell: str, *args: Any, **kwargs: Any) -> ExecutionResult:
        run_nested = _run_cell.get()
        if run_nested is None or current_sink() is None:
            return run_cell(raw_cell, *args, **kwargs)
        return run_nested(raw_cell)

    return run


def _begin_capture(capture: capture_output, outer: Sink) -> CapturedIO:
    inner = _Capture(capture, outer)
    inside = capture.__dict__["_nbtasks_inside"] = contextlib.ExitStack()
    streams = current_streams()
    if streams is not None:
        inside.enter_context(streams.replaced(stdout=inner.out, stderr=inner.err))
    token = use_sink(inner)
    inside.callback(token.var.reset, token)
    return CapturedIO(inner.out, inner.err, inner.outputs)


class _Capture:
    """A sink that keeps captured displays and forwards the rest.

    Text is captured by replaced streams.
    """

    def __init__(self, capture: capture_output, outer: Sink) -> None:
        self.out = io.StringIO() if capture.stdout else None
        self.err = io.StringIO() if capture.stderr else None
        self.outputs: list[dict[str, Any]] | None = [] if capture.display else None
        self._outer = outer
        self.stdout = outer.stdout
        self.stderr = outer.stderr
        self.error = outer.error
        self.flush = outer.flush
        self.sync = outer.sync
        self.sync_displays = outer.sync_displays
        self.page = outer.page

    def display(
        self, data: dict[str, Any], metadata: dict[str, Any], transient: dict[str, Any], *, update: bool = False
    ) -> None:
        if self.outputs is None:
            self._outer.display(data, metadata, transient, update=update)
        else:
            self.outputs.append({"data": data, "metadata": metadata, "transient": transient, "update": update})

    def result(self, data: dict[str, Any], metadata: dict[str, Any], execution_count: int | None) -> None:
        if self.outputs is None:
            self._outer.result(data, metadata, execution_count)
        else:
            self.outputs.append({"data": data, "metadata": metadata})

    def clear(self, *, wait: bool = False) -> None:
        if self.outputs is None:
            self._outer.clear(wait=wait)
            return
        for stream in (self.out, self.err):
            if stream is not None:
                stream.seek(0)
                stream.truncate()
        self.outputs.clear()
