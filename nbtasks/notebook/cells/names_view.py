"""Views on the notebook's live names: what the globals of finished cells become.

Functions, generators and threads of a finished cell may still have the dict in which it ran as their globals. They find
the notebook's names in it. A name that they bind by `global` is in the view itself until it is committed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nbtasks.notebook.cells.evaluating import EVALUATING
from nbtasks.notebook.patches.main_module import current_names

__all__ = ["KEPT_IN_VIEW", "Names", "NamesView", "own_names"]

Names = dict[str, Any]

# The interpreter reads these straight from a frame's globals, past any `__missing__`.
KEPT_IN_VIEW = frozenset({"__builtins__", "__name__", "__package__", "__spec__", "__loader__", "__doc__"})


class NamesView(dict[str, Any]):
    """A dict that looks up missing names in the dict `below`.

    It has the memory layout of a plain dict, which can so be turned into a view in place.
    """

    __slots__ = ()
    below: Names

    def __missing__(self, name: str) -> Any:
        names = current_names()
        if names is not None and names is not self and name in names:
            return names[name]  # code of a running cell finds the names of that cell
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
        """The value of a name, or `default`."""
        try:
            return self[name]
        except KeyError:
            return default

    def keys(self) -> Any:
        """The names, of a copy."""
        return self.copy().keys()

    def values(self) -> Any:
        """The values, of a copy."""
        return self.copy().values()

    def items(self) -> Any:
        """The names with their values, of a copy."""
        return self.copy().items()

    def copy(self) -> Names:
        """A plain dict of all names."""
        return {**self.below, **own_names(self)}


def own_names(names: Names) -> Names:
    """Return the own names of a cell's globals as a dict. (`dict.copy` would call a view's `__iter__`.)"""
    return names.copy() if type(names) is dict else dict(list(dict.items(names)))
