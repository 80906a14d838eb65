"""Monkeypatches while a foreground cell is in the background.

It has begun as the shell runs any cell, and ends beside others: attributes of the shell that are of one cell, such as
the execution count, are then by cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from nbtasks.notebook.output.away_cells import AwayCell, add_away_cell, away_cell
from nbtasks.notebook.patches.attributes import AttributePatch
from nbtasks.patch import ABSENT, PatchSet

__all__ = ["away_patches", "begin_away"]


def away_patches(shell: Any) -> PatchSet:
    """Patches of the classes of the shell and of its displayhook."""
    return PatchSet(_by_cell(owner, name) for owner, name, _ in _attributes(shell))


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


def _by_cell(owner: type, name: str) -> AttributePatch:
    """Lets each cell in the background have the attribute for itself."""

    def get(_instance: Any) -> Any:
        cell = away_cell()
        return ABSENT if cell is None else cell.values.get(name, ABSENT)

    def put(_instance: Any, value: Any) -> bool:
        cell = away_cell()
        if cell is not None:
            cell.values[name] = value
        return cell is not None

    return AttributePatch(owner, name, get, put)
