"""What is over, and so can be sent: closed files, threads and programs that have ended, pools that were shut down.

On the other side it is made anew as what it was: over, with the same name, result and answers. Used by parcels only.
Must not know what is sent, nor where to.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import io
import os
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable
from multiprocessing.pool import Pool, ThreadPool
from typing import Any

__all__ = ["Reduced", "loop_here", "rule_for"]

Reduced = tuple[Callable[..., Any], tuple[Any, ...]]
"""As `object.__reduce__` returns it."""

_READ_WRITE = ("r", "w", "a")


def rule_for(kind: type) -> Callable[[Any], Reduced | None] | None:
    """What says how to make the like of an object of that class on the other side; None if nothing is known of it.

    The rule gives None for what is not over. It raises TypeError for a file that is open: a copy of it would read or
    write on its own.
    """
    known = _KINDS.get(kind)
    return _ended_thread if known is None and issubclass(kind, threading.Thread) else known


# -- files and programs ---------------------------------------------------------------------------------------


def _file(obj: Any) -> Reduced:
    if not obj.closed:
        raise TypeError("an open file cannot be sent")
    binary = not isinstance(obj, io.TextIOWrapper)
    mode = getattr(obj, "mode", "rb")
    buffering = 0 if isinstance(obj, io.FileIO) else -1
    return _closed_file, (obj.name, mode, buffering, None if binary else obj.encoding)


def _closed_file(name: Any, mode: str, buffering: int, encoding: str | None) -> Any:
    plain = next((one for one in _READ_WRITE if one in mode), "w") + ("+" if "+" in mode else "")
    file: Any = open(os.devnull, plain if encoding else f"{plain}b", buffering, encoding)  # noqa: SIM115 - see below
    raw = file if isinstance(file, io.FileIO) else file.buffer.raw if encoding else file.raw
    file.close()
    raw.name = name
    if encoding:
        file.mode = mode
    return file


def _program(obj: Any) -> Reduced | None:
    if obj.returncode is None:
        return None
    return _ended_program, ({name: value for name, value in vars(obj).items() if name != "_waitpid_lock"},)


def _ended_program(state: dict[str, Any]) -> Any:
    program: Any = subprocess.Popen.__new__(subprocess.Popen)
    program.__dict__.update(state, _waitpid_lock=threading.Lock())
    return program


# -- threads and pools ----------------------------------------------------------------------------------------


@functools.cache
def _own_of_threads() -> frozenset[str]:
    return frozenset(vars(threading.Thread()))


def _ended_thread(obj: threading.Thread) -> Reduced | None:
    if obj.ident is None or obj.is_alive():
        return None
    added = {name: value for name, value in vars(obj).items() if name not in _own_of_threads()}
    return _thread_that_ended, (type(obj), obj.name, obj.daemon, obj.ident, added)


def _thread_that_ended(
    kind: type[threading.Thread], name: str, daemon: bool, ident: int, added: dict[str, Any]
) -> threading.Thread:
    thread: Any = kind.__new__(kind)
    threading.Thread.__init__(thread, name=name, daemon=daemon)
    thread.run = _nothing  # how a thread marks that it is over is another in each Python: so let it be over
    threading.Thread.start(thread)
    threading.Thread.join(thread)
    del thread.run
    thread.__dict__.update(added, _ident=ident)
    return thread  # type: ignore[no-any-return]


def _nothing() -> None:
    """What a thread does that is to be over."""


def _executor(obj: Any) -> Reduced | None:
    shut = getattr(obj, "_shutdown", False) or getattr(obj, "_shutdown_thread", False)
    return (_shut_executor, (type(obj), obj._max_workers)) if shut else None


def _shut_executor(kind: type[concurrent.futures.Executor], workers: int) -> concurrent.futures.Executor:
    executor = kind(workers)  # type: ignore[call-arg]
    executor.shutdown()
    return executor


def _pool(obj: Any) -> Reduced | None:
    ended = obj._state == "TERMINATE" or (obj._state == "CLOSE" and not any(one.is_alive() for one in obj._pool))
    return (_ended_pool, (type(obj), obj._processes)) if ended else None


def _ended_pool(kind: type[Any], processes: int) -> Any:
    pool = object.__new__(kind)
    pool.__dict__.update(_state="TERMINATE", _pool=[], _processes=processes)
    return pool


# -- what was computed ----------------------------------------------------------------------------------------


def _future(obj: Any) -> Reduced | None:
    if not obj.done():
        return None
    if obj.cancelled():
        return _done_future, (asyncio.isfuture(obj), "cancelled", None)
    error = obj.exception()
    how, value = ("result", obj.result()) if error is None else ("exception", error)
    return _done_future, (asyncio.isfuture(obj), how, value)


def _done_future(of_asyncio: bool, how: str, value: Any) -> Any:
    future: Any = asyncio.Future(loop=loop_here()) if of_asyncio else concurrent.futures.Future()
    if how == "cancelled":
        future.cancel()
    elif how == "result":
        future.set_result(value)
    else:
        future.set_exception(value)
        future.exception()  # else asyncio would say that nobody has asked for it
    return future


def _group(obj: Any) -> Reduced | None:
    return (_ended_group, ()) if obj._exiting and not obj._tasks else None


def _ended_group() -> Any:
    group: Any = asyncio.TaskGroup()
    group._entered = group._exiting = True
    return group


def loop_here() -> asyncio.AbstractEventLoop:
    """The loop of this process: the one that runs, else the kernel's, else one that nobody runs."""
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    return _idle_loop() if kernel is None else kernel.io_loop.asyncio_loop


@functools.cache
def _idle_loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _generator(obj: Any) -> Reduced | None:
    frame = next(getattr(obj, name) for name in ("gi_frame", "cr_frame", "ag_frame") if hasattr(obj, name))
    return (_ended_generator, (type(obj).__name__, obj.__name__, obj.__qualname__)) if frame is None else None


def _ended_generator(kind: str, name: str, qualname: str) -> Any:
    made: Any
    if kind == "async_generator":
        made = _no_more()
        with contextlib.suppress(StopIteration):
            made.aclose().send(None)
    else:
        made = _no_result() if kind == "coroutine" else _nothing_left()
        made.close()
    made.__name__, made.__qualname__ = name, qualname
    return made


async def _no_result() -> None:
    """A coroutine that is closed before it has begun."""


def _nothing_left() -> Any:
    yield from ()


async def _no_more() -> Any:
    return
    yield


def _reference(obj: Any) -> Reduced | None:
    return (_dead_reference, ()) if obj() is None else None


def _dead_reference() -> weakref.ref[Any]:
    return weakref.ref(type("Gone", (), {})())


# Written in C and in Python: nest_asyncio puts the latter in the place of the former.
_FUTURES = [
    vars(module)[name]
    for module, names in {asyncio.futures: ("_CFuture", "_PyFuture"), asyncio.tasks: ("_CTask", "_PyTask")}.items()
    for name in names
]
_KINDS: dict[type, Callable[[Any], Reduced | None]] = {
    **dict.fromkeys((io.TextIOWrapper, io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom), _file),
    subprocess.Popen: _program,
    **dict.fromkeys((concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor), _executor),
    **dict.fromkeys((Pool, ThreadPool), _pool),
    **dict.fromkeys((concurrent.futures.Future, *_FUTURES), _future),
    asyncio.TaskGroup: _group,
    **dict.fromkeys((types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType), _generator),
    weakref.ref: _reference,
}
