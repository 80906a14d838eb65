"""Monkeypatches of `signal`: advice in threads, and what Ctrl-C interrupts.

Python sets no signal handlers outside of the main thread, and an alarm that a thread sets interrupts the foreground
cell, or ends the kernel.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from nbtasks.notebook.output.sink import current_sink
from nbtasks.patch import Patch, PatchSet

__all__ = ["Handler", "Interrupts", "interrupt_patch", "signal_patches"]

Handler = Callable[[int, FrameType | None], Any]
Interrupts = Callable[[Handler, int, FrameType | None], None]
"""Called on the main thread with each SIGINT, and the handler that is set: decides whether to call it."""


def signal_patches(decide: Interrupts | None = None) -> PatchSet:
    """Patches of the functions that set handlers and alarms, where the system has them.

    `decide` is called where a handler of SIGINT is, which `signal.getsignal` still shows as set. While another thread
    serves the notebook's cells, Kernel > Interrupt, a SIGINT, is meant for that thread.
    """

    def of_signal(original: Callable[..., Any]) -> Callable[..., Any]:
        return _refused_in_threads("signal", original if decide is None else _signal_with_decision(decide, original))

    alarms = [name for name in ("alarm", "setitimer") if hasattr(signal, name)]
    return PatchSet(
        [
            Patch(signal, "signal", of_signal),
            Patch(signal, "getsignal", _getsignal_as_given),
            *(Patch(signal, name, functools.partial(_refused_in_threads, name)) for name in alarms),
        ]
    )


def interrupt_patch(kernel: Any, decide: Interrupts) -> Patch:
    """Have `decide` called at a SIGINT also where the kernel sets its own handler: before each request."""
    put = signal.signal

    def with_ours(pre_handler_hook: Callable[[], None]) -> Callable[[], None]:
        @functools.wraps(pre_handler_hook)
        def hook() -> None:
            pre_handler_hook()
            if threading.current_thread() is threading.main_thread():
                put(signal.SIGINT, _decided(signal.getsignal(signal.SIGINT), decide))

        return hook

    return Patch(kernel, "pre_handler_hook", with_ours)


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


def _signal_with_decision(decide: Interrupts, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def set_handler(signalnum: int, handler: Any) -> Any:
        return _given(original(signalnum, _decided(handler, decide) if signalnum == signal.SIGINT else handler))

    return set_handler


def _getsignal_as_given(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get_handler(signalnum: int) -> Any:
        return _given(original(signalnum))

    return get_handler


def _decided(handler: Any, decide: Interrupts) -> Any:
    return _Decided(handler, decide) if callable(handler) and not isinstance(handler, _Decided) else handler


def _given(handler: Any) -> Any:
    return handler.handler if isinstance(handler, _Decided) else handler


class _Decided:
    """A handler of SIGINT, called if the interrupt is meant for the main thread."""

    def __init__(self, handler: Handler, decide: Interrupts) -> None:
        self.handler = handler
        self._decide = decide

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._decide(self.handler, number, frame)
