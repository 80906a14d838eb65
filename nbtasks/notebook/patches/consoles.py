"""Monkeypatches of rich's consoles: live displays per cell.

Code usually writes to one shared console, which has a stack of live displays (bars, spinners) and shows them as one:
those of another cell too. In a background cell a console has a stack of that cell.
"""

from __future__ import annotations

import copy
import weakref
from types import ModuleType
from typing import Any

from nbtasks.notebook.patches.attributes import AttributePatch
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
    return [_per_cell(module.Console, name, own[name]) for name in names]


def _per_cell(owner: type, name: str, empty: list[Any] | None) -> AttributePatch:
    """Lets the attribute have a value of its own in each background cell, `empty` at first."""
    values: weakref.WeakKeyDictionary[TaskStreams, dict[int, Any]] = weakref.WeakKeyDictionary()

    def get(console: Any) -> Any:
        streams = current_streams()
        if streams is None:
            return ABSENT
        return values.setdefault(streams, {}).setdefault(id(console), copy.copy(empty))

    def put(console: Any, value: Any) -> bool:
        streams = current_streams()
        if streams is not None:
            values.setdefault(streams, {})[id(console)] = value
        return streams is not None

    return AttributePatch(owner, name, get, put)
