"""Set the type of a dict or the globals of a function in place (CPython, ctypes).

Python has no operation for either: `__class__` of a plain dict and `__globals__` of a function are read-only. Both are
one pointer at a fixed place in the object's memory, and the interpreter reads it again at each use: `LOAD_GLOBAL`
checks at every execution that the globals are a plain dict, and a call takes the globals from the function.

What has to hold, because the interpreter cannot know of the change:

- A pointer that is written is counted as a reference first, and the one that it replaces is released afterwards. An
  exception between the two leaks one reference; nothing is freed too early.
- The new type of a dict must have a plain dict's memory layout: a subclass with empty `__slots__`.
- **A frame borrows its globals from its function**: it holds the function, not the dict. After `set_globals` the frames
  of earlier calls, suspended generators among them, still use the dict that the function had before. The
  caller of `set_globals` keeps that dict alive (see `borrowed_globals.py`).
- The frame of a generator is part of the generator. Where in it the globals are is found out by looking for them in
  generators made for that. A generator whose globals are not there, as expected, is left alone. The dict that it is
  given has to live for good, since the frame does not hold it.

`is_supported` tries the first two on objects of its own. It is False on other implementations of Python, on
free-threaded builds, where these writes would be data races, and with the JIT compiler, whose code no longer checks the
globals.
"""

from __future__ import annotations

import functools
import sys
import sysconfig
import types
from typing import Any, TypeGuard

__all__ = ["Generator", "has_globals", "is_generator", "is_supported", "keep_for_good", "set_generator_globals"]
__all__ += ["set_globals", "set_type"]

Generator = types.GeneratorType | types.CoroutineType | types.AsyncGeneratorType  # type: ignore[type-arg]
"""All that has a frame of its own, which it runs in steps."""

try:
    import ctypes

    _POINTER = ctypes.sizeof(ctypes.c_void_p)
    _increment, _decrement = ctypes.pythonapi.Py_IncRef, ctypes.pythonapi.Py_DecRef
    for _function in (_increment, _decrement):
        _function.argtypes, _function.restype = [ctypes.py_object], None
    _HAS_CTYPES = True
except (ImportError, AttributeError):  # a Python without ctypes, or one that is not CPython
    _HAS_CTYPES, _POINTER = False, 8

# An object begins with its reference count and its type; a function's globals follow.
_TYPE = _POINTER
_GLOBALS = 2 * _POINTER


def set_type(value: dict[str, Any], to: type[dict[str, Any]]) -> None:
    """Make a plain dict an instance of `to`, a subclass of the same layout."""
    if type(value) is not dict or to.__basicsize__ != dict.__basicsize__ or to.__dictoffset__ or to.__weakrefoffset__:
        raise TypeError(f"cannot make a {type(value).__name__} a {to.__name__} in place")
    _increment(to)
    _pointer(value, _TYPE).value = id(to)


def set_globals(function: types.FunctionType, to: dict[str, Any]) -> None:
    """Make `to` the globals of a function. The caller keeps the dict alive that it had before."""
    if type(function) is not types.FunctionType or not isinstance(to, dict):
        raise TypeError(f"cannot set the globals of a {type(function).__name__} to a {type(to).__name__}")
    before = function.__globals__
    _increment(to)
    _pointer(function, _GLOBALS).value = id(to)
    _decrement(before)


def is_generator(value: object) -> TypeGuard[Generator]:
    """Whether `set_generator_globals` is for such an object."""
    return id(type(value)) in _generator_offsets()


def has_globals(generator: Generator, names: dict[str, Any]) -> bool:
    """Whether the frame of a generator has `names` as globals."""
    return bool(_pointer(generator, _generator_offsets()[id(type(generator))]).value == id(names))


def set_generator_globals(generator: Generator, before: dict[str, Any], to: dict[str, Any]) -> None:
    """Replace the globals `before` of a generator by `to`. Both must live longer than it does."""
    if has_globals(generator, before):
        _pointer(generator, _generator_offsets()[id(type(generator))]).value = id(to)


def keep_for_good(value: object) -> None:
    """Never free an object, not even when the interpreter exits."""
    _increment(value)


def _pointer(value: object, offset: int) -> Any:
    return ctypes.c_void_p.from_address(id(value) + offset)


