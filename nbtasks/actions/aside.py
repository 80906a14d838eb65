"""Calls that may block, made aside of the loop: on daemon threads, which no interpreter that exits waits for.

Must not know what is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from nbtasks.threads import start_thread

__all__ = ["aside", "aside_to_the_end"]

T = TypeVar("T")


async def aside(function: Callable[..., T], *args: Any) -> T:
    """What the call gives. A cancel ends the wait, and leaves the call to itself."""
    return await _begin(function, args)


async def aside_to_the_end(function: Callable[..., T], *args: Any) -> T:
    """The same for a call that is short: a cancel takes effect when it has returned."""
    call = _begin(function, args)
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise


def _begin(function: Callable[..., T], args: tuple[Any, ...]) -> asyncio.Future[T]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = copy_context()

    def tell(error: BaseException | None, result: Any) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:  # a StopIteration cannot be raised by an `await`
            future.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)

    def call() -> None:
        error, result = None, None
        try:
            result = context.run(function, *args)
        except BaseException as raised:  # noqa: BLE001 - whoever awaits it gets it
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody awaits it
            loop.call_soon_threadsafe(tell, error, result)

    start_thread(call, "nbtasks-aside")
    return future
