"""Globals of cells: a plain dict while the cell runs, a view afterwards.

`ExactGlobals` is used where it is supported. A cell runs in a *plain dict*, a copy of the notebook's names, because
CPython's fast paths for globals and builtins are for plain dicts only. The life of that dict:

1. While the cell runs it is a plain dict, and each function that the cell defines has it as its globals.
2. At the end of the attempt it *becomes a view* (`names_view.py`) in place: its type pointer is set, once, and its
   content is reduced to the names that the cell has bound. All code that still uses it, in any thread, finds the
   notebook's live names from the next lookup on. It stays a view.
3. At the commit, functions and generators that can be found from the bound names are *moved* (`moved_functions.py`):
   their globals become the notebook's own dict, and they stay the same objects. The names that the cell has bound are
   removed from the view. What is not found, or must not be moved, keeps the view: it is correct, but slower.
4. A view that has lost a function is kept alive as long as a frame may use it (`borrowed_globals.py`).
5. At each boundary, views that are still referenced are searched for names bound by `global`.

A function is not moved if it, or code within it, binds globals (they are committed at a boundary, not while a
foreground cell runs), reads a name that code of its cell binds by `global`, or calls `eval`, `exec` or `globals`, which
may read any name. A function that only its name refers to is always moved, as no other code relies on its view.

`LayeredGlobals` is used where `object_layout` is not supported: the dict is a subclass of dict from the start, and
functions that only their name refers to are rebuilt over the notebook's dict.
"""

from __future__ import annotations

import abc
import builtins
import operator
import os
import sys
import types
import weakref
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from nbtasks.notebook.cells.borrowed_globals import BorrowedGlobals
from nbtasks.notebook.cells.global_names import GlobalNames, global_names
from nbtasks.notebook.cells.moved_functions import Movable, MovedFunctions, code_of, find_functions
from nbtasks.notebook.cells.names_view import KEPT_IN_VIEW, Names, NamesView
from nbtasks.notebook.cells.object_layout import is_supported, keep_for_good, set_type
from nbtasks.notebook.cells.rebind import is_unshared, rebuild_unshared
from nbtasks.notebook.patches.main_module import Scope

__all__ = ["CellGlobals", "ExactGlobals", "Layer", "LayeredGlobals", "globals_for"]


def globals_for(notebook: Names) -> CellGlobals:
    """Return the `CellGlobals` for a notebook's dict: exact ones where they are supported."""
    if os.environ.get("NBTASKS_EXACT_GLOBALS") == "0" or not is_supported():
        return LayeredGlobals(notebook)
    return ExactGlobals(notebook)


class CellGlobals(abc.ABC):
    """Makes the dicts in which cells run. The caller's lock guards it."""

    @abc.abstractmethod
    def open(self, names: Names) -> Scope:
        """Return a new dict for a cell, a copy of `names`."""

    @abc.abstractmethod
    def end(self, scope: Scope, bound: Names) -> None:
        """Make the dict a view that itself has only the names that the cell has bound."""

    @abc.abstractmethod
    def functions_to_move(self, scope: Scope, bound: Names, bound_later: Collection[str]) -> list[tuple[Movable, bool]]:
        """Return the functions to move at a commit, each with whether more than its name refers to it.

        `bound_later` are names that functions of the cell bind by `global`.
        """

    @abc.abstractmethod
    def move(self, functions: list[tuple[Movable, bool]], scope: Scope) -> None:
        """Set the globals of the functions to the notebook's own dict."""

    @abc.abstractmethod
    def watch(self, scope: Scope) -> None:
        """Add the dict to the `views`, as long as it is referenced."""

    @abc.abstractmethod
    def views(self) -> list[Names]:
        """Return the dicts of committed cells in which their code may still bind names."""

    @abc.abstractmethod
    def claim(self, names: Collection[str], *, any_name: bool) -> None:
        """A cell begins that binds `names`, or that may bind any name."""

    @abc.abstractmethod
    def release(self, names: Collection[str], *, any_name: bool) -> None:
        """End the claim of a cell that has committed its names, or that failed."""


