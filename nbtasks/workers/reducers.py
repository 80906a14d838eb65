"""How to make anew, on the other side, what pickle takes for something else or cannot take apart by itself.

Used by parcels only. Must not know what is sent. Classes of `__main__` are those of the notebook.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import importlib
import io
import linecache
import logging
import os
import pickle
import re
import subprocess
import sys
import threading
import types
import uuid
import weakref
from collections.abc import Callable
from multiprocessing.pool import Pool, ThreadPool
from typing import Any

import cloudpickle
from cloudpickle.cloudpickle import _make_skeleton_class

__all__ = ["Reduced", "add_rule", "loop_here", "made_quietly", "reduced_specially", "rule_for", "texts_reduced"]

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


def _future_remains(obj: Any) -> Reduced | None:
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
    **dict.fromkeys((concurrent.futures.Future, *_FUTURES), _future_remains),
    asyncio.TaskGroup: _group,
    **dict.fromkeys((types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType), _generator),
    weakref.ref: _reference,
}


_FEWEST = 10_000
"""Below this pickle is quick enough."""
_MOST_OTHERS = 0.1
"""With more than this share of what is no text (None, NaN) it is no column of texts."""
_LEAST_DISTINCT = 0.9
"""Where fewer are objects of their own, pickle sends each but once, and they stay shared."""
_BLOCK, _STEP = 100, 1_000
_END = "\0"
_CODEC = ("utf-8", "surrogatepass")


def texts_reduced(array: Any) -> tuple[Any, ...] | None:
    """How to make this numpy array of objects anew, if nearly all of them are texts; else None."""
    if array.size < _FEWEST:
        return None
    order = "C" if array.flags.c_contiguous or not array.flags.f_contiguous else "F"
    texts = array.ravel(order).tolist()
    if set(map(type, texts[:_BLOCK])).isdisjoint({str}):
        return None
    others = {}
    if set(map(type, texts)) != {str}:
        others = {place: one for place, one in enumerate(texts) if type(one) is not str}
        if len(others) > _MOST_OTHERS * len(texts):
            return None
        for place in others:
            texts[place] = ""
    looked_at = [id(one) for start in range(0, len(texts), _STEP) for one in texts[start : start + _BLOCK] if one]
    if len(set(looked_at)) < _LEAST_DISTINCT * len(looked_at):
        return None
    joined = _END.join(texts)
    if joined.count(_END) != len(texts) - 1:  # one of them has it inside
        return None
    return _texts, (pickle.PickleBuffer(joined.encode(*_CODEC)), array.shape, order, others)


def _texts(joined: Any, shape: tuple[int, ...], order: Any, others: dict[int, Any]) -> Any:
    import numpy as np

    array = np.empty(shape, object, order)
    flat = array.reshape(-1, order=order)  # a view: it is contiguous in this order
    flat[:] = str(joined, *_CODEC).split(_END)
    for place, one in others.items():
        flat[place] = one
    return array


_DISPATCHES: types.CodeType = functools.singledispatch(len).__code__  # type: ignore[attr-defined]
_MARK = "_nbtasks_mark"
_handlers: weakref.WeakValueDictionary[str, logging.Handler] = weakref.WeakValueDictionary()
"""The handlers of loggers that have travelled, by their mark: they come back as themselves, as classes do."""
Rule = Callable[[Any], tuple[Any, ...] | None]
_rules: dict[type, Rule | None] = {}
"""By class, but for those of the notebook, which come and go."""


def add_rule(name: str, rule: Rule) -> None:
    """Let objects of a class be made anew by a rule of one's own; its name is `package.Class`."""
    _BY_NAME[name] = rule


def reduced_specially(obj: Any) -> tuple[Any, ...] | None:
    """How to make the like of `obj` on the other side; None if pickle knows. Raises what keeps it from being sent."""
    kind = type(obj)
    try:
        rule = _rules[kind]
    except KeyError:
        rule = _rule_for(kind)
        if kind.__module__ != "__main__":
            _rules[kind] = rule
    return None if rule is None else rule(obj)


def _rule_for(kind: type) -> Rule | None:
    for base in kind.__mro__:
        rule = _BY_NAME.get(f"{base.__module__.partition('.')[0]}.{base.__name__}")
        if rule is not None:
            return rule
    return next((rule for base, rule in _BY_CLASS.items() if issubclass(kind, base)), rule_for(kind))


def _module(obj: types.ModuleType) -> Reduced | None:
    return (importlib.import_module, (obj.__name__,)) if sys.modules.get(obj.__name__) is obj else None


def _class(obj: type) -> None:
    """It is sent by its name where its module is loaded, which some libraries leave until somebody asks."""
    package = str(obj.__module__).partition(".")[0]
    if obj.__module__ not in sys.modules and package in sys.modules:
        with contextlib.suppress(Exception):  # there is no such module
            importlib.import_module(obj.__module__)


def _function(obj: Any) -> Reduced | None:
    if obj.__code__ is not _DISPATCHES:
        return None
    return _dispatcher, (obj.__wrapped__, [one for one in obj.registry.items() if one[0] is not object])


def _code(obj: types.CodeType) -> Reduced:
    """Code with its source lines and the name of their file, which cloudpickle 3.1.3 replaces by `<dynamic-code>`."""
    make, args = cloudpickle.Pickler.dispatch_table[types.CodeType](obj)
    return _code_with_source, (make, args, obj.co_filename, _lines_without_file(obj.co_filename))


def _lines_without_file(filename: str) -> list[str] | None:
    """The source lines that only `linecache` has, as it does of cells and generated code; None for those of files.

    It is the list in the cache, so that a pickle of many functions has the lines of their cell once.
    """
    match linecache.cache.get(filename):
        case (_, None, list(lines), _):
            return lines
    return None


