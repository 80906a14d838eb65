"""Quiet imports for names that come from another process, where they have printed."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from types import ModuleType

__all__ = ["imported_quietly"]


def imported_quietly(name: str) -> ModuleType:
    """The module; if it is imported now, what it prints is dropped."""
    if name in sys.modules:
        return sys.modules[name]
    # Not a StringIO, which has no encoding: sympy asks for it as it is imported, and decides for ASCII.
    nowhere = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        return importlib.import_module(name)
