"""The `loop` backend: coroutines on an event loop that somebody else runs, the notebook's above all.

Must not know the manager, nor which loop is whose: each attempt says on which loop it runs.
"""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Coroutine, Generator
from types import CoroutineType
from typing import Any, ClassVar

from nbtasks.backends.base import Attempt, Backend
from nbtasks.exceptions import TaskFailedError
from nbtasks.progress import CURRENT
from nbtasks.states import TaskState
from nbtasks.task import Outcome
from nbtasks.threads import start_thread

__all__ = ["LoopBackend", "LoopThread", "go_on"]

_NEVER = object()
_DONE = Outcome(TaskState.COMPLETED)
_CANCELLED = Outcome(TaskState.CANCELLED)


class LoopBackend(Backend):
    """Runs work on `attempt.loop`. A plain function is called there, and what it returns awaited if it can be."""

    name: ClassVar[str] = "loop"
    takes_over: ClassVar[bool] = True

    def start(self, attempt: Attempt) -> None:
        """Begin at once on the loop's own thread, else as soon as the loop turns."""
        loop = attempt.loop
        if loop is None or loop.is_closed():
            raise TaskFailedError(
                f"{attempt.task.name!r} cannot run: the event loop that it was made for is closed"
            )
        if asyncio._get_running_loop() is loop:
            _start_here(attempt)
            return
        work = _work(attempt)
        work.send(None)
        try:
            loop.call_soon_threadsafe(_create, attempt, work)
        except RuntimeError as error:  # closed in this moment
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


def go_on(attempt: Attempt | None, loop: asyncio.AbstractEventLoop | None) -> None:
    """Start the attempt, if there is one. Called on the thread of `loop`, which is running."""
    while attempt is not None:
        if attempt.loop is loop:
            _start_here(attempt)
            return
        try:
            attempt.backend.start(attempt)
            return
        except TaskFailedError as error:
            attempt = attempt.finished(Outcome(TaskState.FAILED, None, error))


def _start_here(attempt: Attempt) -> None:
    work = _work(attempt)
    work.send(None)
    _create(attempt, work)


def _create(attempt: Attempt, work: Coroutine[Any, Any, None]) -> None:
    # Not by `loop.create_task`: without the task factory of somebody else, and with a name that need not be made up.
    attempt.handle = asyncio.Task(work, loop=attempt.loop, name=attempt.task.name, context=attempt.context)
    if attempt.interrupted:
        attempt.handle.cancel()


def _cancel(attempt: Attempt) -> None:
    if attempt.handle is not None:
        attempt.handle.cancel()


@types.coroutine
def _begun() -> Generator[None, None, None]:
    yield


async def _work(attempt: Attempt) -> None:
    """The attempt as a coroutine. It is started up to its first line before it is given to the loop.

    A coroutine that has not started, cancelled, ends without any of its lines being run: nobody would learn of it.
    """
    outcome = _CANCELLED  # if the loop goes away under it
    called = False
    try:
        await _begun()
        CURRENT.set(attempt.task)
        called = True
        result = attempt.function(*attempt.args)
        if result.__class__ is CoroutineType or hasattr(result, "__await__"):
            result = await result
        outcome = _DONE if result is None else Outcome(TaskState.COMPLETED, result)
    except asyncio.CancelledError as error:
        outcome = Outcome(TaskState.CANCELLED, None, error)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - user code; what it raises must not stop the loop, which others use
        outcome = Outcome(TaskState.FAILED, None, error)
    finally:
        if not called and hasattr(attempt.function, "close"):
            attempt.function.close()  # a coroutine object that nobody will await
        if attempt.handle is not _NEVER:
            go_on(attempt.on_finished(attempt, outcome), attempt.loop)
