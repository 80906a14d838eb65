"""Rebuild functions over other globals: the notebook's, or a running cell's."""

from __future__ import annotations

import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from nbtasks.notebook.cells.global_names import global_names

__all__ = ["for_running_cell", "is_unshared", "rebuild_unshared"]

Names = dict[str, Any]


def rebuild_unshared(bound: Names, layer: Names, over: Names) -> None:
    """Rebuild the functions that only their name refers to, over the dict `over`.

    They are then as fast as functions defined there. A function that other objects refer to stays the same object,
    over its layer. Nothing but `bound` and `layer` may hold the functions when this is called.
    """
    for name in bound:
        value = bound[name]
        is_own = type(value) is types.FunctionType and value.__globals__ is layer
        del value
        if is_own and is_unshared(name, bound, layer):
            bound[name] = _over(bound[name], over)
            dict.__setitem__(layer, name, bound[name])


def for_running_cell(names: Names, binds: Iterable[str], is_notebooks: Callable[[Any], bool]) -> tuple[Names, set[str]]:
    """Rebuild the functions among `names` that are replaced while a cell runs, over `names`.

    A function of another cell looks its names up in the notebook. Where it reads one that the running cell `binds`, or
    binds one itself by `global`, or may do either with `eval`, or calls such a function, or reads what such a function
    binds, the two would miss each other's values. `is_notebooks` returns whether globals of a function are the
    notebook's. The second result are all names with other values while the cell runs: those that it binds, and those
    that the replaced functions have and bind.
    """
    functions = {
        name: value
        for name, value in dict.items(names)
        if type(value) is types.FunctionType and is_notebooks(value.__globals__)
    }
    changed = set(binds)
    found: set[str] = set()
    more = True
    while more:
        affected = {name for name in functions.keys() - found if _concerns(functions[name], changed)}
        found |= affected
        changed |= affected.union(*(_bound_by(functions[name]) for name in affected))
        more = bool(affected)
    rebuilt: dict[int, types.FunctionType] = {}
    return {name: _over_with_inner(functions[name], names, changed, rebuilt) for name in found}, changed


def is_unshared(name: str, *holders: Mapping[str, Any]) -> bool:
    """Whether only the dicts `holders` refer to the value that each of them has under `name`."""
    return _references(holders[0], name) == _ONLY_ITS_NAME + len(holders) - 2


def _concerns(function: types.FunctionType, changed: set[str]) -> bool:
    found = (global_names(inner.__code__) for inner in _with_inner(function))
    return any(names.binds or names.may_read_any or not changed.isdisjoint(names.mentions) for names in found)


def _bound_by(function: types.FunctionType) -> frozenset[str]:
    """The names that a function, or one that its closure holds, binds by `global`."""
    return frozenset().union(*(global_names(inner.__code__).binds for inner in _with_inner(function)))


def _with_inner(function: types.FunctionType, seen: set[int] | None = None) -> Iterator[types.FunctionType]:
    """Yield a function, the one that evaluates its annotations, and those that its closure holds."""
    seen = set() if seen is None else seen
    seen.add(id(function))
    yield function
    annotate = _own_annotate(function)
    if annotate is not None:
        yield annotate
    for inner in _enclosed(function).values():
        if id(inner) not in seen:
            yield from _with_inner(inner, seen)


def _enclosed(function: types.FunctionType) -> dict[int, types.FunctionType]:
    """The functions of the same globals in its closure, by the number of their cell."""
    found = {}
    for number, cell in enumerate(function.__closure__ or ()):
        try:
            value = cell.cell_contents
        except ValueError:  # not bound yet, or not any more
            continue
        if type(value) is types.FunctionType and value.__globals__ is function.__globals__:
            found[number] = value
    return found


def _over_with_inner(
    function: types.FunctionType, names: Names, changed: set[str], rebuilt: dict[int, types.FunctionType]
) -> types.FunctionType:
    """Rebuild a function and the affected ones in its closure over `names`; `rebuilt` has them by id."""
    if id(function) in rebuilt:
        return rebuilt[id(function)]
    inner = {number: value for number, value in _enclosed(function).items() if _concerns(value, changed)}
    cells = list(function.__closure__ or ())
    for number in inner:
        cells[number] = types.CellType()
    made = rebuilt[id(function)] = _over(function, names, tuple(cells))
    for number, value in inner.items():
        cells[number].cell_contents = _over_with_inner(value, names, changed, rebuilt)
    # An attribute set on one is set on the other: a function's attributes are its state.
    made.__dict__ = function.__dict__
    return made


def _over(function: types.FunctionType, names: Names, closure: tuple[types.CellType, ...] = ()) -> types.FunctionType:
    rebuilt = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, closure or function.__closure__
    )
    rebuilt.__kwdefaults__ = function.__kwdefaults__
    rebuilt.__qualname__ = function.__qualname__
    rebuilt.__doc__ = function.__doc__
    rebuilt.__module__ = function.__module__
    _copy_annotations(function, rebuilt)
    rebuilt.__dict__.update(function.__dict__)
    if sys.version_info >= (3, 12):
        rebuilt.__type_params__ = function.__type_params__
    return rebuilt


def _copy_annotations(function: types.FunctionType, rebuilt: types.FunctionType) -> None:
    """Copy annotations unevaluated where that is deferred (Python 3.14), as their names may not exist yet."""
    own = _own_annotate(function)
    if own is not None:
        rebuilt.__annotate__ = _over(own, rebuilt.__globals__)  # type: ignore[attr-defined]
    elif getattr(function, "__annotate__", None) is not None:
        rebuilt.__annotate__ = function.__annotate__  # type: ignore[attr-defined]
    else:
        rebuilt.__annotations__ = function.__annotations__


def _own_annotate(function: types.FunctionType) -> types.FunctionType | None:
    """Return the function that evaluates the annotations (Python 3.14), if it has the same globals."""
    annotate = getattr(function, "__annotate__", None)
    if type(annotate) is types.FunctionType and annotate.__globals__ is function.__globals__:
        return annotate
    return None


def _references(bound: Mapping[str, Any], name: str) -> int:
    return sys.getrefcount(bound[name]) + weakref.getweakrefcount(bound[name])


def _only_its_name() -> int:
    """Measure the count for a function that only a layer and `bound` hold: it depends on the interpreter."""
    layer: dict[str, Any] = {}
    exec("def probe(): pass", layer)
    return _references({"probe": layer["probe"]}, "probe")


_ONLY_ITS_NAME = _only_its_name()
