"""Calls a function with a module of somebody else's right after it was imported: now, if it has been, or then.

Must not know which modules, or why.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

__all__ = ["after_import"]

Prepare = Callable[[ModuleType], None]


def after_import(name: str, prepare: Prepare) -> Callable[[], None]:
    """Call `prepare` with the module `name` once it is there. What is returned takes that back, if it is still due."""
    with _finder.lock:
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
        _finder.due.setdefault(name, []).append(prepare)
    module = sys.modules.get(name)
    if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
        _finder.imported(module)
    return lambda: _finder.forget(name, prepare)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself: it has the others find, and wraps what loads. `lock` guards what is due."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.due: dict[str, list[Prepare]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec that the other finders give for a module that somebody waits for."""
        if not self.due.get(name):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                self._tell_after(spec.loader)
                return spec
        return None

    def imported(self, module: ModuleType) -> None:
        """Call who waits for the module, each once."""
        with self.lock:
            due = self.due.pop(module.__name__, [])
        for prepare in due:
            prepare(module)

    def forget(self, name: str, prepare: Prepare) -> None:
        """Nobody waits with `prepare` any more."""
        with self.lock:
            if prepare in self.due.get(name, ()):
                self.due[name].remove(prepare)

    def _tell_after(self, loader: Any) -> None:
        load = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            self.imported(module)

        loader.exec_module = exec_module


_finder = _Finder()
