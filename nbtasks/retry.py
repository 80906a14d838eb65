"""When a failed attempt is followed by another, and after how long: pure values.

Must know nothing of tasks or of what carries the retry out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from nbtasks.exceptions import RetryError

__all__ = ["Retry"]


@dataclass(frozen=True)
class Retry:
    """A retry policy.

    `attempts` counts the first one too. Before attempt n+1 the task waits `delay * backoff ** (n - 1)` seconds, plus a
    random share of up to `jitter` seconds. Only errors that are instances of `on` are retried. Raises RetryError.
    """

    attempts: int = 3
    delay: float = 1.0
    backoff: float = 2.0
    jitter: float = 0.0
    on: type[BaseException] | tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise RetryError(f"attempts must be a whole number from 1 on, not {self.attempts!r}")
        for name, least in (("delay", 0.0), ("backoff", 1.0), ("jitter", 0.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
                raise RetryError(f"{name} must be a number from {least:g} on, not {value!r}")
        errors = self.on if isinstance(self.on, tuple) else (self.on,)
        for error in errors:
            if not (isinstance(error, type) and issubclass(error, BaseException)):
                raise RetryError(f"on must name exception classes, not {error!r}")
        object.__setattr__(self, "on", errors)

    def allows(self, attempts_made: int, error: BaseException) -> bool:
        """Whether another attempt follows after `attempts_made` of them, the last of which raised `error`."""
        return attempts_made < self.attempts and isinstance(error, self.on)

    def seconds_before_next(self, attempts_made: int, rng: random.Random) -> float:
        """How long the task waits before its next attempt."""
        return self.delay * self.backoff ** (attempts_made - 1) + (rng.uniform(0, self.jitter) if self.jitter else 0.0)
