"""Waits for tasks: by `await`, and by blocking, where the loop of the waiting thread may have to be kept turning.

Must not know how tasks are run; it sees only whether they are over.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from operator import attrgetter
from typing import Any

from nbtasks import validation
from nbtasks.dependencies import Waiter, deadlock_path
from nbtasks.dispatcher import Dispatcher
from nbtasks.exceptions import DeadlockError, TaskCancelledError, TaskFailedError, WaitTimeoutError
from nbtasks.interrupts import NAP_SECONDS, doze, here, uninterrupted
from nbtasks.progress import CURRENT
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Task, call_hook

__all__ = ["Waits", "finish", "result_of"]

logger = logging.getLogger("nbtasks")


class Waits:
    """The waits of one manager. Their books are the dispatcher's, under its lock."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.around: Callable[[Sequence[Task]], AbstractContextManager[object]] = nullcontext
        """What goes on while plain code waits for these tasks: a terminal shows them."""

    async def until_over(self, tasks: Sequence[Task] | None, timeout: float | timedelta | None = None) -> list[Task]:
        """Return the tasks when all are over; None: all that is live now. Raises WaitTimeoutError."""
        timeout = validation.wait_timeout(timeout)
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        waiter = self._begin(partial(_set, loop, over), tasks, timeout, blocks=False)
        try:
            if timeout is None:
                await over
            else:
                await asyncio.wait([over], timeout=timeout)
        finally:
            self._end(waiter)
        return _all_over(waiter.tasks if tasks is None else tasks, timeout)

    def block_until_over(
        self, tasks: Sequence[Task] | None, timeout: float | timedelta | None = None, *, quietly: bool = False
    ) -> list[Task]:
        """The same, blocking the thread; the loop of this thread is kept turning if work needs it.

        `quietly`, it is not turned, and the kinds of the tasks are not told: nobody waits for their sake.
        """
        timeout = validation.wait_timeout(timeout)
        bed = threading.Lock()
        bed.acquire()
        waiter = self._begin(partial(_release, bed), tasks, timeout, blocks=True)
        try:
            loop = asyncio._get_running_loop()
            if quietly:
                doze(bed, timeout)
            else:
                with self.around(waiter.tasks):
                    if loop is None:
                        doze(bed, timeout)
                    else:
                        self._sleep_on(loop, waiter, bed, timeout)
        finally:
            self._end(waiter)
        return _all_over(waiter.tasks if tasks is None else tasks, timeout, told=not quietly)

    @uninterrupted
    def _begin(
        self, wake: Callable[[], object], tasks: Sequence[Task] | None, timeout: float | None, *, blocks: bool
    ) -> Waiter:
        waiter = Waiter(wake, [] if tasks is None else list(tasks))
        current = CURRENT.get()
        if current is not None and current.internals.manager is not self._dispatcher.owner:
            current = None
        waiter.endless = timeout is None and current is not None and _is_own_line(current, blocks=blocks)
        self._dispatcher.change(partial(self._enter, waiter, current, everything=tasks is None))
        return waiter

    def _enter(self, waiter: Waiter, current: Task | None, *, everything: bool) -> None:
        """Under the lock: from here on `waiter` is woken when its tasks are over."""
        dispatcher = self._dispatcher
        if everything:
            live = dispatcher.registry.tasks(LIVE_STATES)
            waiter.tasks = sorted((task for task in live if task is not current), key=attrgetter("number"))
            waiter.last_number = max((task.number for task in waiter.tasks), default=0)
        else:
            waiter.tasks = [task for task in waiter.tasks if task.state in LIVE_STATES]
        if not waiter.tasks:
            waiter.left = 0
            dispatcher.effects.append(waiter.wake)
            return
        if waiter.endless and current is not None and (path := deadlock_path(current, waiter.tasks)):
            names = ", which waits for ".join(repr(task.name) for task in path)
            raise DeadlockError(f"deadlock: {current.name!r} waits for {names}")
        dispatcher.waiters.begin(waiter, current)
        if current is not None:
            lanes = {task.lane for task in waiter.tasks} | {current.lane}
            dispatcher.fill([dispatcher.lanes[name] for name in lanes])

    @uninterrupted
    def _end(self, waiter: Waiter) -> None:
        with self._dispatcher.lock:
            self._dispatcher.waiters.end(waiter)

    def _sleep_on(
        self, loop: asyncio.AbstractEventLoop, waiter: Waiter, bed: threading.Lock, timeout: float | None
    ) -> None:
        """Wait on a thread whose loop stands still meanwhile: sleep, and turn it as soon as work needs that."""
        dispatcher = self._dispatcher
        end = None if timeout is None else time.monotonic() + timeout
        wake = waiter.wake
        with dispatcher.lock:
            needed = dispatcher.runs_on(loop)
            if not needed:
                dispatcher.blocked_loops.setdefault(loop, []).append(wake)
        if not needed:
            try:
                doze(bed, timeout)
            finally:
                with dispatcher.lock:
                    sleepers = dispatcher.blocked_loops[loop]
                    sleepers.remove(wake)
                    if not sleepers:
                        del dispatcher.blocked_loops[loop]
        if waiter.left and (end is None or time.monotonic() < end):
            _turn(loop, dispatcher, waiter, None if end is None else end - time.monotonic())


