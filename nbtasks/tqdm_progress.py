"""Monkeypatches of tqdm: every bar sets the progress of its task."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from nbtasks.patch import Patch
from nbtasks.post_import import ModulePatches
from nbtasks.progress import CURRENT, Meter

__all__ = ["tqdm_patches"]


def tqdm_patches() -> ModulePatches:
    """Patches after which every tqdm bar sets the progress of its task, and still draws itself.

    All kinds of bars are patched where they refresh their display, a few times a second, so that an iteration costs
    nothing more. tqdm is not imported: the patches are applied after its import.
    """
    return ModulePatches("tqdm.std", _patches_of_bars)


def _patches_of_bars(std: ModuleType) -> list[Patch]:
    return [
        Patch(std.tqdm, "__init__", _then_update),
        Patch(std.tqdm, "refresh", _then_update),
        Patch(std.tqdm, "close", _then_finish),
    ]


def _then_update(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def patched(bar: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(bar, *args, **kwargs)
        _update(bar)
        return result

    return patched


def _then_finish(close: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(close)
    def patched(bar: Any) -> None:
        was_open = not getattr(bar, "disable", True)
        close(bar)
        if was_open and CURRENT.get() is not None:
            _update(bar)
            meter = _meters_of_bars.pop(bar, None)
            if meter is not None:
                meter.finish()

    return patched


_meters_of_bars: WeakKeyDictionary[Any, Meter] = WeakKeyDictionary()


def _update(bar: Any) -> None:
    """Set the meter of a bar, and the progress of its task, to what the bar shows."""
    task = CURRENT.get()
    if task is None or not hasattr(bar, "start_t"):  # a disabled bar counts nothing
        return
    meter = _meters_of_bars.get(bar)
    if meter is None:
        meter = Meter(bar.total, str(bar.unit), str(bar.desc or "").rstrip(": "), bar.initial, task=task)
        _meters_of_bars[bar] = meter
    meter.count, meter.total = bar.n, bar.total
    if meter.drives_task and meter.task is task:
        task.progress = meter.percent
