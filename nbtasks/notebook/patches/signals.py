"""Monkeypatches of `signal`: advice for background cells in threads.

Python sets no signal handlers outside of the main thread, and an alarm that a thread sets interrupts the foreground
cell, or ends the kernel.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable
from typing import Any

from nbtasks.notebook.output.sink import current_sink
from nbtasks.patch import Patch, PatchSet

__all__ = ["signal_patches"]


def signal_patches() -> PatchSet:
    """Patches of the functions that set handlers and alarms, where the system has them."""
    names = ("signal", "alarm", "setitimer")
    return PatchSet(
        [Patch(signal, name, functools.partial(_refused_in_threads, name)) for name in names if hasattr(signal, name)]
    )


def _refused_in_threads(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def refused_in_threads(*args: Any, **kwargs: Any) -> Any:
        if current_sink() is None or threading.current_thread() is threading.main_thread():
            return original(*args, **kwargs)
        # Code that limits time switches its alarm off at the end; that of the foreground stays.
        if name == "alarm" and args[:1] == (0,):
            return 0
        if name == "setitimer" and args[1:2] == (0,):
            return 0.0, 0.0
        raise ValueError(
            f"signal only works in main thread of the main interpreter: signal.{name}() was called in a background "
            "cell in a thread; run the cell with --backend process, or with --backend loop"
        )

    return refused_in_threads
