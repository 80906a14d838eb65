"""Fire times compared with cronsim and croniter, and a table of the differences."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice, starmap
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterBadDateError, croniter
from cronsim import CronSim, CronSimError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nbtasks.exceptions import InvalidScheduleError
from nbtasks.schedules import next_fire_times
from tests.examples import examples
from tests.schedules.cron_oracle import Job
from tests.schedules.cron_strategies import jobs

ANY_ZONE = [
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "America/Santiago",
]
# With wildcards cronsim goes astray where a clock changes at midnight or by half an hour: see DIFFERENCES.
WHOLE_HOUR_ZONES = ["UTC", "Europe/Paris", "Europe/London", "America/New_York", "America/Los_Angeles"]
COUNT = 5


@st.composite
def starts(draw: st.DrawFn, zone: ZoneInfo) -> datetime:
    """A moment to begin at, often near a change of some clock, never in the second pass of a repeat."""
    day = datetime(draw(st.integers(1987, 2036)), draw(st.sampled_from([1, 2, 3, 4, 9, 10, 11])), 1, tzinfo=UTC)
    moment = (day + timedelta(seconds=draw(st.integers(0, 30 * 24 * 3600)))).astimezone(zone)
    assume(moment.fold == 0)
    return moment


def agrees_with_cronsim(job: Job, start: datetime) -> None:
    try:
        expected = list(islice(CronSim(job.expression, start), COUNT))
    except CronSimError:
        with pytest.raises(InvalidScheduleError, match="never fires"):
            next_fire_times(job.expression, start.tzinfo, start, COUNT)
        return
    try:
        times = next_fire_times(job.expression, start.tzinfo, start, len(expected))
    except InvalidScheduleError:  # it never fires: cronsim looks 50 years ahead and stops
        assert expected == []
        return
    assert [time.isoformat() for time in times] == [time.isoformat() for time in expected]


@given(jobs(), st.data())
@settings(max_examples=120, deadline=None)
def test_fires_when_cronsim_does(job, data):
    zone = ZoneInfo(data.draw(st.sampled_from(WHOLE_HOUR_ZONES if job.wild else ANY_ZONE)))
    agrees_with_cronsim(job, data.draw(starts(zone)))


@pytest.mark.long
@given(jobs(), st.data())
@settings(max_examples=30_000, deadline=None)
def test_fires_when_cronsim_does_at_length(job, data):
    zone = ZoneInfo(data.draw(st.sampled_from(WHOLE_HOUR_ZONES if job.wild else ANY_ZONE)))
    agrees_with_cronsim(job, data.draw(starts(zone)))


# Where cronsim does otherwise: the expression, the zone, the start as a wall time (`x2`: in the second pass of a
# repeat), our fire, cronsim's; then the reason.
DIFFERENCES = """
5-5/10 * * * * | UTC | 2024-01-01T00:05 | 2024-01-01T01:05+00:00 | 2024-01-01T00:15+00:00
    cronie: a range of one value has that value, whatever its step; cronsim reads 5/10
0 0 * * FRI-SUN | UTC | 2024-01-01T00:00 | 2024-01-05T00:00+00:00 | Bad day-of-week
    cronie: a range of weekdays that ends with 0 ends with 7
0 0 * * FRIL | UTC | 2024-01-01T00:00 | 2024-01-26T00:00+00:00 | Bad day-of-week
    a name stands for its number anywhere
0 0 15W * * | UTC | 2024-06-01T00:00 | 2024-06-14T00:00+00:00 | Bad day-of-month
    as in croniter since 6.2 and in Quartz
0 0 */31 * MON#5 | UTC | 2024-01-01T00:00 | never fires | StopIteration
    refused at once; cronsim looks 50 years ahead and stops
0 30 2 * * * | Europe/Paris | 2024-03-30T12:00 | 2024-03-31T03:00+02:00 | 2024-04-01T02:30+02:00
    the gap's rule holds for six fields too: a second of 0 changes nothing; cronsim has none for six
0 30 2 * * * | Europe/Paris | 2024-10-27T02:30 | 2024-10-28T02:30+01:00 | 2024-10-27T02:30+01:00
    so does the repeat's
30 2 * * * | Europe/Paris | 2024-10-27T02:15 x2 | 2024-10-28T02:30+01:00 | 2024-10-27T02:30+02:00
    cronsim goes back to the first pass, a fire before the start
0 12 * * * | Pacific/Apia | 2011-12-29T13:00 | 2011-12-31T12:00+14:00 | 2011-12-31T00:00+14:00
    cronie: a jump of more than three hours is a correction of the clock
0 12 * * * | Pacific/Kwajalein | 1969-09-30T12:00 | 1969-09-30T12:00-12:00 | 1969-10-01T12:00-12:00
    cronie: so is one back
0 0 7 1 * | Africa/Monrovia | 1972-01-06T12:00 | 1972-01-07T00:44:30+00:00 | 1972-01-07T00:45+00:00
    right after a gap that ends within a minute; cronsim walks on by whole minutes
* 5 * * * | Australia/Lord_Howe | 2024-10-05T12:00 | 2024-10-06T05:00+11:00 | 2024-10-06T05:30+11:00
    cronsim's walk by whole hours is out of step after a change by half an hour
*/15 0 * * 5L | Asia/Amman | 2018-03-06T01:00 | 2018-04-27T00:00+03:00 | 2018-03-30T00:00+02:00
    cronsim's walk by days lands on a midnight that the clock skipped, as an hour before it
"""


def difference(row: str, reason: str) -> object:
    expression, zone, start, ours, theirs = (cell.strip() for cell in row.split("|"))
    text, _, second = start.partition(" ")
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=int(bool(second)))
    return pytest.param(expression, moment, ours, theirs, id=f"{expression} {zone}: {reason.strip()}")


LINES = DIFFERENCES.strip().splitlines()


def outcome(work: Callable[[], datetime]) -> str:
    """The fire's time, or what the error says."""
    try:
        return work().isoformat().replace(":00+", "+").replace(":00-", "-")
    except (InvalidScheduleError, CronSimError, StopIteration) as error:
        return str(error) or type(error).__name__


@pytest.mark.parametrize(
    ("expression", "start", "ours", "theirs"),
    list(starmap(difference, zip(LINES[::2], LINES[1::2], strict=True))),
)
def test_differs_from_cronsim(expression, start, ours, theirs):
    assert ours in outcome(lambda: next_fire_times(expression, start.tzinfo, start, 1)[0])
    assert theirs in outcome(lambda: next(CronSim(expression, start)))


@given(jobs(), st.datetimes(datetime(1990, 1, 1), datetime(2036, 1, 1)))  # noqa: DTZ001
@settings(max_examples=examples(60, 200), deadline=None)
def test_fires_when_any_croniter_does_where_no_clock_changes(job, start):
    """On wall times, with one of the days unrestricted, all of croniter's versions mean what cronie means."""
    assume("*" in (job.texts[2], job.texts[4]))
    # A range of one value is the whole field for croniter, and 59/15 is in some versions.
    assume(not re.search(r"\b(\d+)-\1\b|\b(?<!-)\d+/", job.expression))
    iterator = croniter(job.expression, start)
    try:
        expected = [iterator.get_next(datetime) for _ in range(COUNT)]
    except CroniterBadDateError:
        with pytest.raises(InvalidScheduleError, match="never fires"):
            next_fire_times(job.expression, "UTC", start, COUNT)
        return
    times = next_fire_times(job.expression, "UTC", start, COUNT)
    assert [time.replace(tzinfo=None) for time in times] == expected
