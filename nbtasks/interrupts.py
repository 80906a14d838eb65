"""Our threads: how they start, how an interrupt reaches one, and how it is kept from striking at the wrong moment.

Must know nothing of tasks, backends or managers: a thread has a gate, and an interrupt strikes through it.
"""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import ctypes
import functools
import math
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ParamSpec, TypeVar

from nbtasks.gil_fairness import breathing
from nbtasks.patch import Patch, core_patches

__all__ = [
    "NAP_SECONDS",
    "Gate",
    "TaskInterrupt",
    "doze",
    "here",
    "protected",
    "run_in_own_loop",
    "start_thread",
    "uninterrupted",
    "wake",
]

P = ParamSpec("P")
T = TypeVar("T")

_RESTRIKE_SECONDS = 0.05
"""Interrupts that follow each other closer than this are one: the first is still on its way."""

_STUCK_SECONDS = 0.2
"""A loop that has not turned for so long after an interrupt computes: it is interrupted like any other thread."""
_STUCK_LOOKS = 10
"""How often one looks in that time."""

NAP_SECONDS = 0.5
"""So late may the main thread notice an interrupt that came in the very moment when it fell asleep."""


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


class Gate:
    """Lets interrupts into one worker thread while its work runs, and at no other moment.

    `_lock` is held by whoever strikes, and by the thread itself while it changes what others rely on (see
    `uninterrupted`): an exception raised between two lines of the manager would leave its books half written.
    A strike that finds the lock taken is left as a request, which the holder serves when it lets go.
    """

    __slots__ = (
        *("_lock", "_open_for", "_requested", "_sheltered", "_struck", "_struck_at", "_thread_id"),
        *("bed", "instead", "swallows"),
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread_id = threading.get_ident()
        self._open_for: object = None
        self._requested: object = None
        self._sheltered = False
        self._struck = False
        self._struck_at = float("-inf")
        self.bed: threading.Lock | None = None
        """The lock on which the thread sleeps in one of our own waits, where no exception reaches it."""
        self.instead: Callable[[], object] | None = None
        """What an interrupt does rather than raise, where the thread runs an event loop of its own."""
        self.swallows = False
        """Whether the thread is where no exception gets through, and has lost one."""
        here.gate = self

    def enter(self, work: object) -> None:
        """Own thread: from here on interrupts meant for `work` may strike."""
        _watch_swallowed()
        self._requested = None
        self._struck = self.swallows = False
        self._open_for = work

    def leave(self) -> None:
        """Own thread: from here on none strikes, and one that is under way is swallowed."""
        self._open_for = None
        while True:  # each round survives one late strike; no new one begins once the gate is shut
            try:
                if self._lock.locked():
                    with self._lock:  # whoever is striking now has struck
                        pass
                if self._struck:
                    self._swallow()
            except TaskInterrupt:
                continue
            return

    def _swallow(self) -> None:
        """Own thread: let a strike that may not have reached us yet strike here.

        Whether it has cannot be seen, so another one is put in its place. (One taken back by `None` would leave
        CPython 3.11 and 3.12 looking for it at every loop and call, and their profilers in an endless loop.)
        """
        self._struck = False
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
        if self.instead is not None:
            self.instead()
            return
        now = time.monotonic()
        if not self._struck or now - self._struck_at >= _RESTRIKE_SECONDS:
            self._struck = True
            self._struck_at = now
            _raise_in(self._thread_id, TaskInterrupt)
            wake(self.bed)

    def insist(self, instead: Callable[[], object]) -> bool:
        """Any thread: raise in the thread, if that is what it still does instead; False if it is not."""
        with self._lock:
            if self.instead is not instead or self._open_for is None:
                return False
            self._struck = True
            _raise_in(self._thread_id, TaskInterrupt)
            return True

    def strike_again(self) -> None:
        """Own thread: a strike was swallowed by the interpreter; repeat it once the thread is past that."""
        with self._lock:  # nobody strikes meanwhile
            self._struck = False
            if self._open_for is not None:
                # Not by `threading`, one of whose locks this very thread may hold: it can be anywhere.
                _thread.start_new_thread(self._strike_later, (self._open_for,))

    def _strike_later(self, work: object) -> None:
        end = time.monotonic() + _STUCK_SECONDS
        while self.swallows and time.monotonic() < end:
            time.sleep(0.001)
        self.strike(work)

    @property
    def is_open(self) -> bool:
        """Own thread: whether an interrupt may strike here and now."""
        return self._open_for is not None and not self._sheltered

    def run_protected(self, call: Callable[[], T]) -> T:
        """Own thread: run `call`, out of reach of interrupts; one that came meanwhile is raised afterwards."""
        with self._lock:
            _checkpoint()  # one that was on its way already strikes here, before anything is changed
            self._sheltered = True
            try:
                result = call()
            finally:
                self._sheltered = False
        if self._requested is not None:
            with self._lock:
                self._serve()
        return result


class _SwallowedInterrupts:
    """The `sys.unraisablehook` that repeats an interrupt raised where errors are only reported, as in a `__del__`."""

    __slots__ = ("_original",)

    def __init__(self, original: Callable[[Any], object]) -> None:
        self._original = original

    def __call__(self, unraisable: Any) -> None:
        gate = here.gate
        if gate is None or unraisable.exc_type is not TaskInterrupt:
            self._original(unraisable)
            return
        gate.swallows = True
        gate.strike_again()
        gate.swallows = False  # with nothing after it that an interrupt could strike in


_unraisable_hook = Patch(sys, "unraisablehook", _SwallowedInterrupts)
_unraisable_hook_lock = threading.Lock()
core_patches.add(_unraisable_hook)


def _watch_swallowed() -> None:
    """Install the hook, also where other code has replaced it: without it a swallowed interrupt would be lost."""
    if type(sys.unraisablehook) is not _SwallowedInterrupts:
        with _unraisable_hook_lock:
            _unraisable_hook.apply()


def protected(function: Callable[..., T], *args: Any) -> T:
    """Call `function`, and let no TaskInterrupt leave it half done, on whatever thread this is."""
    gate = here.gate
    if gate is None or not gate.is_open:
        return function(*args)
    return gate.run_protected(lambda: function(*args))


def uninterrupted(function: Callable[P, T]) -> Callable[P, T]:
    """A function that no TaskInterrupt leaves half done, on whatever thread it is called."""

    @functools.wraps(function)
    def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        gate = here.gate
        if gate is None or not gate.is_open:
            return function(*args, **kwargs)
        return gate.run_protected(lambda: function(*args, **kwargs))

    return whole


def doze(bed: threading.Lock, timeout: float | None = None) -> bool:
    """Acquire `bed`, which somebody will release; False if `timeout` seconds passed first.

    An interrupt ends it. (A thread inside `Lock.acquire` runs no Python instruction at which it could strike.)
    """
    seconds = -1 if timeout is None else max(0.0, min(timeout, threading.TIMEOUT_MAX))
    gate = here.gate
    if gate is None or not gate.is_open:
        if threading.current_thread() is threading.main_thread():
            return _nap(bed, math.inf if timeout is None else seconds)
        return bed.acquire(timeout=seconds)
    gate.bed = bed
    try:
        _checkpoint()  # one that came before the bed was known strikes here; a later one wakes us
        return bed.acquire(timeout=seconds)
    finally:
        gate.bed = None


def _nap(bed: threading.Lock, seconds: float) -> bool:
    """Main thread: sleep in short stretches. Ctrl-C wakes it only from a sleep that has begun.

    One that comes after the last look at signals and before the sleep (some microseconds) would be seen when the sleep
    is over: never, if what is waited for does not end.
    """
    end = time.monotonic() + seconds
    while not bed.acquire(timeout=min(NAP_SECONDS, max(0.0, end - time.monotonic()))):
        if time.monotonic() >= end:
            return False
    return True


def run_in_own_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in an event loop of this thread's own. An interrupt cancels it, where it waits too.

    What it still has open then is cancelled, so that its clean-up runs.
    """
    gate = here.gate
    if gate is None or not gate.is_open:
        return _run(coroutine)
    canceller = _Canceller(gate)
    try:
        # Once that is done nothing strikes in the middle of asyncio's own affairs.
        gate.run_protected(partial(setattr, gate, "instead", canceller))
    except TaskInterrupt:
        gate.instead = None
        coroutine.close()
        raise
    try:
        return _run(canceller.run(coroutine))
    finally:
        gate.instead = None


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    # Not by `asyncio.run`: nest_asyncio replaces that by one that cancels nothing at the end and leaves its loop open.
    with asyncio.Runner() as runner, breathing(runner.get_loop()):
        return runner.run(coroutine)


class _Canceller:
    """Turns interrupts of a thread that runs a loop into a cancel of its coroutine; a loop that is stuck is struck."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._asked = False
        self._cancel: Callable[[threading.Event], object] | None = None

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await the coroutine, so that a call of this object cancels it."""
        aio_task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert aio_task is not None

        def cancel(heard: threading.Event) -> None:
            if not heard.is_set():
                aio_task.cancel()
                heard.set()

        self._cancel = lambda heard: loop.call_soon_threadsafe(cancel, heard)
        if self._asked:  # before it had begun
            aio_task.cancel()
        return await coroutine

    def __call__(self) -> None:
        """Any thread."""
        self._asked = True
        if self._cancel is not None:
            heard = threading.Event()
            self._ask(heard)
            start_thread(partial(self._insist, heard), "nbtasks-interrupt")

    def _ask(self, heard: threading.Event) -> None:
        assert self._cancel is not None
        try:
            self._cancel(heard)
        except RuntimeError:  # the loop is closed: it has ended
            heard.set()

    def _insist(self, heard: threading.Event) -> None:
        for _ in range(_STUCK_LOOKS):  # short ones, for a machine that stood still meanwhile stretches but one of them
            if heard.wait(_STUCK_SECONDS / _STUCK_LOOKS):
                return
        if self._gate.insist(self):
            self._ask(heard)  # once more: it may have struck in the middle of the cancel


def _checkpoint() -> None:
    """CPython looks for an exception from another thread whenever a Python function is entered."""


def wake(bed: threading.Lock | None) -> None:
    """Let whoever sleeps on `bed` go on; it may have been done."""
    if bed is not None:
        try:
            bed.release()
        except RuntimeError:  # woken already
            return


def _raise_in(thread_id: int, exception: type[BaseException]) -> None:
    """Raise `exception` in the thread at its next instruction."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(exception))
