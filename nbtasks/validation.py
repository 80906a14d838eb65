"""Argument checks, named by the noun that they check.

Each returns the value in its usual form, or raises an InvalidValueError that says what is allowed. Used as
`validation.timeout(...)`.
"""

from __future__ import annotations

import logging
import math
import operator
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from nbtasks.exceptions import (
    InvalidValueError,
    LaneError,
    PriorityError,
    ProgressError,
    TimeoutValueError,
    WorkError,
)

__all__ = [
    "age",
    "callback",
    "is_number",
    "keep_count",
    "limit",
    "name",
    "number",
    "priority",
    "progress",
    "seconds",
    "tags",
    "timeout",
    "update_interval",
    "url",
    "wait_timeout",
    "whole_number",
]

logger = logging.getLogger("nbtasks")

# -- general checks: `what` names the argument in the message ---------------------------------------------------------


def is_number(value: object) -> bool:
    """Whether it is an int or a float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole_number(
    what: str, value: Any, least: int | None = None, *, error: type[InvalidValueError] = InvalidValueError
) -> int:
    """A whole number, from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        allowed = "a whole number" if least is None else f"a whole number from {least} on"
        raise error(f"{what} must be {allowed}, not {value!r}")
    return value


def number(what: str, value: Any, least: float = 0.0, *, error: type[InvalidValueError] = InvalidValueError) -> float:
    """A finite number from `least` on."""
    if not is_number(value) or not least <= value <= sys.float_info.max:
        raise error(f"{what} must be a number from {least:g} on, not {value!r}")
    return float(value)


def seconds(what: str, value: Any, *, zero: bool = True, error: type[InvalidValueError] = InvalidValueError) -> float:
    """A finite number of seconds, also from a timedelta: 0 or more, or, without `zero`, more than 0."""
    count = value.total_seconds() if isinstance(value, timedelta) else value
    if not is_number(count) or not 0 <= count <= sys.float_info.max or (count == 0 and not zero):
        allowed = "0 or more" if zero else "more than 0"
        raise error(f"{what} must be a number of seconds, {allowed}, or a timedelta, not {value!r}")
    return float(count)


def url(what: str, value: Any) -> str:
    """An address that starts with http:// or https://."""
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        raise InvalidValueError(f"{what} must start with http:// or https://, not {value!r}")
    return value


def name(value: Any, what: str = "a task's name") -> str:
    """A non-empty string."""
    if not isinstance(value, str) or not value:
        raise InvalidValueError(f"{what} must be a non-empty string, not {value!r}")
    return value


# -- particular arguments ---------------------------------------------------------------------------------------------


def priority(value: Any) -> int:
    """A whole number; those of other libraries (numpy's) are allowed."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise PriorityError(f"priority must be a whole number, higher ones first, not {value!r}") from None


def timeout(value: Any) -> float | None:
    """The seconds that an attempt may take; None for no limit."""
    return None if value is None else seconds("timeout", value, zero=False, error=TimeoutValueError)


def wait_timeout(value: Any) -> float | None:
    """The seconds to wait, none where the value is negative; None for no limit."""
    if value is None:
        return None
    count = value.total_seconds() if isinstance(value, timedelta) else value
    if not is_number(count) or math.isnan(count):
        raise TimeoutValueError(
            f"timeout must be a number of seconds, a timedelta, or None for no limit, not {value!r}"
        )
    return None if count == math.inf else max(0.0, float(count))


def age(value: Any) -> float:
    """The `older_than` of pruning, in seconds."""
    return seconds("older_than", value)


def update_interval(value: Any) -> float:
    """The seconds between two calls of a progress hook."""
    return seconds("update_sleep_time", value, zero=False, error=TimeoutValueError)


def tags(value: Any) -> tuple[str, ...]:
    """Strings, from one or several."""
    try:
        strings = (value,) if isinstance(value, str) else tuple(value or ())
    except TypeError:
        strings = (value,)
    for tag in strings:
        if not isinstance(tag, str):
            raise InvalidValueError(f"tags must be strings, not {tag!r}")
    return strings


def limit(what: str, value: Any) -> int | None:
    """How many tasks may run at once; None for no limit."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise LaneError(f"the limit of {what!r} must be a whole number from 0 on, or None for no limit, not {value!r}")
    return value


def keep_count(value: Any) -> int | None:
    """How many completed tasks to keep; None for all."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise InvalidValueError(f"max_succeeded_tasks must be a whole number from 0 on, or None for all, not {value!r}")
    return value


def callback(value: Any) -> Callable[[Any, Any], Any]:
    """A callable that takes a task and an event type."""
    if not callable(value):
        raise WorkError(f"an event callback must be callable with (task, event_type), not {value!r}")
    return value  # type: ignore[no-any-return]


def progress(value: Any, task_name: str) -> float | None:
    """Progress from 0.0 to 100.0, clamped with a warning; None for None, -1 and NaN, which mean unknown."""
    if value is None:
        return None
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        percent = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ProgressError(
            f"progress must be a number from 0 to 100, or None or -1 for unknown, not {value!r}"
        ) from None
    if percent == -1 or math.isnan(percent):
        return None
    if not 0.0 <= percent <= 100.0:
        try:
            warnings.warn(f"progress {value!r} of {task_name!r} is not from 0 to 100: clamped", stacklevel=3)
        except UserWarning as warning:  # where warnings are errors: progress must not fail the work
            logger.warning("%s", warning)
    return min(100.0, max(0.0, percent))
