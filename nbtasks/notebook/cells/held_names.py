"""Names whose live objects are in worker processes: begun generators, connections.

A process cell leaves such objects in its worker, which is kept for them, and a later process cell that reads one of the
names runs there. The notebook itself has no value for a held name.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbtasks.workers.kept_worker import KeptWorker

__all__ = ["Held", "HeldNames", "Value"]


class Value:
    """Stands for a value, without holding it.

    A weak reference would be visible: `ndarray.resize` refuses an array that has one.
    """

    __slots__ = ("_id", "_type")

    def __init__(self, value: Any) -> None:
        self._id, self._type = id(value), type(value)

    def is_it(self, value: Any) -> bool:
        """Whether this is that value, as far as its id can tell."""
        return id(value) == self._id and type(value) is self._type


@dataclass(frozen=True)
class Held:
    """A name whose object is in a kept worker."""

    holder: KeptWorker
    kind: str
    """The class of the object."""
    cell: str
    """The name of the task that has left it there."""
    outdated: Value | None = None
    """The value that the notebook has until the names of that cell are committed, if it had one."""


class HeldNames:
    """The names that kept workers hold, and why other names of cells have no value.

    Any thread may call any method; `_lock` guards all of it, but whether there is anything is read without it. A worker
    is ended, without the lock, when the last of its names is dropped.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._explained: dict[str, tuple[str, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def hold(self, holder: KeptWorker, names: Mapping[str, Held]) -> None:
        """The worker holds these names from now on, and no others."""
        with self._lock:
            former = {name for name, held in self._held.items() if held.holder is holder} - names.keys()
            holder.needed = bool(names)
            others = self._drop(former) + self._drop(names)
            self._held.update(names)
            for name in names:
                self._explained.pop(name, None)
        for one in others:
            if one is not holder:
                one.end()

    def _drop(self, names: Iterable[str]) -> list[KeptWorker]:
        """Drop names; returns the workers that hold none any more. Called with the lock held."""
        dropped = {held.holder for name in names if (held := self._held.pop(name, None)) is not None}
        return [one for one in dropped if not any(held.holder is one for held in self._held.values())]

    def within(self, live: Mapping[str, Any]) -> dict[str, Held]:
        """The held names that a cell finds which begins with the names `live`: those that have no value there."""
        with self._lock:
            held = dict(self._held)
        return {name: one for name, one in held.items() if not _is_bound(name, one, live)}

    def sweep(self, live: Mapping[str, Any]) -> None:
        """Drop the names that the notebook has bound since; called with its names after each commit."""
        if not self._held and not self._explained:
            return
        with self._lock:
            unneeded = self._drop([name for name, held in self._held.items() if _is_bound(name, held, live)])
            for name, held in self._held.items():
                if held.outdated is not None and name not in live:  # other objects may have its id from now on
                    self._held[name] = replace(held, outdated=None)
            for name in self._explained.keys() & live.keys():
                del self._explained[name]
        for holder in unneeded:
            holder.end()

    def clear(self) -> None:
        """Drop all names."""
        with self._lock:
            unneeded = self._drop(list(self._held))
            self._explained.clear()
        for holder in unneeded:
            holder.end()

    def lose(self, holder: KeptWorker, why: str) -> list[str]:
        """The worker is gone, for this reason; returns the names that were in it."""
        with self._lock:
            lost = {name: held for name, held in self._held.items() if held.holder is holder}
            self._drop(lost)
            for name, held in lost.items():
                text = f"it was lost with the worker process of the cell {held.cell!r} ({why}): run that cell again"
                self._explained[name] = held.kind, text
        return list(lost)

    def names_of(self, holder: KeptWorker) -> list[str]:
        """The names that the worker holds."""
        with self._lock:
            return [name for name, held in self._held.items() if held.holder is holder]

    def explain(self, name: str, kind: str, why: str) -> None:
        """Note why that name is not bound: the object of that class which it would have is lost."""
        with self._lock:
            self._explained[name] = kind, why

    @property
    def explained(self) -> dict[str, tuple[str, str]]:
        """For each name that is held or lost: the class of its object, and why the notebook has it not."""
        with self._lock:
            return self._explained | {name: (held.kind, _where(held)) for name, held in self._held.items()}


def _is_bound(name: str, held: Held, live: Mapping[str, Any]) -> bool:
    return name in live and (held.outdated is None or not held.outdated.is_it(live[name]))


def _where(held: Held) -> str:
    return (
        f"it lives in the worker process of the cell {held.cell!r}: a cell with --backend process that reads it runs "
        "there; to have its data here, bind what can be sent to another name in such a cell"
    )
