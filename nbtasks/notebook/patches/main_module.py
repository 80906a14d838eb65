"""Makes `shell.user_ns` and the module `__main__` those of the task in whose context they are asked for.

Magics, pickling, doctest, dataclasses and type hints then work inside a background cell, and in the foreground
nothing changes. Knows nothing of tasks: a context is handed its names.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbtasks.notebook.cells.namespace import current_names

__all__ = ["MainModule"]


class MainModule:
    """Installs the two into a shell, and takes them out again. Used from the main thread only."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Route both by context. The objects stay the same ones; only what their classes look up changes."""
        shell_class, module = type(self._shell), self._shell.user_module
        module_class = type(module)
        had_own = vars(shell_class).get("user_ns")
        shell_class.user_ns = _by_context(shell_class, self._shell)
        module.__class__ = _main_class(module_class)
        # IPython counts how often it put its names into builtins, which is no safe count with several threads:
        # held once more, they stay in.
        self._shell.builtin_trap.__enter__()

        def undo() -> None:
            self._shell.builtin_trap.__exit__(None, None, None)
            module.__class__ = module_class
            if had_own is None:
                del shell_class.user_ns
            else:
                shell_class.user_ns = had_own

        self._undo.append(undo)

    def uninstall(self) -> None:
        """Undo `install`."""
        while self._undo:
            self._undo.pop()()


def _by_context(shell_class: type, shell: InteractiveShell) -> property:
    below = getattr(shell_class, "user_ns", None)

    def get(self: InteractiveShell) -> dict[str, Any]:
        names = current_names()
        if names is not None and self is shell:
            return names
        if isinstance(below, property):
            return below.__get__(self)  # type: ignore[no-any-return]
        return self.__dict__["user_ns"]  # type: ignore[no-any-return]

    def put(self: InteractiveShell, names: dict[str, Any]) -> None:
        if isinstance(below, property):
            below.__set__(self, names)
        else:
            self.__dict__["user_ns"] = names

    return property(get, put)


def _main_class(base: type[types.ModuleType]) -> type[types.ModuleType]:
    class MainByContext(base):  # type: ignore[misc, valid-type]
        """The module `__main__`: the notebook's names, or in a task's context the task's."""

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
