"""Rows of the table, and how two sides are measured in turns in the same run.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Row", "in_turns", "seconds"]

ROUNDS = 7
"""How many times each side is measured, unless a row says otherwise."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `ours` and `peer` are one number for each round, measured in turns.
    `at_most` is the target: of the ratio ours / peer, or of our own number where there is no peer.
    """

    name: str
    ours: list[float]
    peer: list[float] = field(default_factory=list)
    beside: str = ""
    """What the peer is."""
    unit: str = "us"
    at_most: float | None = None
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """Ours against the peer's, one for each round."""
        return [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)] if self.peer else []

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.at_most is None:
            return None
        return statistics.median(self.ratios or self.ours) <= self.at_most


def in_turns(
    ours: Callable[[], float], peer: Callable[[], float], rounds: int = ROUNDS
) -> tuple[list[float], list[float]]:
    """Both sides measured `rounds` times in turns, after one round that does not count."""
    results: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        pair = []
        for measure in (ours, peer):
            gc.collect()  # neither side pays for what the other left behind
            pair.append(measure())
        results.append((pair[0], pair[1]))
    return [a for a, _ in results[1:]], [b for _, b in results[1:]]


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long one call takes."""
    start = clock()
    call()
    return clock() - start
