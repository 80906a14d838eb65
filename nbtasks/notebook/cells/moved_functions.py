"""Functions of committed cells, moved to the notebook's dict to be fast.

A function that a cell defined is *moved*: its globals become the notebook's dict, so that it runs at the speed of the
foreground, and it stays the same object.
While a later background cell runs that binds a name which the function reads, the function has to see that cell's value
there, and the notebook's everywhere else. For that time it is *lent* to a view, which decides by context.
"""

from __future__ import annotations

import gc
import inspect
import types
import weakref
from collections import Counter, deque
from collections.abc import Collection, Iterable
from typing import Any

from nbtasks.notebook.cells.global_names import global_names
from nbtasks.notebook.cells.names_view import Names, NamesView
from nbtasks.notebook.cells.object_layout import (
    Generator,
    has_globals,
    is_generator,
    set_generator_globals,
    set_globals,
)

__all__ = ["Movable", "MovedFunctions", "code_of", "find_functions"]

Movable = types.FunctionType | Generator

_SEARCHED = 3_000
"""How many objects are searched for functions: about a millisecond."""
_LONG = 1_000
_AT_ONCE = 16
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_PRUNED_AT_LEAST = 1_000

_Reference = weakref.ref[Movable]
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def find_functions(roots: Iterable[Any], over: Names, wanted: int) -> list[Movable]:
    """The functions and generators with the globals `over` that can be reached from `roots`.

    The search ends when `wanted` functions are found and none of them makes generators. Modules, classes of other
    modules and long containers are not searched.
    """
    found: list[types.FunctionType] = []
    generators: list[Generator] = []
    level = {id(root): root for root in roots}  # an id is unique as long as its object lives
    seen: dict[int, Any] = {id(over): None, **level}
    left = _SEARCHED
    while level:
        functions = [one for one in level.values() if type(one) is types.FunctionType]
        found += [function for function in functions if function.__globals__ is over]
        generators += [one for one in level.values() if is_generator(one) and has_globals(one, over)]
        if left <= 0 or (len(found) >= wanted and not any(one.__code__.co_flags & _GENERATOR for one in found)):
            break
        for function in functions:  # a wrapper leads to what it wraps, and not to the module that it is of
            known: Any = function  # not every version of the type stubs knows `__builtins__`
            seen[id(known.__globals__)] = seen[id(known.__builtins__)] = None
        level = _next_level(level, over, seen, left)
        left -= len(level)
    return [*found, *generators]


def _next_level(level: dict[int, Any], over: Names, seen: dict[int, Any], left: int) -> dict[int, Any]:
    """Return new referents of a level's objects, add them to `seen`; not many more than `left`."""
    searched = [one for one in level.values() if _may_lead_to_functions(one, over)]
    following: dict[int, Any] = {}
    for start in range(0, len(searched), _AT_ONCE):
        if len(following) < left:
            referents = gc.get_referents(*searched[start : start + _AT_ONCE])
            new = {id(one): one for one in filter(gc.is_tracked, referents) if id(one) not in seen}
            seen |= new
            following |= new
    return following


def _may_lead_to_functions(value: Any, over: Names) -> bool:
    """Whether to search what the object refers to. Runs no code of the object or its class."""
    kind = type(value)
    if issubclass(kind, _CONTAINERS):
        base = next(base for base in _CONTAINERS if issubclass(kind, base))
        return bool(base.__len__(value) <= _LONG)
    if issubclass(kind, type):
        return bool(type.__getattribute__(value, "__module__") == dict.get(over, "__name__"))
    return kind is not types.CodeType and not issubclass(kind, types.ModuleType)


def code_of(movable: Movable) -> types.CodeType:
    """The code of a function or generator."""
    if isinstance(movable, types.FunctionType):
        return movable.__code__
    if isinstance(movable, types.GeneratorType):
        return movable.gi_code
    return movable.cr_code if isinstance(movable, types.CoroutineType) else movable.ag_code


class MovedFunctions:
    """Functions moved to the dict `notebook`, by the names that they read.

    The caller's lock guards them.
    """

    def __init__(self, notebook: Names, view: NamesView) -> None:
        self._notebook = notebook
        self._view = view
        self._functions: list[_Reference] = []
        self._readers: dict[str, list[_Reference]] = {}
        self._prune_at = _PRUNED_AT_LEAST
        self._claims: Counter[str] = Counter()
        self._any_claimed = 0

    def move(self, function: types.FunctionType) -> None:
        """Move a function that only its name refers to: no cell can need it on a view."""
        set_globals(function, self._notebook)

    def move_lendable(self, function: Movable, before: Names) -> None:
        """Move a function or generator from `before`, except while a cell claims a name that it reads."""
        if len(self._functions) >= self._prune_at:
            self._prune()
        reference = weakref.ref(function)
        self._functions.append(reference)
        for name in global_names(code_of(function)).reads:
            self._readers.setdefault(name, []).append(reference)
        if not isinstance(function, types.FunctionType):
            set_generator_globals(function, before, self._notebook)
        self._place(function)

    def claim(self, names: Collection[str], *, any_name: bool) -> None:
        """Put functions on the view while a cell runs that binds `names`, or that may bind any name."""
        self._any_claimed += any_name
        self._claims.update(names)
        self._place_readers(names, any_name)

    def release(self, names: Collection[str], *, any_name: bool) -> None:
        """End the claim of a cell that has committed its names, or that failed."""
        self._any_claimed -= any_name
        self._claims.subtract(names)
        self._claims = +self._claims
        self._place_readers(names, any_name)

    def _place_readers(self, names: Iterable[str], any_name: bool) -> None:
        if any_name:
            self._placed(self._functions)  # `_prune` alone shortens this list: its length says when all are pruned
        for name in self._readers.keys() & names:
            self._readers[name] = self._placed(self._readers[name])

    def _placed(self, references: list[_Reference]) -> list[_Reference]:
        """Set the globals of the functions that are alive; return their references."""
        alive = [(reference, function) for reference in references if (function := reference()) is not None]
        for _, function in alive:
            self._place(function)
        return [reference for reference, _ in alive]

    def _place(self, function: Movable) -> None:
        before, to = (self._notebook, self._view) if self._is_claimed(function) else (self._view, self._notebook)
        if not isinstance(function, types.FunctionType):
            set_generator_globals(function, before, to)
        elif function.__globals__ is not to:
            set_globals(function, to)

    def _is_claimed(self, function: Movable) -> bool:
        if not self._claims:  # without a look at the code
            return self._any_claimed > 0
        return self._any_claimed > 0 or not global_names(code_of(function)).reads.isdisjoint(self._claims)

    def _prune(self) -> None:
        """Forget the functions that are gone."""
        self._functions = [reference for reference in self._functions if reference() is not None]
        for name, readers in list(self._readers.items()):
            readers[:] = [reference for reference in readers if reference() is not None]
            if not readers:
                del self._readers[name]
        self._prune_at = _PRUNED_AT_LEAST + 2 * len(self._functions)
