"""Post-import hooks: call functions or apply patches after a module's import."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

from nbtasks.patch import ListPatch, Patch, PatchSet, core_patches

__all__ = ["ModulePatches", "after_import"]

Hook = Callable[[ModuleType], object]


def after_import(name: str, hook: Hook) -> Callable[[], None]:
    """Call `hook` with the module `name`: now if it is imported, else right after its import.

    The returned function withdraws a hook that has not been called yet.
    """
    if not _call_if_imported(name, hook):
        _finder.add(name, hook)
        module = sys.modules.get(name)
        if module is not None and _is_initialized(module):  # imported by another thread in between
            _finder.imported(module)
    return lambda: _finder.remove(name, hook)


def _call_if_imported(name: str, hook: Hook) -> bool:
    module = sys.modules.get(name)
    if module is None or not _is_initialized(module):
        return False
    hook(module)
    return True


def _is_initialized(module: ModuleType) -> bool:
    return not getattr(getattr(module, "__spec__", None), "_initializing", False)


class ModulePatches(PatchSet):
    """Patches of the module `name`, made by `make(module)` once it has been imported."""

    def __init__(self, name: str, make: Callable[[ModuleType], Iterable[Patch]]) -> None:
        super().__init__()
        self._name = name
        self._make = make
        self._withdraw: Callable[[], None] | None = None

    def apply(self) -> None:
        """Apply the patches, now or after the import."""
        if self._withdraw is None:
            self._withdraw = after_import(self._name, self._imported)

    def revert(self) -> None:
        """Revert the patches, or no longer wait for the import."""
        if self._withdraw is not None:
            self._withdraw()
            self._withdraw = None
        super().revert()

    def _imported(self, module: ModuleType) -> None:
        for patch in self._make(module) if not any(self) else ():
            self.add(patch)
        super().apply()


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps the loaders that the other finders return.

    `_lock` guards the hooks and the place in `sys.meta_path`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hooks: dict[str, list[Hook]] = {}
        self._patch = ListPatch(sys, "meta_path", self)
        core_patches.add(self._patch)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec that the other finders return for a module that has hooks."""
        if name not in self._hooks:
            return None
        for finder in tuple(sys.meta_path):
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                self._call_after_load(spec.loader)
                return spec
        return None

    def add(self, name: str, hook: Hook) -> None:
        """Call `hook` after the import of the module `name`."""
        with self._lock:
            self._hooks.setdefault(name, []).append(hook)
            self._patch.apply()

    def imported(self, module: ModuleType) -> None:
        """Call the hooks of the module, each once."""
        with self._lock:
            hooks = self._hooks.pop(module.__name__, [])
        for hook in hooks:
            hook(module)

    def remove(self, name: str, hook: Hook) -> None:
        """Withdraw a hook; leave `sys.meta_path` after the last one."""
        with self._lock:
            hooks = self._hooks.get(name, [])
            if hook in hooks:
                hooks.remove(hook)
            if not hooks:
                self._hooks.pop(name, None)
            if not self._hooks:
                self._patch.revert()

    def _call_after_load(self, loader: Any) -> None:
        def wrapped(load: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
            def exec_module(module: ModuleType) -> None:
                patch.revert()
                load(module)
                self.imported(module)

            return exec_module

        patch = Patch(loader, "exec_module", wrapped)
        patch.apply()


_finder = _Finder()
