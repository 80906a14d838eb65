"""The names of background cells: a layer over the notebook's namespace, and when its names move over.

Knows nothing of tasks, IPython or output: it is handed a dict and is told when foreground cells begin and end.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbtasks.notebook.cells.evaluating import EVALUATING
from nbtasks.notebook.cells.rebind import for_running_cell, is_unshared, rebuild_unshared
from nbtasks.notebook.patches.main_module import current_names

__all__ = ["CellNames", "Layer", "NotebookNames"]

# The interpreter reads these straight from a frame's globals, past any `__missing__`.
_KEPT_IN_LAYER = frozenset({"__builtins__", "__name__", "__package__", "__spec__", "__loader__", "__doc__"})


class _Absent:
    def __repr__(self) -> str:
        return "<no such name>"


_ABSENT: Any = _Absent()


class Layer(dict[str, Any]):
    """The globals of one running cell: a copy of the notebook's names, in which the cell binds its own.

    It is a subclass of dict only so that it can turn into a `_FallThrough` when the cell has ended; while the cell
    runs it has no `__missing__`, so that a lookup of a builtin costs no Python call.
    """

    __slots__ = ("__weakref__", "below")
    below: dict[str, Any]


class _FallThrough(Layer):
    """What a layer becomes once its cell ended: names it has not are the notebook's live ones.

    Functions, classes, generators and threads made by the cell keep this object as their globals.
    """

    __slots__ = ()

    def __missing__(self, name: str) -> Any:
        names = current_names()
        if names is not None and names is not self and name in names:
            return names[name]  # in a cell that runs, its names are the notebook's
        if name in EVALUATING and name not in self.below:
            return EVALUATING[name]
        return self.below[name]

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, name) or name in self.below

    def __iter__(self) -> Iterator[str]:
        yield from self.below
        yield from (name for name in list(dict.keys(self)) if name not in self.below)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def keys(self) -> Any:
        return self.copy().keys()

    def values(self) -> Any:
        return self.copy().values()

    def items(self) -> Any:
        return self.copy().items()

    def copy(self) -> dict[str, Any]:
        return {**self.below, **_own(self)}


@dataclass(eq=False)
class CellNames:
    """The names of one attempt of one cell.

    `layer` is what the cell runs in. After `NotebookNames.end` the attribute `bound` has what the cell bound, by name.
    """

    layer: Layer
    bound: dict[str, Any] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    """Names that kept the notebook's value at commit, because the notebook rebound them meanwhile."""
    on_kept: Callable[[tuple[str, ...]], None] | None = None
    on_commit: Callable[[], None] | None = None
    """Called with the commit, at the same boundary."""
    _snapshot: dict[str, Any] = field(default_factory=dict)
    # What tasks committed since the snapshot was taken: for these names the notebook's value is expected to be this.
    _rebased: dict[str, Any] = field(default_factory=dict)
    # Functions of other cells that are others while this cell runs (see `for_running_cell`), and the notebook's own.
    _stand_ins: dict[str, Any] = field(default_factory=dict)
    # Until the commit: every changed name, and what the notebook has for it if nobody else wrote it.
    _to_commit: dict[str, Any] = field(default_factory=dict)

    def current(self) -> dict[str, Any]:
        """What the cell has bound: up to now while it runs, else in all."""
        return self._changed()[0] if type(self.layer) is Layer else dict(self.bound)

    def _expected(self, name: str) -> Any:
        if name in self._rebased:
            return self._rebased[name]
        return self._snapshot.get(name, _ABSENT)

    def _changed(self) -> tuple[dict[str, Any], set[str]]:
        """What differs from the snapshot: the bound names with their values, and the deleted names."""
        layer, snapshot = _own(self.layer), self._snapshot
        bound = {name: value for name, value in layer.items() if snapshot.get(name, _ABSENT) is not value}
        return bound, snapshot.keys() - layer.keys()

    def _stand_in(self, functions: Mapping[str, Any]) -> None:
        """Put functions in the place of the notebook's while the cell runs."""
        for name, function in functions.items():
            self._rebased.setdefault(name, self._snapshot[name])
            self._snapshot[name] = self._stand_ins[name] = function
            dict.__setitem__(self.layer, name, function)

    def _keep_shared_stand_ins(self) -> None:
        """Let a stand-in that something refers to by now be what its name is bound to: no object gets lost."""
        for name in self._stand_ins:
            if dict.get(self.layer, name) is not self._stand_ins[name]:
                continue
            if not is_unshared(name, self.layer, self._snapshot, self._stand_ins):
                self._snapshot.pop(name)
        self._stand_ins = {}

    def _let_go(self, below: dict[str, Any]) -> None:
        """Turn the layer into a view on the notebook's live names, keeping only what the cell bound."""
        layer = self.layer
        layer.below = below
        layer.__class__ = _FallThrough
        for name in list(dict.keys(layer)):
            if name not in self.bound and name not in _KEPT_IN_LAYER:
                dict.pop(layer, name, None)
        self._snapshot = {}
        self._rebased = {}


