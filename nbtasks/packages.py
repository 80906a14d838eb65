"""Optional packages, imported when a function that needs them is called."""

from __future__ import annotations

import importlib
from typing import Any

from nbtasks.exceptions import MissingPackageError

__all__ = ["require"]


def require(package: str, action: str) -> Any:
    """Import a package that an action needs; raises MissingPackageError, which says what to install."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingPackageError(
            f"{action} needs {package}: pip install {package}, or 'nbtasks[actions]' for all packages of the actions"
        ) from None
