"""Waiting for tasks: by `await`, or blocking the thread; nested loops and Ctrl-C.

A blocking wait on the thread of an event loop runs that loop (with `nest_asyncio2`) if the tasks need it.
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
from nbtasks.backends.loop import running_loop
from nbtasks.dependencies import Waiter, deadlock_path
from nbtasks.dispatcher import Dispatcher
from nbtasks.exceptions import DeadlockError, TaskCancelledError, TaskFailedError, WaitTimeoutError
from nbtasks.interrupts import CTRL_C_SECONDS, acquire_interruptibly, here, uninterrupted, wake
from nbtasks.progress import CURRENT
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Task, call_hook

__all__ = ["Waits", "finish", "result_of"]

logger = logging.getLogger("nbtasks")


class Waits:
    """The waits for tasks of one manager; the dispatcher's lock guards their state."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.around: Callable[[Sequence[Task]], AbstractContextManager[object]] = nullcontext
        """Returns a context for the time of a blocking wait: a terminal shows the tasks meanwhile."""

    async def until_finished(
        self, tasks: Sequence[Task] | None, timeout: float | timedelta | None = None
    ) -> list[Task]:
        """Return the tasks when all are finished; None: all unfinished tasks. Raises WaitTimeoutError."""
        timeout = validation.wait_timeout(timeout)
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[None] = loop.create_future()
        waiter = self._begin(partial(_set, loop, finished), tasks, timeout, blocks=False)
        try:
            if timeout is None:
                await finished
            else:
                await asyncio.wait([finished], timeout=timeout)
        finally:
            self._end(waiter)
        return _finished(waiter.tasks if tasks is None else tasks, timeout)

    def block_until_finished(
        self, tasks: Sequence[Task] | None, timeout: float | timedelta | None = None, *, quietly: bool = False
    ) -> list[Task]:
        """The same, blocking the thread; the event loop of this thread runs meanwhile if tasks need it.

        `quietly`, it does not run, and no hooks of the tasks are called.
        """
        timeout = validation.wait_timeout(timeout)
        lock = threading.Lock()
        lock.acquire()
        waiter = self._begin(partial(wake, lock), tasks, timeout, blocks=True)
        try:
            loop = running_loop()
            if quietly:
                acquire_interruptibly(lock, timeout)
            else:
                with self.around(waiter.tasks):
                    if loop is None:
                        acquire_interruptibly(lock, timeout)
                    else:
                        self._block_loop(loop, waiter, lock, timeout)
        finally:
            self._end(waiter)
        return _finished(waiter.tasks if tasks is None else tasks, timeout, call_hooks=not quietly)

    @uninterrupted
    def _begin(
        self, wake_up: Callable[[], object], tasks: Sequence[Task] | None, timeout: float | None, *, blocks: bool
    ) -> Waiter:
        waiter = Waiter(wake_up, [] if tasks is None else list(tasks))
        current = CURRENT.get()
        if current is not None and current.internals.manager is not self._dispatcher.owner:
            current = None
        waiter.endless = timeout is None and current is not None and _is_in_work_of(current, blocks=blocks)
        self._dispatcher.change(partial(self._enter, waiter, current, everything=tasks is None))
        return waiter

    def _enter(self, waiter: Waiter, current: Task | None, *, everything: bool) -> None:
        """Under the lock: register `waiter`, so that it is woken when its tasks are finished."""
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
        try:
            with self._dispatcher.lock:
                self._dispatcher.waiters.end(waiter)
        except BaseException as error:
            self._dispatcher.recover(error)
            raise

    def _block_loop(
        self, loop: asyncio.AbstractEventLoop, waiter: Waiter, lock: threading.Lock, timeout: float | None
    ) -> None:
        """Wait on a thread that runs `loop`: block it, until tasks need it, and run it from then on."""
        dispatcher = self._dispatcher
        end = None if timeout is None else time.monotonic() + timeout
        wake_up = waiter.wake
        with dispatcher.lock:
            needed = dispatcher.runs_on(loop)
            if not needed:
                dispatcher.blocked_loops.setdefault(loop, []).append(wake_up)
        if not needed:
            try:
                acquire_interruptibly(lock, timeout)
            finally:
                with dispatcher.lock:
                    blocked = dispatcher.blocked_loops[loop]
                    blocked.remove(wake_up)
                    if not blocked:
                        del dispatcher.blocked_loops[loop]
        if waiter.left and (end is None or time.monotonic() < end):
            _run_nested(loop, dispatcher, waiter, None if end is None else end - time.monotonic())


