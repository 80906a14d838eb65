"""Pickling rules for objects that pickle and cloudpickle cannot send.

One registry holds a rule for each class (`@reduces`). A rule gets an object and returns how to rebuild its like on the
other side, as `object.__reduce__` does; None leaves the object to pickle. Classes of `__main__` are the notebook's.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import importlib
import io
import linecache
import logging
import re
import subprocess
import sys
import threading
import types
import typing
import uuid
import weakref
from collections.abc import Callable, Collection
from multiprocessing.pool import Pool, ThreadPool
from typing import Any, TypeVar

import cloudpickle
from cloudpickle.cloudpickle import _DYNAMIC_CLASS_TRACKER_BY_ID, _class_setstate, _make_skeleton_class

from nbtasks.workers.open_files import reduced_file
from nbtasks.workers.quiet_import import imported_quietly
from nbtasks.workers.text_columns import reduced_texts
from nbtasks.workers.unbegun_generators import reduced_generator

__all__ = [
    "Reduced",
    "annotations_of",
    "made_quietly",
    "reduced_specially",
    "reduces",
    "without_annotations",
]

Reduced = tuple[Any, ...]
"""A function, its arguments and so on, as `object.__reduce__` returns them."""
Rule = Callable[[Any], Reduced | None]
R = TypeVar("R", bound=Rule)

_registry: dict[str, Rule] = {}
_found: dict[type, Rule | None] = {}
"""The rules of classes that were looked up, but for classes of the notebook, which come and go."""


def reduces(*classes: type | str) -> Callable[[R], R]:
    """Register a rule for classes and their subclasses; one that may not be imported is "package.Class".

    It is also the rule of the classes that replace them in a module that is loaded again (`reload(logging)`).
    """

    def register(rule: R) -> R:
        _registry.update(dict.fromkeys((one if isinstance(one, str) else _name_of(one) for one in classes), rule))
        _found.clear()
        return rule

    return register


def reduced_specially(obj: Any) -> Reduced | None:
    """How to rebuild the like of `obj`; None if pickle knows. Raises TypeError if it cannot be sent."""
    kind = type(obj)
    try:
        rule = _found[kind]
    except KeyError:
        rule = _rule_for(kind)
        if kind.__module__ != "__main__":
            _found[kind] = rule
    return None if rule is None else rule(obj)


def _name_of(kind: type) -> str:
    return f"{str(kind.__module__).partition('.')[0]}.{kind.__name__}"


def _rule_for(kind: type) -> Rule | None:
    for base in kind.__mro__:
        rule = _registry.get(_name_of(base))
        if rule is not None:
            return rule
    return None


# -- code, functions, classes, modules --------------------------------------------------------------------------------


@reduces(types.ModuleType)
def _module(obj: types.ModuleType) -> Reduced | None:
    return (imported_quietly, (obj.__name__,)) if sys.modules.get(obj.__name__) is obj else None


@reduces(type)
def _class(obj: type) -> Reduced | None:
    """Import the module of a class, as some libraries do on first access only; pickle then sends the name."""
    if obj is getattr(typing, "_TypedDict", None):  # it calls itself `TypedDict`, which is another object
        return getattr, (typing, "_TypedDict")
    package = str(obj.__module__).partition(".")[0]
    if obj.__module__ not in sys.modules and package in sys.modules:
        with contextlib.suppress(Exception):  # there is no such module
            importlib.import_module(obj.__module__)
    return None


_DISPATCHES: types.CodeType = functools.singledispatch(len).__code__  # type: ignore[attr-defined]


@reduces(types.FunctionType)
def _function(obj: Any) -> Reduced | None:
    """A function of `functools.singledispatch`, with what is registered; its closure cannot be pickled."""
    if obj.__code__ is not _DISPATCHES:
        return None
    return _dispatcher, (obj.__wrapped__, [one for one in obj.registry.items() if one[0] is not object])


def _dispatcher(function: Any, registered: list[tuple[type, Any]]) -> Any:
    made: Any = functools.singledispatch(function)
    for kind, one in registered:
        made.register(kind, one)
    return made


@reduces(types.CodeType)
def _code(obj: types.CodeType) -> Reduced:
    """Code with its source lines and its file name, which cloudpickle 3.1.3 replaces by `<dynamic-code>`."""
    make, args = cloudpickle.Pickler.dispatch_table[types.CodeType](obj)
    return _code_with_source, (make, args, obj.co_filename, _lines_without_file(obj.co_filename))


def _lines_without_file(filename: str) -> list[str] | None:
    """The source lines that only `linecache` has, those of cells and generated code; None for a file's.

    The list itself is returned, so that a pickle of many functions has the lines of their cell once.
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


