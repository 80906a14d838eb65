"""Counting fires gives what walking through them gives, without walking."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbtasks.exceptions import InvalidScheduleError
from nbtasks.schedules import CronSchedule, IntervalSchedule, count_fires, last_fire
from tests.examples import examples
from tests.schedules.cron_strategies import jobs

ZONES = ("UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Casablanca")
START = datetime(2018, 1, 1, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2017, 1, 1), datetime(2024, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
YEAR = timedelta(days=365)


def walked(schedule, after, until):
    fires = []
    while (fire := schedule.next_after(after)) is not None and fire.astimezone(UTC) <= until:
        fires.append(after := fire)
    return fires


@settings(max_examples=examples(100, 300), deadline=None)
@given(jobs(), st.sampled_from(ZONES), MOMENTS, st.timedeltas(timedelta(0), timedelta(days=4)))
def test_cron_fires_are_counted_as_by_walking(job, zone, after, span):
    try:
        schedule = CronSchedule(job.expression, zone)
    except InvalidScheduleError:  # it never fires
        return
    fires = walked(schedule, after, after + span)
    assert count_fires(schedule, after, after + span) == len(fires)
    assert last_fire(schedule, after, after + span) == (fires[-1] if fires else None)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/20 * * * *", "15 0,23 * * 1-5", "0 12 L * *"])
def test_years_of_fires_are_counted_through_all_clock_changes(expression, zone):
    schedule = CronSchedule(expression, zone)
    fires = walked(schedule, START, START + YEAR)
    assert count_fires(schedule, START, START + YEAR) == len(fires)
    assert last_fire(schedule, START, START + YEAR) == (fires[-1] if fires else None)


@given(st.timedeltas(timedelta(seconds=1), timedelta(days=9)), st.none() | MOMENTS, MOMENTS)
def test_intervals_are_counted_as_by_walking(every, anchor, after):
    schedule = IntervalSchedule(every, anchor)
    until = after + 20 * every + every / 3
    fires = walked(schedule, after, until)
    assert count_fires(schedule, after, until) == len(fires)
    assert last_fire(schedule, after, until) == (fires[-1] if fires else None)


def test_a_decade_of_seconds_is_counted_in_no_time():
    schedule = CronSchedule("* * * * * *", "Europe/Paris")
    begin = time.process_time()
    count = count_fires(schedule, START, START + 10 * YEAR)
    assert last_fire(schedule, START, START + 10 * YEAR) == START + 10 * YEAR
    assert time.process_time() - begin < 2
    assert count == pytest.approx(10 * 365 * 86_400, abs=20 * 7_200)


def test_what_never_fires_in_between_counts_nothing():
    schedule = CronSchedule("0 0 29 2 *", ZoneInfo("Europe/Paris"))
    assert count_fires(schedule, START, START + YEAR) == 0
    assert last_fire(schedule, START, START + YEAR) is None
