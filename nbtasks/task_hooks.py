"""What a kind of task may override is called here, and its faults stay here: hooks, and the ticking of progress hooks.

Must not know the life of tasks: when something is called is the business of `dispatch`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any

from nbtasks.backends.base import Attempt
from nbtasks.clock import Timer
from nbtasks.task import Outcome, Task

__all__ = ["ProgressHooks", "ended", "failure_logged", "released", "wait_ended"]

logger = logging.getLogger("nbtasks")


def ended(task: Task, outcome: Outcome) -> Outcome:
    """Let the task's kind know how an attempt ended; it may replace the outcome."""
    try:
        return task._attempt_ended(outcome) or outcome
    except Exception:  # a kind of task with a fault of its own must not keep the task from ending
        logger.exception("%r: _attempt_ended failed", task)
        return outcome


def wait_ended(task: Task) -> None:
    """Let the task's kind know that somebody has waited for it, and that it is over."""
    try:
        task._wait_ended()
    except Exception:  # as above
        logger.exception("%r: _wait_ended failed", task)


def failure_logged(task: Task) -> None:
    """Let the task's kind say that it failed."""
    try:
        task._log_failure()
    except Exception:  # as above
        logger.exception("%r: _log_failure failed", task)


def released(task: Task) -> None:
    """Let the task's kind drop what it holds."""
    try:
        task._release()
    except Exception:  # as above
        logger.exception("%r: _release failed", task)


class ProgressHooks:
    """Calls the progress hooks of running tasks every `update_sleep_time` seconds, never one twice at a time.

    `call_on_thread` runs a function on some thread where it may block: neither the timer's nor the loop's.
    """

    def __init__(
        self,
        timer: Timer,
        call_on_thread: Callable[[Callable[[], object]], None],
        default_loop: Callable[[], asyncio.AbstractEventLoop],
    ) -> None:
        self._timer = timer
        self._call_on_thread = call_on_thread
        self._default_loop = default_loop

    def begin(self, attempt: Attempt) -> None:
        """Call the hook of the attempt's task, if its kind has one, until the attempt is over."""
        if type(attempt.task).progress_hook is not Task.progress_hook:
            _Ticks(self._timer, self._call_on_thread, attempt, attempt.loop or self._default_loop()).wait()


class _Ticks:
    """The calls of one attempt's hook. They run in a copy of the context of its work."""

    def __init__(
        self,
        timer: Timer,
        call_on_thread: Callable[[Callable[[], object]], None],
        attempt: Attempt,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._timer = timer
        self._call_on_thread = call_on_thread
        self._attempt = attempt
        self._loop = loop
        self._context: Context = attempt.context.copy()
        self._failed = False

    def wait(self) -> None:
        """Call the hook after the next interval."""
        if self._is_current():
            self._timer.call_later(self._attempt.task.update_sleep_time, partial(self._call_on_thread, self._tick))

    def _is_current(self) -> bool:
        return self._attempt.task._attempt is self._attempt

    def _tick(self) -> None:
        if not self._is_current():
            return
        try:
            answer = self._context.run(self._attempt.task.progress_hook)
            if inspect.isawaitable(answer):
                self._loop.call_soon_threadsafe(self._await, answer)
                return
            self._take(answer)
        except Exception as error:  # noqa: BLE001 - the hook's own; the work goes on, and so do the calls
            self._complain(error)
        self.wait()

    def _await(self, answer: Any) -> None:
        aio_task = self._loop.create_task(_awaited(answer), context=self._context)
        aio_task.add_done_callback(self._answered)

    def _answered(self, aio_task: asyncio.Task[Any]) -> None:
        try:
            self._take(aio_task.result())
        except asyncio.CancelledError:
            return  # the loop ends, and the calls with it
        except Exception as error:  # noqa: BLE001 - the hook's own
            self._complain(error)
        self.wait()

    def _take(self, progress: Any) -> None:
        if progress is not None and self._is_current():
            self._attempt.task.progress = progress

    def _complain(self, error: Exception) -> None:
        """Once with its traceback; a hook that fails tends to do so each time."""
        if not self._failed:
            logger.warning("the progress hook of %r failed", self._attempt.task, exc_info=error)
        self._failed = True


async def _awaited(answer: Any) -> Any:
    return await answer