@reduces(functools._lru_cache_wrapper)
def _lru_cache(obj: Any) -> Reduced:
    return _cached, (obj.__wrapped__, obj.cache_parameters())


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


@reduces(functools.cached_property)
def _cached_property(obj: Any) -> Reduced:
    """Without the lock that it has before Python 3.12."""
    return _named_property, (obj.func, obj.attrname)


def _named_property(function: Any, name: str | None) -> Any:
    made: Any = functools.cached_property(function)
    made.attrname = name
    return made


@reduces(typing.NewType, typing.ParamSpec, typing.TypeVarTuple, "typing.TypeAliasType")
def _type_of_the_notebook(obj: Any) -> Reduced | None:
    """Rebuild such an object of the notebook, which pickle sends by its name alone."""
    if obj.__module__ != "__main__":
        return None
    args: list[Any] = [obj.__name__]
    options: dict[str, Any] = {}
    match type(obj).__name__:
        case "NewType":
            args.append(obj.__supertype__)
        case "ParamSpec":
            options["bound"] = obj.__bound__
        case "TypeAliasType":  # `type X = ...`
            args.append(obj.__value__)
            options["type_params"] = obj.__type_params__
    return _type_here, (type(obj), args, options)


def _type_here(kind: Any, args: list[Any], options: dict[str, Any]) -> Any:
    # Its module is that of the caller.
    return eval("kind(*args, **options)", {"__name__": "__main__", "kind": kind, "args": args, "options": options})  # noqa: S307


_sentinels: dict[str, Any] = {}
"""The sentinels of the notebook that were sent or have arrived, by their mark: they are compared by identity."""
_marks: dict[int, str] = {}


@reduces("builtins.sentinel")
def _sentinel(obj: Any) -> Reduced | None:
    """A `sentinel("M")` of the notebook (from Python 3.15), which pickle sends by its name alone."""
    if obj.__module__ != "__main__":
        return None
    mark = _marks.setdefault(id(obj), uuid.uuid4().hex)
    _sentinels[mark] = obj
    return _sentinel_of_mark, (type(obj), obj.__name__, mark)


def _sentinel_of_mark(kind: Any, name: str, mark: str) -> Any:
    if mark not in _sentinels:
        _sentinels[mark] = made = _type_here(kind, [name], {})
        _marks[id(made)] = mark
    return _sentinels[mark]


@reduces("builtins.lazy_import")
def _lazy_import(obj: Any) -> Reduced:
    """A name of a `lazy import` statement that was not used yet (from Python 3.15)."""
    module_or_none, *_ = gc.get_referents(obj)
    path = repr(obj).split("'")[1]
    return _lazy_here, (path, type(module_or_none) is type(obj))


def _lazy_here(path: str, is_attribute: bool) -> Any:
    names: dict[str, Any] = {}
    module, _, name = path.rpartition(".")
    statement = f"lazy from {module} import {name}" if is_attribute else f"lazy import {path}"
    exec(statement, names)
    return names[name if is_attribute else path.partition(".")[0]]


# -- annotations that are evaluated when they are read (from Python 3.14) ----------------------------------------


def without_annotations(function: types.FunctionType) -> types.FunctionType:
    """A copy of a function without annotations, which cloudpickle would evaluate."""
    bare = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    bare.__kwdefaults__, bare.__doc__ = function.__kwdefaults__, function.__doc__
    bare.__module__, bare.__qualname__ = function.__module__, function.__qualname__
    bare.__dict__.update(function.__dict__)
    if sys.version_info >= (3, 12):
        bare.__type_params__ = function.__type_params__
    return bare


