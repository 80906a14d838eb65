"""Names of background cells: snapshot of the notebook's, and commit to it.

`NotebookNames` is called when foreground cells begin and end: these are the boundaries at which names are committed.
`cell_globals.py` makes the dicts in which cells run.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbtasks.notebook.cells.cell_globals import CellGlobals, Layer, globals_for
from nbtasks.notebook.cells.foreground import Foreground
from nbtasks.notebook.cells.held_names import HeldNames, Value
from nbtasks.notebook.cells.names_view import KEPT_IN_VIEW, Names, NamesView, own_names
from nbtasks.notebook.cells.rebind import for_running_cell, is_unshared
from nbtasks.notebook.patches.main_module import Scope

logger = logging.getLogger("nbtasks")

__all__ = ["CellNames", "NotebookNames"]


class _Absent:
    def __repr__(self) -> str:
        return "<no such name>"


_ABSENT: Any = _Absent()

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_SMALL = 1_000
"""Bytes of a plain value that is kept after the commit, whatever the notebook does with it."""


@dataclass(eq=False)
class CellNames:
    """The names of one attempt of one cell.

    After `NotebookNames.end` the attribute `bound` has what the cell bound, by name. After the commit it holds only
    small values, and those that the notebook did not take: the others are freed when the notebook drops them.
    """

    scope: Scope
    """Holds the dict in which the cell runs, for its context."""
    binds: frozenset[str] = frozenset()
    """The names with other values in the cell than in the notebook, as far as is known when it begins."""
    binds_later: frozenset[str] = frozenset()
    """The names that functions of the cell bind by `global`."""
    binds_any: bool = False
    """Whether it may bind any name."""
    bound: dict[str, Any] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    """Names that kept the notebook's value at commit, because the notebook rebound them meanwhile."""
    on_kept: Callable[[tuple[str, ...]], None] | None = None
    on_commit: Callable[[], None] | None = None
    """Called with the commit, at the same boundary."""
    _snapshot: dict[str, Any] = field(default_factory=dict)
    # What tasks committed since the snapshot was taken: for these names the notebook's value is expected to be this.
    _rebased: dict[str, Any] = field(default_factory=dict)
    # Functions of other cells that are replaced while this cell runs (see `for_running_cell`).
    _stand_ins: dict[str, Any] = field(default_factory=dict)
    # Until the commit: every changed name, and its value in the notebook if no other code changed it.
    _to_commit: dict[str, Any] = field(default_factory=dict)

    @property
    def globals(self) -> Names:
        """The dict that the cell runs in."""
        return self.scope.names

    def current(self) -> dict[str, Any]:
        """Return the names bound so far, without those whose values the notebook has dropped."""
        if not isinstance(self.globals, NamesView):
            return self._changed()[0]
        live, found = self.globals.below, {}
        for name, value in list(self.bound.items()):
            current = live.get(name, _ABSENT)
            if type(value) is not Value:
                found[name] = value
            elif value.is_it(current):
                found[name] = current
        return found

    def let_go(self, live: Mapping[str, Any]) -> bool:
        """After the commit, leave values to the notebook; True if it has not dropped all of them."""
        for name, value in list(self.bound.items()):
            current = live.get(name, _ABSENT)
            if type(value) is Value:
                if not value.is_it(current):
                    del self.bound[name]
            elif current is value and not (type(value) in _PLAIN and sys.getsizeof(value) <= _SMALL):
                self.bound[name] = Value(value)
        return any(type(value) is Value for value in self.bound.values())

    def _expected(self, name: str) -> Any:
        if name in self._rebased:
            return self._rebased[name]
        return self._snapshot.get(name, _ABSENT)

    def _changed(self) -> tuple[dict[str, Any], set[str]]:
        """Return the names bound since the snapshot, with their values, and the deleted names."""
        names, snapshot = own_names(self.globals), self._snapshot
        bound = {name: value for name, value in names.items() if snapshot.get(name, _ABSENT) is not value}
        return bound, snapshot.keys() - names.keys()

    def _stand_in(self, functions: Mapping[str, Any]) -> None:
        """Replace functions of the notebook while the cell runs."""
        for name, function in functions.items():
            self._rebased.setdefault(name, self._snapshot[name])
            self._snapshot[name] = self._stand_ins[name] = function
            dict.__setitem__(self.globals, name, function)

    def _keep_shared_stand_ins(self) -> None:
        """Bind a replaced function to its name for good if other objects refer to it."""
        for name in self._stand_ins:
            if dict.get(self.globals, name) is not self._stand_ins[name]:
                continue
            if not is_unshared(name, self.globals, self._snapshot, self._stand_ins):
                self._snapshot.pop(name)
        self._stand_ins = {}


