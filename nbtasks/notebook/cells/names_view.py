"""Views on the notebook's live names, which a cell's globals turn into when the cell has ended.

Functions, generators and threads that the cell leaves behind, and that keep the dict it ran in as their globals, then
find the notebook's names. A name that such code binds by `global` is in the view itself until it is committed.
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
    """A dict in which names that it does not have itself are those of the dict `below`.

    Its memory layout is that of a plain dict, so that one can be made a view in place.
    """

    __slots__ = ()
    below: Names

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
    """What is in a cell's globals themselves, as a dict. (`dict.copy` would ask a view's `__iter__`.)"""
    return names.copy() if type(names) is dict else dict(list(dict.items(names)))
