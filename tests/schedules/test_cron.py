"""Fire times of cron expressions, errors of wrong ones, and schedules as objects."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from nbtasks.exceptions import InvalidScheduleError, InvalidValueError
from nbtasks.schedules import (
    ALIASES,
    PRESETS,
    CronSchedule,
    IntervalSchedule,
    Schedule,
    next_fire_times,
    parse_schedule,
)
from tests.schedules.cron_tables import rows

START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday

TIMES_OF_DAY = """
* * * * *            | 01-01T00:00 | 01-01T00:01 01-01T00:02 | every minute
*/5 * * * *          | 01-01T00:00 | 01-01T00:05 01-01T00:10 | a step
*/7 * * * *          | 01-01T00:50 | 01-01T00:56 01-01T01:00 | a step starts again in each hour
5/20 * * * *         | 01-01T00:00 | 01-01T00:05 01-01T00:25 01-01T00:45 01-01T01:05 | a step from a value to the end
59/15 * * * *        | 01-01T00:00 | 01-01T00:59 01-01T01:59 | a step from the last value
*/90 * * * *         | 01-01T00:00 | 01-01T01:00 01-01T02:00 | a step wider than the field
10-12 * * * *        | 01-01T00:00 | 01-01T00:10 01-01T00:11 01-01T00:12 01-01T01:10 | a range
10-20/5 * * * *      | 01-01T00:00 | 01-01T00:10 01-01T00:15 01-01T00:20 01-01T01:10 | a range with a step
7-7 * * * *          | 01-01T00:00 | 01-01T00:07 01-01T01:07 | a range of one
30,10,10 * * * *     | 01-01T00:00 | 01-01T00:10 01-01T00:30 01-01T01:10 | a list, in any order
0-5/5,30-59/20 * * * * | 01-01T00:00 | 01-01T00:05 01-01T00:30 01-01T00:50 01-01T01:00 | a list of all these
0 9-17/4 * * *       | 01-01T00:00 | 01-01T09:00 01-01T13:00 01-01T17:00 01-02T09:00 | hours
00 08 * * *          | 01-01T00:00 | 01-01T08:00 01-02T08:00 | leading zeros
0 0 * * *            | 01-01T00:00 | 01-02T00:00 01-03T00:00 | the start is no fire
59 23 * * *          | 12-31T23:58 | 12-31T23:59 2025-01-01T23:59 | the end of a year
@hourly              | 01-01T00:30 | 01-01T01:00 01-01T02:00 | an alias
@Daily               | 01-01T00:30 | 01-02T00:00 01-03T00:00 | an alias in any case
@midnight            | 01-01T00:30 | 01-02T00:00 | midnight
@weekly              | 01-01T00:30 | 01-07T00:00 01-14T00:00 | weekly, on Sunday
@monthly             | 01-01T00:30 | 02-01T00:00 03-01T00:00 | monthly
@yearly              | 01-01T00:30 | 2025-01-01T00:00 2026-01-01T00:00 | yearly
@annually            | 01-01T00:30 | 2025-01-01T00:00 | annually
"""
SIX_FIELDS = """
* * * * * *          | 01-01T00:00 | 01-01T00:00:01 01-01T00:00:02 | every second
*/15 * * * * *       | 01-01T00:00 | 01-01T00:00:15 01-01T00:00:30 01-01T00:00:45 01-01T00:01 | seconds come first
10,50 59 23 * * *    | 01-01T00:00 | 01-01T23:59:10 01-01T23:59:50 01-02T23:59:10 | some seconds of a day
0 30 8 * * MON-FRI   | 01-05T12:00 | 01-08T08:30 01-09T08:30 | as five fields
30 0 0 1 1 ?         | 01-01T00:00 | 01-01T00:00:30 2025-01-01T00:00:30 | as Quartz writes it
"""
DAYS = """
0 0 31 * *           | 01-01 | 01-31 03-31 05-31 07-31 08-31 10-31 12-31 2025-01-31 | months that have one
0 0 30 2,4 *         | 01-01 | 04-30 2025-04-30 | a day that one of the months lacks
0 0 29 2 *           | 01-01 | 02-29 2028-02-29 2032-02-29 | leap days
0 0 29 2 *           | 2096-03-01 | 2104-02-29 | 2100 is no leap year
0 0 29 2 *           | 1999-03-01 | 2000-02-29 | 2000 is one
0 0 1 */3 *          | 01-01 | 04-01 07-01 10-01 2025-01-01 | quarters
0 0 1 JAN,jul *      | 01-01 | 07-01 2025-01-01 | months by name
0 0 1 nov-DEC *      | 01-01 | 11-01 12-01 2025-11-01 | a range of named months
0 0 * * 0            | 01-01 | 01-07 01-14 | Sunday is 0
0 0 * * 7            | 01-01 | 01-07 01-14 | Sunday is 7
0 0 * * SUN          | 01-01 | 01-07 01-14 | Sunday by name
0 0 * * 5-7          | 01-01 | 01-05 01-06 01-07 01-12 | a range up to 7
0 0 * * FRI-SUN      | 01-01 | 01-05 01-06 01-07 01-12 | a range up to Sunday
0 0 * * 6-0          | 01-01 | 01-06 01-07 01-13 | a range up to 0
0 0 * * sun-TUE      | 01-02 | 01-07 01-08 01-09 01-14 | a range from Sunday
0 0 * * */3          | 01-01 | 01-03 01-06 01-07 01-10 | a step of weekdays begins on Sunday
0 0 * * 1/3          | 01-01 | 01-04 01-07 01-08 01-11 | a step from Monday ends with 7, Sunday
0 0 * * mon,wed,5    | 01-01 | 01-03 01-05 01-08 | a list of weekdays
0 0 ? * 2            | 01-01 | 01-02 01-09 | a question mark is a star
0 0 1,15 * 5         | 01-01 | 01-05 01-12 01-15 01-19 01-26 02-01 | either day
0 0 31 2 5           | 01-01 | 02-02 02-09 02-16 02-23 2025-02-07 | either day, one of which never comes
0 0 1-31 * 5         | 01-01 | 01-02 01-03 | either day, one of which is every day
0 0 * * 5            | 01-01 | 01-05 01-12 | both days, one of which is every day
0 0 */2 * 1          | 01-02 | 01-15 01-29 02-05 02-19 | both days, since a step on a star begins with a star
0 0 1-31/2 * 1       | 01-02 | 01-03 01-05 01-07 01-08 01-09 | either day, since this says the same without a star
0 0 1-7 * */7        | 01-01 | 01-07 02-04 03-03 | the first Sunday
0 0 */100,1-7 * MON  | 01-02 | 02-05 03-04 04-01 | the first Monday
0 0 */28 2 1         | 2096-01-01 | 2100-02-01 2106-02-01 | both days, years apart
"""
SPECIAL_DAYS = """
0 0 L * *            | 01-01 | 01-31 02-29 03-31 04-30 | the last day
0 0 l 2 *            | 2023-01-01 | 2023-02-28 02-29 2025-02-28 | the last day of February
0 0 1,L * *          | 01-01 | 01-31 02-01 02-29 03-01 | the first and the last day
0 0 L-3 * *          | 01-01 | 01-28 02-26 03-28 | three days before the last
0 0 29-L * *         | 02-01 | 02-29 03-29 03-30 03-31 04-29 | a range up to the last day
0 0 LW * *           | 01-01 | 01-31 02-29 03-29 04-30 05-31 06-28 | the last working day
0 0 15W * *          | 06-01 | 06-14 07-15 08-15 09-16 | the working day nearest to the 15th
0 0 1W * *           | 06-01 | 06-03 07-01 08-01 09-02 | the nearest one stays in its month
0 0 W30 6 *          | 06-01 | 06-28 2025-06-30 | at the month's end too
0 0 L * 5            | 01-20 | 01-26 01-31 02-02 | the last day or a Friday
0 0 * * 5L           | 01-01 | 01-26 02-23 03-29 | the last Friday
0 0 * * L5           | 01-01 | 01-26 02-23 03-29 | as croniter writes it
0 0 * * friL         | 01-01 | 01-26 02-23 03-29 | by name
0 0 * * 0L,7L        | 01-01 | 01-28 02-25 | the last Sunday
0 0 * * 5#2          | 01-01 | 01-12 02-09 03-08 | the second Friday
0 0 * * SUN#1        | 01-01 | 01-07 02-04 03-03 | the first Sunday
0 0 * * thu#5        | 01-01 | 02-29 05-30 08-29 10-31 | a fifth Thursday
0 0 * 2 thu#5        | 01-01 | 02-29 2052-02-29 2080-02-29 | a fifth Thursday in February
0 0 * * MON-WED#1    | 01-01 | 01-02 01-03 02-05 02-06 02-07 | the first of each of several weekdays
0 0 * * 1#1,5L       | 01-02 | 01-26 02-05 02-23 03-04 | a list of such days
0 0 * * 3,5#1        | 01-01 | 01-03 01-05 01-10 01-17 | with plain weekdays
0 0 13 * 5#2         | 01-01 | 01-12 01-13 02-09 02-13 | either day, since neither begins with a star
"""


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [row for table in (TIMES_OF_DAY, SIX_FIELDS, DAYS, SPECIAL_DAYS) for row in rows("UTC", 2024, table)],
)
def test_fires(expression, zone, start, expected):
    times = next_fire_times(expression, zone, start, len(expected))
    assert [fire.replace(tzinfo=None).isoformat() for fire in times] == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("* * * *", "'* * * *' has 4 fields; a cron expression has five"),
        ("* * * * * * *", "has 7 fields"),
        ("60 * * * *", "minute '60': 60 is out of range; allowed: 0 to 59, *"),
        ("* 24 * * *", "hour '24': 24 is out of range; allowed: 0 to 23, *"),
        ("* * 0 * *", "day of month '0': 0 is out of range; allowed: 1 to 31, *"),
        ("* * 32 * *", "day of month '32'"),
        ("* * * 13 *", "month '13': 13 is out of range; allowed: 1 to 12 or JAN to DEC, *"),
        ("* * * * 8", "day of week '8': 8 is out of range; allowed: 0 to 7 or SUN to SAT, *"),
        ("60 * * * * *", "second '60': 60 is out of range"),
        ("1,2,99 * * * *", "minute '99'"),
        ("* 1-24 * * *", "hour '1-24': 24 is out of range"),
        ("9999999999999999 * * * *", "out of range"),
        ("30-70 * * * *", "minute '30-70': 70 is out of range"),
        ("0 0 0-5 * *", "day of month '0-5': 0 is out of range"),
        ("0 0 * * sat-mno", "day of week 'sat-mno': unknown name 'mno' (did you mean 'MON'?); allowed: 0 to 7"),
        ("*/0 * * * *", "minute '*/0': a step of 0 goes nowhere"),
        ("*/-1 * * * *", "minute '*/-1': cannot be read"),
        ("*/ * * * *", "minute '*/': cannot be read"),
        ("*/x * * * *", "minute '*/x': 'x' is not a number"),
        ("-5 * * * *", "minute '-5': cannot be read"),
        ("*-5 * * * *", "minute '*-5': cannot be read"),
        ("1-2-3 * * * *", "minute '1-2-3': cannot be read"),
        ("1//2 * * * *", "minute '1//2': cannot be read"),
        ("1,,2 * * * *", "minute '': cannot be read"),
        ("1. * * * *", "minute '1.': cannot be read"),
        ("\u00b2 * * * *", "minute"),
        ("1_0 * * * *", "minute '1_0': '1_0' is not a number"),
        ("? * * * *", "minute '?': cannot be read"),
        ("0~9 * * * *", "minute '0~9': cannot be read"),
        ("H * * * *", "minute 'H': H is hashed from a schedule's name, and there is none (give `hash_id`); allowed: 0"),
        ("R(5-5) * * * *", "minute 'R(5-5)': the range of R runs upwards"),
        ("* R(20-24) * * *", "hour 'R(20-24)': 24 is out of range"),
        ("R/0 * * * *", "minute 'R/0': a step of 0 goes nowhere"),
        ("R-5 * * * *", "minute 'R-5': 'R' is not a number"),
        ("R(1-5)5 * * * *", "minute 'R(1-5)5': cannot be read"),
        ("R 24 * * *", "hour '24': 24 is out of range; allowed: 0 to 23, *, ranges a-b, steps */n or a-b/n, lists a,b"),
        ("R 24 * * *", "(in 'R 24 * * *')"),
        ("0 L * * *", "hour 'L': 'L' is not a number"),
        ("0 0 L/2 * *", "day of month 'L/2'"),
        ("0 0 L-31 * *", "no month has a day 31 before its last"),
        ("0 0 32W * *", "day of month '32W': 32 is out of range"),
        ("0 0 * juni *", "month 'juni': unknown name 'juni' (did you mean 'JUN'?); allowed: 1 to 12 or JAN to DEC"),
        ("0 0 * * mo", "day of week 'mo': unknown name 'mo' (did you mean 'MON'?); allowed: 0 to 7 or SUN to SAT"),
        ("0 0 * * JAN", "day of week 'JAN'"),
        ("0 0 * * 5#6", "day of week '5#6': cannot be read"),
        ("0 0 * * 5#0", "day of week '5#0': cannot be read"),
        ("0 0 * * 8L", "day of week '8L': 8 is out of range"),
        ("0 0 * * L", "day of week 'L'"),
        ("@sometimes", "unknown alias '@sometimes'"),
        ("@hourli", "did you mean '@hourly'"),
        ("@reboot", "never fires"),
        ("soon", "neither a cron expression"),
        ("", "neither a cron expression"),
        ("   ", "neither a cron expression"),
    ],
)
def test_an_error_names_the_field_and_the_fault(expression, message):
    with pytest.raises(InvalidScheduleError) as caught:
        parse_schedule(expression, "UTC")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("0 0 31 2 *", "February never has day 31"),
        ("0 0 30,31 2 *", "February never has days 30 or 31"),
        ("0 0 31 4,6,9,11 *", "April, June, September and November never have day 31"),
        ("0 0 L-30 4 *", "April never has the 31st day from the end"),
        ("0 0 */31 * 1#2", "no day in any month is both day 1 of the month and the second Monday of the month"),
        ("0 0 */28 2 1#4", "the fourth Monday"),
    ],
)
def test_an_expression_that_never_fires_is_refused_with_the_reason(expression, reason):
    with pytest.raises(InvalidScheduleError, match="never fires") as caught:
        CronSchedule(expression, "UTC")
    assert reason in str(caught.value)


def test_fires_are_aware_and_in_the_schedules_zone():
    (fire,) = next_fire_times("0 8 * * *", "Europe/Paris", START, 1)
    assert fire.tzinfo == ZoneInfo("Europe/Paris")
    assert fire.isoformat() == "2024-01-01T08:00:00+01:00"


def test_the_start_may_be_in_any_zone():
    start = datetime(2024, 1, 1, 9, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert next_fire_times("0 8 * * *", "Europe/Paris", start, 1)[0].isoformat() == "2024-01-01T08:00:00+01:00"


def test_a_naive_start_is_a_wall_time_of_the_zone():
    start = datetime(2024, 1, 1, 7, 59)  # noqa: DTZ001
    assert next_fire_times("0 8 * * *", "Asia/Tokyo", start, 1)[0].isoformat() == "2024-01-01T08:00:00+09:00"


def test_a_fire_is_later_than_a_start_within_its_second():
    start = START + timedelta(seconds=59, milliseconds=999)
    assert next_fire_times("* * * * *", "UTC", start, 1) == [START + timedelta(minutes=1)]
    assert next_fire_times("* * * * *", "UTC", START + timedelta(minutes=1, microseconds=1), 1) == [
        START + timedelta(minutes=2)
    ]


def test_without_a_start_the_first_fire_is_yet_to_come():
    before = datetime.now(UTC)
    (fire,) = next_fire_times("* * * * * *", "UTC", count=1)
    assert before < fire <= datetime.now(UTC) + timedelta(seconds=1)


def test_a_count_of_zero_gives_no_times_and_a_negative_one_is_refused():
    assert next_fire_times("* * * * *", "UTC", START, 0) == []
    with pytest.raises(InvalidValueError, match="-1"):
        next_fire_times("* * * * *", "UTC", START, -1)


def test_the_outlook_ends_with_the_calendar():
    start = datetime(9999, 12, 30, 12, tzinfo=UTC)
    assert [fire.day for fire in next_fire_times("0 0 * * *", "UTC", start, 5)] == [31]
    assert next_fire_times("0 0 29 2 *", "UTC", start, 5) == []
    assert [fire.day for fire in next_fire_times("0 0 * * *", "Europe/Paris", start, 5)] == [31]
    assert CronSchedule("0 0 * * *", "Asia/Tokyo").next_after(start + timedelta(days=1, hours=8)) is None


def test_fire_times_of_an_interval_and_of_a_schedule():
    minutes = [START + timedelta(minutes=5 * count) for count in (1, 2)]
    assert next_fire_times("5m", "UTC", START, 2) == minutes
    assert next_fire_times(timedelta(minutes=5), "UTC", START, 2) == minutes
    assert next_fire_times(CronSchedule("*/5 * * * *", "UTC"), "UTC", START, 2) == minutes


def test_a_naive_moment_is_refused():
    naive = datetime(2024, 1, 1)  # noqa: DTZ001
    for schedule in (CronSchedule("* * * * *", "UTC"), IntervalSchedule("5m")):
        with pytest.raises(InvalidValueError, match="aware"):
            schedule.next_after(naive)


def test_equal_schedules_are_equal():
    schedule = CronSchedule("*/5  *\t* * *", "Europe/Paris")
    assert schedule == CronSchedule("*/5 * * * *", ZoneInfo("Europe/Paris"))
    assert hash(schedule) == hash(CronSchedule("*/5 * * * *", "Europe/Paris"))
    assert schedule != CronSchedule("*/5 * * * *", "UTC")
    assert schedule != "*/5 * * * *"


@pytest.mark.parametrize(
    "schedule", [CronSchedule("0 8 * * 1-5", "Europe/Paris"), CronSchedule("@daily"), IntervalSchedule("5m", START)]
)
def test_schedules_are_copied_and_pickled(schedule):
    assert copy.deepcopy(schedule) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_str_and_repr_of_schedules():
    schedule = CronSchedule("0 8 * * 1-5", "Europe/Paris")
    assert (str(schedule), schedule.expression) == ("0 8 * * 1-5", "0 8 * * 1-5")
    assert repr(schedule) == "CronSchedule('0 8 * * 1-5', 'Europe/Paris')"
    assert str(IntervalSchedule("90s")) == "1m30s"


@pytest.mark.parametrize("text", ["*/5 * * * *", "@hourly", "5m", "1h30m", *PRESETS, *ALIASES])
def test_the_text_of_a_schedule_makes_an_equal_one(text):
    schedule = parse_schedule(text, "UTC")
    assert isinstance(schedule, Schedule)
    assert parse_schedule(str(schedule), "UTC") == schedule
    assert parse_schedule(schedule) is schedule


@pytest.mark.parametrize("value", [None, 5, 5.0, b"* * * * *", object()])
def test_other_types_are_refused(value):
    with pytest.raises(InvalidScheduleError, match="neither a cron expression"):
        parse_schedule(value)
    with pytest.raises(InvalidScheduleError, match="a cron expression is text"):
        CronSchedule(value)


def test_an_own_class_of_schedules_can_be_used():
    class OnceInAMillennium:
        def next_after(self, moment: datetime) -> datetime | None:
            return datetime(3000, 1, 1, tzinfo=UTC) if moment.year < 3000 else None

        def describe(self) -> str:
            return "Once in a millennium"

    assert next_fire_times(OnceInAMillennium(), "UTC", START, 5) == [datetime(3000, 1, 1, tzinfo=UTC)]


def test_importing_schedules_does_not_import_croniter():
    code = "import sys, nbtasks.schedules; print([name for name in ('croniter', 'dateutil') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
