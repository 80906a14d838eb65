"""Blocking calls from coroutines, on a daemon thread that delays no exit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, Self, TypeVar

from nbtasks.interrupts import start_thread

__all__ = ["CallThread", "finish"]

T = TypeVar("T")


class CallThread:
    """A daemon thread for blocking calls, one after the other; a context manager.

    It belongs to the event loop on which it was made. The first call starts the thread.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[Callable[[], object] | None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._calls is not None:
            self._calls.put(None)

    def call(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Start the call; its result is that of the future. Cancelling the future does not stop the call."""
        future: asyncio.Future[T] = self._loop.create_future()
        context = copy_context()

        def make() -> None:
            error, result = None, None
            try:
                result = context.run(function, *args)
            except BaseException as raised:  # noqa: BLE001 - raised where the future is awaited
                # A StopIteration cannot be raised by an `await`.
                error = RuntimeError(repr(raised)) if isinstance(raised, StopIteration) else raised
            with suppress(RuntimeError):  # the loop is closed: no coroutine awaits it
                self._loop.call_soon_threadsafe(_settle, future, error, result)

        if self._calls is None:
            self._calls = SimpleQueue()
            start_thread(self._serve, "nbtasks-call")
        self._calls.put(make)
        return future

    def _serve(self) -> None:
        assert self._calls is not None
        while (make := self._calls.get()) is not None:
            make()
            del make


def _settle(future: asyncio.Future[Any], error: BaseException | None, result: Any) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


async def finish(call: asyncio.Future[T]) -> T:
    """The result of a short call; if the task is cancelled meanwhile, the call still finishes first."""
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise
