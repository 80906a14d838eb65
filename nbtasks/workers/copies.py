"""How to make anew, on the other side, what pickle takes for something else or cannot take apart by itself.

Used by parcels only. Must not know what is sent. Classes of `__main__` are those of the notebook.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import io
import logging
import re
import sys
import types
import uuid
import weakref
from collections.abc import Callable
from typing import Any

from cloudpickle.cloudpickle import _make_skeleton_class

from nbtasks.workers.remains import Reduced, loop_here, rule_for
from nbtasks.workers.texts import texts_reduced

__all__ = ["add_rule", "made_quietly", "reduced_specially"]

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
    functools._lru_cache_wrapper: _lru_cache,
    functools.cached_property: _property,
    logging.Handler: _marked,
    asyncio.AbstractEventLoop: _loop,
    io.TextIOBase: _stream,
}
