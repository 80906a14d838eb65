"""Monkeypatches of threads and callbacks: context of background cells.

A thread belongs to the cell that started it, and may outlive that cell: loky's manager, the listener of a log queue.
What another cell leaves to it belongs to that other cell.
"""

from __future__ import annotations

import _thread
import contextvars
import functools
import logging
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.thread import ThreadPoolExecutor
from types import ModuleType
from typing import Any

from nbtasks.notebook.output.sink import current_sink, thread_context
from nbtasks.patch import Patch, PatchSet
from nbtasks.post_import import ModulePatches

__all__ = ["thread_patches"]


def thread_patches() -> PatchSet:
    """Patches of the functions that start threads, and of those that leave a call to another thread."""
    started = [Patch(_thread, name, _start_new_in_context) for name in ("start_new_thread", "start_new")]
    return PatchSet(
        [
            Patch(threading.Thread, "start", _start_in_context),
            *(patch for patch in started if hasattr(_thread, patch.name)),
            Patch(ThreadPoolExecutor, "submit", _submit_in_context),
            Patch(Future, "add_done_callback", _add_callback_in_context),
            ModulePatches(
                "multiprocessing.pool", lambda module: [Patch(module.ApplyResult, "__init__", _call_back_in_context)]
            ),
            ModulePatches("logging.handlers", _log_queue_patches),
        ]
    )


def _start_in_context(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """Have threads that the code of a background cell starts belong to that cell.

    A context that the code has given to the thread itself (from Python 3.14) is left alone.
    """

    @functools.wraps(start)
    def start_in_context(thread: threading.Thread) -> None:
        inside = current_sink() is not None and thread.ident is None and hasattr(thread, "_bootstrap")
        if inside and getattr(thread, "_context", thread) is None:  # from 3.14
            thread._context = thread_context()  # type: ignore[attr-defined]
        if inside:  # not only `run`: the thread's `excepthook` is called after that
            thread._bootstrap = functools.partial(thread_context().run, thread._bootstrap)  # type: ignore[attr-defined]
        try:
            start(thread)
        finally:
            if inside:
                del thread._bootstrap  # type: ignore[attr-defined]

    return start_in_context


def _start_new_in_context(start: Callable[..., int]) -> Callable[..., int]:
    """Have a thread that the code of a background cell starts without `Thread` belong to that cell."""

    @functools.wraps(start)
    def start_in_context(function: Callable[..., object], args: tuple[Any, ...], *kwargs: dict[str, Any]) -> int:
        if current_sink() is None or not callable(function) or not isinstance(args, tuple):
            return start(function, args, *kwargs)
        return start(thread_context().run, (function, *args), *kwargs)

    return start_in_context


def _in_this_context(callback: Any) -> Any:
    """The callback, called as one of this cell where the thread that calls it belongs to another."""
    if not callable(callback):
        return callback
    sink, context = current_sink(), thread_context()

    def call(*args: Any) -> Any:
        return callback(*args) if current_sink() is sink else context.copy().run(callback, *args)

    return functools.wraps(callback, updated=())(call)


def _add_callback_in_context(add: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(add)
    def add_in_context(future: Future[Any], callback: Callable[[Future[Any]], object]) -> None:
        add(future, _in_this_context(callback))

    return add_in_context


def _call_back_in_context(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def init_in_context(result: Any, pool: Any, callback: Any, error_callback: Any) -> None:
        init(result, pool, _in_this_context(callback), _in_this_context(error_callback))

    return init_in_context


def _log_queue_patches(module: ModuleType) -> list[Patch]:
    """Let the listener of a log queue handle each record as one of the cell that logged it."""
    logged_in: weakref.WeakKeyDictionary[logging.LogRecord, contextvars.Context] = weakref.WeakKeyDictionary()

    def enqueueing(enqueue: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(enqueue)
        def enqueue_with_context(handler: Any, record: logging.LogRecord) -> None:
            logged_in[record] = thread_context()
            enqueue(handler, record)

        return enqueue_with_context

    def handling(handle: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(handle)
        def handle_in_context(listener: Any, record: logging.LogRecord) -> None:
            context = logged_in.pop(record, None)
            if context is None:  # it came from another process
                handle(listener, record)
            else:
                context.run(handle, listener, record)

        return handle_in_context

    return [Patch(module.QueueHandler, "enqueue", enqueueing), Patch(module.QueueListener, "handle", handling)]


def _submit_in_context(submit: Callable[..., Future[Any]]) -> Callable[..., Future[Any]]:
    """Run a function as one of the cell that submitted it: another may have started the pool's thread."""
    used_by_tasks: weakref.WeakSet[ThreadPoolExecutor] = weakref.WeakSet()

    @functools.wraps(submit)
    def submit_in_context(
        pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        if _runs_elsewhere(pool):
            return submit(pool, function, *args, **kwargs)
        if current_sink() is not None:
            used_by_tasks.add(pool)
            return submit(pool, thread_context().run, function, *args, **kwargs)
        if pool in used_by_tasks:
            return submit(pool, _call_outside_tasks, function, *args, **kwargs)
        return submit(pool, function, *args, **kwargs)

    return submit_in_context


def _runs_elsewhere(pool: ThreadPoolExecutor) -> bool:
    """Whether the calls run elsewhere than in the pool's threads (InterpreterPoolExecutor, Python 3.14)."""
    prepare = getattr(type(pool), "prepare_context", None)
    return getattr(prepare, "__func__", None) is not getattr(
        getattr(ThreadPoolExecutor, "prepare_context", None), "__func__", None
    )


def _call_outside_tasks(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    if current_sink() is None:
        return function(*args, **kwargs)
    return contextvars.Context().run(function, *args, **kwargs)