def annotations_of(obj: Any) -> dict[str, Any]:
    """The attributes that give a function or class the annotations of `obj` without evaluating them."""
    annotate = getattr(obj, "__annotate__", None)  # from Python 3.14
    if annotate is None:
        return {}
    if isinstance(annotate, types.FunctionType) and annotate.__module__ in ("__main__", "typing"):
        return {"__annotate__": _without_class(annotate)}
    # A library has made them, not `typing.TypedDict` or `NamedTuple`: what its function refers to is not known.
    annotationlib = importlib.import_module("annotationlib")
    return {"__annotations__": annotationlib.get_annotations(obj, format=annotationlib.Format.FORWARDREF)}


def _without_class(annotate: types.FunctionType) -> types.FunctionType:
    """The function without its class namespace cell, which `_set_class_state` puts back.

    The function of `typing.TypedDict` or `NamedTuple` has that of the class statement in its closure.
    """
    closure = annotate.__closure__ or ()
    cells = [_cell_without_class(*one) for one in zip(annotate.__code__.co_freevars, closure, strict=True)]
    if all(one is cell for one, cell in zip(cells, closure, strict=True)):
        return annotate
    made = types.FunctionType(
        annotate.__code__, annotate.__globals__, annotate.__name__, annotate.__defaults__, tuple(cells)
    )
    made.__module__, made.__qualname__ = annotate.__module__, annotate.__qualname__
    return made


def _cell_without_class(name: str, cell: types.CellType) -> types.CellType:
    if name == "__classdict__":
        return types.CellType()
    inner = _annotate_in(cell)
    bare = _without_class(inner) if inner is not None else None
    return cell if bare is inner else types.CellType(bare)


def _annotate_in(cell: types.CellType) -> types.FunctionType | None:
    """The function that evaluates annotations in the cell of a closure, if there is one."""
    try:
        content = cell.cell_contents
    except ValueError:  # it is empty
        return None
    return content if isinstance(content, types.FunctionType) and content.__name__ == "__annotate__" else None


def _put_class(annotate: types.FunctionType, kind: type) -> None:
    for name, cell in zip(annotate.__code__.co_freevars, annotate.__closure__ or (), strict=True):
        inner = _annotate_in(cell)
        if name == "__classdict__":
            cell.cell_contents = vars(kind)
        elif inner is not None:
            _put_class(inner, kind)


def _set_class_state(kind: Any, state: Any) -> Any:
    annotate = state[0].pop("__annotate__", None)
    _class_setstate(kind, state)
    if annotate is not None:
        _put_class(annotate, kind)
        kind.__annotate__ = annotate
    return kind


@reduces("annotationlib.ForwardRef")
def _forward_ref(obj: Any) -> Reduced:
    """A name in an annotation that could not be evaluated, without the globals where it is looked up."""
    of_class = isinstance(obj.__owner__, type) and obj.__owner__.__module__ == "__main__"
    options = {
        "module": obj.__forward_module__ or (None if of_class else "__main__"),
        "is_argument": obj.__forward_is_argument__,
        "is_class": obj.__forward_is_class__,
        "owner": obj.__owner__ if of_class else None,
    }
    return _forward_ref_here, (obj.__forward_arg__, options)


def _forward_ref_here(text: str, options: dict[str, Any]) -> Any:
    return typing.ForwardRef(text, **options)


# -- classes ----------------------------------------------------------------------------------------------------------


def made_quietly(obj: Any, reduced: Any) -> Any:
    """Rebuild a class without calling `__init_subclass__`, and with its slots: cloudpickle does otherwise."""
    if not isinstance(reduced, tuple) or reduced[0] is not _make_skeleton_class:
        return reduced
    if "__slots__" in vars(obj) and not issubclass(obj, tuple):  # they have no effect once the class exists
        reduced[1][3]["__slots__"] = obj.__slots__
    arguments = ([name for name in vars(obj) if not _is_inherited(obj, name)], *reduced[1])
    if sys.version_info < (3, 14):
        return _skeleton, arguments, *reduced[2:]
    content = reduced[2][0]
    for name in ("__annotate_func__", "__annotations_cache__"):
        content.pop(name, None)
    content.update(annotations_of(obj))
    return _skeleton, arguments, *reduced[2:5], _set_class_state


