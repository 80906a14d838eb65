"""Monkeypatches of `Thread` and `ThreadPoolExecutor`: context of background cells."""

from __future__ import annotations

import contextvars
import functools
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.thread import ThreadPoolExecutor
from typing import Any

from nbtasks.notebook.output.sink import current_sink
from nbtasks.patch import Patch, PatchSet

__all__ = ["thread_patches"]


def thread_patches() -> PatchSet:
    """Patches of `Thread.start` and `ThreadPoolExecutor.submit`."""
    return PatchSet(
        [Patch(threading.Thread, "start", _start_in_context), Patch(ThreadPoolExecutor, "submit", _submit_in_context)]
    )


def _start_in_context(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """Copy the context of a background cell to threads that its code starts.

    CPython does so from 3.14 if `sys.flags.thread_inherit_context` is on, which it is not by default; it calls `run` in
    an empty context else. A context that the code has given to the thread itself is left alone.
    """

    @functools.wraps(start)
    def start_in_context(thread: threading.Thread) -> None:
        inside = current_sink() is not None and thread.ident is None and hasattr(thread, "_bootstrap")
        if inside and getattr(thread, "_context", thread) is None:  # from 3.14
            thread._context = contextvars.copy_context()  # type: ignore[attr-defined]
        if inside:  # not only `run`: the thread's `excepthook` is called after that
            thread._bootstrap = functools.partial(contextvars.copy_context().run, thread._bootstrap)  # type: ignore[attr-defined]
        try:
            start(thread)
        finally:
            if inside:
                del thread._bootstrap  # type: ignore[attr-defined]

    return start_in_context


def _submit_in_context(submit: Callable[..., Future[Any]]) -> Callable[..., Future[Any]]:
    """Run a function in the context that submitted it: the pool's thread may have that of another cell."""
    used_by_tasks: weakref.WeakSet[ThreadPoolExecutor] = weakref.WeakSet()

    @functools.wraps(submit)
    def submit_in_context(
        pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        if _runs_elsewhere(pool):
            return submit(pool, function, *args, **kwargs)
        if current_sink() is not None:
            used_by_tasks.add(pool)
            return submit(pool, contextvars.copy_context().run, function, *args, **kwargs)
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