class ExactGlobals(CellGlobals):
    """Runs cells in plain dicts, at full speed. Needs `object_layout`."""

    def __init__(self, notebook: Names) -> None:
        self._notebook = notebook
        self._view = type("NamesView", (NamesView,), {"__slots__": (), "__doc__": NamesView.__doc__, "below": notebook})
        shared_view = self._view({name: notebook[name] for name in KEPT_IN_VIEW if name in notebook})
        keep_for_good(shared_view)  # frames of lent functions borrow it
        self._moved = MovedFunctions(notebook, shared_view)
        self._views: list[Names] = []

    def open(self, names: Names) -> Scope:
        """A plain dict."""
        scope = Scope(dict(names))
        scope.references = _references(scope)
        return scope

    def end(self, scope: Scope, bound: Names) -> None:
        """Make the dict a view by setting its type."""
        names = scope.names
        content = {name: names[name] for name in KEPT_IN_VIEW if name in names} | bound
        set_type(names, self._view)
        values = list(dict.values(names))
        # Within one call of C code that frees no value, so that other threads of the cell find the bound names at any
        # time.
        list(map(operator.call, (partial(dict.clear, names), partial(dict.update, names, content))))
        del values

    def functions_to_move(self, scope: Scope, bound: Names, bound_later: Collection[str]) -> list[tuple[Movable, bool]]:
        """Return the functions that may be moved. No variable of a caller may hold one of them or the dict."""
        wanted = _references(scope) - scope.references
        unshared = _unshared_functions(bound, scope.names)
        found = find_functions(bound.values(), scope.names, wanted)
        uses = {id(function): global_names(code_of(function)) for function in found}
        later = set(bound_later).union(*(use.binds for key, use in uses.items() if key not in unshared))
        own_builtins = _builtins_of(self._notebook)
        return [
            (function, id(function) not in unshared)
            for function in found
            if getattr(function, "__builtins__", own_builtins) is own_builtins  # a generator has none
            and (id(function) in unshared or _may_move(uses[id(function)], later))
        ]

    def move(self, functions: list[tuple[Movable, bool]], scope: Scope) -> None:
        """Set the functions' globals; the view stays alive for frames of their earlier calls."""
        if not functions:
            return
        with _BORROWED.keep(scope.names):
            for function, is_shared in functions:
                if isinstance(function, types.FunctionType) and not is_shared:
                    self._moved.move(function)
                else:
                    self._moved.move_lendable(function, scope.names)

    def watch(self, scope: Scope) -> None:
        """A dict has no weak references, so it is held, and dropped by `views` when nothing else holds it."""
        self._views.append(scope.names)

    def views(self) -> list[Names]:
        """Return the views that are referenced by more than our own lists."""
        views = self._views
        for index in reversed(range(len(views))):
            if _references_in(views, index) <= _ONLY_IN_LIST + (views[index] in _BORROWED):
                del views[index]
        return list(views)

    def claim(self, names: Collection[str], *, any_name: bool) -> None:
        """Put the moved functions that read one of the names on a view."""
        self._moved.claim(names, any_name=any_name)

    def release(self, names: Collection[str], *, any_name: bool) -> None:
        """Move these functions back to the notebook's own dict."""
        self._moved.release(names, any_name=any_name)


class Layer(dict[str, Any]):
    """Globals of a running cell, as a dict whose class can be changed."""

    __slots__ = ("__weakref__", "below")
    below: Names


class LayerView(NamesView, Layer):
    """A layer whose cell has ended."""

    __slots__ = ()


class LayeredGlobals(CellGlobals):
    """Runs cells in dicts of a subclass, `Layer`: slower, above all in functions."""

    def __init__(self, notebook: Names) -> None:
        self._notebook = notebook
        self._layers: list[weakref.ref[Names]] = []

    def open(self, names: Names) -> Scope:
        """A layer."""
        return Scope(Layer(names))

    def end(self, scope: Scope, bound: Names) -> None:
        """Make the layer a view by setting its class."""
        layer = scope.names
        assert isinstance(layer, Layer)
        layer.below = self._notebook
        layer.__class__ = LayerView
        for name in list(dict.keys(layer)):
            if name not in bound and name not in KEPT_IN_VIEW:
                dict.pop(layer, name, None)

    def functions_to_move(
        self,
        scope: Scope,
        bound: Names,
        bound_later: Collection[str],  # noqa: ARG002 - nothing is moved
    ) -> list[tuple[Movable, bool]]:
        """Rebuild functions that only their name refers to; move none."""
        rebuild_unshared(bound, scope.names, self._notebook)
        return []

    def move(self, functions: list[tuple[Movable, bool]], scope: Scope) -> None:
        """Do nothing: the functions were rebuilt."""

    def watch(self, scope: Scope) -> None:
        """Hold a weak reference."""
        self._layers.append(weakref.ref(scope.names))

    def views(self) -> list[Names]:
        """Those that are alive."""
        alive = [(reference, layer) for reference in self._layers if (layer := reference()) is not None]
        self._layers = [reference for reference, _ in alive]
        return [layer for _, layer in alive]

    def claim(self, names: Collection[str], *, any_name: bool) -> None:
        """Do nothing: every view looks names up by context."""

    def release(self, names: Collection[str], *, any_name: bool) -> None:
        """Do nothing, as `claim` does."""


def _may_move(use: GlobalNames, bound_later: Collection[str]) -> bool:
    return not use.binds and use.reads.isdisjoint(bound_later) and not use.may_read_any


def _unshared_functions(bound: Names, globals_: Names) -> set[int]:
    """Return the ids of functions that only their name in `bound` and in the globals refers to."""
    names = [n for n, value in bound.items() if type(value) is types.FunctionType and value.__globals__ is globals_]
    return {id(bound[name]) for name in names if is_unshared(name, bound, globals_)}


def _builtins_of(names: Mapping[str, Any]) -> Any:
    found = names.get("__builtins__", builtins)
    return found if isinstance(found, dict) else vars(found)


# A count of references is compared only with one that was measured in the very same code: versions of Python differ in
# what they count.


def _references(scope: Scope) -> int:
    return sys.getrefcount(scope.names)


def _references_in(views: list[Names], index: int) -> int:
    return sys.getrefcount(views[index])


_ONLY_IN_LIST = _references_in([{}], 0)

_BORROWED = BorrowedGlobals()
if is_supported():
    keep_for_good(_BORROWED)
