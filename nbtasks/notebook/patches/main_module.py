"""Monkeypatches of the names of the shell and of the module `__main__`.

In a background cell both have the names of the cell, so that magics, pickling, doctest, dataclasses and type hints
work there. Nothing changes in the foreground.
"""

from __future__ import annotations

import contextvars
import types
from collections.abc import Mapping
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbtasks.notebook.patches.attributes import AttributePatch
from nbtasks.patch import ABSENT, Patch, PatchSet

__all__ = ["Scope", "current_names", "main_module_patches", "use_names"]


class Scope:
    """Holds the dict that a cell runs in.

    Contexts refer to this object, so that copies of a context add no reference to the dict.
    """

    __slots__ = ("hidden", "names", "references")

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.hidden: Mapping[str, Any] = {}
        """Names with values of the cell's own that `%who` does not list."""
        self.references = 0
        """How many references to the dict there were when the cell began."""


_scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("nbtasks_scope", default=None)


def use_names(scope: Scope) -> None:
    """Make the names of `scope` the notebook's names in this context and in threads started from it."""
    _scope.set(scope)


def current_names() -> dict[str, Any] | None:
    """The names of the background cell in whose context this is called; None in the foreground."""
    scope = _scope.get()
    return None if scope is None else scope.names


def main_module_patches(shell: InteractiveShell) -> PatchSet:
    """Patches of the classes that look names up; the module and the notebook's dict stay the same objects."""
    def names_of(instance: InteractiveShell) -> Any:
        names = current_names()
        return ABSENT if names is None or instance is not shell else names

    def hidden_in(instance: InteractiveShell) -> Any:
        scope = _scope.get()
        if scope is None or instance is not shell:
            return ABSENT
        return {**vars(shell)["user_ns_hidden"], **scope.hidden}

    return PatchSet(
        [
            AttributePatch(type(shell), "user_ns", names_of),
            AttributePatch(type(shell), "user_ns_hidden", hidden_in),
            Patch(shell.user_module, "__class__", _main_class),
        ]
    )


def _main_class(base: type[types.ModuleType]) -> type[types.ModuleType]:
    class MainByContext(base):  # type: ignore[misc, valid-type]
        """The module `__main__`; in a background cell it has the names of the cell."""

        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
            names = current_names()
            return names if names is not None else super().__dict__

        def __getattribute__(self, name: str) -> Any:
            names = current_names()
            if names is not None and name in names:
                return names[name]
            return super().__getattribute__(name)

        def __setattr__(self, name: str, value: Any) -> None:
            names = current_names()
            if names is not None:
                names[name] = value
            else:
                super().__setattr__(name, value)

        def __delattr__(self, name: str) -> None:
            names = current_names()
            if names is None:
                super().__delattr__(name)
            elif name in names:
                del names[name]
            else:
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    MainByContext.__name__ = base.__name__
    return MainByContext
