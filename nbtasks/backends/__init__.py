"""Backends: where the work of tasks runs. One module each; interface in `base`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from nbtasks.backends.base import Backend

__all__ = ["Backends"]

_LATER = {"process": "ProcessBackend", "dask": "DaskBackend"}
"""Modules that are imported when their backend is first used, and the class in each."""


class Backends(dict[str, Backend]):
    """The backends of one manager, by name. Others can be added as to a dict."""

    when_made: Callable[[Backend], object] | None = None
    """Called with each backend that is imported, before its first use."""

    def __missing__(self, name: str) -> Backend:
        if name not in _LATER:
            raise KeyError(name)
        made: Backend = getattr(importlib.import_module(f"{__name__}.{name}"), _LATER[name])()
        if self.when_made is not None:
            self.when_made(made)
        return self.setdefault(name, made)

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, name) or name in _LATER

    def get(self, name: str, default: Any = None) -> Any:
        """Return the backend of that name, else `default`."""
        if name not in self:
            return default
        return self[name]

    @property
    def made(self) -> list[Backend]:
        """The backends among those of `when_made` that have been used."""
        return [self[name] for name in _LATER if dict.__contains__(self, name)]

    @property
    def names(self) -> list[str]:
        """All names, including those of backends that are not imported yet."""
        return [*dict.fromkeys([*self, *_LATER])]
