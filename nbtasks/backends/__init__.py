"""Where the work runs: one module for each kind of place, all behind the interface of `base`."""

from __future__ import annotations

import importlib
from typing import Any

from nbtasks.backends.base import Backend

__all__ = ["Backends"]

_LATER = {"process": "ProcessBackend", "dask": "DaskBackend"}
"""Modules of this package that few need, and the class in each: imported when the backend is first asked for."""


class Backends(dict[str, Backend]):
    """The backends of one manager, by name. More can be put in."""

    def __missing__(self, name: str) -> Backend:
        if name not in _LATER:
            raise KeyError(name)
        made: Backend = getattr(importlib.import_module(f"{__name__}.{name}"), _LATER[name])()
        return self.setdefault(name, made)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in _LATER

    def get(self, name: str, default: Any = None) -> Any:
        """The backend of that name, else `default`."""
        if name not in self:
            return default
        return self[name]

    @property
    def names(self) -> list[str]:
        """All names, of those too that nobody has asked for yet."""
        return [*dict.fromkeys([*self, *_LATER])]
