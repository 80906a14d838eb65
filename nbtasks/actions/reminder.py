"""`reminder_timer`: print a message after some time."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from nbtasks import validation
from nbtasks.exceptions import InvalidValueError
from nbtasks.task import Task

__all__ = ["reminder_timer"]

_STEP_SECONDS = 0.25


async def reminder_timer(task: Task, duration_seconds: float | timedelta, message: str) -> str:
    """After `duration_seconds` print `message`, make it the task's heading, and return it.

    The progress is the share of the time that has passed; the body shows the time left.
    """
    seconds = validation.seconds("duration_seconds", duration_seconds)
    if not isinstance(message, str) or not message:
        raise InvalidValueError(f"message must be a non-empty text, not {message!r}")
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        task.progress = 100.0 * (1.0 - left / seconds)
        task.body = f"{timedelta(seconds=round(left))} left"
        await asyncio.sleep(min(left, _STEP_SECONDS))
    task.heading, task.body = message, ""
    print(message, flush=True)  # noqa: T201 - the purpose of this action
    return message
