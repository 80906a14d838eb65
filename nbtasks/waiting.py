"""Waits for tasks: by `await`, and by blocking, where the loop of the waiting thread may have to be kept turning.

Must not know how tasks are run; it sees only whether they are over.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from nbtasks.dispatch import Dispatcher
from nbtasks.exceptions import DeadlockError, TaskCancelledError, TaskFailedError, WaitTimeoutError
from nbtasks.progress import CURRENT
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Task, logger
from nbtasks.threads import doze, uninterrupted
from nbtasks.ties import Waiter

__all__ = ["Waits"]


class Waits:
    """The waits of one manager. Their books are the dispatcher's, under its lock."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._begin = uninterrupted(dispatcher.begin_wait)
        self._end = uninterrupted(dispatcher.end_wait)

    async def until_over(self, tasks: Iterable[Task] | None, timeout: float | None = None) -> list[Task]:
        """Return the tasks when all are over; None: all that is live now. Raises WaitTimeoutError."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        waiter = Waiter(partial(_set, loop, over))
        self._begin(waiter, self._checked(tasks), CURRENT.get())
        try:
            if timeout is None:
                await over
            else:
                await asyncio.wait([over], timeout=timeout)
        finally:
            self._end(waiter)
        return _all_over(waiter, timeout)

    def block_until_over(self, tasks: Iterable[Task] | None, timeout: float | None = None) -> list[Task]:
        """The same, blocking the thread."""
        bed = threading.Lock()
        bed.acquire()
        waiter = Waiter(partial(_release, bed))
        self._begin(waiter, self._checked(tasks), CURRENT.get())
        try:
            loop = asyncio._get_running_loop()
            if loop is None:
                doze(bed, timeout)
            else:
                self._sleep_on(loop, waiter, bed, timeout)
        finally:
            self._end(waiter)
        return _all_over(waiter, timeout)

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
                    dispatcher.blocked_loops[loop].remove(wake)
                    if not dispatcher.blocked_loops[loop]:
                        del dispatcher.blocked_loops[loop]
        if waiter.left and (end is None or time.monotonic() < end):
            _turn(loop, dispatcher, waiter, None if end is None else end - time.monotonic())

    def _checked(self, tasks: Iterable[Task] | None) -> list[Task] | None:
        if tasks is None:
            return None
        wanted = list(tasks)
        current = CURRENT.get()
        if current is not None and current in wanted and _is_own_line(current):
            raise DeadlockError(f"{current.name!r} would wait for itself, which never ends")
        return wanted


def handed_over(task: Task) -> Any:
    """The result of a task that is over, or its error, raised."""
    wait_ended(task)
    if task._state is TaskState.COMPLETED:
        return task._result
    error = task._exception
    if error is None:
        raise TaskCancelledError(f"{task.name!r}: {task.error}")
    if not isinstance(error, Exception):
        raise TaskFailedError(f"{task.name!r} failed: {task.error}") from error
    raise error


def wait_ended(task: Task) -> None:
    """Let the task's kind know that somebody has waited for it."""
    try:
        task._wait_ended()
    except Exception:  # noqa: BLE001 - a kind of task with a fault of its own
        logger.exception("%r: _wait_ended failed", task)


def _all_over(waiter: Waiter, timeout: float | None) -> list[Task]:
    unfinished = [task for task in waiter.tasks if task._state in LIVE_STATES]
    if not unfinished:
        return waiter.tasks
    names = ", ".join(f"{task.name!r} ({task.state.value})" for task in unfinished[:5])
    more = f" and {len(unfinished) - 5} more" if len(unfinished) > 5 else ""
    raise WaitTimeoutError(f"not over after {timeout:g} s: {names}{more}", unfinished)


def _is_own_line(task: Task) -> bool:
    """Whether this is the line of execution of the task's own work, and not one that it has started besides."""
    attempt = task._attempt
    if attempt is None:
        return False
    if asyncio._get_running_loop() is None:
        return True
    return asyncio.current_task() is attempt.handle


def _turn(
    loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher, waiter: Waiter, timeout: float | None
) -> None:
    """Keep the loop of this thread turning until the waiter is woken or the time has passed.

    The wait is on a future of its own, so that an interrupt ends the wait and not the work.
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
    try:
        loop.run_until_complete(over)
    finally:
        if handle is not None:
            handle.cancel()
        over.cancel()


def _set(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    if asyncio._get_running_loop() is loop:
        finish(future)
        return
    try:
        loop.call_soon_threadsafe(finish, future)
    except RuntimeError:
        logger.debug("the loop of a wait is closed")


def finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _release(bed: threading.Lock) -> None:
    try:
        bed.release()
    except RuntimeError:  # woken already
        return