def _is_inherited(kind: type, name: str) -> bool:
    """Whether the class would have the same object under that name without having it itself."""
    base = next((base for base in kind.__mro__[1:] if name in vars(base)), None)
    return base is not None and vars(base)[name] is vars(kind)[name]


_OF_EVERY_CLASS = {
    *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__"),
    *("__annotations__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__", "_abc_impl"),
}


def _skeleton(own: Collection[str], metaclass: type, name: str, bases: tuple[type, ...], *rest: Any) -> Any:
    """An empty class, made without `__init_subclass__`: its bases were called when it was defined.

    What its metaclass adds to a class without content, such as pydantic's mark of a complete model, is removed but for
    the names that the class has of its `own`.
    """
    family = [one for base in types.resolve_bases(bases) for one in base.__mro__]
    hooks = {one: vars(one)["__init_subclass__"] for one in family if _has_own_hook(one)}
    for one in hooks:
        del one.__init_subclass__
    is_new = rest[1] not in _DYNAMIC_CLASS_TRACKER_BY_ID
    try:
        made = _make_skeleton_class(metaclass, name, bases, *rest)
    finally:
        for one, hook in hooks.items():
            one.__init_subclass__ = hook
    for added in list(vars(made).keys() - own - _OF_EVERY_CLASS) if is_new else ():
        with contextlib.suppress(AttributeError, TypeError):  # of a metaclass that forbids it
            delattr(made, added)
    return made


def _has_own_hook(kind: type) -> bool:
    return kind.__module__ == "__main__" and "__init_subclass__" in vars(kind)


# -- objects of which each process has its own ------------------------------------------------------------------------


@reduces("tqdm.TqdmDefaultWriteLock")
def _lock_of_bars(_: Any) -> Reduced:
    """The lock that all bars of a process share, and the first class of bars that was used has."""
    return _lock_of_bars_here, ()


@reduces("tqdm.TMonitor")
def _monitor_of_bars(_: Any) -> Reduced:
    """None in place of the thread that watches bars: the other side starts its own."""
    return type(None), ()


def _lock_of_bars_here() -> Any:
    return importlib.import_module("tqdm").tqdm.get_lock()


@reduces("IPython.InteractiveShell")
def _shell(_: Any) -> Reduced:
    return _shell_here, ()


def _shell_here() -> Any:
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


@reduces("IPython.DisplayPublisher", "IPython.DisplayHook")
def _part_of_shell(obj: Any) -> Reduced | None:
    shell = _shell_here()
    found = (name for name in ("display_pub", "displayhook") if obj is getattr(shell, name, None))
    return next(((getattr, (shell, name)) for name in found), None)


@reduces(asyncio.AbstractEventLoop)
def _loop(obj: asyncio.AbstractEventLoop) -> Reduced | None:
    return (_loop_here, ()) if obj is _loop_here() else None


def _loop_here() -> asyncio.AbstractEventLoop:
    """The event loop of this process: the running one, else the kernel's, else one that never runs."""
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    kernel = getattr(_shell_here(), "kernel", None)
    return _idle_loop() if kernel is None else kernel.io_loop.asyncio_loop


@functools.cache
def _idle_loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


_MARK = "_nbtasks_mark"
_handlers: weakref.WeakValueDictionary[str, logging.Handler] = weakref.WeakValueDictionary()
"""The handlers of loggers that were sent, by their mark: those that come back are the same objects, as classes are."""


@reduces(logging.Handler)
def _log_handler(obj: logging.Handler) -> Reduced:
    mark = obj.__dict__.setdefault(_MARK, uuid.uuid4().hex)
    _handlers[mark] = obj
    state = {name: value for name, value in obj.__dict__.items() if name != "lock"}
    if isinstance(obj, logging.FileHandler):
        _open_again_to_append(obj)
        state |= {"stream": None, "mode": obj.mode}
    return _handler_of_mark, (_current(type(obj)), state)


