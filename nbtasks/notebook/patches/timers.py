"""Timers of cells, such as ipython-autotime, in background cells.

A timer is an object whose methods IPython calls before and after each cell. In a foreground cell that launches one in
the background it would show the time of the launch. The background cell has a copy of the timer instead, which is
started with the cell and shows its time at its end; so cells that run at once do not set each other's start.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

from IPython.core.events import EventManager
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell
from traitlets import HasTraits

from nbtasks.patch import Patch

__all__ = ["CellTimers", "timers_patch"]

_BEGIN, _END = "pre_run_cell", "post_run_cell"
_OURS_OR_IPYTHONS = ("IPython", "ipykernel", "matplotlib", "nbtasks")


class CellTimers:
    """The timers of one attempt of a background cell."""

    def __init__(self, shell: InteractiveShell, source: str) -> None:
        self._events = EventManager(shell, {_BEGIN: None, _END: None})
        self._info = ExecutionInfo(source, True, False, True, None)
        for begin, end in _timers(shell):
            timer = copy.copy(begin.__self__)
            self._events.callbacks[_BEGIN].append(types.MethodType(begin.__func__, timer))
            self._events.callbacks[_END].append(types.MethodType(end.__func__, timer))

    def begin(self) -> None:
        """Start them. In the context of the attempt."""
        self._events.trigger(_BEGIN, self._info)

    def end(self, error: BaseException | None) -> None:
        """Have them show the time. In the context of the attempt."""
        result = ExecutionResult(self._info)
        result.error_in_exec = error
        self._events.trigger(_END, result)


def timers_patch(shell: InteractiveShell, has_launched: Callable[[], bool]) -> Patch:
    """The patch by which timers leave out a foreground cell that `has_launched` a background cell."""

    def make(trigger: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(trigger)
        def trigger_event(event: str, *args: Any, **kwargs: Any) -> None:
            if event != _END or not has_launched():
                trigger(event, *args, **kwargs)
                return
            others = EventManager(shell, {_END: None})
            ends = [end for _, end in _timers(shell)]
            others.callbacks[_END] = [one for one in shell.events.callbacks[_END] if one not in ends]
            others.trigger(event, *args, **kwargs)

        return trigger_event

    return Patch(shell.events, "trigger", make)


def _timers(shell: InteractiveShell) -> Iterator[tuple[Any, Any]]:
    """The methods of each timer that are called before and after a cell."""
    callbacks = shell.events.callbacks
    for begin in callbacks[_BEGIN]:
        owner = getattr(begin, "__self__", None)
        if owner is None or isinstance(owner, HasTraits | type | types.ModuleType):
            continue
        if type(owner).__module__.partition(".")[0] in _OURS_OR_IPYTHONS:
            continue
        yield from ((begin, end) for end in callbacks[_END] if getattr(end, "__self__", None) is owner)
