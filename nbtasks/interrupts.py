"""Interrupts of worker threads, protection from them, and interruptible waits."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import contextvars
import ctypes
import functools
import math
import operator
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ClassVar, ParamSpec, TypeVar

from nbtasks.gil_fairness import yielding_gil
from nbtasks.patch import Patch, core_patches
from nbtasks.with_statements import has_just_entered, may_leave_locked

__all__ = [
    "CTRL_C_SECONDS",
    "Gate",
    "TaskInterrupt",
    "acquire_interruptibly",
    "here",
    "protected",
    "run_in_own_loop",
    "start_thread",
    "uninterrupted",
    "wake",
]

P = ParamSpec("P")
T = TypeVar("T")

_SAME_INTERRUPT_SECONDS = 0.05
"""Interrupts that follow each other closer than this are one: the first has not been delivered yet."""

_STUCK_SECONDS = 0.2
"""An event loop that does not react to an interrupt for so long is interrupted like any other thread."""
_STUCK_CHECKS = 10
"""How often that is checked in this time."""

_UNSAFE_SECONDS, _UNSAFE_SECONDS_MAX = 0.0005, 0.01
"""Time between two looks whether a thread that was at an unsafe place has left it, at first and later."""
_CAREFUL_SECONDS = 0.3
"""For so long a safe place is waited for; for as long again, one that is most probably safe."""

CTRL_C_SECONDS = 0.5
"""How late the main thread may notice a Ctrl-C that arrives in the moment when it begins to wait."""


class TaskInterrupt(BaseException):
    """Raised in a worker thread, at its next Python instruction, to stop its work."""


def start_thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread in an empty context: it belongs to no cell or task, wherever it is started."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    contextvars.Context().run(thread.start)
    return thread


class _Here(threading.local):
    gate: Gate | None = None


here = _Here()


class Gate:
    """Lets interrupts into one worker thread, only while its work runs.

    `_lock` is held by the thread that interrupts, and by the worker thread itself while it changes shared state (see
    `uninterrupted`): an exception raised between two lines of the manager would leave that state inconsistent. An
    interrupt that finds the lock held remains as a request, which the holder serves when it releases the lock.
    """

    __slots__ = (
        *("_lock", "_open_for", "_requested", "_is_protected", "_raised", "_raised_at", "_thread_id"),
        *("is_swallowing", "on_interrupt", "sleeping_on"),
    )
    exception: ClassVar[type[TaskInterrupt]] = TaskInterrupt
    """What an interrupt raises in the thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread_id = threading.get_ident()
        self._open_for: object = None
        self._requested: object = None
        self._is_protected = False
        self._raised = False
        self._raised_at = float("-inf")
        self.sleeping_on: threading.Lock | None = None
        """The lock that the thread waits for in `acquire_interruptibly`, where no exception reaches it."""
        self.on_interrupt: Callable[[], object] | None = None
        """Called in place of raising an exception, while the thread runs an event loop."""
        self.is_swallowing = False
        """Whether the thread is in code whose exceptions are only reported, and has lost an interrupt there."""
        here.gate = self

    def enter(self, work: object) -> None:
        """Own thread: let interrupts of `work` in from now on."""
        _watch_swallowed()
        self._requested = None
        self._raised = self.is_swallowing = False
        self._open_for = work

    def leave(self) -> None:
        """Own thread: let none in from now on, and swallow one that is on its way."""
        self._open_for = None
        while True:  # each round survives one late interrupt; no new one begins once the gate is closed
            try:
                if self._lock.locked():
                    self._under_lock(_checkpoint)  # the interrupt that another thread was raising has been raised
                if self._raised:
                    self._swallow()
            except TaskInterrupt:
                continue
            return

    def _swallow(self) -> None:
        """Own thread: have an interrupt that may not have been delivered yet delivered here.

        There is no way to see whether it was, so another one replaces it. (Withdrawing it by `None` would leave
        CPython 3.11 and 3.12 looking for it at every loop and call, and their profilers in an endless loop.)
        """
        self._raised = False
        _raise_in(self._thread_id, self.exception)
        _checkpoint()

    def interrupt(self, work: object, then: Callable[[], object] | None = None) -> None:
        """Any thread: interrupt `work`, now or when the thread leaves its protected section.

        `then` is called after that, except that it does not wait for the end of a protected section.
        """
        self._requested = work
        is_later = False
        if self._lock.acquire(blocking=False):
            try:
                is_later = self._serve(then)
            finally:
                self._lock.release()
        if then is not None and not is_later:
            then()

    def _serve(self, then: Callable[[], object] | None = None) -> bool:
        """Under `_lock`: raise the requested interrupt in the thread, if it still runs that work.

        True if this is not the moment: then it is raised later, and `then` is called after that.
        """
        if self._requested is None or self._requested is not self._open_for:
            return False
        if self._serve_if_safe(self._requested):
            return False
        _thread.start_new_thread(self._interrupt_later, (self._requested, then))  # see `repeat_interrupt`
        return True

    def _serve_if_safe(self, work: object, waited: float = 0.0) -> bool:
        """Under `_lock`: serve the request to interrupt `work`; False if this is not the moment."""
        if self._requested is not work or work is not self._open_for:
            return True
        if self.on_interrupt is not None:
            self._requested = None
            self.on_interrupt()
            return True
        loop = None if self.sleeping_on is not None else _loop_run_by(self._thread_id)
        if loop is not None:
            self._requested = None
            _LoopInterrupter(self, work, loop)()
            return True
        if not self._is_safe(waited):
            return False
        self._requested = None
        self._raise()
        return True

    def _raise(self) -> None:
        now = time.monotonic()
        if not self._raised or now - self._raised_at >= _SAME_INTERRUPT_SECONDS:
            self._raised = True
            self._raised_at = now
            _raise_in(self._thread_id, self.exception)
            wake(self.sleeping_on)

    def _is_safe(self, waited: float = 0.0) -> bool:
        """Whether an exception raised in the thread now leaves no lock locked, as far as can be told.

        After `waited` seconds less certainty is enough: an `__enter__` or `__exit__` may take long. The thread's own
        code here is safe, and so are our own waits.
        """
        if threading.get_ident() == self._thread_id or self.sleeping_on is not None:
            return True
        if has_just_entered(self._thread_id):
            return False
        return waited > 2 * _CAREFUL_SECONDS or not may_leave_locked(
            self._thread_id, in_call=waited <= _CAREFUL_SECONDS
        )

    def _interrupt_later(self, work: object, then: Callable[[], object] | None) -> None:
        """Interrupt the work when it is safe."""
        begin, seconds = time.monotonic(), _UNSAFE_SECONDS
        while self._requested is work is self._open_for:
            time.sleep(seconds)
            seconds = min(seconds * 2, _UNSAFE_SECONDS_MAX)
            if self._lock.acquire(blocking=False):
                try:
                    self._serve_if_safe(work, time.monotonic() - begin)
                finally:
                    self._lock.release()
        if then is not None:
            then()

    def interrupt_stuck(self, on_interrupt: Callable[[], object]) -> bool:
        """Any thread: raise in the thread, if its loop still has this `on_interrupt`; False if it has not."""
        self._wait_until_safe(lambda: self.on_interrupt is on_interrupt)
        with self._lock:
            if self.on_interrupt is not on_interrupt or self._open_for is None:
                return False
            self._raised = True
            _raise_in(self._thread_id, self.exception)
            return True

    def interrupt_thread(self, work: object) -> None:
        """Any thread: raise in the thread, if it still runs that work, whether or not it runs an event loop."""
        self._wait_until_safe(partial(self.runs, work))
        with self._lock:
            if self.runs(work):
                self._raised = True
                _raise_in(self._thread_id, self.exception)
                wake(self.sleeping_on)

    def _wait_until_safe(self, is_wanted: Callable[[], bool]) -> None:
        begin = time.monotonic()
        while is_wanted() and not self._is_safe(time.monotonic() - begin):
            time.sleep(_UNSAFE_SECONDS)

    def runs(self, work: object) -> bool:
        """Whether the thread runs that work now."""
        return self._open_for is work

    def is_pending(self, work: object) -> bool:
        """Whether an interrupt of that work was requested and has not been raised."""
        return self._requested is work

    def repeat_interrupt(self) -> None:
        """Own thread: the interpreter swallowed an interrupt; repeat it when the thread is past that code."""
        with self._lock:  # no other thread interrupts meanwhile
            self._raised = False
            if self._open_for is not None:
                # Not by `threading`, one of whose locks this thread may hold: it can be anywhere.
                _thread.start_new_thread(self._repeat_later, (self._open_for,))

    def _repeat_later(self, work: object) -> None:
        end = time.monotonic() + _STUCK_SECONDS
        while self.is_swallowing and time.monotonic() < end:
            time.sleep(0.001)
        self.interrupt(work)

    @property
    def is_open(self) -> bool:
        """Own thread: whether an interrupt can be raised here."""
        return self._open_for is not None and not self._is_protected

    def run_protected(self, call: Callable[[], T]) -> T:
        """Own thread: call `call` without interrupts; one that arrives meanwhile is raised afterwards."""
        result = self._under_lock(partial(self._without_interrupts, call))
        if self._requested is not None:
            self._under_lock(self._serve)
        return result

    def _without_interrupts(self, call: Callable[[], T]) -> T:
        _checkpoint()  # one that was on its way is raised here, before anything is changed
        self._is_protected = True
        try:
            return call()
        finally:
            self._is_protected = False

    def _under_lock(self, call: Callable[[], T]) -> T:
        """Own thread: call `call` with the lock held. It is released, wherever an interrupt is raised.

        A `with` statement does not see to that on Python 3.14 (see `with_statements`). Here one call of C code both
        acquires the lock and notes it.
        """
        acquired: list[bool] = []
        try:
            acquired.extend(map(operator.call, (self._lock.acquire,)))
            return call()
        finally:
            if acquired:
                self._lock.release()


