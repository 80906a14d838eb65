"""`TaskOptions`: what a task may be given when it is created, beside its name, work, priority and lane.

Must not know what becomes of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

if TYPE_CHECKING:
    from nbtasks.retry import Retry
    from nbtasks.task import Task

__all__ = ["TaskOptions", "spelled_out"]

F = TypeVar("F", bound=Callable[..., Any])


class TaskOptions(TypedDict, total=False):
    """The options of `manager.create_task`. What is left out is as a `Task` has it: None, or empty."""

    backend: str | None
    """Where it runs; None: plain functions in a thread, coroutines on the loop."""
    timeout: float | timedelta | None
    """Seconds that one attempt may take."""
    retry: Retry | None
    after: Iterable[Task | str] | Task | str
    """Tasks that must complete before it starts."""
    parent: Task | str | None
    """The task with which it is cancelled."""
    tags: Iterable[str]
    parameters: Mapping[str, Any] | None
    heading: str | None
    body: str | None
    img: Any


_EMPTY = ("after", "tags")


def spelled_out(function: F) -> F:
    """Have the signature of a function that takes `**options` name them all, for help and completion.

    Python looks at every keyword that a function declares, given or not, at each call: for a function that hands on a
    task in three microseconds that is a twentieth of its time.
    """
    signature = inspect.signature(function)
    *others, last = signature.parameters.values()
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=() if name in _EMPTY else None,
            annotation=kind.__forward_arg__,  # the text of it, as `from __future__ import annotations` leaves it
        )
        for name, kind in TaskOptions.__annotations__.items()
    ]
    if last.kind is not last.VAR_KEYWORD:
        raise TypeError(f"{function!r} takes no **options")
    function.__signature__ = signature.replace(parameters=[*others, *options])  # type: ignore[attr-defined]
    return function
