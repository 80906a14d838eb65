"""Clock changes: tables of gaps and repeats, and cronie's main loop as an oracle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbtasks.exceptions import InvalidScheduleError
from nbtasks.schedules import CronSchedule, next_fire_times
from tests.schedules.cron_oracle import MINUTE, Job, fires
from tests.schedules.cron_strategies import Text, jobs
from tests.schedules.cron_tables import rows

DAY = timedelta(days=1)

PARIS, NEW_YORK, LORD_HOWE = "Europe/Paris", "America/New_York", "Australia/Lord_Howe"
CASABLANCA, KATHMANDU, APIA, BEIRUT = "Africa/Casablanca", "Asia/Kathmandu", "Pacific/Apia", "Asia/Beirut"
KWAJALEIN = "Pacific/Kwajalein"

# By zone and year, each line: the expression, the start as a wall time, the fires after it, what that shows.
GAPS = {
    # On 31 March 02:00 +01:00 becomes 03:00 +02:00.
    (PARIS, 2024): """
    30 2 * * *       | 03-30T02:30 | 03-31T03:00+02:00 04-01T02:30+02:00 | a skipped time fires right after
    0 2 * * *        | 03-31T00:00 | 03-31T03:00+02:00 04-01T02:00+02:00 | so does the gap's first minute
    0 3 * * *        | 03-31T00:00 | 03-31T03:00+02:00 04-01T03:00+02:00 | the gap's end is not in it
    0,20,40 2 * * *  | 03-31T00:00 | 03-31T03:00+02:00 04-01T02:00+02:00 | several skipped times fire once
    0 2,3 * * *      | 03-31T00:00 | 03-31T03:00+02:00 04-01T02:00+02:00 | once with what is due just then
    0-59/30 1-3 * * *| 03-31T01:30 | 03-31T03:00+02:00 03-31T03:30+02:00 | a stepped range is fixed
    0 0-22/2 * * *   | 03-31T00:00 | 03-31T03:00+02:00 03-31T04:00+02:00 | an enumerated other hour is fixed
    30,* 2 * * *     | 03-31T00:00 | 03-31T03:00+02:00 04-01T02:00+02:00 | so is a list with a star later on
    30 2 */1 * *     | 03-31T00:00 | 03-31T03:00+02:00 04-01T02:30+02:00 | a star elsewhere does not count
    30 2 31 3 *      | 01-01T00:00 | 03-31T03:00+02:00 2025-03-31T02:30+02:00 | a yearly time
    30 2 * * 1       | 03-30T00:00 | 04-01T02:30+02:00 | a day that does not match is not made up
    */30 * * * *     | 03-31T01:15 | 03-31T01:30+01:00 03-31T03:00+02:00 | wildcard minutes go by elapsed time
    30 * * * *       | 03-31T01:00 | 03-31T01:30+01:00 03-31T03:30+02:00 | so do wildcard hours
    */15 2 * * *     | 03-30T02:45 | 04-01T02:00+02:00 04-01T02:15+02:00 | what they skip stays skipped
    0 */2 * * *      | 03-31T00:00 | 03-31T04:00+02:00 03-31T06:00+02:00 | every other hour by a star
    0 30 2 * * *     | 03-30T12:00 | 03-31T03:00+02:00 04-01T02:30+02:00 | six fields as five
    20 30 2 * * *    | 03-31T00:00 | 03-31T03:00+02:00 04-01T02:30:20+02:00 | six fields, a fixed second
    */30 30 2 * * *  | 03-31T00:00 | 04-01T02:30+02:00 04-01T02:30:30+02:00 | six fields, wildcard seconds
    """,
    # On 10 March 02:00 -05:00 becomes 03:00 -04:00.
    (NEW_YORK, 2024): """
    15 2 * * *       | 03-09T12:00 | 03-10T03:00-04:00 03-11T02:15-04:00 | skipped
    */45 * * * *     | 03-10T01:00 | 03-10T01:45-05:00 03-10T03:00-04:00 | by elapsed time
    """,
    # On 6 October 02:00 +10:30 becomes 02:30 +11:00.
    (LORD_HOWE, 2024): """
    15 2 * * *       | 10-06T00:00 | 10-06T02:30+11:00 10-07T02:15+11:00 | skipped by half an hour
    45 2 * * *       | 10-06T00:00 | 10-06T02:45+11:00 10-07T02:45+11:00 | not skipped by half an hour
    */20 * * * *     | 10-06T01:30 | 10-06T01:40+10:30 10-06T02:40+11:00 | half an hour by elapsed time
    """,
    # On 14 April, the end of Ramadan, 02:00 +00:00 becomes 03:00 +01:00.
    (CASABLANCA, 2024): """
    30 2 * * *       | 04-13T12:00 | 04-14T03:00+01:00 04-15T02:30+01:00 | skipped
    """,
    # On 31 March 00:00 +02:00 becomes 01:00 +03:00.
    (BEIRUT, 2024): """
    0 0 * * *        | 03-30T12:00 | 03-31T01:00+03:00 04-01T00:00+03:00 | midnight is skipped
    0 0 L * *        | 03-30T12:00 | 03-31T01:00+03:00 04-30T00:00+03:00 | the last day's midnight is skipped
    */30 0 * * *     | 03-30T12:00 | 04-01T00:00+03:00 04-01T00:30+03:00 | midnight's wildcard minutes
    """,
    # On 1 January 00:00 +05:30 becomes 00:15 +05:45.
    (KATHMANDU, 1986): """
    5 0 * * *        | 01-01T00:15 | 01-02T00:05+05:45 | what fired right after does not fire again
    5 0 * * *        | 1985-12-31T12:00 | 01-01T00:15+05:45 01-02T00:05+05:45 | a quarter of an hour
    0 0 1 1 *        | 1985-12-31T12:00 | 01-01T00:15+05:45 1987-01-01T00:00+05:45 | a new year's midnight
    """,
    # 30 December never was: -10:00 became +14:00, a correction of the clock.
    (APIA, 2011): """
    0 12 * * *       | 12-29T00:00 | 12-29T12:00-10:00 12-31T12:00+14:00 | a skipped day is not made up
    0 12 30 * *      | 12-29T00:00 | 2012-01-30T12:00+14:00 | nor is a date in it
    0 */12 * * *     | 12-29T11:00 | 12-29T12:00-10:00 12-31T00:00+14:00 | wildcard hours go on after it
    """,
}
REPEATS = {
    # On 27 October 03:00 +02:00 becomes 02:00 +01:00.
    (PARIS, 2024): """
    30 2 * * *       | 10-26T12:00 | 10-27T02:30+02:00 10-28T02:30+01:00 | a repeated time fires first time
    0 2 * * *        | 10-26T12:00 | 10-27T02:00+02:00 10-28T02:00+01:00 | so does the repeat's first minute
    0 3 * * *        | 10-26T12:00 | 10-27T03:00+01:00 10-28T03:00+01:00 | the repeat's end is shown once
    0,30 2-3 * * *   | 10-27T02:00 | 10-27T02:30+02:00 10-27T03:00+01:00 10-27T03:30+01:00 | several times
    0 0-23 * * *     | 10-27T01:00 | 10-27T02:00+02:00 10-27T03:00+01:00 | enumerated hours are fixed
    */30 * * * *     | 10-27T02:00 | 10-27T02:30+02:00 10-27T02:00+01:00 10-27T02:30+01:00 | by elapsed time
    */30 2 * * *     | 10-27T02:15 | 10-27T02:30+02:00 10-27T02:00+01:00 10-27T02:30+01:00 | in one hour only
    30 * * * *       | 10-27T02:00 | 10-27T02:30+02:00 10-27T02:30+01:00 10-27T03:30+01:00 | wildcard hours
    0 */2 * * *      | 10-27T00:00 | 10-27T02:00+02:00 10-27T02:00+01:00 10-27T04:00+01:00 | every other hour
    15 30 2 * * *    | 10-26T12:00 | 10-27T02:30:15+02:00 10-28T02:30:15+01:00 | six fields, a fixed second
    */40 59 2 * * *  | 10-27T02:59 | 10-27T02:59:40+02:00 10-27T02:59+01:00 | six fields, wildcard seconds
    """,
    # On 3 November 02:00 -04:00 becomes 01:00 -05:00.
    (NEW_YORK, 2024): """
    30 1 * * *       | 11-02T12:00 | 11-03T01:30-04:00 11-04T01:30-05:00 | repeated
    """,
    # On 7 April 02:00 +11:00 becomes 01:30 +10:30.
    (LORD_HOWE, 2024): """
    45 1 * * *       | 04-06T12:00 | 04-07T01:45+11:00 04-08T01:45+10:30 | repeated by half an hour
    15 1 * * *       | 04-06T12:00 | 04-07T01:15+11:00 04-08T01:15+10:30 | not repeated by half an hour
    */20 1 * * *     | 04-07T01:20 | 04-07T01:40+11:00 04-07T01:40+10:30 04-08T01:00+10:30 | by elapsed time
    """,
    # On 10 March, the beginning of Ramadan, 03:00 +01:00 becomes 02:00 +00:00.
    (CASABLANCA, 2024): """
    30 2 * * *       | 03-09T12:00 | 03-10T02:30+01:00 03-11T02:30+00:00 | repeated
    """,
    # On 27 October 00:00 +03:00 becomes 23:00 +02:00 of the day before.
    (BEIRUT, 2024): """
    30 23 26 10 *    | 10-26T12:00 | 10-26T23:30+03:00 2025-10-26T23:30+02:00 | the evening is repeated
    0 0 * * *        | 10-26T12:00 | 10-27T00:00+02:00 10-28T00:00+02:00 | midnight comes once
    """,
    # 30 September came twice: +11:00 became -12:00, a correction of the clock.
    (KWAJALEIN, 1969): """
    0 12 * * *       | 09-30T00:00 | 09-30T12:00+11:00 09-30T12:00-12:00 10-01T12:00-12:00 | a repeated day
    """,
}


def table(changes: dict[tuple[str, int], str]) -> list[object]:
    return [row for (zone, year), lines in changes.items() for row in rows(zone, year, lines)]


@pytest.mark.parametrize(("expression", "zone", "start", "expected"), table(GAPS))
def test_a_gap(expression, zone, start, expected):
    times = next_fire_times(expression, zone, start, len(expected))
    assert [time.isoformat() for time in times] == expected


@pytest.mark.parametrize(("expression", "zone", "start", "expected"), table(REPEATS))
def test_a_repeat(expression, zone, start, expected):
    times = next_fire_times(expression, zone, start, len(expected))
    assert [time.isoformat() for time in times] == expected


def test_the_second_pass_of_a_repeat_holds_no_fixed_time():
    start = datetime(2024, 10, 27, 2, 15, fold=1, tzinfo=ZoneInfo(PARIS))
    assert next_fire_times("30 2 * * *", PARIS, start, 1)[0].isoformat() == "2024-10-28T02:30:00+01:00"


def test_the_second_pass_of_a_repeat_holds_wildcard_times():
    start = datetime(2024, 10, 27, 2, 15, fold=1, tzinfo=ZoneInfo(PARIS))
    assert next_fire_times("*/30 2 * * *", PARIS, start, 1)[0].isoformat() == "2024-10-27T02:30:00+01:00"


def test_a_moment_in_a_gap_counts_as_the_moment_that_it_stands_for():
    """Arithmetic on wall times leads there: 01:30 and an hour is 03:30."""
    zone = ZoneInfo(PARIS)
    moment = datetime(2024, 3, 31, 1, 30, tzinfo=zone) + timedelta(hours=1)
    fire = CronSchedule("*/10 * * * *", zone).next_after(moment)
    assert fire is not None
    assert fire.isoformat() == "2024-03-31T03:40:00+02:00"


def test_a_fraction_of_a_second_within_a_repeat_changes_nothing():
    start = datetime(2024, 10, 27, 2, 29, 59, 999_999, tzinfo=ZoneInfo(PARIS))
    assert next_fire_times("30 2 * * *", PARIS, start, 1)[0].isoformat() == "2024-10-27T02:30:00+02:00"


# The UTC days on which the clocks of the oracle's zones change.
CHANGES = [
    (PARIS, datetime(2024, 3, 31, tzinfo=UTC)),
    (PARIS, datetime(2024, 10, 27, tzinfo=UTC)),
    (NEW_YORK, datetime(2024, 3, 10, tzinfo=UTC)),
    (NEW_YORK, datetime(2024, 11, 3, tzinfo=UTC)),
    (LORD_HOWE, datetime(2024, 4, 6, tzinfo=UTC)),
    (LORD_HOWE, datetime(2024, 10, 5, tzinfo=UTC)),
    (CASABLANCA, datetime(2024, 3, 10, tzinfo=UTC)),
    (CASABLANCA, datetime(2024, 4, 14, tzinfo=UTC)),
    (KATHMANDU, datetime(1985, 12, 31, tzinfo=UTC)),
    (APIA, datetime(2011, 12, 30, tzinfo=UTC)),
    (BEIRUT, datetime(2024, 3, 30, tzinfo=UTC)),
    (BEIRUT, datetime(2024, 10, 26, tzinfo=UTC)),
    ("Antarctica/Casey", datetime(2009, 10, 17, tzinfo=UTC)),  # three hours forward: past the limit
    ("Antarctica/Casey", datetime(2010, 3, 4, tzinfo=UTC)),  # three hours back: within it
    ("Antarctica/Troll", datetime(2024, 3, 31, tzinfo=UTC)),  # two hours
    ("Antarctica/Troll", datetime(2024, 10, 27, tzinfo=UTC)),
    ("Pacific/Kwajalein", datetime(1969, 9, 30, tzinfo=UTC)),  # 23 hours back
    ("Europe/Lisbon", datetime(1992, 9, 27, tzinfo=UTC)),  # summer time ends and the clock stays
]
HOURS = [
    ("*", range(24)),
    ("*/2", range(0, 24, 2)),
    ("0-23", range(24)),
    ("0,1,2,3,4", range(5)),
    ("1-3", range(1, 4)),
    ("2", [2]),
    ("22,23,0", [0, 22, 23]),
]


def near_hours() -> st.SearchStrategy[Text]:
    """Hours that most clock changes meet."""
    return st.sampled_from(HOURS).map(lambda pair: (pair[0], frozenset(pair[1])))


def agrees_with_cronie(job: Job, change: tuple[str, datetime], minutes: int) -> None:
    zone, day = change
    start, length = day - DAY, 3 * DAY
    expected = fires(job, zone, start, length)
    try:
        schedule = CronSchedule(job.expression, zone)
    except InvalidScheduleError:  # it never fires
        assert expected == []
        return
    moment = start
    for fire in expected:
        following = schedule.next_after(moment)
        assert following is not None
        assert following.astimezone(UTC) == fire
        moment = following
    following = schedule.next_after(moment)
    assert following is None or following.astimezone(UTC) >= start + length
    # Asked in the middle, without the story so far, the answer is the same.
    middle = start + minutes * MINUTE
    later = [fire for fire in expected if fire > middle]
    if later:
        following = schedule.next_after(middle)
        assert following is not None
        assert following.astimezone(UTC) == later[0]


SCENES = (jobs(hours=near_hours()), st.sampled_from(CHANGES), st.integers(0, 3 * 24 * 60))


@given(*SCENES)
@settings(max_examples=80, deadline=None)
def test_fires_when_the_main_loop_of_cronie_does(job, change, minutes):
    agrees_with_cronie(job, change, minutes)


@pytest.mark.long
@given(*SCENES)
@settings(max_examples=20_000, deadline=None)
def test_fires_when_the_main_loop_of_cronie_does_at_length(job, change, minutes):
    agrees_with_cronie(job, change, minutes)
