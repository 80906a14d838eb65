"""Optional packages, imported when a function that needs them is called."""

from __future__ import annotations

import importlib
from typing import Any

from nbtasks.exceptions import MissingPackageError

__all__ = ["require"]


def require(package: str, action: str, *, extra: str = "actions") -> Any:
    """Import a package that an action needs; raises MissingPackageError, which says what to install.

    `extra` is that of nbtasks which has the package; "" if none has.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        more = f", or '.[{extra}]' in a clone for all of the {extra}" if extra else ""
        raise MissingPackageError(f"{action} needs {package}: pip install {package}{more}") from None
