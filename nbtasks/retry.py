"""`Retry`: when a failed attempt is followed by another, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from nbtasks import validation
from nbtasks.exceptions import RetryError

__all__ = ["MAX_DELAY", "Retry", "backed_off", "checked_retry"]

MAX_DELAY = 3600.0
"""The seconds between two attempts that a growing delay reaches at most, unless a policy says otherwise."""


@dataclass(frozen=True)
class Retry:
    """A retry policy.

    `attempts` counts the first one too. Before attempt n+1 the task waits `delay * backoff ** (n - 1)` seconds, plus a
    random share of up to `jitter` seconds. The backoff raises the delay to `max_delay` seconds at most; a `delay` that
    is longer than that stays as it is. Only errors that are instances of `on` are retried. Raises RetryError.
    """

    attempts: int = 3
    delay: float = 1.0
    backoff: float = 2.0
    jitter: float = 0.0
    on: type[BaseException] | tuple[type[BaseException], ...] = (Exception,)
    max_delay: float = MAX_DELAY

    def __post_init__(self) -> None:
        validation.whole_number("attempts", self.attempts, 1, error=RetryError)
        validation.number("delay", self.delay, error=RetryError)
        validation.number("backoff", self.backoff, 1.0, error=RetryError)
        validation.number("jitter", self.jitter, error=RetryError)
        validation.number("max_delay", self.max_delay, error=RetryError)
        errors = self.on if isinstance(self.on, tuple) else (self.on,)
        for error in errors:
            if not (isinstance(error, type) and issubclass(error, BaseException)):
                raise RetryError(f"on must name exception classes, not {error!r}")
        object.__setattr__(self, "on", errors)

    def allows(self, attempts_made: int, error: BaseException) -> bool:
        """Whether another attempt follows after `attempts_made` of them, the last of which raised `error`."""
        return attempts_made < self.attempts and isinstance(error, self.on)

    def seconds_before_next(self, attempts_made: int, rng: random.Random) -> float:
        """The seconds between the end of the last attempt and the next one."""
        seconds = backed_off(self.delay, self.backoff, attempts_made - 1, self.max_delay)
        return seconds + (rng.uniform(0, self.jitter) if self.jitter else 0.0)


def backed_off(delay: float, backoff: float, times: int, max_delay: float) -> float:
    """Return `delay * backoff ** times`, at most `max_delay`, or `delay` if that is longer."""
    if not delay:
        return 0.0
    try:
        return min(delay * float(backoff) ** times, max(delay, max_delay))
    except OverflowError:
        return max(delay, max_delay)


def checked_retry(value: Any) -> Retry | None:
    """A retry policy, or None; raises RetryError for anything else."""
    if value is not None and not isinstance(value, Retry):
        raise RetryError(f"retry must be a Retry(attempts, delay, ...), not {value!r}")
    return value