def _code_with_source(
    make: Callable[..., types.CodeType], args: tuple[Any, ...], filename: str, lines: list[str] | None
) -> types.CodeType:
    if lines is not None:
        linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)
    return make(*args).replace(co_filename=filename)


def _shell(_: Any) -> Reduced:
    return _shell_here, ()


def _part_of_shell(obj: Any) -> Reduced | None:
    shell = _shell_here()
    found = (name for name in ("display_pub", "displayhook") if obj is getattr(shell, name, None))
    return next(((getattr, (shell, name)) for name in found), None)


def _loop(obj: asyncio.AbstractEventLoop) -> Reduced | None:
    return (loop_here, ()) if obj is loop_here() else None


def _stream(obj: io.TextIOBase) -> Reduced | None:
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        if obj is getattr(sys, name):
            return getattr, (sys, name)
    rule = rule_for(type(obj))
    return None if rule is None else rule(obj)


def _array(obj: Any) -> Reduced | None:
    return texts_reduced(obj) if type(obj).__name__ == "ndarray" and obj.dtype == object else None


def _lru_cache(obj: Any) -> Reduced:
    return _cached, (obj.__wrapped__, obj.cache_parameters())


def _property(obj: Any) -> Reduced:
    return _cached_property, (obj.func, obj.attrname)


def _dask_future(obj: Any) -> Reduced:
    return _future, (obj.key,)


def _match(obj: re.Match[Any]) -> Reduced:
    return _match_again, (obj.re, obj.string, obj.pos, obj.endpos, obj.regs)


def _match_again(pattern: re.Pattern[Any], text: Any, start: int, end: int, regs: Any) -> re.Match[Any]:
    """The match of that place: none but `search` and its like can make one."""
    ways = (pattern.search, pattern.match, pattern.fullmatch)
    for place in (start, regs[0][0]):
        for way in ways:
            found = way(text, place, end)
            if found is not None and found.regs == regs:
                return found
    raise ValueError(f"{pattern.pattern!r} does not match again")


def _tqdm(obj: Any) -> Reduced:
    return _wrapper, (type(obj), vars(obj))


def _shell_here() -> Any:
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def _marked(obj: logging.Handler) -> Reduced:
    mark = obj.__dict__.setdefault(_MARK, uuid.uuid4().hex)
    _handlers[mark] = obj
    return _handler, (type(obj), {name: value for name, value in obj.__dict__.items() if name != "lock"})


def _handler(kind: type[logging.Handler], state: dict[str, Any]) -> logging.Handler:
    handler = _handlers.get(state[_MARK])
    if handler is None:
        handler = _handlers[state[_MARK]] = kind.__new__(kind)
        handler.createLock()
    handler.__dict__.update(state)
    return handler


def _future(key: Any) -> Any:
    """A future of Dask's, of the client that is in use here: what it stands for stays on the cluster."""
    from distributed import Future, default_client, get_client

    try:
        client: Any = default_client()  # type: ignore[no-untyped-call]
    except ValueError:  # in a task on a Dask worker
        client = get_client()
    future: Any = Future(key, client)
    client._send_to_scheduler({"op": "client-desires-keys", "keys": [key], "client": client.id})
    return future


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _cached_property(function: Any, name: str | None) -> Any:
    made: Any = functools.cached_property(function)
    made.attrname = name
    return made


def _wrapper(kind: type, state: dict[str, Any]) -> Any:
    made: Any = object.__new__(kind)
    object.__getattribute__(made, "__dict__").update(state)
    return made


def _dispatcher(function: Any, registered: list[tuple[type, Any]]) -> Any:
    made: Any = functools.singledispatch(function)
    for kind, one in registered:
        made.register(kind, one)
    return made


def made_quietly(obj: Any, reduced: Any) -> Any:
    """Of what cloudpickle says of a class: the class is made without a word to its bases, and with its slots."""
    if not isinstance(reduced, tuple) or reduced[0] is not _make_skeleton_class:
        return reduced
    if "__slots__" in vars(obj) and not issubclass(obj, tuple):  # set once the class is made, they would come too late
        reduced[1][3]["__slots__"] = obj.__slots__
    return _skeleton, *reduced[1:]


def _skeleton(metaclass: type, name: str, bases: tuple[type, ...], *rest: Any) -> Any:
    """A class to be filled, of which the bases hear nothing: they did so when it was defined."""
    family = [one for base in types.resolve_bases(bases) for one in base.__mro__]
    hooks = {one: vars(one)["__init_subclass__"] for one in family if _has_own_hook(one)}
    for one in hooks:
        del one.__init_subclass__
    try:
        return _make_skeleton_class(metaclass, name, bases, *rest)
    finally:
        for one, hook in hooks.items():
            one.__init_subclass__ = hook


def _has_own_hook(kind: type) -> bool:
    return kind.__module__ == "__main__" and "__init_subclass__" in vars(kind)
_BY_NAME: dict[str, Rule] = {
    "IPython.InteractiveShell": _shell,
    "IPython.DisplayPublisher": _part_of_shell,
    "IPython.DisplayHook": _part_of_shell,
    "numpy.ndarray": _array,
    "distributed.Future": _dask_future,
    "re.Match": _match,
    "tqdm.ObjectWrapper": _tqdm,  # it asks what it wraps for each attribute, even before it has that
}
_BY_CLASS: dict[type, Rule] = {
    type: _class,
    types.ModuleType: _module,
    types.FunctionType: _function,
    types.CodeType: _code,
    functools._lru_cache_wrapper: _lru_cache,
    functools.cached_property: _property,
    logging.Handler: _marked,
    asyncio.AbstractEventLoop: _loop,
    io.TextIOBase: _stream,
}
