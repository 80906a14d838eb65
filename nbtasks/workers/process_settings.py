"""Settings of a process: folder, path, environment, random seeds, library options.

They are taken in the notebook and applied in the worker, and what the work has changed there comes back. Nothing is
imported for that: settings of a library are applied when the worker imports it.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import pickle
import platform
import random
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nbtasks.post_import import after_import
from nbtasks.workers.import_hooks import put_finders, take_finders

__all__ = ["changed_settings", "put_settings", "take_settings"]

_OF_THE_MACHINE = frozenset({"folder", "path", "former folders", "import hooks", "environment"})
_due: dict[str, Any] = {}
"""Settings of libraries that are not imported yet."""
_OWN_VARIABLES = frozenset(
    {
        "NBTASKS_SCHEDULER",
        "NBTASKS_FOLDER",
        "JPY_PARENT_PID",
        "JPY_INTERRUPT_EVENT",
        "JPY_SESSION_NAME",
        "MPLBACKEND",
    }
)


@dataclass(frozen=True)
class _Setting:
    """One setting: how it is read and written, once `module` is imported."""

    module: str
    take: Callable[[], Any]
    put: Callable[[Any], None]


def take_settings() -> dict[str, Any]:
    """The settings as they are now, by name; those that cannot be read or sent are left out."""
    taken: dict[str, Any] = {name: value for name, value in _due.items() if _SETTINGS[name].module not in sys.modules}
    taken["machine"] = _machine()
    for name, setting in _SETTINGS.items():
        if setting.module in sys.modules:
            with contextlib.suppress(Exception):  # a library of another version, or a value that cannot be sent
                value = setting.take()
                taken[name] = pickle.dumps(value, protocol=5)
    return taken


def _machine() -> str:
    return platform.node()


def put_settings(settings: Mapping[str, Any]) -> None:
    """Apply settings: now, or once the library is imported."""
    elsewhere = settings.get("machine", _machine()) != _machine()
    for name, pickled in settings.items():
        if name == "machine" or (elsewhere and name in _OF_THE_MACHINE):
            continue
        setting = _SETTINGS[name]

        def put(_: Any, name: str = name, pickled: bytes = pickled, setting: _Setting = setting) -> None:
            if _due.pop(name, pickled) is not pickled:  # something else was set since
                return
            with contextlib.suppress(Exception):  # as above
                setting.put(pickle.loads(pickled))

        if setting.module in sys.modules:
            put(None)
        else:
            _due[name] = pickled
            after_import(setting.module, put)


def changed_settings(before: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from `before`."""
    return {name: value for name, value in take_settings().items() if before.get(name) != value}


def _put_folder(folder: str) -> None:
    os.chdir(folder)


def _take_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}


def _put_environment(environment: dict[str, str]) -> None:
    for name in os.environ.keys() - environment.keys() - _OWN_VARIABLES:
        del os.environ[name]
    os.environ.update(environment)


def _put_path(path: list[str]) -> None:
    sys.path[:] = path