@functools.cache
def is_supported() -> bool:
    """Whether types of dicts and globals of functions can be replaced in this interpreter."""
    return _HAS_CTYPES and _is_plain_cpython() and _layout_is_as_expected() and _works()


def _is_plain_cpython() -> bool:
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    jit = getattr(sys, "_jit", None)  # since Python 3.14
    if jit is not None:
        return not jit.is_enabled()
    return "experimental-jit" not in (sysconfig.get_config_var("CONFIG_ARGS") or "")


_GENERATORS = """
def generator(a=1): yield value
async def coroutine(a=1, b=2): await wait
async def asynchronous(a=1, b=2, c=3): yield value
"""


@functools.cache
def _generator_offsets() -> dict[int, int]:
    """Return, by the id of each type, where its objects have their frames' globals; empty if unknown."""
    names: dict[str, Any] = {}
    exec(_GENERATORS, names)
    made = names["generator"](), names["coroutine"](), names["asynchronous"]()
    found = {id(type(generator)): _places(generator, id(names)) for generator in made}
    made[1].close()  # one that never ran would warn
    works = len(found) == 3 and all(len(places) == 1 for places in found.values()) and is_supported()
    offsets = {kind: places[0] for kind, places in found.items()} if works else {}
    return offsets if works and _generators_work(offsets[id(types.GeneratorType)]) else {}


def _places(value: object, pointer: int) -> list[int]:
    """The offsets at which an object has a pointer."""
    words = range(2 * _POINTER, value.__sizeof__() // _POINTER * _POINTER, _POINTER)
    return [offset for offset in words if _pointer(value, offset).value == pointer]


def _generators_work(offset: int) -> bool:
    first: dict[str, Any] = {"value": 1}
    second: dict[str, Any] = {"value": 2}
    exec(_PROBE_GENERATOR, first)
    generator = first["generator"]()
    found = [next(generator) for _ in range(100)]
    pointer = _pointer(generator, offset)
    pointer.value = id(second)
    found += [next(generator) for _ in range(100)]
    has_second = generator.gi_frame.f_globals is second
    pointer.value = id(first)
    return has_second and found == [1] * 100 + [2] * 100 and next(generator) == 1


_PROBE_GENERATOR = """
def generator():
    while True: yield value
"""


class _ProbeView(dict[str, Any]):
    __slots__ = ()
    below: dict[str, Any]

    def __missing__(self, name: str) -> Any:
        return self.below[name]


def _probe_type(below: dict[str, Any]) -> type[dict[str, Any]]:
    return type("_Probe", (_ProbeView,), {"__slots__": (), "below": below})


def _layout_is_as_expected() -> bool:
    """Read the two pointers, and write nothing."""
    probe: dict[str, Any] = {}
    function = types.FunctionType(_works.__code__, probe)
    return (
        function.__sizeof__() >= _GLOBALS + _POINTER
        and _pointer(probe, _TYPE).value == id(dict)
        and _pointer(function, _TYPE).value == id(types.FunctionType)
        and _pointer(function, _GLOBALS).value == id(probe)
    )


_PROBE = """
def read(): return value, len(items)
def write():
    global late
    late = value
def count():
    while True: yield value, len(items)
functions = [lambda: (value, len(items))]
counter = count()
for _ in range(100): read(), functions[0](), next(counter)
"""


def _works() -> bool:
    """Try both operations on a dict and its functions; check their lookups and reference counts."""
    below: dict[str, Any] = {"__name__": "probe", "items": [], "value": 1}
    names = dict(below)
    exec(_PROBE, names)
    read, write, left, counter = names["read"], names["write"], names["functions"][0], names["counter"]
    view = _probe_type(below)
    type_references = sys.getrefcount(view)
    set_type(names, view)
    for name in ("read", "write", "count", "functions", "counter", "_", "items", "value"):
        dict.pop(names, name)
    below["value"] = 2
    write()
    found = [call() for call in (read, left, counter.__next__)]
    dict_references = sys.getrefcount(names)
    set_globals(read, below)
    dict_references -= sys.getrefcount(names)
    below["items"] = ["more"]
    found += [call() for call in (read, left, counter.__next__) for _ in range(100)]
    late = dict.pop(names, "late", None)
    del names, write, left, counter
    return (
        found == [(2, 0)] * 3 + [(2, 1)] * 300
        and late == 2
        and dict_references == 1
        and sys.getrefcount(view) == type_references
        and read.__globals__ is below
    )