def _current(kind: type) -> Any:
    """The class that its module has now: one of a `logging` before it was loaded again is found nowhere."""
    return kind if kind.__module__ == "__main__" else getattr(sys.modules.get(kind.__module__), kind.__qualname__, kind)


def _open_again_to_append(handler: logging.FileHandler) -> None:
    """Have each process open the file with its next line: two that write at places of their own spoil it."""
    with handler.lock or contextlib.nullcontext():
        if handler.mode != "a" and handler.stream is not None:
            handler.stream.close()
            handler.stream = None
        handler.mode = "a"


def _handler_of_mark(kind: type[logging.Handler], state: dict[str, Any]) -> logging.Handler:
    handler = _handlers.get(state[_MARK])
    if isinstance(handler, logging.FileHandler):  # its file is open here
        state = {name: value for name, value in state.items() if name != "stream"}
    if handler is None:
        handler = _handlers[state[_MARK]] = kind.__new__(kind)
        handler.createLock()
    handler.__dict__.update(state)
    return handler


@reduces("concurrent.Queue", "concurrent.Interpreter")
def _of_interpreters(obj: Any) -> None:
    """Refuse an object of `concurrent.interpreters`: its pickle is a number valid in this process only."""
    if type(obj).__module__.startswith("concurrent.interpreters"):
        raise TypeError(f"a {type(obj).__name__} of interpreters exists only in its own process")


@reduces("distributed.Future")
def _dask_future(obj: Any) -> Reduced:
    return _dask_future_here, (obj.key,)


def _dask_future_here(key: Any) -> Any:
    """A future of the Dask client that is in use here; its result stays on the cluster."""
    from distributed import Future, default_client, get_client

    try:
        client: Any = default_client()  # type: ignore[no-untyped-call]
    except ValueError:  # in a task on a Dask worker
        client = get_client()
    future: Any = Future(key, client)
    client._send_to_scheduler({"op": "client-desires-keys", "keys": [key], "client": client.id})
    return future


# -- objects of libraries ---------------------------------------------------------------------------------------------


@reduces("numpy.ndarray")
def _array(obj: Any) -> Reduced | None:
    return reduced_texts(obj) if type(obj).__name__ == "ndarray" and obj.dtype == object else None


@reduces(re.Match)
def _match(obj: re.Match[Any]) -> Reduced:
    return _match_again, (obj.re, obj.string, obj.pos, obj.endpos, obj.regs)


def _match_again(pattern: re.Pattern[Any], text: Any, start: int, end: int, regs: Any) -> re.Match[Any]:
    """The match at that place, found again: only `search` and the like can make one."""
    ways = (pattern.search, pattern.match, pattern.fullmatch)
    for place in (start, regs[0][0]):
        for way in ways:
            found = way(text, place, end)
            if found is not None and found.regs == regs:
                return found
    raise ValueError(f"{pattern.pattern!r} does not match again")


@reduces("tqdm.ObjectWrapper")
def _tqdm_wrapper(obj: Any) -> Reduced:
    """The wrapped stream of a bar: it looks up each attribute on that, also while it does not have it yet."""
    return _wrapper, (type(obj), vars(obj))


def _wrapper(kind: type, state: dict[str, Any]) -> Any:
    made: Any = object.__new__(kind)
    object.__getattribute__(made, "__dict__").update(state)
    return made


# -- files, generators and coroutines ---------------------------------------------------------------------------------


