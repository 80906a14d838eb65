"""The `loop` backend: coroutines on an asyncio event loop, usually the notebook's."""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from nbtasks.backends.base import Attempt, Backend
from nbtasks.callables import Once
from nbtasks.exceptions import TaskFailedError
from nbtasks.gil_fairness import yielding_gil
from nbtasks.interrupts import start_thread
from nbtasks.progress import CURRENT
from nbtasks.states import TaskState
from nbtasks.task import COMPLETED, Outcome

__all__ = ["LoopBackend", "LoopThread", "running_loop"]

_CANCELLED = Outcome(TaskState.CANCELLED)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs on this thread, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class LoopBackend(Backend):
    """Runs work on `attempt.loop`.

    A plain function is called there, and an awaitable that it returns is awaited.
    """

    name: ClassVar[str] = "loop"

    def __init__(self, elsewhere: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self._elsewhere = elsewhere
        self.passing_loop: asyncio.AbstractEventLoop | None = None
        """A loop that runs only at times, as a terminal's does while a cell awaits: its work goes to `elsewhere()`."""

    def start(self, attempt: Attempt) -> None:
        """Begin in the next iteration of the loop."""
        loop = attempt.loop
        if self.passing_loop is not None and loop is self.passing_loop and self._elsewhere is not None:
            loop = attempt.loop = self._elsewhere()
        if loop is None:
            raise TaskFailedError(f"{attempt.task.name!r} cannot run: there is no event loop for it")
        is_running_here = running_loop() is loop
        if not is_running_here and loop.is_closed():
            raise TaskFailedError(f"{attempt.task.name!r} cannot run: Event loop is closed")
        coroutine = _run(attempt, loop)
        coroutine.send(None)
        if is_running_here:
            _create_task(loop, coroutine, attempt)
            return
        try:
            loop.call_soon_threadsafe(_create_task, loop, coroutine, attempt)
        except RuntimeError:  # it was closed in this moment
            coroutine.close()

    def interrupt(self, attempt: Attempt) -> None:
        """Cancel the coroutine: CancelledError is raised where it awaits."""
        attempt.interrupted = True
        loop = attempt.loop
        if loop is None:
            return
        if running_loop() is loop:
            _cancel(attempt)
            return
        try:
            loop.call_soon_threadsafe(_cancel, attempt)
        except RuntimeError:
            return  # the loop is closed, so nothing runs there

    def is_here(self, attempt: Attempt) -> bool:
        """Whether this is the thread of the attempt's loop."""
        return attempt.loop is not None and attempt.loop is running_loop()

    def close(self) -> None:
        """Do nothing: the loops belong to others."""


class LoopThread:
    """An event loop on its own thread, for callers that have none.

    `_lock` guards its start and its end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, started by the first call; after `close`, a closed one."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                if self._closed:
                    self._loop.close()
                else:
                    self._thread = start_thread(partial(_serve, self._loop), "nbtasks-loop")
            return self._loop

    def close(self, timeout: float | None = None) -> None:
        """Cancel what runs there and end the thread; wait for that at most `timeout` seconds."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        try:
            loop.call_soon_threadsafe(loop.stop)
        except RuntimeError:  # it has been closed
            return
        if thread is not threading.current_thread():
            thread.join(timeout)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped, possibly before it runs; then let everything on it clean up."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))  # callbacks that came with the stop may create tasks
        left = asyncio.all_tasks(loop)
        for aio_task in left:
            aio_task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


@types.coroutine
def _creation() -> Generator[None, None, None]:
    """Suspend a coroutine until the asyncio task that is made of it takes its first step."""
    yield


def _create_task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None], attempt: Attempt) -> None:
    # Not by `loop.create_task`: an eager task factory would start each task inside the end of the one before it.
    # `asyncio.Task` is looked up each time, since nest_asyncio replaces it.
    try:
        attempt.handle = asyncio.Task(coroutine, loop=loop, name=attempt.task.internals.name, context=attempt.context)
    except BaseException as error:  # noqa: BLE001 - of a replaced `asyncio.Task`; the outcome of the attempt
        with suppress(StopIteration):
            coroutine.throw(error)
        return
    if attempt.interrupted:
        attempt.handle.cancel()


def _cancel(attempt: Attempt) -> None:
    if attempt.handle is not None:
        attempt.handle.cancel()
        attempt.interrupt_programs()  # those that it has started since the interrupt was requested


async def _run(attempt: Attempt, loop: asyncio.AbstractEventLoop) -> None:
    """Run the work of an attempt, and report its end.

    It is begun before its asyncio task is made: a coroutine that is cancelled before its first step, or whose loop is
    closed before it, would not execute a single line.
    """
    outcome = _CANCELLED  # if the loop is closed before the work has ended
    has_begun = False
    try:
        await _creation()
        has_begun = True
        CURRENT.set(attempt.task)
        with yielding_gil(loop):
            result: Any = attempt.function(*attempt.args)
            if result is not None and hasattr(result, "__await__"):
                result = await result
        outcome = COMPLETED if result is None else Outcome(TaskState.COMPLETED, result)
    except GeneratorExit:
        raise
    except asyncio.CancelledError as error:
        outcome = Outcome(TaskState.CANCELLED, None, error)
    except BaseException as error:  # noqa: BLE001 - user code; what it raises must not stop the loop, which others use
        outcome = Outcome(TaskState.FAILED, None, error)
    finally:
        if not has_begun and isinstance(attempt.function, Once):
            attempt.function.close()  # a coroutine object that nothing will await
        attempt.handle = None
        attempt.backend.start_following(attempt.finished(outcome))