class NotebookNames:
    """The notebook's namespace, as background cells read and write it.

    The lock of `foreground`, which is re-entrant (a destructor may run any code), guards the open attempts, the waiting
    commits, whether a foreground cell runs, and every write of a commit to the notebook's dict. Any thread may call any
    method.
    """

    def __init__(
        self, names: Names, cell_globals: CellGlobals | None = None, foreground: Foreground | None = None
    ) -> None:
        self._names = names
        self._globals = cell_globals or globals_for(names)
        self._foreground = foreground or Foreground()
        self._lock = self._foreground.lock
        self._open: list[CellNames] = []
        self._waiting: list[CellNames] = []
        self._committed: weakref.WeakSet[CellNames] = weakref.WeakSet()
        """Those with values that the notebook may drop."""
        self.held = HeldNames()
        """The names whose objects are in worker processes."""

    def note_stayed(self, name: str, kind: str, why: str) -> None:
        """Note that an object of that class stayed behind in a worker process that has ended, and why."""
        self.held.explain(name, kind, f"it stayed behind in the worker process of an earlier cell: {why}")

    def stayed_behind(self, name: str | None) -> tuple[str, str] | None:
        """The class of the object that would have that unbound name, and why it has not."""
        return None if name is None or name in self._names else self.held.explained.get(name)

    def upcoming(self) -> dict[str, Any]:
        """The names with which a cell would begin now, waiting commits included."""
        with self._lock:
            return self._snapshot()[0]

    def _snapshot(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The names as they are now, waiting commits included, and those of these with their values before."""
        snapshot = dict(self._names)
        rebased: dict[str, Any] = {}
        for earlier in self._waiting:
            for name, expected in earlier._to_commit.items():
                if self._names.get(name, _ABSENT) is expected:  # then it will be committed
                    rebased.setdefault(name, expected)
                    _put(snapshot, name, earlier.bound.get(name, _ABSENT))
        return snapshot, rebased

    @property
    def live(self) -> dict[str, Any]:
        """The notebook's own dict of names."""
        return self._names

    @property
    def in_foreground(self) -> bool:
        """Whether a foreground cell runs now."""
        return self._foreground.runs

    def is_globals(self, names: Any) -> bool:
        """Whether a dict is the notebook's own, or one that a background cell runs or ran in."""
        return (
            names is self._names
            or isinstance(names, NamesView | Layer)
            or any(names is cell.globals for cell in list(self._open))
        )

    def open(
        self,
        overrides: Mapping[str, Any] | None = None,
        binds: Iterable[str] = (),
        *,
        binds_later: Iterable[str] = (),
        binds_any: bool = False,
    ) -> CellNames:
        """Begin an attempt with the notebook's names as they are now, waiting commits included.

        `overrides` are names with another value while the cell runs (`exit`); they are never committed. `binds` are the
        names that the cell is expected to bind, `binds_later` those of them that its functions bind by `global`.
        `binds_any`: it may bind any other name too.
        """
        with self._lock:
            snapshot, rebased = self._snapshot()
            snapshot.update(overrides or {})
            names = CellNames(
                self._globals.open(snapshot),
                binds_later=frozenset(binds_later),
                binds_any=binds_any,
                _snapshot=snapshot,
                _rebased=rebased,
            )
            names.scope.hidden = overrides or {}
            functions, changed = for_running_cell(names.globals, binds, self._are_notebooks)
            names._stand_in(functions)
            names.binds = frozenset(changed)
            self._globals.claim(names.binds, any_name=binds_any)
            self._open.append(names)
            return names

    def end(self, names: CellNames, *, commit: bool) -> None:
        """End an attempt. `commit`: its names move to the notebook now, or after the running foreground cell."""
        with self._lock:
            if names not in self._open:
                return
            self._open.remove(names)
            names._keep_shared_stand_ins()
            names.bound, deleted = names._changed()
            if commit:
                names._to_commit = {name: names._expected(name) for name in (*names.bound, *deleted)}
                self._waiting.append(names)
            names._snapshot, names._rebased = {}, {}
            self._globals.end(names.scope, names.bound)
            if not commit:
                self._release_claims(names)
            committed = [] if self.in_foreground else self._commit_waiting()
        _report_kept(committed)

    def commit(self, names: CellNames) -> None:
        """Commit a finished attempt now, since a cell waited for it. Idempotent."""
        with self._lock:
            committed = [names] if names in self._waiting else []
            if committed:
                self._waiting.remove(names)
                self._commit(names)
                self.held.sweep(self._names)
        _report_kept(committed)

    def adopt(self, names: CellNames, into: CellNames) -> None:
        """Give the names of a completed attempt to a running one that waited for it.

        A name that the waiting cell itself rebound keeps its value there.
        """
        with self._lock:
            for name, value in names.current().items():
                before = into._snapshot.get(name, _ABSENT)
                if dict.get(into.globals, name, _ABSENT) is before:
                    into._rebased.setdefault(name, before)
                    into._snapshot[name] = value
                    dict.__setitem__(into.globals, name, value)

    def foreground_began(self, cell: object) -> None:
        """A foreground cell begins. `cell` identifies the request, so that nested runs count as one."""
        with self._lock:
            committed = self._commit_waiting() if self._foreground.began(cell) else []
        _report_kept(committed)

    def foreground_ended(self) -> None:
        """A foreground cell ended: commit the names that waited for it."""
        with self._lock:
            is_over = self._foreground.ended()
            for names in list(self._committed):
                self._let_go(names)
            committed = self._commit_waiting() if is_over else []
        _report_kept(committed)

    def foreground_left(self) -> None:
        """The running foreground cell was sent to the background: commit the names that waited for its end."""
        with self._lock:
            self._foreground.left()
            committed = self._commit_waiting()
        _report_kept(committed)

    def _are_notebooks(self, function_globals: Any) -> bool:
        return function_globals is self._names or isinstance(function_globals, NamesView)

    def _release_claims(self, names: CellNames) -> None:
        self._globals.release(names.binds, any_name=names.binds_any)

    def _commit_waiting(self) -> list[CellNames]:
        committed = []
        while self._waiting:
            committed.append(self._waiting.pop(0))
            self._commit(committed[-1])
        self._sweep()
        self.held.sweep(self._names)
        return committed

    def _commit(self, names: CellNames) -> None:
        kept = []
        to_commit, names._to_commit = names._to_commit, {}
        try:
            functions = self._globals.functions_to_move(names.scope, names.bound, names.binds_later)
        except Exception:  # it looks at objects of all kinds; functions that are not moved are right, too
            logger.exception("cannot look for the functions of a cell")
            functions = []
        for name, expected in to_commit.items():
            value = names.bound.get(name, _ABSENT)
            current = self._names.get(name, _ABSENT)
            if current is expected or current is value:
                _put(self._names, name, value)
                self._rebase_others(name, current, value)
            else:
                kept.append(name)
        self._release_claims(names)  # first, or its own functions would be lent for this moment
        self._globals.move(functions, names.scope)
        del functions
        names.kept = tuple(sorted(kept))
        if names.on_commit is not None:
            try:
                names.on_commit()
            except Exception:  # what a library does with its settings must not cost names of this or another cell
                logger.exception("cannot commit the settings of a cell")
        for name in names.bound:
            dict.pop(names.globals, name, None)
        self._globals.watch(names.scope)
        self._let_go(names)

    def _let_go(self, names: CellNames) -> None:
        """Hold no value of a committed cell that the notebook holds."""
        if names.let_go(self._names):
            self._committed.add(names)
        else:
            self._committed.discard(names)

    def _rebase_others(self, name: str, before: Any, value: Any) -> None:
        """Let other attempts expect the committed value: between two tasks the later commit wins."""
        for other in self._open:
            if other._expected(name) is before:
                other._rebased[name] = value
        for other in self._waiting:
            if name in other._to_commit and other._to_commit[name] is before:
                other._to_commit[name] = value

    def _sweep(self) -> None:
        """Commit names that code of committed cells has bound since by `global`."""
        for view in self._globals.views():
            for name in own_names(view).keys() - KEPT_IN_VIEW:
                with contextlib.suppress(KeyError):  # deleted by that code meanwhile
                    _put(self._names, name, dict.pop(view, name))


def _put(names: dict[str, Any], name: str, value: Any) -> None:
    if value is _ABSENT:
        names.pop(name, None)
    else:
        names[name] = value


def _report_kept(committed: list[CellNames]) -> None:
    for names in committed:
        if names.kept and names.on_kept is not None:
            names.on_kept(names.kept)