def result_of(task: Task) -> Any:
    """The result of a task that is over, or its error, raised."""
    if task.state is TaskState.COMPLETED:
        return task.result
    error = task.exception
    if isinstance(error, Exception):
        raise error
    if task.state is TaskState.FAILED:
        raise TaskFailedError(f"{task.name!r} failed: {task.error}") from error
    raise TaskCancelledError(f"{task.name!r} was cancelled" + (f": {task.error}" if task.error != "cancelled" else ""))


def _all_over(tasks: Sequence[Task], timeout: float | None, *, told: bool = True) -> list[Task]:
    """Tell the kinds of those tasks that are over, and return them if they all are."""
    unfinished = [task for task in tasks if task.state in LIVE_STATES]
    if told:
        for task in tasks:
            if task.state not in LIVE_STATES:
                call_hook(task.on_wait_end)
    if not unfinished:
        return list(tasks)
    raise WaitTimeoutError(f"timed out after {timeout:g} s; {_still(unfinished)}", unfinished)


def _still(tasks: Sequence[Task]) -> str:
    """The names of unfinished tasks: "still running: 'a', 'b'; still pending: 'c'"."""
    parts = []
    for state in (TaskState.RUNNING, TaskState.PENDING):
        names = [repr(task.name) for task in tasks[:5] if task.state is state]
        if names:
            parts.append(f"still {state.value}: {', '.join(names)}")
    more = f" and {len(tasks) - 5} more" if len(tasks) > 5 else ""
    return ("; ".join(parts) or "finished meanwhile") + more


def _is_own_line(task: Task, *, blocks: bool) -> bool:
    """Whether this is the line of execution of the task's own work, and not one that it has started besides."""
    attempt = task.internals.attempt
    if attempt is None or attempt.handle is None:
        return False
    if blocks and here.gate is attempt.handle:
        return True
    return asyncio._get_running_loop() is not None and asyncio.current_task() is attempt.handle


def _turn(loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher, waiter: Waiter, timeout: float | None) -> None:
    """Keep the loop of this thread turning until the waiter is woken or the time has passed.

    The wait is on a future of its own, so that its end is not the end of the work. The loop turns now and then whatever
    happens: see `NAP_SECONDS`.
    """
    if not hasattr(loop, "_nest_patched"):  # by whichever of the two nest_asyncio
        import nest_asyncio2

        nest_asyncio2.apply(loop)
    over: asyncio.Future[None] = loop.create_future()
    with dispatcher.lock:
        waiter.wake = partial(_set, loop, over)
        if not waiter.left:
            over.set_result(None)
    handle = None if timeout is None else loop.call_later(timeout, finish, over)
    stirring: asyncio.TimerHandle

    def stir() -> None:
        nonlocal stirring
        stirring = loop.call_later(NAP_SECONDS, stir)

    stir()
    try:
        with _Interrupt(loop, over):
            loop.run_until_complete(over)
    finally:
        stirring.cancel()
        if handle is not None:
            handle.cancel()
        over.cancel()


class _Interrupt:
    """Ctrl-C ends the wait, where it would strike whatever the loop runs meanwhile: it is raised from here.

    A second one strikes at once, for work that never lets the loop turn. Whoever handles the signal otherwise goes on
    doing so, as do `asyncio.run` and the wait around this one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, over: asyncio.Future[None]) -> None:
        self._loop, self._over = loop, over
        self._came = False

    def __enter__(self) -> None:
        on_main_thread = threading.current_thread() is threading.main_thread()
        self._handles = on_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._handles:
            signal.signal(signal.SIGINT, self._strike)

    def __exit__(self, *_: object) -> None:
        if self._handles and signal.getsignal(signal.SIGINT) == self._strike:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._came:
            raise KeyboardInterrupt

    def _strike(self, _number: int, _frame: object) -> None:
        if self._came:
            raise KeyboardInterrupt
        self._came = True
        self._loop.call_soon_threadsafe(finish, self._over)


def _set(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    if asyncio._get_running_loop() is loop:
        finish(future)
        return
    try:
        loop.call_soon_threadsafe(finish, future)
    except RuntimeError:
        logger.debug("the loop of a wait is closed")


def finish(future: asyncio.Future[None]) -> None:
    """Set the result of a future that may have one already."""
    if not future.done():
        future.set_result(None)


def _release(bed: threading.Lock) -> None:
    try:
        bed.release()
    except RuntimeError:  # woken already
        return
