"""Checks of what is given for a task: each returns the value as it is kept, or raises and says what is allowed.

Must not know managers, nor what the values are used for.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from nbtasks.exceptions import (
    DependencyCycleError,
    InvalidValueError,
    PriorityError,
    RetryError,
    TimeoutValueError,
    UnknownBackendError,
    unknown,
)
from nbtasks.task import Task
from nbtasks.work import Once

__all__ = [
    "check_cycle",
    "check_retry",
    "check_template",
    "checked_keep",
    "checked_priority",
    "checked_tags",
    "checked_timeout",
]


def checked_priority(priority: Any) -> int:
    """A whole number."""
    try:
        if isinstance(priority, bool):
            raise TypeError
        return operator.index(priority)
    except TypeError:
        raise PriorityError(f"a priority is a whole number, higher ones first, not {priority!r}") from None


def checked_timeout(timeout: Any) -> float:
    """Seconds."""
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise TimeoutValueError(f"a time-out is a positive number of seconds, or a timedelta, not {timeout!r}")
    return float(seconds)


def check_retry(task: Task) -> None:
    """Its retry policy is one, and its work can be called again."""
    from nbtasks.retry import Retry  # see `nbtasks.__getattr__`

    if not isinstance(task.retry, Retry):
        raise RetryError(f"retry must be a Retry(attempts, delay, ...), not {task.retry!r}")
    if isinstance(task._work, Once):
        raise RetryError(
            f"{task.name!r}: a coroutine object runs once; give the coroutine function to have it retried"
        )


def checked_tags(tags: str | Iterable[Any] | None) -> tuple[str, ...]:
    """Strings, none, one or several."""
    named = (tags,) if isinstance(tags, str) else tuple(tags or ())
    for tag in named:
        if not isinstance(tag, str):
            raise InvalidValueError(f"tags are strings, not {tag!r}")
    return named


def checked_keep(keep: Any) -> int | None:
    """How many tasks are kept; None: all."""
    if keep is None:
        return None
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
        raise InvalidValueError(f"max_succeeded_tasks is a whole number from 0 on, or None for all, not {keep!r}")
    return keep


def check_cycle(task: Task, other: Task) -> None:
    """That `other`, which was not added yet, does not come after `task` itself."""
    seen: list[Task] = []
    todo = [other]
    while todo:
        if (found := todo.pop()) is task:
            names = " after ".join(repr(one.name) for one in (task, *seen, task))
            raise DependencyCycleError(f"tasks that come after each other never start: {names}")
        if found not in seen:
            seen.append(found)
            todo.extend(one for one in (found.after or ()) if isinstance(one, Task))


def check_template(template: Task, lanes: Mapping[str, Any], backends: Mapping[str, Any]) -> None:
    """That tasks like this one can be added, whose fields it makes ready for that. An unknown lane raises, too."""
    lanes[template.lane]
    if template.backend not in backends:
        raise UnknownBackendError(unknown("backend", template.backend, backends))
    template.priority = checked_priority(template.priority)
    template.tags = checked_tags(template.tags)
    if template.timeout is not None:
        template.timeout = checked_timeout(template.timeout)
    if template.retry is not None:
        check_retry(template)
