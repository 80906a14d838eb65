"""What values tasks and managers may be given: each check returns the value in its usual form, or raises.

Pure: must know nothing of tasks or managers.
"""

from __future__ import annotations

import logging
import math
import operator
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from nbtasks.exceptions import (
    InvalidValueError,
    PriorityError,
    ProgressError,
    RetryError,
    TimeoutValueError,
    WorkError,
)

if TYPE_CHECKING:
    from nbtasks.retry import Retry

__all__ = [
    "checked_age",
    "checked_callback",
    "checked_interval",
    "checked_keep",
    "checked_name",
    "checked_priority",
    "checked_progress",
    "checked_retry",
    "checked_tags",
    "checked_timeout",
    "checked_wait",
]


logger = logging.getLogger("nbtasks")


def checked_name(name: Any) -> str:
    """A task's name: a non-empty string."""
    if not isinstance(name, str) or not name:
        raise InvalidValueError(f"a task's name must be a non-empty string, not {name!r}")
    return name


def checked_priority(priority: Any) -> int:
    """A whole number; those of other libraries are fine."""
    try:
        if isinstance(priority, bool):
            raise TypeError
        return operator.index(priority)
    except TypeError:
        raise PriorityError(f"a priority is a whole number, higher ones first, not {priority!r}") from None


def checked_timeout(timeout: Any) -> float | None:
    """Positive seconds, from a number or a timedelta; None for no limit."""
    if timeout is None:
        return None
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise TimeoutValueError(f"a time-out is a positive number of seconds, or a timedelta, not {timeout!r}")
    return float(seconds)


def checked_wait(timeout: Any) -> float | None:
    """How many seconds to wait, from a number or a timedelta; no time is left if it is negative. None: no limit."""
    if timeout is None:
        return None
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or math.isnan(seconds):
        raise TimeoutValueError(f"a wait takes a number of seconds, a timedelta, or None for no limit, not {timeout!r}")
    return None if seconds == math.inf else max(0.0, seconds)


def checked_age(age: Any) -> float:
    """Seconds from 0 on, from a number or a timedelta."""
    seconds = age.total_seconds() if isinstance(age, timedelta) else age
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise InvalidValueError(f"older_than is a number of seconds from 0 on, or a timedelta, not {age!r}")
    return float(seconds)


def checked_interval(seconds: Any) -> float:
    """Positive seconds between two calls of a progress hook."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise TimeoutValueError(f"update_sleep_time is a positive number of seconds, not {seconds!r}")
    return float(seconds)


def checked_retry(retry: Any) -> Retry | None:
    """A retry policy, or None."""
    if retry is None:
        return None
    from nbtasks.retry import Retry  # see `nbtasks.__getattr__`

    if not isinstance(retry, Retry):
        raise RetryError(f"retry must be a Retry(attempts, delay, ...), not {retry!r}")
    return retry


def checked_tags(tags: Any) -> tuple[str, ...]:
    """Strings, from one or several."""
    try:
        named = (tags,) if isinstance(tags, str) else tuple(tags or ())
    except TypeError:
        named = (tags,)
    for tag in named:
        if not isinstance(tag, str):
            raise InvalidValueError(f"tags are strings, not {tag!r}")
    return named


def checked_keep(keep: Any) -> int | None:
    """How many tasks to keep: a whole number from 0 on, or None for all."""
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 0):
        raise InvalidValueError(f"max_succeeded_tasks is a whole number from 0 on, or None for all, not {keep!r}")
    return keep


def checked_callback(callback: Any) -> Callable[[Any, Any], Any]:
    """Something that can be called with a task and an event type."""
    if not callable(callback):
        raise WorkError(f"an event callback must be callable with (task, event_type), not {callback!r}")
    return callback  # type: ignore[no-any-return]


def checked_progress(value: Any, name: str) -> float | None:
    """From 0.0 to 100.0, clamped with a warning; None for None, -1 and NaN, which mean unknown. Of the task `name`."""
    if value is None:
        return None
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ProgressError(
            f"progress must be a number from 0 to 100, or None or -1 for unknown, not {value!r}"
        ) from None
    if number == -1 or math.isnan(number):
        return None
    if not 0.0 <= number <= 100.0:
        try:
            warnings.warn(f"progress {value!r} of {name!r} is not from 0 to 100: clamped", stacklevel=3)
        except UserWarning as warning:  # where warnings are errors: progress does not fail the work
            logger.warning("%s", warning)
    return min(100.0, max(0.0, number))
