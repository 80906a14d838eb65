"""Functions of committed cells, moved to the notebook's dict to be fast.

A function that a cell defined is *moved*: its globals become the notebook's dict, so that it runs at the speed of the
foreground, and it stays the same object.
While a later background cell runs that binds a name which the function reads, the function has to see that cell's value
there, and the notebook's everywhere else. For that time it is *lent* to a view, which decides by context.
"""

from __future__ import annotations

import gc
import types
import weakref
from collections import Counter, deque
from collections.abc import Collection, Iterable
from typing import Any

from nbtasks.notebook.cells.global_names import global_names
from nbtasks.notebook.cells.names_view import Names, NamesView
from nbtasks.notebook.cells.object_layout import set_globals

__all__ = ["MovedFunctions", "find_functions"]

_SEARCHED = 3_000
"""How many objects are searched for functions: about a millisecond."""
_LONG = 1_000
_AT_ONCE = 16
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_PRUNED_AT_LEAST = 1_000

_Reference = weakref.ref[types.FunctionType]


def find_functions(roots: Iterable[Any], over: Names, wanted: int) -> list[types.FunctionType]:
    """The functions with the globals `over` that can be reached from `roots`, until `wanted` are found.

    Modules, classes of other modules and long containers are not searched.
    """
    found: list[types.FunctionType] = []
    level = {id(root): root for root in roots}  # an id is unique as long as its object lives
    seen: dict[int, Any] = {id(over): None, **level}
    left = _SEARCHED
    while level:
        functions = [one for one in level.values() if type(one) is types.FunctionType]
        found += [function for function in functions if function.__globals__ is over]
        if len(found) >= wanted or left <= 0:
            break
        for function in functions:  # a wrapper leads to what it wraps, and not to the module that it is of
            seen[id(function.__globals__)] = seen[id(function.__builtins__)] = None
        searched = [one for one in level.values() if _may_lead_to_functions(one, over)]
        level = {}
        for start in range(0, len(searched), _AT_ONCE):
            if left > 0:
                referents = gc.get_referents(*searched[start : start + _AT_ONCE])
                new = {id(one): one for one in filter(gc.is_tracked, referents) if id(one) not in seen}
                seen |= new
                level |= new
                left -= len(new) + _AT_ONCE
    return found


def _may_lead_to_functions(value: Any, over: Names) -> bool:
    """Whether the search goes on from here. It must not run code of the object or of its class."""
    kind = type(value)
    if issubclass(kind, _CONTAINERS):
        base = next(base for base in _CONTAINERS if issubclass(kind, base))
        return bool(base.__len__(value) <= _LONG)
    if issubclass(kind, type):
        return bool(type.__getattribute__(value, "__module__") == dict.get(over, "__name__"))
    return kind is not types.CodeType and not issubclass(kind, types.ModuleType)


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

    def move_lendable(self, function: types.FunctionType) -> None:
        """Move a function, except while a cell claims a name that it reads."""
        if len(self._functions) >= self._prune_at:
            self._prune()
        reference = weakref.ref(function)
        self._functions.append(reference)
        for name in global_names(function.__code__).reads:
            self._readers.setdefault(name, []).append(reference)
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
            self._functions = self._placed(self._functions)
        for name in self._readers.keys() & names:
            self._readers[name] = self._placed(self._readers[name])

    def _placed(self, references: list[_Reference]) -> list[_Reference]:
        """Set the globals of the functions that are alive; return their references."""
        alive = [(reference, function) for reference in references if (function := reference()) is not None]
        for _, function in alive:
            self._place(function)
        return [reference for reference, _ in alive]

    def _place(self, function: types.FunctionType) -> None:
        claimed = self._any_claimed or not global_names(function.__code__).reads.isdisjoint(self._claims)
        globals_ = self._view if claimed else self._notebook
        if function.__globals__ is not globals_:
            set_globals(function, globals_)

    def _prune(self) -> None:
        """Forget the functions that are gone."""
        self._functions = [reference for reference in self._functions if reference() is not None]
        for name, readers in list(self._readers.items()):
            readers[:] = [reference for reference in readers if reference() is not None]
            if not readers:
                del self._readers[name]
        self._prune_at = _PRUNED_AT_LEAST + 2 * len(self._functions)
