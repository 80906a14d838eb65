"""Fire times of cron expressions, compared with croniter and cronsim.

Run alone: `python -m benchmarks.cron`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.metadata import version
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

from benchmarks.rows import Row, in_turns
from nbtasks.schedules import CronSchedule

ZONE = ZoneInfo("Europe/Paris")
START = datetime(2024, 3, 1, 12, 34, 56, tzinfo=ZONE)
CALLS = 500
FREQUENT = ("* * * * *", "*/5 * * * *", "*/15 9-17 * * 1-5", "0 * * * *", "0 8 * * *", "0 8 * * 1-5", "0 0 1 * *")
CRONITER = f"croniter {version('croniter')}"
CRONSIM = f"cronsim {version('cronsim')}"

Fire = Callable[[], object]


def following_fire() -> Iterator[Row]:
    """The fire after the last one, as a schedule that is on computes it."""
    for expression in FREQUENT:
        for peer, follow in ((CRONITER, follow_croniter), (CRONSIM, follow_cronsim)):
            ours, theirs = beside(lambda: follow_ours(expression), lambda: follow(expression))  # noqa: B023
            yield row(f"fire after fire, {expression}", ours, theirs, peer)


def first_fire() -> Iterator[Row]:
    """The first fire of an expression that is only text as yet, as while it is typed."""
    for expression in FREQUENT:
        for peer, read in ((CRONITER, read_croniter), (CRONSIM, read_cronsim)):
            ours, theirs = beside(lambda: read_ours(expression), lambda: read(expression))  # noqa: B023
            # croniter reads the expression for both sides.
            yield row(f"from text, {expression}", ours, theirs, peer, at_most=1.25)


def rare_fire() -> Iterator[Row]:
    """The next leap day."""
    expression = "0 0 29 2 *"
    ours, theirs = beside(lambda: read_ours(expression), lambda: read_croniter(expression))
    yield row(f"from text, {expression}", ours, theirs, CRONITER)


ROWS = (following_fire, first_fire, rare_fire)


def follow_ours(expression: str) -> Fire:
    """Each call gives the next fire."""
    schedule, moment = CronSchedule(expression, ZONE), START

    def fire() -> object:
        nonlocal moment
        later = schedule.next_after(moment)
        assert later is not None
        moment = later
        return moment

    return fire


def follow_croniter(expression: str) -> Fire:
    """Each call gives croniter's next fire."""
    fires = croniter(expression, START)
    return lambda: fires.get_next(datetime)


def follow_cronsim(expression: str) -> Fire:
    """Each call gives cronsim's next fire."""
    fires = CronSim(expression, START)
    return lambda: next(fires)


def read_ours(expression: str) -> Fire:
    """Each call reads the expression and gives its first fire."""
    return lambda: CronSchedule(expression, ZONE).next_after(START)


def read_croniter(expression: str) -> Fire:
    """Each call has croniter read the expression and give its first fire."""
    return lambda: croniter(expression, START).get_next(datetime)


def read_cronsim(expression: str) -> Fire:
    """Each call has cronsim read the expression and give its first fire."""
    return lambda: next(CronSim(expression, START))


def beside(ours: Callable[[], Fire], peer: Callable[[], Fire]) -> tuple[list[float], list[float]]:
    """Both in turns, each from the start in each round: microseconds a call."""
    return in_turns(lambda: microseconds(ours()), lambda: microseconds(peer()))


def microseconds(fire: Fire) -> float:
    """What one of many calls takes."""
    start = time.perf_counter()
    for _ in range(CALLS):
        fire()
    return (time.perf_counter() - start) / CALLS * 1e6


def row(name: str, ours: list[float], theirs: list[float], peer: str, at_most: float = 1.0) -> Row:
    """A line of the table. The limit is on the ratio to croniter; cronsim is for comparison."""
    return Row(name, ours, theirs, peer, at_most=at_most if peer == CRONITER else None)


def main() -> None:
    """Print the rows: name, ours, peer, ratio."""
    for measure in ROWS:
        for line in measure():
            ours, theirs = statistics.median(line.ours), statistics.median(line.peer)
            ratio = statistics.median(line.ratios)
            print(f"{line.name:<36} {ours:7.1f} us {theirs:7.1f} us {line.beside:<15} {ratio:.2f}")


if __name__ == "__main__":
    main()
