"""Pickling of generators and coroutines that have not begun, or have ended.

One that has not begun is its function and the arguments. One that comes back is the same object, ended if it is.
"""

from __future__ import annotations

import contextlib
import dis
import gc
import os
import types
import uuid
import weakref
from collections.abc import Callable
from typing import Any

from nbtasks.workers.partial_unpickling import NotRebuiltError

__all__ = ["reduced_generator"]

_generators: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""Those that were sent or have arrived, by their mark."""
_marks: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_arrived: weakref.WeakSet[Any] = weakref.WeakSet()
_begun_elsewhere: weakref.WeakSet[Any] = weakref.WeakSet()
"""Those of this process that have begun in another one, which has ended: to begin again would be wrong."""


def reduced_generator(obj: Any) -> tuple[Any, ...]:
    """How to rebuild a generator or coroutine. Raises TypeError if it has begun and not ended."""
    mark = _marks.setdefault(obj, uuid.uuid4().hex)
    _generators[mark] = obj
    names = obj.__name__, obj.__qualname__
    frame = _frame(obj)
    if frame is None:
        return _ended, (mark, names, type(obj).__name__)
    if obj in _begun_elsewhere:
        raise TypeError(f"the {type(obj).__name__} has begun in a worker process, and stayed behind there")
    if not _is_unbegun(obj, frame):
        if obj in _arrived:  # where it came from, it has not begun
            return _begun, (mark, type(obj).__name__, os.getpid())
        raise TypeError(f"cannot pickle a {type(obj).__name__} that has begun")
    function = next(one for one in gc.get_referents(obj) if getattr(one, "__code__", None) is frame.f_code)
    return _unbegun, (mark, names, function, *_arguments(frame))


def _frame(obj: Any) -> types.FrameType | None:
    frame: types.FrameType | None
    frame = next(getattr(obj, name) for name in ("gi_frame", "cr_frame", "ag_frame") if hasattr(obj, name))
    return frame


def _is_unbegun(obj: Any, frame: types.FrameType) -> bool:
    kind = {types.GeneratorType: "gi", types.CoroutineType: "cr", types.AsyncGeneratorType: "ag"}[type(obj)]
    if getattr(obj, f"{kind}_running"):
        return False
    if hasattr(obj, f"{kind}_suspended"):
        return not getattr(obj, f"{kind}_suspended")
    return frame.f_code.co_code[frame.f_lasti] == dis.opmap["RETURN_GENERATOR"]  # async generators before Python 3.12


def _arguments(frame: types.FrameType) -> tuple[list[Any], dict[str, Any]]:
    code, values = frame.f_code, frame.f_locals
    positional, named = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    args = [values[name] for name in code.co_varnames[:positional]]
    kwargs = {name: values[name] for name in code.co_varnames[positional:named]}
    if code.co_flags & 0x04:  # CO_VARARGS
        args += values[code.co_varnames[named]]
        named += 1
    if code.co_flags & 0x08:  # CO_VARKEYWORDS
        kwargs |= values[code.co_varnames[named]]
    return args, kwargs


def _unbegun(
    mark: str, names: tuple[str, str], function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Any:
    made = _generators.get(mark)
    if made is None:
        made = _named(mark, names, function(*args, **kwargs))
        _arrived.add(made)
    return made


def _begun(mark: str, kind: str, process: int) -> Any:
    found = _generators.get(mark)
    if process == os.getpid():  # on trial, before it is sent back
        return found
    frame = None if found is None else _frame(found)
    in_both = found is not None and (frame is None or not _is_unbegun(found, frame))
    if found is not None and not in_both:
        _begun_elsewhere.add(found)
    raise NotRebuiltError(kind, f"cannot pickle a {kind} that has begun", in_both=in_both)


def _named(mark: str, names: tuple[str, str], made: Any) -> Any:
    made.__name__, made.__qualname__ = names
    _generators[mark], _marks[made] = made, mark
    return made


def _ended(mark: str, names: tuple[str, str], kind: str) -> Any:
    found = _generators.get(mark)
    frame = None if found is None else _frame(found)
    if frame is not None and not _is_unbegun(found, frame):
        raise NotRebuiltError(kind, f"{names[1]} was used in both processes at the same time", in_both=True)
    if found is None:
        found = _named(mark, names, _EMPTY[kind]())
    if kind == "async_generator":
        with contextlib.suppress(StopIteration):
            found.aclose().send(None)
    else:
        found.close()
    return found


async def _empty_coroutine() -> None:
    """A coroutine that is closed before it has begun."""


def _empty_generator() -> Any:
    yield from ()


async def _empty_async_generator() -> Any:
    return
    yield


_EMPTY: dict[str, Callable[[], Any]] = {
    "coroutine": _empty_coroutine,
    "generator": _empty_generator,
    "async_generator": _empty_async_generator,
}