class _SwallowedInterrupts:
    """The `sys.unraisablehook` that repeats an interrupt which was only reported.

    That happens to exceptions in a `__del__`, for example.
    """

    __slots__ = ("_original",)

    def __init__(self, original: Callable[[Any], object]) -> None:
        self._original = original

    def __call__(self, unraisable: Any) -> None:
        gate = here.gate
        if gate is None or unraisable.exc_type is not gate.exception:
            self._original(unraisable)
            return
        gate.is_swallowing = True
        gate.repeat_interrupt()
        gate.is_swallowing = False  # the last line: an interrupt raised after it would be lost again


_unraisable_hook = Patch(sys, "unraisablehook", _SwallowedInterrupts)
_unraisable_hook_lock = threading.Lock()
core_patches.add(_unraisable_hook)


def _watch_swallowed() -> None:
    """Install the hook, also where other code has replaced it: swallowed interrupts must not be lost."""
    if type(sys.unraisablehook) is not _SwallowedInterrupts:
        with _unraisable_hook_lock:
            _unraisable_hook.apply()


def protected(function: Callable[..., T], *args: Any) -> T:
    """Call `function` so that no TaskInterrupt leaves it half done, on any thread."""
    gate = here.gate
    if gate is None or not gate.is_open:
        return function(*args)
    return gate.run_protected(lambda: function(*args))