class NotebookNames:
    """The notebook's namespace, as background cells see it and write to it.

    One re-entrant lock (a destructor may run anything) guards the open attempts, the commits that wait, whether a
    foreground cell runs, and every write that a commit makes to the notebook's dict. Any thread may call any method.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names
        self._lock = threading.RLock()
        self._open: list[CellNames] = []
        self._waiting: list[CellNames] = []
        self._depth = 0
        self._foreground: object = None
        self._layers: list[weakref.ref[Layer]] = []

    @property
    def live(self) -> dict[str, Any]:
        """The notebook's own dict of names."""
        return self._names

    @property
    def in_foreground(self) -> bool:
        """Whether a foreground cell runs now."""
        return self._depth > 0

    def open(self, overrides: Mapping[str, Any] | None = None, binds: Iterable[str] = ()) -> CellNames:
        """Begin an attempt: the notebook's names as they are now, commits that wait for a boundary included.

        `overrides` are names that mean something else while the cell runs (`exit`); they are never committed. `binds`
        are those that the cell is going to bind, as far as one can tell.
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
            names = CellNames(Layer(snapshot), _snapshot=snapshot, _rebased=rebased)
            names._stand_in(for_running_cell(names.layer, binds, self._are_notebooks))
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
            names._let_go(self._names)
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
                if dict.get(into.layer, name, _ABSENT) is before:
                    into._rebased.setdefault(name, before)
                    into._snapshot[name] = value
                    dict.__setitem__(into.layer, name, value)

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
        return function_globals is self._names or type(function_globals) is _FallThrough

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
        rebuild_unshared(names.bound, names.layer, self._names)
        for name, expected in to_commit.items():
            value = names.bound.get(name, _ABSENT)
            current = self._names.get(name, _ABSENT)
            if current is expected or current is value:
                _put(self._names, name, value)
                self._rebase_others(name, current, value)
            else:
                kept.append(name)
        names.kept = tuple(sorted(kept))
        if names.on_commit is not None:
            names.on_commit()
        for name in names.bound:
            dict.pop(names.layer, name, None)
        self._layers.append(weakref.ref(names.layer))

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
        alive = []
        for reference in self._layers:
            layer = reference()
            if layer is None:
                continue
            alive.append(reference)
            for name in _own(layer).keys() - _KEPT_IN_LAYER:
                with contextlib.suppress(KeyError):  # deleted by that code meanwhile
                    _put(self._names, name, dict.pop(layer, name))
        self._layers = alive


def _own(layer: Layer) -> dict[str, Any]:
    """What is in the layer itself. (`dict.copy` would ask `__iter__`, which tells of the notebook's names too.)"""
    return dict(list(dict.items(layer)))


def _put(names: dict[str, Any], name: str, value: Any) -> None:
    if value is _ABSENT:
        names.pop(name, None)
    else:
        names[name] = value


def _tell_kept(committed: list[CellNames]) -> None:
    for names in committed:
        if names.kept and names.on_kept is not None:
            names.on_kept(names.kept)
