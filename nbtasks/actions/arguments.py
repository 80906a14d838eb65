"""What the actions are given: values that are checked before anything starts, and packages that have to be installed.

Must not know any particular action.
"""

from __future__ import annotations

import importlib
import math
from datetime import timedelta
from typing import Any

from nbtasks.exceptions import InvalidValueError, MissingPackageError

__all__ = ["checked_count", "checked_seconds", "checked_url", "needed"]


def needed(package: str, action: str) -> Any:
    """The package that an action needs; raises MissingPackageError, which says what to install."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingPackageError(
            f"{action} needs {package}: pip install {package}, or 'nbtasks[actions]' for all that the actions use"
        ) from None


def checked_url(url: Any) -> str:
    """An address that starts with http:// or https://."""
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise InvalidValueError(f"an address starts with http:// or https://, not {url!r}")
    return url


def checked_seconds(name: str, value: Any, *, zero: bool = True) -> float:
    """Seconds, from a number or a timedelta, none below 0; 0 itself only where that makes sense."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    allowed = "0 or more" if zero else "more than 0"
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise InvalidValueError(f"{name} is a number of seconds, {allowed}, or a timedelta, not {value!r}")
    if seconds < 0 or (seconds == 0 and not zero):
        raise InvalidValueError(f"{name} is {allowed} seconds, not {value!r}")
    return float(seconds)


def checked_count(name: str, value: Any, least: int) -> int:
    """A whole number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidValueError(f"{name} is a whole number from {least} on, not {value!r}")
    return value
