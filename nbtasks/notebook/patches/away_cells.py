"""Monkeypatches while a foreground cell is in the background.

It has begun as the shell runs any cell, and ends beside others: attributes of the shell that are of one cell, such as
the execution count, are then by cell.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from nbtasks.notebook.output.away_cells import AwayCell, add_away_cell, away_cell
from nbtasks.patch import ABSENT, Patch, PatchSet

__all__ = ["away_patches", "begin_away"]


def away_patches(shell: Any) -> PatchSet:
    """Patches of the classes of the shell and of its displayhook."""
    return PatchSet(_ByCellPatch(owner, name) for owner, name, _ in _attributes(shell))


def begin_away(
    shell: Any, cell: AwayCell, request: ContextVar[dict[str, Any]], execution_count: int, *, has_result: bool
) -> None:
    """From now on the running foreground cell is `cell`, and has these attributes for itself.

    `has_result`: the displayhook's ExecutionResult is that of this cell.
    """
    hook = shell.displayhook
    cell.values |= {name: initial for _, name, initial in _attributes(shell)}
    cell.values["execution_count"] = execution_count
    vars(hook).setdefault("msg", None)
    hook._trait_values.setdefault("exec_result", None)
    add_away_cell(cell, request, vars(hook), hook._trait_values, has_result=has_result)


def _attributes(shell: Any) -> Iterator[tuple[type, str, Any]]:
    yield type(shell), "execution_count", 1
    yield type(shell), "_last_traceback", None
    yield type(shell), "_last_traceback_during_displayhook", False
    yield type(shell.displayhook), "msg", None
    yield type(shell.displayhook), "exec_result", None


class _ByCellPatch(Patch):
    """Makes an attribute of instances one by cell, also if the class lacks it."""

    def __init__(self, owner: type, name: str) -> None:
        super().__init__(owner, name, lambda original: _ByCell(name, original))

    def _found(self) -> Any:
        for cls in self.owner.__mro__:
            if self.name in vars(cls):
                return vars(cls)[self.name]
        return ABSENT


class _ByCell:
    """An attribute that each cell in the background has for itself.

    For all other code it is the original.
    """

    def __init__(self, name: str, original: Any) -> None:
        self._name, self._original = name, original
        self._is_descriptor = hasattr(type(original), "__set__")

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self if self._original is ABSENT else self._original
        cell = away_cell()
        if cell is not None and self._name in cell.values:
            return cell.values[self._name]
        if self._is_descriptor:
            return self._original.__get__(instance, owner)
        with contextlib.suppress(KeyError):
            return vars(instance)[self._name]
        if self._original is ABSENT:
            raise AttributeError(self._name)
        return self._original

    def __set__(self, instance: Any, value: Any) -> None:
        cell = away_cell()
        if cell is not None:
            cell.values[self._name] = value
        elif self._is_descriptor:
            self._original.__set__(instance, value)
        else:
            vars(instance)[self._name] = value

    def __delete__(self, instance: Any) -> None:
        if self._is_descriptor:
            self._original.__delete__(instance)
        else:
            del vars(instance)[self._name]
