"""The meaning of each form of a field with every version of croniter.

`make test-matrix` runs this file with croniter 1.4, 2.0, 6.2 and 7.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import pickle
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from nbtasks.exceptions import InvalidScheduleError, InvalidValueError
from nbtasks.schedules import CronSchedule, parse_schedule
from nbtasks.schedules.cron_syntax import LAST, Fields, draw, parse

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
ALL = {"minute": range(60), "hour": range(24), "day": range(1, 32), "month": range(1, 13), "weekday": range(7)}
COLUMNS = ("minute", "hour", "day", "month", "weekday")

# A field, an item, and the values of it. Those that begin with ! mean different things in croniter's versions.
VALUES = """
minute   5              5
minute   09             9
minute   */15           0 15 30 45
minute   */90           0
minute   10-14          10 11 12 13 14
minute   10-20/5        10 15 20
minute   10-20/100      10
minute   5/20           5 25 45
minute   !59/15         59
minute   50-51/15       50
minute   !5-5           5
minute   !5-5/10        5
minute   !0-0           0
minute   !58-2          0 1 2 58 59
minute   !50-10/15      5 50
minute   *,5            *
minute   5,*            *
minute   5,10-12,5      5 10 11 12
hour     !22-2          0 1 2 22 23
hour     !22-2/2        0 2 22
hour     !22-2/3        1 22
hour     !22-2/100      22
hour     !23/2          23
hour     !23-0          0 23
day      !25-5          1 2 3 4 5 25 26 27 28 29 30 31
day      !31/2          31
day      */31           1
day      29-L           29 30 31
day      !31-L          31
day      !30-l/2        30
day      !?             *
month    jan            1
month    JAN,5,dec      1 5 12
month    jan/3          1 4 7 10
month    nov-DEC        11 12
month    !nov-feb       1 2 11 12
month    !11-2          1 2 11 12
month    !jan-jan       1
month    !12/3          12
weekday  0              0
weekday  7              0
weekday  0-7            *
weekday  5-7            0 5 6
weekday  5-0            0 5 6
weekday  fri-sun        0 5 6
weekday  sun-TUE        0 1 2
weekday  !sat-mon       0 1 6
weekday  !6-1           0 1 6
weekday  !7-2           0 1 2
weekday  !sun-sun       0
weekday  !7-7           0
weekday  */3            0 3 6
weekday  */7            0
weekday  !1/3           0 1 4
weekday  !7/2           0
weekday  !6/2           6
weekday  !?             *
"""


def values_of(fields: Fields, name: str) -> list[int]:
    found = {
        "minute": fields.minutes,
        "hour": fields.hours,
        "day": fields.days.days,
        "month": fields.months,
        "weekday": fields.days.weekdays,
    }
    return sorted(found[name])


def with_item(name: str, item: str) -> str:
    return " ".join(item if column == name else "*" for column in COLUMNS)


@pytest.mark.parametrize("row", VALUES.strip().splitlines())
def test_the_values_of_an_item(row):
    name, item, *values = row.replace("!", "").split()
    expected = list(ALL[name]) if values == ["*"] else [int(value) for value in values]
    fields = parse(with_item(name, item))
    assert values_of(fields, name) == expected
    for other in COLUMNS:
        if other != name:
            assert values_of(fields, other) == list(ALL[other])


@pytest.mark.parametrize(("item", "seconds"), [("59/15", [59]), ("50-10/10", [0, 10, 50]), ("5-5", [5]), ("7", [7])])
def test_the_values_of_seconds_which_come_first(item, seconds):
    fields = parse(f"{item} 1 2 3 4 5")
    assert list(fields.seconds) == seconds
    assert [values_of(fields, name) for name in COLUMNS] == [[1], [2], [3], [4], [5]]


@pytest.mark.parametrize(
    ("item", "days", "from_end", "nearest"),
    [
        ("L", [], [0], []),
        ("1,L", [1], [0], []),
        ("L,15", [15], [0], []),
        ("L-3", [], [3], []),
        ("15W", [], [], [15]),
        ("w15", [], [], [15]),
        ("1,15W,LW", [1], [], [15, 31]),
        ("10-12,L-2,L", [10, 11, 12], [0, 2], []),
    ],
)
def test_the_values_of_days_that_depend_on_the_month(item, days, from_end, nearest):
    rule = parse(f"0 0 {item} * *").days
    assert (sorted(rule.days), sorted(rule.from_end), sorted(rule.nearest)) == (days, from_end, nearest)


@pytest.mark.parametrize(
    ("item", "weekdays", "nth"),
    [
        ("5#2", [], [(5, 2)]),
        ("fri#2", [], [(5, 2)]),
        ("7#1", [], [(0, 1)]),
        ("1-3#1", [], [(1, 1), (2, 1), (3, 1)]),
        ("mon-wed#1", [], [(1, 1), (2, 1), (3, 1)]),
        ("sat-mon#3", [], [(0, 3), (1, 3), (6, 3)]),
        ("L5", [], [(5, LAST)]),
        ("5L", [], [(5, LAST)]),
        ("friL", [], [(5, LAST)]),
        ("lfri", [], [(5, LAST)]),
        ("7L,0L", [], [(0, LAST)]),
        ("5#2,l5", [], [(5, LAST), (5, 2)]),
        ("3,5#2", [3], [(5, 2)]),
        ("1-2,5#2,5#4,SAT", [1, 2, 6], [(5, 2), (5, 4)]),
    ],
)
def test_the_values_of_weekdays_of_a_week(item, weekdays, nth):
    rule = parse(f"0 0 * * {item}").days
    assert (sorted(rule.weekdays), sorted(rule.nth)) == (weekdays, nth)


# Hashed from "name". The numbers are those of croniter 6.2 and 7, wherever it takes the form.
HASHED = """
minute   H              6
hour     H              3
day      H              12
month    H              1
weekday  !H             5
minute   !H(0-29)       6
minute   !H(0-6)        2
hour     H(0-5)         3
day      H(1-15)        2
month    H(1-6)         1
weekday  H(1-5)         1
weekday  H(0-7)         0
minute   H/15           6 21 36 51
minute   H/59           51
hour     H/6            3 9 15 21
day      H/5            2 7 12 17 22 27
month    H/3            1 4 7 10
weekday  H/2            0 2 4 6
minute   H(30-59)/10    36 46 56
hour     H(8-17)/3      8 11 14 17
day      !H(5-20)/5     6 11 16
day      !H(1-28)/7     1 8 15 22
month    !H(3-9)/2      3 5 7 9
weekday  H(1-5)/2       1 3 5
minute   !H/90          6
minute   H/1            *
minute   !H,30          6 30
minute   !H(0-29),H(30-59) 6 36
"""


@pytest.mark.parametrize("row", HASHED.strip().splitlines())
def test_the_values_of_a_hashed_item(row):
    name, item, *values = row.replace("!", "").split()
    expected = list(ALL[name]) if values == ["*"] else [int(value) for value in values]
    assert values_of(parse(draw(with_item(name, item), "name")), name) == expected


def test_seconds_are_hashed_and_drawn_too():
    assert draw("H H H * * *", "name") == "0 6 3 * * *"
    assert draw("H/20 0 0 * * *", "name") == "0-59/20 0 0 * * *"


def test_an_expression_without_drawn_fields_is_left_alone():
    for expression in ("0 0 * mar thu", "@hourly", "* * * * *", "0  0 L * fri#2"):
        assert draw(expression) == expression


def test_names_spread_a_schedule_over_hours_and_minutes():
    schedules = {CronSchedule("H H * * *", "UTC", hash_id=f"report {number}").drawn for number in range(200)}
    assert len(schedules) > 120
    minutes = {int(drawn.split()[0]) for drawn in schedules}
    assert min(minutes) < 5 and max(minutes) > 55


def test_a_hashed_schedule_is_the_same_for_the_same_name():
    schedule = CronSchedule("H H(0-7) * * *", "UTC", hash_id="report")
    assert schedule == CronSchedule("H H(0-7) * * *", "UTC", hash_id="report")
    assert schedule != CronSchedule("H H(0-7) * * *", "UTC", hash_id="rapport")
    assert str(schedule) == "H H(0-7) * * *"
    assert schedule.is_fixed and not CronSchedule("H * * * *", "UTC", hash_id="report").is_fixed


@given(st.sampled_from([("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 6)]))
def test_random_numbers_are_within_their_field(field):
    name, low, high = field
    [value] = values_of(parse(draw(with_item(name, "R"))), name)
    assert low <= value <= high
    [value] = values_of(parse(draw(with_item(name, f"R({low + 1}-{high - 1})"))), name)
    assert low < value < high
    first, *rest = values_of(parse(draw(with_item(name, "R/3"))), name)
    assert low <= first < low + 3 and rest == list(range(first + 3, high + 1, 3))


def test_a_random_schedule_is_drawn_once():
    schedule = CronSchedule("R R * * *", "UTC")
    assert len({CronSchedule("R R * * *", "UTC").drawn for _ in range(50)}) > 40
    for again in (
        copy.deepcopy(schedule),
        pickle.loads(pickle.dumps(schedule)),
        CronSchedule("R R * * *", "UTC", drawn=schedule.drawn),
    ):
        assert again == schedule
        assert again.next_after(datetime(2026, 1, 1, tzinfo=UTC)) == schedule.next_after(
            datetime(2026, 1, 1, tzinfo=UTC)
        )
    elsewhere = schedule.in_zone("Europe/Paris")
    assert (elsewhere.drawn, elsewhere.timezone_name) == (schedule.drawn, "Europe/Paris")
    assert schedule.describe() == CronSchedule(schedule.drawn, "UTC").describe()


CHARACTERS = st.text("0123456789*/,-#?LWHRlwhr()JANfri@ \u00b2\u0663", max_size=12)


@given(CHARACTERS, st.sampled_from(COLUMNS))
def test_any_text_is_a_schedule_or_an_invalid_schedule_error(item, name):
    expression = with_item(name, item.replace(" ", ""))
    with contextlib.suppress(InvalidScheduleError):
        CronSchedule(expression, "UTC", hash_id="name")


# -- croniter objects -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "ours"),
    [
        ("*/5 * * * *", "*/5 * * * *"),
        ("0 8 * * MON-FRI", "0 8 * * mon-fri"),
        ("@daily", "0 0 * * *"),
        ("0 0 L * *", "0 0 l * *"),
        ("0 0 * * fri#2", "0 0 * * fri#2"),
        ("0 0 * * L5", "0 0 * * l5"),
        ("* * * * * 30", "30 * * * * *"),
    ],
)
def test_a_croniter_object_is_a_schedule(expression, ours):
    schedule = parse_schedule(croniter(expression, START))
    assert isinstance(schedule, CronSchedule)
    assert schedule == CronSchedule(ours, UTC)
    assert schedule.next_after(START) == croniter(expression, START).get_next(datetime)


def test_a_croniter_object_has_the_zone_of_its_start():
    paris = ZoneInfo("Europe/Paris")
    cron = croniter("0 8 * * *", START.astimezone(paris))
    assert parse_schedule(cron).timezone is paris
    assert parse_schedule(cron, "Asia/Tokyo").timezone_name == "Asia/Tokyo"
    assert parse_schedule(croniter("0 8 * * *")).timezone_name == "local"


def test_a_croniter_object_keeps_the_numbers_that_it_has_drawn():
    for cron in (croniter("h h * * *", START, hash_id="name"), croniter("r r(1-5) * * r", START)):
        schedule = parse_schedule(cron)
        assert schedule.next_after(START) == cron.get_next(datetime)
    schedule = parse_schedule(croniter("H H * * *", START, hash_id="name"))
    assert (schedule.expression, schedule.drawn) == ("h h * * *", "6 3 * * *")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expr_format": "0 0 13 * 5", "day_or": False}, "days that match both of day of month and day of week"),
        ({"expr_format": "0 0 */2 * 1"}, "days that match one of day of month and day of week"),
    ],
)
def test_a_croniter_object_with_other_rules_for_days_is_refused(arguments, message):
    with pytest.raises(InvalidScheduleError, match=message):
        parse_schedule(croniter(start_time=START, **arguments))


def test_a_croniter_object_whose_rules_for_days_make_no_difference_is_a_schedule():
    for cron in (
        croniter("0 0 13 * *", START, day_or=False),
        croniter("0 0 */2 * 1", START, day_or=False),
        croniter("0 0 */2 * 1", START, implement_cron_bug=True),
    ):
        assert parse_schedule(cron).next_after(START) == cron.get_next(datetime)


def test_a_croniter_object_that_has_other_values_than_its_text_is_refused():
    """`5-5/10` is the whole field since croniter 6, and `59/15` is in some versions."""
    for text, ours in (("5-5/10", {5}), ("59/15", {59}), ("6/2", {6})):
        expression = f"{text} 0 * * *" if text != "6/2" else "0 0 * * 6/2"
        cron = croniter(expression, START)
        if set(cron.expanded[0 if text != "6/2" else 4]) == ours:
            assert parse_schedule(cron) == CronSchedule(expression, UTC)
        else:
            with pytest.raises(InvalidScheduleError, match=r"the croniter object has 0, .* give it as text"):
                parse_schedule(cron)


@pytest.mark.skipif(
    "expand_from_start_time" not in inspect.signature(croniter).parameters, reason="croniter 2.0 has it first"
)
def test_a_croniter_object_that_counts_from_its_start_is_refused():
    cron = croniter("*/10 * * * *", START + timedelta(minutes=7), expand_from_start_time=True)
    with pytest.raises(InvalidScheduleError, match="the croniter object has 7, 17"):
        parse_schedule(cron)


@pytest.mark.skipif(len(croniter.RANGES) < 7, reason="croniter 3 has years first")
def test_a_croniter_object_with_years_is_refused():
    with pytest.raises(InvalidScheduleError, match="a schedule has no years"):
        parse_schedule(croniter("* * * * * * 2030", START))


def test_a_croniter_object_that_never_fires_is_refused_with_the_reason():
    with pytest.raises(InvalidValueError, match="February never has day 31"):
        parse_schedule(croniter("0 0 31 2 *", START))
