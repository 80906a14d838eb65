"""Cells within cells: captured output, and cells that a cell runs (`%%capture`, `shell.run_cell`), per task.

In a task's context neither swaps a stream or a publisher of the process, and what the foreground captures has nothing
of a task. Knows of a task only how it runs a cell.
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell
from IPython.utils.capture import CapturedIO, capture_output

from nbtasks.notebook.cells.cell_task import CellTask
from nbtasks.notebook.output.sink import Sink, current_sink, use_sink
from nbtasks.notebook.patches.ipython import Router
from nbtasks.notebook.patches.streams import current_streams
from nbtasks.progress import current_task

__all__ = ["NestedCells"]


class NestedCells:
    """Installs both into a shell, and takes them out again. Used from the main thread only."""

    def __init__(self, shell: InteractiveShell, router: Router) -> None:
        self._shell = shell
        self._router = router
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Give `capture_output` and `shell.run_cell` their meaning in a task's context."""
        enter, leave, run_cell = capture_output.__enter__, capture_output.__exit__, self._shell.run_cell
        router = self._router

        @functools.wraps(enter)
        def enter_by_context(capture: capture_output) -> CapturedIO:
            sink = current_sink()
            if sink is not None:
                return _begin_capture(capture, sink)
            captured = enter(capture)
            if capture.display:
                router.route_captured(self._shell)
            return captured

        @functools.wraps(leave)
        def leave_by_context(capture: capture_output, *error: Any) -> None:
            inside: contextlib.ExitStack | None = capture.__dict__.pop("_nbtasks_inside", None)
            if inside is None:
                leave(capture, *error)
            else:
                inside.close()

        @functools.wraps(run_cell)
        def run_cell_by_context(raw_cell: str, *args: Any, **kwargs: Any) -> ExecutionResult:
            task = current_task()
            if isinstance(task, CellTask) and current_sink() is not None:
                return _run_in_task(task, raw_cell)
            return run_cell(raw_cell, *args, **kwargs)

        capture_output.__enter__, capture_output.__exit__ = enter_by_context, leave_by_context
        self._shell.run_cell = run_cell_by_context

        def undo() -> None:
            capture_output.__enter__, capture_output.__exit__ = enter, leave
            if self._shell.__dict__.get("run_cell") is run_cell_by_context:
                del self._shell.run_cell

        self._undo.append(undo)

    def uninstall(self) -> None:
        """Undo `install`."""
        while self._undo:
            self._undo.pop()()


def _begin_capture(capture: capture_output, outer: Sink) -> CapturedIO:
    inner = _Capture(capture, outer)
    inside = capture.__dict__["_nbtasks_inside"] = contextlib.ExitStack()
    streams = current_streams()
    if streams is not None:  # what was swapped in before the capture began gets nothing of what it captures
        inside.enter_context(streams.set_aside())
    token = use_sink(inner)
    inside.callback(token.var.reset, token)
    return CapturedIO(inner.out, inner.err, inner.outputs)


class _Capture:
    """A sink that keeps what its `capture_output` asked for, and hands the rest on."""

    def __init__(self, capture: capture_output, outer: Sink) -> None:
        self.out = io.StringIO() if capture.stdout else None
        self.err = io.StringIO() if capture.stderr else None
        self.outputs: list[dict[str, Any]] | None = [] if capture.display else None
        self._outer = outer
        self.stdout = outer.stdout if self.out is None else self.out.write
        self.stderr = outer.stderr if self.err is None else self.err.write
        self.error = outer.error
        self.flush = outer.flush
        self.sync = outer.sync
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


def _run_in_task(task: CellTask, source: str) -> ExecutionResult:
    """`shell.run_cell` as part of a task: in its names, with its output; an error is shown and told, not raised."""
    result = ExecutionResult(ExecutionInfo(source, False, False, True, None))
    try:
        result.result = task.run_source(source)
    except SyntaxError as error:
        result.error_before_exec = error
        task.show_error(error)
    except Exception as error:  # noqa: BLE001 - the user's code
        result.error_in_exec = error
        task.show_error(error)
    task.show_plots()
    sys.stdout.flush()
    return result
