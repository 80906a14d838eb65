"""Calls that may block, made aside of the loop: on daemon threads, which no interpreter that exits waits for.

Must not know what is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, Self, TypeVar

from nbtasks.interrupts import start_thread

__all__ = ["Aside", "to_its_end"]

T = TypeVar("T")


class Aside:
    """A thread that makes the calls that it is given, one after the other; as a context manager, for as long as that.

    Belongs to the loop on which it was made. The thread is started by the first call.
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
        """Begin the call, and go on. A cancel of what this returns leaves the call to itself."""
        future: asyncio.Future[T] = self._loop.create_future()
        context = copy_context()

        def make() -> None:
            error, result = None, None
            try:
                result = context.run(function, *args)
            except BaseException as raised:  # noqa: BLE001 - whoever awaits it gets it
                # A StopIteration cannot be raised by an `await`.
                error = RuntimeError(repr(raised)) if isinstance(raised, StopIteration) else raised
            with suppress(RuntimeError):  # the loop is closed: nobody awaits it
                self._loop.call_soon_threadsafe(_tell, future, error, result)

        if self._calls is None:
            self._calls = SimpleQueue()
            start_thread(self._serve, "nbtasks-aside")
        self._calls.put(make)
        return future

    def _serve(self) -> None:
        assert self._calls is not None
        while (make := self._calls.get()) is not None:
            make()
            del make


def _tell(future: asyncio.Future[Any], error: BaseException | None, result: Any) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


async def to_its_end(call: asyncio.Future[T]) -> T:
    """What a call that is short gives: a cancel takes effect when it has returned."""
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise
