"""Import hooks of the notebook in a worker process.

Typeguard installs one, for example. A hook is an object in `sys.meta_path` that loads modules in its own
way. It is sent along if it can be pickled. What other ways a library has to do that (`sys.path_hooks`, a hook that is
removed after an import) is told by the modules that were loaded so in the notebook and otherwise in the worker.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["differing_modules", "hooked_modules", "put_finders", "take_finders"]

_OF_PYTHON = ("_frozen_importlib", "_frozen_importlib_external", "importlib", "zipimport")
_OURS = "nbtasks"


def take_finders() -> list[bytes]:
    """The finders that were put into `sys.meta_path`, in their order, but for those without a pickle."""
    return list(_finders())


def put_finders(pickled: list[bytes]) -> None:
    """Put the finders there that are missing, and remove those that were removed."""
    here = _finders()
    for one in here.keys() - set(pickled):
        sys.meta_path.remove(here[one])
    for one in reversed([one for one in pickled if one not in here]):
        with contextlib.suppress(Exception):  # a library that is not installed on this side
            sys.meta_path.insert(0, pickle.loads(one))


def _finders() -> dict[bytes, Any]:
    found = {}
    for finder in sys.meta_path:
        # Classes are there by themselves: Python's own, and those of packages that were installed in editable mode.
        if not isinstance(finder, type) and not type(finder).__module__.startswith((*_OF_PYTHON, _OURS)):
            with contextlib.suppress(Exception):  # pickling runs the object's own code
                found[pickle.dumps(finder, protocol=5)] = finder
    return found


def hooked_modules() -> dict[str, str]:
    """The modules that were loaded by a hook, each with the library of the hook."""
    loaders = {name: _library_of_loader(module) for name, module in list(sys.modules.items())}
    return {name: library for name, library in loaders.items() if library}


def differing_modules(hooked: Mapping[str, str]) -> dict[str, list[str]]:
    """By the library of the hook: the packages among these modules that were loaded otherwise here."""
    here = hooked_modules()
    found: dict[str, list[str]] = {}
    for name, library in hooked.items():
        if name in sys.modules and here.get(name) != library:
            names = found.setdefault(library, [])
            if name.partition(".")[0] not in names:
                names.append(name.partition(".")[0])
    return found


def _library_of_loader(module: Any) -> str:
    """The package of the loader that has loaded the module; empty for one of Python's own."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    module_of_loader = str(type(loader).__module__)
    if loader is None or isinstance(loader, type) or module_of_loader.startswith(_OF_PYTHON):
        return ""
    return module_of_loader.partition(".")[0]