def uninterrupted(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: no TaskInterrupt leaves the function half done, on any thread."""

    @functools.wraps(function)
    def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        gate = here.gate
        if gate is None or not gate.is_open:
            return function(*args, **kwargs)
        return gate.run_protected(lambda: function(*args, **kwargs))

    return whole


def acquire_interruptibly(lock: threading.Lock, timeout: float | None = None) -> bool:
    """Acquire a lock that another thread releases; False if `timeout` seconds passed first.

    An interrupt ends the wait. (A thread inside `Lock.acquire` runs no Python instruction at which an exception could
    be raised.)
    """
    seconds = -1 if timeout is None else max(0.0, min(timeout, threading.TIMEOUT_MAX))
    gate = here.gate
    if gate is None or not gate.is_open:
        if threading.current_thread() is threading.main_thread():
            return _acquire_in_short_waits(lock, math.inf if timeout is None else seconds)
        return lock.acquire(timeout=seconds)
    gate.sleeping_on = lock
    try:
        _checkpoint()  # an interrupt that came before is raised here; a later one wakes this thread
        return lock.acquire(timeout=seconds)
    finally:
        gate.sleeping_on = None


def _acquire_in_short_waits(lock: threading.Lock, seconds: float) -> bool:
    """Main thread: acquire a lock by short waits, since Ctrl-C ends only a wait that has begun.

    One that arrives between the last check for signals and the wait (some microseconds) is seen when the wait ends,
    which would be never if the lock is not released.
    """
    end = time.monotonic() + seconds
    while not lock.acquire(timeout=min(CTRL_C_SECONDS, max(0.0, end - time.monotonic()))):
        if time.monotonic() >= end:
            return False
    return True


def run_in_own_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a new event loop on this thread.

    An interrupt cancels it, also while it waits. Tasks that it leaves behind are cancelled, so that they clean up.
    """
    gate = here.gate
    if gate is None or not gate.is_open:
        return _run(coroutine)
    canceller = _Canceller(gate)
    try:
        # From then on no interrupt is raised inside asyncio's own code.
        gate.run_protected(partial(setattr, gate, "on_interrupt", canceller))
    except TaskInterrupt:
        gate.on_interrupt = None
        coroutine.close()
        raise
    try:
        return _run(canceller.run(coroutine))
    finally:
        gate.on_interrupt = None


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    # Not by `asyncio.run`: nest_asyncio replaces that by one that cancels nothing at the end and leaves its loop open.
    with asyncio.Runner() as runner, yielding_gil(runner.get_loop()):
        return runner.run(coroutine)


class _Canceller:
    """Cancels the coroutine of a thread that runs a loop, in place of an interrupt.

    A loop that does not react is interrupted like any other thread.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._requested = False
        self._cancel: Callable[[threading.Event], object] | None = None

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await the coroutine, so that a call of this object cancels it."""
        aio_task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert aio_task is not None

        def cancel(delivered: threading.Event) -> None:
            if not delivered.is_set():
                aio_task.cancel()
                delivered.set()

        self._cancel = lambda delivered: loop.call_soon_threadsafe(cancel, delivered)
        if self._requested:  # before it began
            aio_task.cancel()
        return await coroutine

    def __call__(self) -> None:
        """Any thread."""
        self._requested = True
        if self._cancel is not None:
            delivered = threading.Event()
            self._request_cancel(delivered)
            start_thread(partial(self._interrupt_if_stuck, delivered), "nbtasks-interrupt")

    def _request_cancel(self, delivered: threading.Event) -> None:
        assert self._cancel is not None
        try:
            self._cancel(delivered)
        except RuntimeError:  # the loop is closed: it has ended
            delivered.set()

    def _interrupt_if_stuck(self, delivered: threading.Event) -> None:
        if not _is_set_soon(delivered) and self._gate.interrupt_stuck(self):
            self._request_cancel(delivered)  # once more: the interrupt may have been raised in the middle of the cancel


class _LoopInterrupt(TaskInterrupt, KeyboardInterrupt):
    """An interrupt raised by a callback of an event loop.

    A loop lets only the exceptions of Ctrl-C and exit out.
    """


class _LoopInterrupter:
    """Interrupts an event loop that the work itself runs on its thread.

    No exception would reach the thread while the loop waits. A loop that does not react is interrupted like any other
    code.
    """

    def __init__(self, gate: Gate, work: object, loop: asyncio.AbstractEventLoop) -> None:
        self._gate = gate
        self._work = work
        self._loop = loop
        self._delivered = threading.Event()

    def __call__(self) -> None:
        """Any thread."""
        with contextlib.suppress(RuntimeError):  # it was closed in this moment
            self._loop.call_soon_threadsafe(self._raise)
        start_thread(self._interrupt_if_stuck, "nbtasks-interrupt")

    def _raise(self) -> None:
        if not self._delivered.is_set() and self._gate.runs(self._work):
            self._delivered.set()
            raise _LoopInterrupt

    def _interrupt_if_stuck(self) -> None:
        if not _is_set_soon(self._delivered):
            self._delivered.set()
            self._gate.interrupt_thread(self._work)
            with contextlib.suppress(RuntimeError):  # it was closed meanwhile
                self._loop.call_soon_threadsafe(_checkpoint)  # it may have begun to wait, where no exception reaches it


def _is_set_soon(delivered: threading.Event) -> bool:
    """Wait until an interrupt is delivered; False if the loop is stuck."""
    # Short waits: a machine that was suspended meanwhile lengthens only one of them.
    return any(delivered.wait(_STUCK_SECONDS / _STUCK_CHECKS) for _ in range(_STUCK_CHECKS))


def _loop_run_by(thread_id: int) -> asyncio.AbstractEventLoop | None:
    """The event loop that the thread is running, if any."""
    frame = sys._current_frames().get(thread_id)
    while frame is not None:
        # nest_asyncio's `run_until_complete` does not call `run_forever`.
        if frame.f_code.co_name in ("run_forever", "run_until_complete", "run"):
            runs = frame.f_locals.get("self")
            if isinstance(runs, asyncio.AbstractEventLoop):
                return runs
            if isinstance(runs, asyncio.Runner):  # of a loop that is not written in Python
                return runs.get_loop()
        frame = frame.f_back
    return None


def _checkpoint() -> None:
    """CPython looks for an exception from another thread whenever a Python function is entered."""


def wake(lock: threading.Lock | None) -> None:
    """Release a lock that a thread may wait for; it may have been released before."""
    if lock is not None:
        try:
            lock.release()
        except RuntimeError:  # woken before
            return


def _raise_in(thread_id: int, exception: type[BaseException]) -> None:
    """Raise `exception` in the thread at its next instruction."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(exception))
