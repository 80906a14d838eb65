"""Progress hooks: periodic calls of `Task.progress_hook` while a task runs."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any

from nbtasks.backends.base import Attempt
from nbtasks.clock import Timer

__all__ = ["ProgressHooks"]

logger = logging.getLogger("nbtasks")


class ProgressHooks:
    """Calls the progress hooks of running tasks.

    A hook is called every `update_sleep_time` seconds, never twice at a time.
    `call_on_thread` runs a function on a thread where it may block: neither the timer's nor the loop's.
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
        """Call the hook of the attempt's task until the attempt ends."""
        _HookCalls(self._timer, self._call_on_thread, attempt, attempt.loop or self._default_loop()).schedule()


class _HookCalls:
    """The calls of one attempt's hook, in a copy of the context of its work."""

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

    def schedule(self) -> None:
        """Call the hook after the next interval."""
        if self._is_current():
            self._timer.call_later(self._attempt.task.update_sleep_time, partial(self._call_on_thread, self._call))

    def _is_current(self) -> bool:
        return self._attempt.task.internals.attempt is self._attempt

    def _call(self) -> None:
        if not self._is_current():
            return
        try:
            value = self._context.run(self._attempt.task.progress_hook)
            if inspect.isawaitable(value):
                self._hand_to_loop(value)
                return
            self._set_progress(value)
        except Exception as error:  # noqa: BLE001 - the hook's own; work and calls continue
            self._log_once(error)
        self.schedule()

    def _hand_to_loop(self, value: Awaitable[Any]) -> None:
        coroutine = value if inspect.iscoroutine(value) else _await(value)
        try:
            self._loop.call_soon_threadsafe(self._await, coroutine)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            coroutine.close()  # no more calls

    def _await(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        # Without another coroutine around it: cancelled before its first step, that would leave it never awaited.
        aio_task = self._loop.create_task(coroutine, context=self._context)
        aio_task.add_done_callback(self._awaited)

    def _awaited(self, aio_task: asyncio.Task[Any]) -> None:
        try:
            self._set_progress(aio_task.result())
        except asyncio.CancelledError:
            return  # the loop is closing: no more calls
        except Exception as error:  # noqa: BLE001 - the hook's own
            self._log_once(error)
        self.schedule()

    def _set_progress(self, progress: Any) -> None:
        if progress is not None and self._is_current():
            self._attempt.task.progress = progress

    def _log_once(self, error: Exception) -> None:
        """Log the first failure, with its traceback; a hook that fails tends to do so each time."""
        if not self._failed:
            logger.warning("the progress hook of %r failed", self._attempt.task, exc_info=error)
        self._failed = True


async def _await(value: Awaitable[Any]) -> Any:
    return await value
