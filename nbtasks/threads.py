"""Our threads: how they start, how an interrupt reaches one, and how it is kept from striking at the wrong moment.

Must know nothing of tasks, backends or managers: a thread has a gate, and an interrupt strikes through it.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import functools
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

__all__ = ["Gate", "TaskInterrupt", "doze", "here", "run_in_own_loop", "start_thread", "uninterrupted"]

P = ParamSpec("P")
T = TypeVar("T")

_RESTRIKE_SECONDS = 0.05
"""Interrupts that follow each other closer than this are one: the first is still on its way."""


class TaskInterrupt(BaseException):
    """Raised in a worker thread, at its next Python instruction, to stop the work."""


def start_thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread called `name` that belongs to no cell and no task, whoever happens to need it first."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    contextvars.Context().run(thread.start)
    return thread


class _Here(threading.local):
    gate: Gate | None = None


here = _Here()
"""`here.gate`: that of the calling thread, while an interrupt may strike it; else None."""


class Gate:
    """Lets interrupts into one worker thread while its work runs, and at no other moment.

    `_lock` is held by whoever strikes, and by the thread itself while it changes what others rely on (see
    `uninterrupted`): an exception raised between two lines of the manager would leave its books half written.
    A strike that finds the lock taken is left as a request, which the holder serves when it lets go.
    """

    __slots__ = ("_lock", "_open_for", "_requested", "_struck_at", "_thread_id", "bed", "nudge")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread_id = threading.get_ident()
        self._open_for: object = None
        self._requested: object = None
        self._struck_at = float("-inf")
        self.bed: threading.Lock | None = None
        """The lock on which the thread sleeps in one of our own waits, where no exception reaches it."""
        self.nudge: Callable[[], object] | None = None
        """Wakes the event loop that the thread runs, where it may be waiting for its files and timers."""

    def enter(self, work: object) -> None:
        """Own thread: from here on interrupts meant for `work` may strike."""
        self._requested = None
        self._struck_at = float("-inf")
        here.gate = self
        self._open_for = work

    def leave(self) -> None:
        """Own thread: from here on none strikes, and one that is under way is swallowed."""
        self._open_for = None
        while True:
            try:
                with self._lock:  # whoever is striking now has struck
                    pass
                self._swallow()
                here.gate = None
            except TaskInterrupt:
                continue
            return

    def _swallow(self) -> None:
        """Own thread: let a strike that may not have reached us yet strike here.

        Whether it has cannot be seen, so another one is put in its place. (One taken back by `None` would leave
        CPython 3.11 and 3.12 looking for it at every loop and call, and their profilers in an endless loop.)
        """
        if self._struck_at > float("-inf"):
            self._struck_at = float("-inf")
            _raise_in(self._thread_id, TaskInterrupt)
            _checkpoint()

    def strike(self, work: object) -> None:
        """Any thread: interrupt `work`, now or as soon as the thread is out of its protected section."""
        self._requested = work
        if self._lock.acquire(blocking=False):
            try:
                self._serve()
            finally:
                self._lock.release()

    def _serve(self) -> None:
        """Under `_lock`: raise in the thread what was requested, if that work is still there."""
        if self._requested is None or self._requested is not self._open_for:
            return
        self._requested = None
        now = time.monotonic()
        if now - self._struck_at >= _RESTRIKE_SECONDS:
            self._struck_at = now
            _raise_in(self._thread_id, TaskInterrupt)
            _wake(self.bed)
            if self.nudge is not None:
                self.nudge()

    def run_protected(self, call: Callable[[], T]) -> T:
        """Own thread: run `call`, out of reach of interrupts; one that came meanwhile is raised afterwards."""
        with self._lock:
            _checkpoint()  # one that was on its way already strikes here, before anything is changed
            here.gate = None
            try:
                result = call()
            finally:
                here.gate = self
        if self._requested is not None:
            with self._lock:
                self._serve()
        return result


def uninterrupted(method: Callable[P, T]) -> Callable[P, T]:
    """A function that no TaskInterrupt leaves half done, on whatever thread it is called."""

    @functools.wraps(method)
    def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        gate = here.gate
        if gate is None:
            return method(*args, **kwargs)
        return gate.run_protected(lambda: method(*args, **kwargs))

    return whole


def doze(bed: threading.Lock, timeout: float | None = None) -> bool:
    """Acquire `bed`, which somebody will release; False if `timeout` seconds passed first.

    An interrupt ends it. (A thread inside `Lock.acquire` runs no Python instruction at which it could strike.)
    """
    seconds = -1 if timeout is None else max(0.0, min(timeout, threading.TIMEOUT_MAX))
    gate = here.gate
    if gate is None:
        return bed.acquire(timeout=seconds)
    gate.bed = bed
    try:
        _checkpoint()  # one that came before the bed was known strikes here; a later one wakes us
        return bed.acquire(timeout=seconds)
    finally:
        gate.bed = None


def run_in_own_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in an event loop of this thread's own. An interrupt ends it where it waits, too.

    What it still has open then is cancelled, so that its clean-up runs.
    """
    gate = here.gate
    with asyncio.Runner() as runner:
        if gate is None:
            return runner.run(coroutine)
        loop = runner.get_loop()
        gate.nudge = lambda: _nudge(loop)
        try:
            return runner.run(coroutine)
        finally:
            gate.nudge = None


def _nudge(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.call_soon_threadsafe(_checkpoint)
    except RuntimeError:  # closed in this moment: it waits for nothing any more
        return


def _checkpoint() -> None:
    """CPython looks for an exception from another thread whenever a Python function is entered."""


def _wake(bed: threading.Lock | None) -> None:
    if bed is not None:
        try:
            bed.release()
        except RuntimeError:  # woken already
            return


def _raise_in(thread_id: int, exception: type[BaseException]) -> None:
    """Raise `exception` in the thread at its next instruction."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(exception))
