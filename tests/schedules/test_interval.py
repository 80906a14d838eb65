"""Intervals as text, as timedeltas and as schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from nbtasks.exceptions import InvalidScheduleError
from nbtasks.schedules import IntervalSchedule, format_interval, parse_interval

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("1h30m", timedelta(minutes=90)),
        ("1h 30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        (" 2D ", timedelta(days=2)),
        ("1w", timedelta(weeks=1)),
        ("250ms", timedelta(milliseconds=250)),
        ("5 min", timedelta(minutes=5)),
        ("1 hour, 30 minutes", timedelta(minutes=90)),
        ("2 days 3 hrs", timedelta(days=2, hours=3)),
        (timedelta(seconds=7), timedelta(seconds=7)),
    ],
)
def test_an_interval(text, span):
    assert parse_interval(text) == span


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0s", "longer than zero, not '0s'"),
        ("0.0001ms", "longer than zero"),
        (timedelta(0), "longer than zero"),
        (timedelta(seconds=-5), "longer than zero"),
        ("5", "not an interval"),
        ("m", "not an interval"),
        ("-5m", "not an interval"),
        ("5m later", "not an interval"),
        ("", "not an interval"),
        ("5 fortnights", "unknown unit 'fortnights'"),
        ("99999999999d", "too long"),
        ("9" * 400 + "d", "too long"),
        (300, "not an interval"),
        (None, "not an interval"),
    ],
)
def test_other_text_is_refused(text, message):
    with pytest.raises(InvalidScheduleError) as caught:
        parse_interval(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("span", "text", "words"),
    [
        (timedelta(minutes=5), "5m", "Every 5 minutes"),
        (timedelta(minutes=90), "1h30m", "Every 1 hour 30 minutes"),
        (timedelta(hours=1), "1h", "Every hour"),
        (timedelta(days=10), "10d", "Every 10 days"),
        (timedelta(days=14), "2w", "Every 2 weeks"),
        (timedelta(seconds=1.5), "1s500ms", "Every 1 second 500 milliseconds"),
        (timedelta(microseconds=1500), "1.5ms", "Every 1.5 milliseconds"),
    ],
)
def test_an_interval_as_text_and_in_words(span, text, words):
    assert format_interval(span) == text
    assert parse_interval(text) == span
    assert IntervalSchedule(span).describe() == words


def test_an_interval_goes_by_elapsed_time():
    paris = ZoneInfo("Europe/Paris")
    moment = datetime(2024, 3, 31, 1, 30, tzinfo=paris)
    fire = IntervalSchedule("1h").next_after(moment)
    assert fire is not None
    assert fire.isoformat() == "2024-03-31T03:30:00+02:00"


def test_an_anchored_interval_keeps_to_its_grid():
    schedule = IntervalSchedule("10m", anchor=START)
    assert schedule.next_after(START - timedelta(days=1)) == START
    assert schedule.next_after(START) == START + timedelta(minutes=10)
    assert schedule.next_after(START + timedelta(minutes=13)) == START + timedelta(minutes=20)
    with pytest.raises(InvalidScheduleError, match="anchor"):
        IntervalSchedule("10m", anchor=datetime(2024, 1, 1))  # noqa: DTZ001


def test_an_interval_ends_with_the_calendar():
    assert IntervalSchedule("2d").next_after(datetime(9999, 12, 31, tzinfo=UTC)) is None