@reduces(io.TextIOWrapper, io.TextIOBase, io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
def _file(obj: Any) -> Reduced | None:
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        if obj is getattr(sys, name):
            return getattr, (sys, name)
    if isinstance(obj, io.TextIOBase) and not isinstance(obj, io.TextIOWrapper):  # StringIO and the like
        return None
    return reduced_file(obj)


@reduces(types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)
def _generator(obj: Any) -> Reduced:
    return reduced_generator(obj)


# -- what is finished: it arrives finished ----------------------------------------------------------------------------
# Cells leave such objects behind in names: `for thread in threads: thread.join()`. What is not finished yet is left to
# pickle, which refuses it.


@reduces(subprocess.Popen)
def _program(obj: Any) -> Reduced | None:
    if obj.returncode is None:
        return None
    state = {name: value for name, value in vars(obj).items() if name != "_waitpid_lock"}
    return _ended_program, (type(obj), state)


def _ended_program(kind: type[Any], state: dict[str, Any]) -> Any:
    program = object.__new__(kind)
    program.__dict__.update(state, _waitpid_lock=threading.Lock())
    return program


@reduces(threading.Thread)
def _thread(obj: threading.Thread) -> Reduced | None:
    if obj.ident is None or obj.is_alive():
        return None
    added = {name: value for name, value in vars(obj).items() if name not in _attributes_of_threads()}
    return _ended_thread, (type(obj), obj.name, obj.daemon, obj.ident, added)


@functools.cache
def _attributes_of_threads() -> frozenset[str]:
    return frozenset(vars(threading.Thread()))


def _ended_thread(
    kind: type[threading.Thread], name: str, daemon: bool, ident: int, added: dict[str, Any]
) -> threading.Thread:
    thread: Any = kind.__new__(kind)
    threading.Thread.__init__(thread, name=name, daemon=daemon)
    thread.run = _no_work  # each Python marks an ended thread in another way: so this one runs, and ends
    threading.Thread.start(thread)
    threading.Thread.join(thread)
    del thread.run
    thread.__dict__.update(added, _ident=ident)
    return thread  # type: ignore[no-any-return]


def _no_work() -> None:
    """The work of a thread that is to have ended."""


@reduces(concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor)
def _executor(obj: Any) -> Reduced | None:
    shut = getattr(obj, "_shutdown", False) or getattr(obj, "_shutdown_thread", False)
    return (_shut_executor, (type(obj), obj._max_workers)) if shut else None


def _shut_executor(kind: type[concurrent.futures.Executor], workers: int) -> concurrent.futures.Executor:
    executor = kind(workers)  # type: ignore[call-arg]
    executor.shutdown()
    return executor


@reduces(Pool, ThreadPool)
def _pool(obj: Any) -> Reduced | None:
    ended = obj._state == "TERMINATE" or (obj._state == "CLOSE" and not any(one.is_alive() for one in obj._pool))
    return (_ended_pool, (type(obj), obj._processes)) if ended else None


def _ended_pool(kind: type[Any], processes: int) -> Any:
    pool = object.__new__(kind)
    pool.__dict__.update(_state="TERMINATE", _pool=[], _processes=processes)
    return pool


@reduces(
    concurrent.futures.Future,
    # Written in C and in Python: nest_asyncio puts the latter in the place of the former.
    *(vars(asyncio.futures)[name] for name in ("_CFuture", "_PyFuture")),
    *(vars(asyncio.tasks)[name] for name in ("_CTask", "_PyTask")),
)
def _future(obj: Any) -> Reduced | None:
    if not obj.done():
        return None
    if obj.cancelled():
        return _done_future, (asyncio.isfuture(obj), "cancelled", None)
    error = obj.exception()
    how, value = ("result", obj.result()) if error is None else ("exception", error)
    return _done_future, (asyncio.isfuture(obj), how, value)


def _done_future(of_asyncio: bool, how: str, value: Any) -> Any:
    future: Any = asyncio.Future(loop=_loop_here()) if of_asyncio else concurrent.futures.Future()
    if how == "cancelled":
        future.cancel()
    elif how == "result":
        future.set_result(value)
    else:
        future.set_exception(value)
        future.exception()  # else asyncio logs that the exception was never retrieved
    return future


@reduces(asyncio.TaskGroup)
def _task_group(obj: Any) -> Reduced | None:
    return (_ended_group, ()) if obj._exiting and not obj._tasks else None


def _ended_group() -> Any:
    group: Any = asyncio.TaskGroup()
    group._entered = group._exiting = True
    return group
