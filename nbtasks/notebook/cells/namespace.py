"""The names of background cells: a snapshot of the notebook's namespace, and when a cell's names are committed to it.

The dict that a cell runs in is made by `cell_globals.py`. `NotebookNames` is handed the notebook's dict, and is called
when foreground cells begin and end.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbtasks.notebook.cells.cell_globals import CellGlobals, Layer, globals_for
from nbtasks.notebook.cells.names_view import KEPT_IN_VIEW, Names, NamesView, own_names
from nbtasks.notebook.cells.rebind import for_running_cell, is_unshared
from nbtasks.notebook.patches.main_module import Scope

logger = logging.getLogger("nbtasks")

__all__ = ["CellNames", "NotebookNames"]


class _Absent:
    def __repr__(self) -> str:
        return "<no such name>"


_ABSENT: Any = _Absent()


@dataclass(eq=False)
class CellNames:
    """The names of one attempt of one cell.

    After `NotebookNames.end` the attribute `bound` has what the cell bound, by name.
    """

    scope: Scope
    """Holds what the cell runs in, for the context that it runs in."""
    binds: frozenset[str] = frozenset()
    """The names that mean something else to the cell than to the notebook, as far as can be known when it begins."""
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
    # Until the commit: every changed name, and what the notebook has for it if nobody else wrote it.
    _to_commit: dict[str, Any] = field(default_factory=dict)

    @property
    def globals(self) -> Names:
        """The dict that the cell runs in."""
        return self.scope.names

    def current(self) -> dict[str, Any]:
        """What the cell has bound: up to now while it runs, else in all."""
        return dict(self.bound) if isinstance(self.globals, NamesView) else self._changed()[0]

    def _expected(self, name: str) -> Any:
        if name in self._rebased:
            return self._rebased[name]
        return self._snapshot.get(name, _ABSENT)

    def _changed(self) -> tuple[dict[str, Any], set[str]]:
        """What differs from the snapshot: the bound names with their values, and the deleted names."""
        names, snapshot = own_names(self.globals), self._snapshot
        bound = {name: value for name, value in names.items() if snapshot.get(name, _ABSENT) is not value}
        return bound, snapshot.keys() - names.keys()

    def _stand_in(self, functions: Mapping[str, Any]) -> None:
        """Put functions in the place of the notebook's while the cell runs."""
        for name, function in functions.items():
            self._rebased.setdefault(name, self._snapshot[name])
            self._snapshot[name] = self._stand_ins[name] = function
            dict.__setitem__(self.globals, name, function)

    def _keep_shared_stand_ins(self) -> None:
        """Let a stand-in that something refers to by now be what its name is bound to: no object gets lost."""
        for name in self._stand_ins:
            if dict.get(self.globals, name) is not self._stand_ins[name]:
                continue
            if not is_unshared(name, self.globals, self._snapshot, self._stand_ins):
                self._snapshot.pop(name)
        self._stand_ins = {}


class NotebookNames:
    """The notebook's namespace, as background cells see it and write to it.

    One re-entrant lock (a destructor may run anything) guards the open attempts, the commits that wait, whether a
    foreground cell runs, and every write that a commit makes to the notebook's dict. Any thread may call any method.
    """

    def __init__(self, names: Names, cell_globals: CellGlobals | None = None) -> None:
        self._names = names
        self._globals = cell_globals or globals_for(names)
        self._lock = threading.RLock()
        self._open: list[CellNames] = []
        self._waiting: list[CellNames] = []
        self._depth = 0
        self._foreground: object = None

    @property
    def live(self) -> dict[str, Any]:
        """The notebook's own dict of names."""
        return self._names

    @property
    def in_foreground(self) -> bool:
        """Whether a foreground cell runs now."""
        return self._depth > 0

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
        """Begin an attempt: the notebook's names as they are now, commits that wait for a boundary included.

        `overrides` are names that mean something else while the cell runs (`exit`); they are never committed. `binds`
        are those that the cell is going to bind, as far as one can tell, `binds_later` those among them that its
        functions bind by `global`. `binds_any` says that it may bind others besides.
        """
        with self._lock:
            snapshot = dict(self._names)
            rebased: dict[str, Any] = {}
            for earlier in self._waiting:
                for name, expected in earlier._to_commit.items():
                    if self._names.get(name, _ABSENT) is expected:  # so it will be committed, over earlier ones too
                        rebased.setdefault(name, expected)
                        _put(snapshot, name, earlier.bound.get(name, _ABSENT))
            snapshot.update(overrides or {})
            names = CellNames(
                self._globals.open(snapshot),
                binds_later=frozenset(binds_later),
                binds_any=binds_any,
                _snapshot=snapshot,
                _rebased=rebased,
            )
            functions, changed = for_running_cell(names.globals, binds, self._are_notebooks)
            names._stand_in(functions)
            names.binds = frozenset(changed)
            self._globals.claim(names.binds, any_name=binds_any)
            self._open.append(names)
            return names

    def end(self, names: CellNames, *, commit: bool) -> None:
        """End an attempt. With `commit` its names move to the notebook at the next boundary: now, if no cell runs."""
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
        _tell_kept(committed)

    def commit(self, names: CellNames) -> None:
        """Commit one attempt that has ended, now: a cell waited for it. Once committed, nothing more happens."""
        with self._lock:
            committed = [names] if names in self._waiting else []
            if committed:
                self._waiting.remove(names)
                self._commit(names)
        _tell_kept(committed)

    def adopt(self, names: CellNames, into: CellNames) -> None:
        """Show what a completed attempt bound to another that runs: a background cell waited for it.

        A name that the waiting cell itself rebound keeps its value there.
        """
        with self._lock:
            for name, value in names.bound.items():
                before = into._snapshot.get(name, _ABSENT)
                if dict.get(into.globals, name, _ABSENT) is before:
                    into._rebased.setdefault(name, before)
                    into._snapshot[name] = value
                    dict.__setitem__(into.globals, name, value)

    def foreground_began(self, cell: object) -> None:
        """A foreground cell begins; `cell` tells one request from the next, so that nested runs count as one."""
        with self._lock:
            # A request that ended without telling us cannot hold up commits for longer than until the next one.
            self._depth = self._depth + 1 if self._depth and self._foreground == cell else 1
            self._foreground = cell
            committed = self._commit_waiting() if self._depth == 1 else []
        _tell_kept(committed)

    def foreground_ended(self) -> None:
        """A foreground cell ended: what waited for it is committed."""
        with self._lock:
            self._depth = max(0, self._depth - 1)
            committed = [] if self._depth else self._commit_waiting()
        _tell_kept(committed)

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
        self._release_claims(names)

    def _rebase_others(self, name: str, before: Any, value: Any) -> None:
        """Between two tasks the later commit wins: what one commits is what the others now expect to find."""
        for other in self._open:
            if other._expected(name) is before:
                other._rebased[name] = value
        for other in self._waiting:
            if name in other._to_commit and other._to_commit[name] is before:
                other._to_commit[name] = value

    def _sweep(self) -> None:
        """Commit what code of committed cells bound since by `global`."""
        for view in self._globals.views():
            for name in own_names(view).keys() - KEPT_IN_VIEW:
                with contextlib.suppress(KeyError):  # deleted by that code meanwhile
                    _put(self._names, name, dict.pop(view, name))


def _put(names: dict[str, Any], name: str, value: Any) -> None:
    if value is _ABSENT:
        names.pop(name, None)
    else:
        names[name] = value


def _tell_kept(committed: list[CellNames]) -> None:
    for names in committed:
        if names.kept and names.on_kept is not None:
            names.on_kept(names.kept)