class _FormerFolders:
    """Finds modules in folders that the path names no longer.

    The path of a notebook begins with "", the current folder. A module that was imported from there is in the notebook
    after `os.chdir` too. Several cells may be launched at once: `_lock` guards the names and the folders.
    """

    def __init__(self) -> None:
        self.folders: list[str] = []
        self._looked_at: set[str] = set()
        self._lock = threading.Lock()

    def take(self) -> list[str]:
        """Those of the modules that are imported here, and those that were put."""
        with self._lock:
            for name in set(sys.modules) - self._looked_at:
                self._looked_at.add(name)
                module = sys.modules.get(name)
                file = getattr(module, "__file__", None)
                if file is None or "." in name or name == "__main__":
                    continue
                folder = os.path.dirname(file)
                folder = os.path.dirname(folder) if hasattr(module, "__path__") else folder
                if folder not in sys.path and folder not in self.folders:
                    self.folders.append(folder)
            return list(self.folders)

    def put(self, folders: list[str]) -> None:
        """Look there, after the path, for modules that the path has not; in a worker process only."""
        with self._lock:
            self.folders = folders
        if "NBTASKS_FOLDER" in os.environ and self not in sys.meta_path:
            sys.meta_path.append(self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG002 - a finder's signature
        """The module's spec, for the import system."""
        return importlib.machinery.PathFinder.find_spec(name, self.folders) if path is None else None


_former_folders = _FormerFolders()


def _take_filters() -> list[Any]:
    return [
        (action, _pattern(message), category, _pattern(module), line)
        for action, message, category, module, line in warnings.filters
    ]


def _pattern(compiled: Any) -> Any:
    return compiled if compiled is None or isinstance(compiled, str) else (compiled.pattern, compiled.flags)


def _put_filters(filters: list[Any]) -> None:
    import re

    def made(pattern: Any) -> Any:
        return re.compile(*pattern) if isinstance(pattern, tuple) else pattern

    warnings.filters[:] = [(a, made(message), c, made(module), n) for a, message, c, module, n in filters]  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _take_pandas_options() -> dict[str, Any]:
    from pandas._config import config

    found = {}
    for key, option in config._registered_options.items():
        with contextlib.suppress(Exception):
            value = sys.modules["pandas"].get_option(key)
            pickle.dumps(value)
            if value != option.defval:
                found[key] = value
    return found


def _put_pandas_options(options: dict[str, Any]) -> None:
    for key, value in options.items():
        sys.modules["pandas"].set_option(key, value)


def _take_decimal() -> Any:
    return sys.modules["decimal"].getcontext()


def _put_decimal(context: Any) -> None:
    sys.modules["decimal"].setcontext(context)


def _take_seeds() -> Any:
    return sys.modules["numpy.random"].get_state()


def _put_seeds(state: Any) -> None:
    sys.modules["numpy.random"].set_state(state)


def _take_numpy() -> tuple[dict[str, Any], dict[str, Any]]:
    numpy = sys.modules["numpy"]
    return numpy.get_printoptions(), numpy.geterr()


def _put_numpy(options: tuple[dict[str, Any], dict[str, Any]]) -> None:
    numpy = sys.modules["numpy"]
    numpy.set_printoptions(**options[0])
    numpy.seterr(**options[1])


_HOW_TO_DRAW = frozenset({"backend", "backend_fallback", "interactive", "toolbar"})


def _take_rc() -> dict[str, Any]:
    settings = sys.modules["matplotlib"].rcParams
    return {key: settings._get(key) for key in settings if key not in _HOW_TO_DRAW}


def _put_rc(changed: dict[str, Any]) -> None:
    settings = sys.modules["matplotlib"].rcParams
    for key, value in changed.items():
        settings._set(key, value)


_SETTINGS: dict[str, _Setting] = {
    "folder": _Setting("os", os.getcwd, _put_folder),
    "path": _Setting("sys", lambda: list(sys.path), _put_path),
    "former folders": _Setting("sys", _former_folders.take, _former_folders.put),
    "import hooks": _Setting("sys", take_finders, put_finders),
    "environment": _Setting("os", _take_environment, _put_environment),
    "warnings": _Setting("warnings", _take_filters, _put_filters),
    "decimal": _Setting("decimal", _take_decimal, _put_decimal),
    "random": _Setting("random", random.getstate, random.setstate),
    "numpy.random": _Setting(
        "numpy.random",
        _take_seeds,
        _put_seeds,
    ),
    "numpy": _Setting(
        "numpy",
        _take_numpy,
        _put_numpy,
    ),
    "matplotlib": _Setting("matplotlib", _take_rc, _put_rc),
    "pandas": _Setting("pandas", _take_pandas_options, _put_pandas_options),
}
"""The order counts: libraries are found by the path."""