def result_of(task: Task) -> Any:
    """Return the result of a finished task, or raise its error."""
    if task.state is TaskState.COMPLETED:
        return task.result
    error = task.exception
    if isinstance(error, Exception):
        raise error
    if task.state is TaskState.FAILED:
        raise TaskFailedError(f"{task.name!r} failed: {task.error}") from error
    raise TaskCancelledError(f"{task.name!r} was cancelled" + (f": {task.error}" if task.error != "cancelled" else ""))


def _finished(tasks: Sequence[Task], timeout: float | None, *, call_hooks: bool = True) -> list[Task]:
    """Call the hooks of the finished tasks; return all if all are finished, else raise WaitTimeoutError."""
    unfinished = [task for task in tasks if task.state in LIVE_STATES]
    if call_hooks:
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


def _is_in_work_of(task: Task, *, blocks: bool) -> bool:
    """Whether this thread or coroutine is the task's own work, not a thread or coroutine that it started."""
    attempt = task.internals.attempt
    if attempt is None or attempt.handle is None:
        return False
    if blocks and here.gate is attempt.handle:
        return True
    return running_loop() is not None and asyncio.current_task() is attempt.handle


def _run_nested(loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher, waiter: Waiter, timeout: float | None) -> None:
    """Run the loop of this thread, which runs already, until the waiter is woken or the time has passed.

    It waits for a separate future, so that a cancelled wait does not cancel the work. The loop iterates at least every
    `CTRL_C_SECONDS`, so that a Ctrl-C is noticed.
    """
    if not hasattr(loop, "_nest_patched"):  # the mark of nest_asyncio and of nest_asyncio2
        import nest_asyncio2

        nest_asyncio2.apply(loop)
    finished: asyncio.Future[None] = loop.create_future()
    with dispatcher.lock:
        waiter.wake = partial(_set, loop, finished)
        if not waiter.left:
            finished.set_result(None)
    handle = None if timeout is None else loop.call_later(timeout, finish, finished)
    next_iteration: asyncio.TimerHandle

    def iterate() -> None:
        nonlocal next_iteration
        next_iteration = loop.call_later(CTRL_C_SECONDS, iterate)

    iterate()
    try:
        with _CtrlC(loop, finished):
            loop.run_until_complete(finished)
    finally:
        next_iteration.cancel()
        if handle is not None:
            handle.cancel()
        finished.cancel()


class _CtrlC:
    """Ends the wait on Ctrl-C, and raises KeyboardInterrupt from there.

    Otherwise it would be raised in the task that the loop runs at that time. A second one is raised at once, for work
    that never returns to the loop. Other signal handlers, such as those of `asyncio.run` and of an outer wait, stay.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, finished: asyncio.Future[None]) -> None:
        self._loop, self._finished = loop, finished
        self.received = False

    def __enter__(self) -> None:
        on_main_thread = threading.current_thread() is threading.main_thread()
        self._handles = on_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._handles:
            signal.signal(signal.SIGINT, self._handle)

    def __exit__(self, *_: object) -> None:
        if self._handles and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.received:
            raise KeyboardInterrupt

    def _handle(self, _number: int, _frame: object) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True
        self._loop.call_soon_threadsafe(finish, self._finished)


def _set(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    if running_loop() is loop:
        finish(future)
        return
    try:
        loop.call_soon_threadsafe(finish, future)
    except RuntimeError:
        logger.debug("the loop of a wait is closed")


def finish(future: asyncio.Future[None]) -> None:
    """Set the result of a future that may have one."""
    if not future.done():
        future.set_result(None)
