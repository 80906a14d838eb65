"""`periodic_health_check`: request an address repeatedly, record the answers."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nbtasks import validation
from nbtasks.packages import require
from nbtasks.task import Task

__all__ = ["HealthCheck", "HealthSummary", "periodic_health_check"]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One check: its time, HTTP status (None: no answer) and latency in seconds."""

    at: datetime
    status: int | None
    latency: float | None
    error: str | None = None
    """Why the check failed; None where it did not."""

    @property
    def healthy(self) -> bool:
        """Whether there was an answer without an error."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class HealthSummary:
    """All checks of an address. Latencies are seconds, of checks with an answer."""

    url: str
    checks: tuple[HealthCheck, ...]

    @property
    def failures(self) -> tuple[HealthCheck, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.healthy)

    @property
    def availability(self) -> float:
        """The share of the checks that passed, from 0.0 to 1.0."""
        return 1.0 - len(self.failures) / len(self.checks)

    @property
    def latencies(self) -> tuple[float, ...]:
        """The latencies, in order."""
        return tuple(check.latency for check in self.checks if check.latency is not None)

    @property
    def mean_latency(self) -> float | None:
        """None if there was no answer."""
        return statistics.fmean(self.latencies) if self.latencies else None

    @property
    def max_latency(self) -> float | None:
        """None if there was no answer."""
        return max(self.latencies, default=None)

    def __str__(self) -> str:
        latency = "" if self.mean_latency is None else f", {1000 * self.mean_latency:.0f} ms on average"
        return f"{len(self.checks) - len(self.failures)} of {len(self.checks)} checks passed{latency}"


async def periodic_health_check(
    task: Task,
    url: str,
    interval_seconds: float | timedelta = 60,
    max_checks: int = 10,
    *,
    timeout_seconds: float | timedelta = 10,
    client: Any = None,
) -> HealthSummary:
    """Get `url` `max_checks` times, every `interval_seconds` from start to start, the first time at once.

    An answer with a status of 400 or more is a failed check, and so is none within `timeout_seconds`; neither ends the
    task. `client` is an httpx.AsyncClient of yours, with headers, certificates and the like.
    """
    validation.url("url", url)
    interval = validation.seconds("interval_seconds", interval_seconds, zero=False)
    limit = validation.seconds("timeout_seconds", timeout_seconds, zero=False)
    validation.whole_number("max_checks", max_checks, 1)
    httpx = require("httpx", "periodic_health_check")
    checks: list[HealthCheck] = []
    own = httpx.AsyncClient(follow_redirects=True, timeout=None) if client is None else None
    try:
        due = time.monotonic()
        while True:
            checks.append(await _check(httpx, own or client, url, limit))
            summary = HealthSummary(url, tuple(checks))
            task.progress = 100.0 * len(checks) / max_checks
            task.body = f"{summary}; last: {checks[-1].error or checks[-1].status}"
            if len(checks) == max_checks:
                return summary
            due = max(due + interval, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
    finally:
        if own is not None:
            await own.aclose()


async def _check(httpx: Any, client: Any, url: str, limit: float) -> HealthCheck:
    at, start = datetime.now(UTC), time.perf_counter()
    try:
        async with asyncio.timeout(limit):
            response = await client.get(url)
    except TimeoutError:
        return HealthCheck(at, None, None, f"no answer within {limit:g} s")
    except httpx.HTTPError as error:
        return HealthCheck(at, None, None, f"{type(error).__name__}: {error}")
    latency = time.perf_counter() - start
    failure = f"{response.status_code} {response.reason_phrase}" if response.status_code >= 400 else None
    return HealthCheck(at, response.status_code, latency, failure)
