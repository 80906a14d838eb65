"""The `loop` backend: coroutines on an event loop that somebody else runs, the notebook's above all.

Must not know the manager, nor which loop is whose: each attempt says on which loop it runs.
"""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import Context
from functools import partial
from types import CoroutineType
from typing import Any, ClassVar

from nbtasks.backends.base import Attempt, Backend
from nbtasks.exceptions import TaskFailedError
from nbtasks.progress import CURRENT
from nbtasks.states import TaskState
from nbtasks.task import Outcome
from nbtasks.threads import start_thread

__all__ = ["LoopBackend", "LoopThread"]

_COMPLETED = TaskState.COMPLETED
_DONE = Outcome(_COMPLETED)
_GONE = Outcome(TaskState.CANCELLED)
_NEVER = object()


class LoopBackend(Backend):
    """Runs work on `attempt.loop`. A plain function is called there, and what it returns awaited if it can be."""

    name: ClassVar[str] = "loop"
    takes_over: ClassVar[bool] = True

    def start(self, attempt: Attempt) -> None:
        """Begin at once on the loop's own thread, else as soon as the loop turns."""
        loop = attempt.loop
        if loop is None:
            raise TaskFailedError(f"{attempt.task.name!r} cannot run: there is no event loop for it")
        work = _work(self, attempt)
        work.send(None)
        if asyncio._get_running_loop() is loop:
            _create(attempt, work)
            return
        try:
            loop.call_soon_threadsafe(_create, attempt, work)
        except RuntimeError as error:  # it is closed
            attempt.handle = _NEVER
            work.close()
            raise TaskFailedError(f"{attempt.task.name!r} cannot run: {error}") from None

    def interrupt(self, attempt: Attempt) -> None:
        """Cancel the coroutine: CancelledError is raised where it awaits."""
        attempt.interrupted = True
        loop = attempt.loop
        if loop is None:
            return
        if asyncio._get_running_loop() is loop:
            _cancel(attempt)
            return
        try:
            loop.call_soon_threadsafe(_cancel, attempt)
        except RuntimeError:
            return  # the loop is closed, so nothing runs there

    def close(self) -> None:
        """Nothing to let go of: the loops belong to others."""


class LoopThread:
    """An event loop on a thread of its own, for those who have none. `_lock` guards its start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; started by the first who asks."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = start_thread(self._serve, "nbtasks-loop")
            return self._loop

    def close(self, timeout: float | None = None) -> None:
        """Cancel what runs there, and end the thread; wait for that at most `timeout` seconds."""
        with self._lock:
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        try:
            loop.call_soon_threadsafe(loop.stop)
        except RuntimeError:  # it has been closed
            return
        if thread is not threading.current_thread():
            thread.join(timeout)

    def _serve(self) -> None:
        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for aio_task in left:
                aio_task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


def _create(attempt: Attempt, work: Coroutine[Any, Any, None]) -> None:
    # Not by `loop.create_task`: without the task factory of somebody else, and with a name that need not be made up.
    attempt.handle = asyncio.Task(work, loop=attempt.loop, name=attempt.task.name, context=attempt.context)
    if attempt.interrupted:
        attempt.handle.cancel()


def _cancel(attempt: Attempt) -> None:
    if attempt.handle is not None:
        attempt.handle.cancel()


class _Begun:
    """Awaited, it yields once. Of C parts only: it is awaited by every attempt."""

    __await__ = staticmethod(partial(iter, (None,)))


_BEGUN = _Begun()


async def _work(backend: LoopBackend, attempt: Attempt) -> None:
    """Attempts as a coroutine, which is started up to its first line before it is given to the loop.

    (A coroutine that has not started, cancelled, ends without any of its lines being run: nobody would learn of it.)

    An attempt that ends without having waited for anything hands the asyncio task on to the one that takes its place:
    making a new one costs more than all the rest. One that has waited does not, for libraries file things under the
    asyncio task that they meet, and no attempt is to find what another has left.
    """
    aio_task: asyncio.Task[Any] | None = None  # from the second attempt on
    while True:
        outcome, waited = _GONE, True  # if the loop goes away under it
        begun = False
        try:
            await _BEGUN
            begun = True
            coroutine, value = _begin(attempt) if aio_task is None else attempt.context.run(_begin, attempt)
            waited = coroutine is not None
            if coroutine is not None:
                rest = _rest(coroutine, value) if aio_task is None else _rest_in(attempt.context, coroutine, value)
                value = await rest
            outcome = _DONE if value is None else Outcome(_COMPLETED, value)
        except asyncio.CancelledError as error:
            outcome = Outcome(TaskState.CANCELLED, None, error)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - user code; what it raises must not stop the loop, which others use
            outcome = Outcome(TaskState.FAILED, None, error)
        finally:
            if not begun and hasattr(attempt.function, "close"):
                attempt.function.close()  # a coroutine object that nobody will await
            handle, attempt.handle = attempt.handle, None  # a late cancel is not to hit the next attempt
            following = attempt.finished(outcome) if handle is not _NEVER else None
            if following is not None and (waited or following.loop is not attempt.loop or handle.cancelling()):
                backend.start_following(following)
                following = None
        if following is None:
            return
        attempt, aio_task = following, handle
        attempt.handle = handle


def _begin(attempt: Attempt) -> tuple[Coroutine[Any, Any, Any] | None, Any]:
    """Run an attempt up to its first wait: the coroutine and what it waits for, or None and the result."""
    CURRENT.set(attempt.task)
    result = attempt.function(*attempt.args)
    if result.__class__ is not CoroutineType:
        if result is None or not hasattr(result, "__await__"):
            return None, result
        result = _awaiting(result)
    try:
        return result, result.send(None)
    except StopIteration as stop:
        return None, stop.value


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, Any], pending: Any) -> Generator[Any, Any, Any]:
    """What remains of a coroutine that waits for `pending`."""
    while True:
        try:
            yield pending
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # noqa: BLE001 - what the loop throws in is the coroutine's to deal with
            try:
                pending = coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
        else:
            return (yield from coroutine)


@types.coroutine
def _rest_in(context: Context, coroutine: Coroutine[Any, Any, Any], pending: Any) -> Generator[Any, Any, Any]:
    """The same in a context that is not the asyncio task's own."""
    while True:
        try:
            try:
                yield pending
            except GeneratorExit:
                context.run(coroutine.close)
                raise
            except BaseException as error:  # noqa: BLE001 - as above
                pending = context.run(coroutine.throw, error)
            else:
                pending = context.run(coroutine.send, None)
        except StopIteration as stop:
            return stop.value
