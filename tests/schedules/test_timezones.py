"""Zones by name, by tzinfo and by default, and what is said of unknown ones."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest

from nbtasks.exceptions import UnknownTimezoneError
from nbtasks.schedules import CronSchedule, find_zone, next_fire_times, parse_schedule, zone_name
from nbtasks.schedules.timezones import local_zone_name

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "zone",
    [
        ZoneInfo("Europe/Paris"),
        timezone(timedelta(hours=1)),
    ],
)
def test_a_zone_may_be_a_tzinfo(zone):
    (fire,) = next_fire_times("0 8 * * *", zone, START, 1)
    assert fire == START + timedelta(hours=7)


def test_a_zone_may_be_dateutils():
    tz = pytest.importorskip("dateutil.tz")
    (fire,) = next_fire_times("30 2 * * *", tz.gettz("Europe/Paris"), datetime(2024, 3, 31, tzinfo=UTC), 1)
    assert fire.isoformat() == "2024-03-31T03:00:00+02:00"


def test_a_zone_of_pytz_answers_for_today():
    """As a bare tzinfo, without its `localize`, it has the offset of 1900."""

    class LikePytz(tzinfo):
        zone = "Europe/Paris"

        def localize(self, moment: datetime) -> datetime:
            return moment.replace(tzinfo=ZoneInfo(self.zone))

        def utcoffset(self, moment: datetime | None) -> timedelta:
            return timedelta(minutes=9)

    (fire,) = next_fire_times("30 2 * * *", LikePytz(), datetime(2024, 3, 31, tzinfo=UTC), 1)
    assert fire.isoformat() == "2024-03-31T03:00:00+02:00"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Europe/Pari", "Europe/Paris"),
        ("Paris", "Europe/Paris"),
        ("europe/paris", "Europe/Paris"),
        ("New York", "America/New_York"),
        ("Asia/Calcuta", "Asia/Calcutta"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(UnknownTimezoneError, match="unknown time zone") as caught:
        next_fire_times("* * * * *", name, START, 1)
    assert nearest in str(caught.value)


def test_an_unknown_zone_is_refused_even_where_none_is_needed():
    with pytest.raises(UnknownTimezoneError):
        parse_schedule("5m", "Europe/Pari")


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../etc/localtime", "/etc/localtime", "Europe", "\0", 5, b"UTC"])
def test_what_is_no_zone_is_refused(zone):
    with pytest.raises(UnknownTimezoneError):
        find_zone(zone)


def test_a_machine_without_zones_is_named_as_the_reason(monkeypatch):
    monkeypatch.setattr("nbtasks.schedules.timezones.available_timezones", set)
    with pytest.raises(UnknownTimezoneError, match="tzdata"):
        find_zone("Europe/Pari")


@pytest.fixture
def local_paris(monkeypatch):
    """The machine's own zone is Paris's."""
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="only POSIX lets a process change its zone")
@pytest.mark.usefixtures("local_paris")
class TestLocalTime:
    @pytest.mark.parametrize("zone", [None, "local"])
    def test_no_zone_is_the_machines_own(self, zone):
        (fire,) = next_fire_times("0 8 * * *", zone, START, 1)
        assert fire.isoformat() == "2024-01-01T08:00:00+01:00"
        assert fire.tzname() == "CET"
        assert repr(fire.tzinfo) == "LOCAL"

    @pytest.mark.parametrize("expression", ["30 2 * * *", "*/30 * * * *", "*/30 2 * * *", "0 3 * * *"])
    @pytest.mark.parametrize("day", [datetime(2024, 3, 30, tzinfo=UTC), datetime(2024, 10, 26, tzinfo=UTC)])
    def test_its_clock_changes_count(self, expression, day):
        local = next_fire_times(expression, None, day, 100)
        named = next_fire_times(expression, "Europe/Paris", day, 100)
        assert [fire.isoformat() for fire in local] == [fire.isoformat() for fire in named]


def test_a_zones_name_is_taken_back():
    for name in ("local", "Europe/Paris", "UTC"):
        zone = find_zone(name)
        assert zone_name(zone) == name
        assert find_zone(zone_name(zone)) is zone
    assert CronSchedule("* * * * *").timezone_name == "local"


@pytest.mark.parametrize(
    ("tz", "name"), [("Asia/Tokyo", "Asia/Tokyo"), (":Europe/Paris", "Europe/Paris"), ("XYZ3", None)]
)
def test_the_name_of_the_machines_own_zone(monkeypatch, tz, name):
    monkeypatch.setenv("TZ", tz)
    time.tzset()
    try:
        assert local_zone_name() == name
    finally:
        monkeypatch.undo()
        time.tzset()
