"""Monkeypatches of rich's consoles: live displays per cell.

Code usually writes to one shared console, which has a stack of live displays (bars, spinners) and shows them as one:
those of another cell too. In a background cell a console has a stack of that cell.
"""

from __future__ import annotations

import copy
import weakref
from types import ModuleType
from typing import Any

from nbtasks.notebook.patches.streams import TaskStreams, current_streams
from nbtasks.patch import ABSENT, Patch, PatchSet
from nbtasks.post_import import ModulePatches

__all__ = ["console_patches"]


def console_patches() -> PatchSet:
    """Patches of the consoles' attributes, applied once rich is imported."""
    return PatchSet([ModulePatches("rich.console", _patches_of_rich)])


def _patches_of_rich(module: ModuleType) -> list[Patch]:
    own = vars(module.Console())
    # rich 13 and before have one live display: `_live`.
    names = [name for name in ("_live_stack", "_live", "_render_hooks") if name in own]
    return [_PerCellPatch(module.Console, name, own[name]) for name in names]


class _PerCellPatch(Patch):
    """Lets an attribute of instances have a value of its own in each background cell, `empty` at first."""

    def __init__(self, owner: type, name: str, empty: list[Any] | None) -> None:
        super().__init__(owner, name, lambda _: _PerCell(name, empty))

    def _found(self) -> Any:
        return ABSENT  # instances have it, their class has not


class _PerCell:
    def __init__(self, name: str, empty: list[Any] | None) -> None:
        self._name = name
        self._empty = empty
        self._values: weakref.WeakKeyDictionary[TaskStreams, dict[int, Any]] = weakref.WeakKeyDictionary()

    def __get__(self, console: Any, owner: type | None = None) -> Any:
        if console is None:
            return self
        values, key = self._place(console)
        if key not in values and values is not vars(console):
            values[key] = copy.copy(self._empty)
        return values[key]

    def __set__(self, console: Any, value: Any) -> None:
        values, key = self._place(console)
        values[key] = value

    def _place(self, console: Any) -> tuple[dict[Any, Any], Any]:
        """Where the value is: of the foreground in the console, of a cell under the console's id."""
        streams = current_streams()
        if streams is None:
            return vars(console), self._name
        return self._values.setdefault(streams, {}), id(console)
