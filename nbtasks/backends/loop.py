"""The `loop` backend: coroutines on an event loop that somebody else runs, the notebook's above all.

Must not know the manager, nor which loop is whose: each attempt says on which loop it runs.
"""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from functools import partial
from types import CoroutineType
from typing import Any, ClassVar

from nbtasks.backends.base import Attempt, Backend
from nbtasks.exceptions import TaskFailedError
from nbtasks.gil_fairness import breathing
from nbtasks.interrupts import start_thread
from nbtasks.progress import CURRENT
from nbtasks.states import TaskState
from nbtasks.task import Outcome

__all__ = ["LoopBackend", "LoopThread"]

_get_running_loop = asyncio._get_running_loop
_COMPLETED = TaskState.COMPLETED
_DONE = Outcome(_COMPLETED)
_GONE = Outcome(TaskState.CANCELLED)


class LoopBackend(Backend):
    """Runs work on `attempt.loop`. A plain function is called there, and what it returns awaited if it can be."""

    name: ClassVar[str] = "loop"
    takes_over: ClassVar[bool] = True

    def __init__(self, elsewhere: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self._elsewhere = elsewhere
        self.passing_loop: asyncio.AbstractEventLoop | None = None
        """A loop that turns now and then only, as a terminal's does while a cell awaits: work goes `elsewhere`."""

    def start(self, attempt: Attempt) -> None:
        """Begin at once on the loop's own thread, else as soon as the loop turns."""
        loop = attempt.loop
        if self.passing_loop is not None and loop is self.passing_loop and self._elsewhere is not None:
            loop = attempt.loop = self._elsewhere()
            attempt.on_loop = False
        if loop is None:
            raise TaskFailedError(f"{attempt.task.name!r} cannot run: there is no event loop for it")
        run = _Run()
        run.attempt = attempt
        if attempt.on_loop or _get_running_loop() is loop:
            attempt.handle = asyncio.Task(run, loop=loop, name=attempt.task.name, context=attempt.context)
            return
        try:
            loop.call_soon_threadsafe(_create, run, attempt)
        except RuntimeError as error:  # it is closed
            run.drop()
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
    """An event loop on a thread of its own, for those who have none. `_lock` guards its start and its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; started by the first who asks. A closed one after `close`."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                if self._closed:
                    self._loop.close()
                else:
                    self._thread = start_thread(partial(_serve, self._loop), "nbtasks-loop")
            return self._loop

    def close(self, timeout: float | None = None) -> None:
        """Cancel what runs there, and end the thread; wait for that at most `timeout` seconds."""
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
    """Turn the loop until it is stopped, which may have been asked for already; then let all on it clean up."""
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


def _create(run: _Run, attempt: Attempt) -> None:
    # Not by `loop.create_task`: without the task factory of somebody else, and with a name that need not be made up.
    # Of the class that `asyncio` has at this moment: nest_asyncio puts in another, which can be run in a nested loop.
    attempt.handle = asyncio.Task(run, loop=attempt.loop, name=attempt.task.name, context=attempt.context)
    if attempt.interrupted:
        attempt.handle.cancel()


def _cancel(attempt: Attempt) -> None:
    if attempt.handle is not None:
        attempt.handle.cancel()


class _Run(Coroutine[Any, Any, None]):
    """What an asyncio task steps through: an attempt, and those that take its place.

    Not an `async def`, of which no line is run if it is cancelled before its first step, or if its loop goes away:
    nobody would learn of the end. From the first wait on, its methods are those of a generator: a step costs no more.

    An attempt that ends without having waited for anything hands the asyncio task on to the one that takes its place:
    making a new one costs more than all the rest. One that has waited does not, for libraries file things under the
    asyncio task that they meet, and no attempt is to find what another has left.
    """

    attempt: Attempt | None
    """The attempt, until it begins."""

    def send(self, _: Any) -> Any:
        """Begin. Gives what the first attempt that waits waits for."""
        attempt: Any = self.attempt
        self.attempt = None
        try:
            # What `_begin` does, written out: on the way to the first line of short work each call is felt.
            CURRENT.set(attempt.task)
            coroutine = attempt.function(*attempt.args)
            if coroutine.__class__ is CoroutineType:
                try:
                    value = coroutine.send(None)
                except StopIteration as stop:
                    coroutine, value = None, stop.value
            else:
                coroutine, value = _begun(coroutine)
        except BaseException as error:  # noqa: BLE001 - user code; what it raises must not stop the loop, which others use
            outcome = _raised(error)
        else:
            if coroutine is not None:
                return self._go_on(attempt, _rest(coroutine, value))
            outcome = _DONE if value is None else Outcome(_COMPLETED, value)
        return self._follow(attempt, outcome)

    def _follow(self, attempt: Any, outcome: Outcome) -> Any:
        """The end of an attempt that has not waited, and the attempts that take its place. Gives what `send` gives."""
        aio_task = attempt.handle
        while True:
            attempt.handle = None  # a late cancel is not to hit the next attempt
            following = attempt.finished(outcome)
            if following is None:
                raise StopIteration
            if following.loop is not attempt.loop or aio_task.cancelling():
                attempt.backend.start_following(following)
                raise StopIteration
            attempt = following
            attempt.handle = aio_task
            try:  # the asyncio task is in the context of its first attempt
                coroutine, value = attempt.context.run(_begin, attempt)
            except BaseException as error:  # noqa: BLE001 - as above
                outcome = _raised(error)
            else:
                if coroutine is not None:
                    return self._go_on(attempt, _rest_in(attempt.context, coroutine, value))
                outcome = _DONE if value is None else Outcome(_COMPLETED, value)

    def _go_on(self, attempt: Attempt, waiting: Any) -> Any:
        """Become the rest of an attempt that waits."""
        rest = _to_the_end(attempt.backend, attempt, waiting)  # type: ignore[arg-type]
        self.send, self.throw, self.close = rest.send, rest.throw, rest.close  # type: ignore[method-assign, assignment]
        return rest.send(None)

    def throw(self, error: Any, *_: Any) -> Any:
        """It is cancelled before it has begun."""
        self._end(_raised(error))
        raise StopIteration

    def close(self) -> None:
        """The loop goes away before it has begun."""
        if self.attempt is not None:
            self._end(_GONE)

    __del__ = close

    def drop(self) -> None:
        """It will not begin, and whoever gave it knows."""
        self.attempt = None

    def _end(self, outcome: Outcome) -> None:
        attempt, self.attempt = self.attempt, None
        assert attempt is not None
        if hasattr(attempt.function, "close"):
            attempt.function.close()  # a coroutine object that nobody will await
        attempt.handle = None
        attempt.backend.start_following(attempt.finished(outcome))

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("an asyncio task steps through it, nobody else")


def _raised(error: BaseException) -> Outcome:
    cancelled = isinstance(error, asyncio.CancelledError)
    return Outcome(TaskState.CANCELLED if cancelled else TaskState.FAILED, None, error)


def _to_the_end(backend: LoopBackend, attempt: Attempt, rest: Any) -> Generator[Any, Any, None]:
    """The steps of an attempt that waits, and its end."""
    outcome = _GONE  # if the loop goes away under it
    try:
        with breathing(attempt.loop):  # type: ignore[arg-type]
            value = yield from rest
        outcome = _DONE if value is None else Outcome(_COMPLETED, value)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - as above
        outcome = _raised(error)
    finally:
        attempt.handle = None
        backend.start_following(attempt.finished(outcome))


def _begin(attempt: Attempt) -> tuple[Coroutine[Any, Any, Any] | None, Any]:
    """Run an attempt up to its first wait: the coroutine and what it waits for, or None and the result."""
    CURRENT.set(attempt.task)
    return _begun(attempt.function(*attempt.args))


def _begun(result: Any) -> tuple[Coroutine[Any, Any, Any] | None, Any]:
    """Run what the function of an attempt returned up to its first wait: as `_begin`."""
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
