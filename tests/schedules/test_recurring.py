"""Recurring tasks: starts of instances, skipped fires, counters and errors.

The clock is moved by the tests; work runs where it is started, unless a test needs it to last.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter

from nbtasks import EventType, Retry, Task, TaskManager, WaitTimeoutError
from nbtasks.exceptions import (
    AlreadyAddedError,
    InvalidScheduleError,
    InvalidValueError,
    ManagerStoppedError,
    NbtasksError,
    UnknownBackendError,
    UnknownLaneError,
    UnknownTaskError,
    UnknownTimezoneError,
    WorkError,
)
from nbtasks.schedules import CronSchedule, IntervalSchedule
from nbtasks.schedules.business_hours import BusinessHours, business_hours
from tests.core.clocks import START, InlineBackend, LastingBackend, MovedClock

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PARIS = "Europe/Paris"


@pytest.fixture
def clock():
    return MovedClock()


@pytest.fixture
def manager(clock):
    with TaskManager(clock=clock) as manager:
        manager.backends["inline"] = InlineBackend()
        yield manager


@pytest.fixture
def every(manager, clock):
    """Adds a recurring task whose work notes when it ran."""

    def add(schedule, work=None, **options):
        ran = []

        def noted():
            ran.append(clock.now())
            return work() if work is not None else None

        options.setdefault("timezone", "UTC")
        recurring = manager.add_recurring_task(schedule, noted, backend="inline", **options)
        return recurring, ran

    return add


def fails():
    raise ValueError("no data")


class Held:
    """Work that lasts until it is let go, on threads."""

    def __init__(self):
        self._go = threading.Event()
        self.begun = threading.Semaphore(0)

    def __call__(self):
        self.begun.release()
        assert self._go.wait(10)

    def let_go(self, manager):
        self._go.set()
        manager.wait(timeout=10)
        self._go.clear()


# -- fires --------------------------------------------------------------------------------------------------------


def test_a_cron_expression_fires_at_its_times_in_its_zone(every, clock):
    recurring, ran = every("30 8 * * 1-5", timezone=PARIS)
    assert recurring.next_run == datetime(2024, 1, 1, 8, 30, tzinfo=ZoneInfo(PARIS))
    clock.advance(DAY)
    assert ran == [datetime(2024, 1, 1, 7, 30, tzinfo=UTC)]
    assert recurring.next_run == datetime(2024, 1, 2, 8, 30, tzinfo=ZoneInfo(PARIS))


@pytest.mark.parametrize("interval", ["5m", timedelta(minutes=5), IntervalSchedule("5m")])
def test_an_interval_fires_from_start_to_start(every, clock, interval):
    recurring, ran = every(interval)
    assert recurring.next_run == START + 5 * MINUTE
    clock.advance(HOUR)
    assert ran == [START + n * 5 * MINUTE for n in range(1, 13)]


def test_a_schedule_object_keeps_its_own_zone(every, clock):
    recurring, ran = every(CronSchedule("0 12 * * *", "Asia/Tokyo"), timezone=None)
    clock.advance(DAY)
    assert ran == [START + 3 * HOUR]
    assert recurring.timezone == "Asia/Tokyo"


def test_a_year_of_an_hourly_schedule_through_both_clock_changes_misses_nothing(every, manager, clock):
    manager.add_recurring_task("0 0 1 1 *", lambda: None)  # there is a scheduler
    manager._scheduler.agenda.watch_seconds = 3600
    recurring, ran = every("0 * * * *", timezone=PARIS)
    fixed, fixed_ran = every("30 2 * * *", timezone=PARIS)
    begin = time.process_time()
    clock.advance(366 * DAY)
    assert time.process_time() - begin < 10
    assert ran == [START + n * HOUR for n in range(1, 366 * 24 + 1)]
    assert (recurring.total_runs, recurring.total_skipped, recurring.total_failures) == (366 * 24, 0, 0)
    assert (fixed.total_runs, fixed.total_skipped) == (366, 0)
    # The hour that the clock skips on 31 March is made up right after, the one it repeats on 27 October runs once.
    assert datetime(2024, 3, 31, 1, 0, tzinfo=UTC) in fixed_ran
    assert [moment.hour for moment in fixed_ran if (moment.month, moment.day) == (10, 27)] == [0]


def test_each_instance_is_a_clone_with_an_id_of_its_own_and_the_schedules_as_parent(every, manager, clock):
    recurring, _ = every("1m", name="prices")
    clock.advance(3 * MINUTE)
    instances = manager.search_tasks(parent_id=recurring.id)
    assert len({task.id for task in instances}) == 3
    assert {(task.name, task.state) for task in instances} == {("prices", "completed")}
    assert recurring.template.state == "pending" and recurring.template not in instances


def test_a_task_subclass_is_a_template(manager, clock):
    @dataclass
    class Refresh(Task):
        url: str
        backend = "inline"

        def run(self):
            return self.url, self.attempts

    recurring = manager.add_recurring_task("1m", Refresh("local", name="refresh"))
    clock.advance(2 * MINUTE)
    assert [task.result for task in manager.search_tasks(parent_id=recurring.id)] == [("local", 1), ("local", 1)]


def test_a_function_may_take_its_instance(manager, clock):
    recurring = manager.add_recurring_task("1m", lambda task: task.parent_id, backend="inline", tags="x", priority=3)
    clock.advance(MINUTE)
    [instance] = manager.search_tasks(parent_id=recurring.id)
    assert (instance.result, instance.tags, instance.priority) == (recurring.id, ("x",), 3)


def test_plain_functions_run_in_threads_and_coroutines_on_the_loop(manager, clock):
    async def on_loop():
        return threading.current_thread().name

    plain = manager.add_recurring_task("1m", lambda: threading.current_thread().name)
    coroutine = manager.add_recurring_task("1m", on_loop)
    clock.advance(MINUTE)
    manager.wait(timeout=10)
    [[a], [b]] = (manager.search_tasks(parent_id=recurring.id) for recurring in (plain, coroutine))
    assert a.result.startswith("nbtasks-worker-") and b.result == "nbtasks-loop"


async def test_coroutines_run_on_the_loop_on_which_the_schedule_was_added():
    with TaskManager() as manager:
        ran = asyncio.Event()
        loops = []

        async def work():
            loops.append(asyncio.get_running_loop())
            ran.set()

        manager.add_recurring_task("20ms", work, max_runs=1)
        await asyncio.wait_for(ran.wait(), 10)
        assert loops == [asyncio.get_running_loop()]


def test_run_now_starts_an_instance_and_leaves_the_schedule_as_it_is(every, manager, clock):
    recurring, ran = every("10m")
    clock.advance(3 * MINUTE)
    task = manager.run_now(recurring.id)
    assert (task.parent_id, task.state) == (recurring.id, "completed")
    assert recurring.next_run == START + 10 * MINUTE
    clock.advance(7 * MINUTE)
    assert ran == [START + 3 * MINUTE, START + 10 * MINUTE]
    assert recurring.total_runs == 2


def test_run_now_runs_what_is_off_too(every):
    recurring, ran = every("10m", enabled=False)
    assert recurring.run_now() is not None
    assert len(ran) == 1 and not recurring.enabled


def test_run_now_raises_what_stands_in_the_way(manager):
    recurring = manager.add_recurring_task("10m", fails, lane="multiple")
    manager.remove_lane("multiple")
    with pytest.raises(UnknownLaneError):
        recurring.run_now()
    assert (recurring.total_runs, recurring.instances) == (0, [])


# -- counters -----------------------------------------------------------------------------------------------------


def test_failures_are_counted_in_all_and_in_a_row_and_never_stop_the_schedule(every, clock):
    outcomes = iter([fails, fails, lambda: None, fails])
    recurring, _ = every("1m", lambda: next(outcomes)())
    seen = []
    for _ in range(4):
        clock.advance(MINUTE)
        seen.append((recurring.total_runs, recurring.total_failures, recurring.consecutive_failures))
    assert seen == [(1, 1, 1), (2, 2, 2), (3, 2, 0), (4, 3, 1)]
    assert recurring.enabled and recurring.last_error == "ValueError: no data"


def test_max_consecutive_failures_in_a_row_switch_it_off_until_it_is_enabled_again(every, clock):
    recurring, ran = every("1m", fails, max_consecutive_failures=3)
    clock.advance(HOUR)
    assert (len(ran), recurring.enabled, recurring.next_run) == (3, False, None)
    assert recurring.ended == "it failed 3 times in a row"
    assert recurring.enable()
    assert recurring.ended is None
    clock.advance(HOUR)
    assert (len(ran), recurring.total_failures, recurring.consecutive_failures) == (6, 6, 3)


def test_an_instance_that_is_retried_fails_once(every, clock):
    recurring, ran = every("10m", fails, retry=Retry(attempts=3, delay=1, backoff=1))
    clock.advance(11 * MINUTE)
    assert (len(ran), recurring.total_runs, recurring.total_failures) == (3, 1, 1)


def test_a_cancelled_instance_is_neither_success_nor_failure(manager, clock):
    held = Held()
    recurring = manager.add_recurring_task("1m", held)
    recurring_before = (0, 0)
    clock.advance(MINUTE)
    assert held.begun.acquire(timeout=10)
    [instance] = recurring.instances
    instance.cancel()
    held.let_go(manager)
    assert instance.state == "cancelled"
    assert (recurring.total_failures, recurring.consecutive_failures) == recurring_before
    assert recurring.total_runs == 1 and recurring.last_duration is None


def test_last_run_and_last_duration_are_those_of_the_last_instance(every, clock):
    recurring, _ = every("1m", lambda: clock.sleep(7))
    clock.advance(MINUTE)
    assert recurring.last_run == START + MINUTE
    assert recurring.last_duration == 7.0


def test_an_instance_that_cannot_start_counts_as_a_failure(manager, clock):
    class Broken(Task):
        def run(self):
            """Nothing."""

        def clone(self, *, parent_id=None):
            if parent_id is not None:
                raise OSError("no copy")
            return super().clone()

    recurring = manager.add_recurring_task("1m", Broken(name="broken"))
    clock.advance(2 * MINUTE)
    assert (recurring.total_runs, recurring.total_failures, recurring.enabled) == (0, 2, True)
    assert recurring.last_error == "could not start: OSError: no copy"


def test_of_failed_instances_the_newest_ten_are_kept(every, manager, clock):
    recurring, _ = every("1m", fails)
    clock.advance(25 * MINUTE)
    kept = manager.search_tasks(parent_id=recurring.id)
    assert [task.created_at for task in kept] == [START + n * MINUTE for n in range(16, 26)]
    assert recurring.total_failures == 25


# -- overlap ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2])
def test_fires_beyond_max_concurrent_are_skipped_and_counted(manager, clock, limit):
    held = Held()
    recurring = manager.add_recurring_task("1m", held, max_concurrent=limit)
    clock.advance(5 * MINUTE)
    assert (recurring.total_runs, recurring.total_skipped, len(recurring.instances)) == (limit, 5 - limit, limit)
    assert recurring.run_now() is None
    held.let_go(manager)
    clock.advance(MINUTE)
    assert (recurring.total_runs, recurring.total_skipped) == (limit + 1, 6 - limit)
    held.let_go(manager)


def test_an_instance_that_waits_for_its_lane_counts_as_running(manager, clock):
    held = Held()
    manager.create_task("first", held, lane="single")
    recurring = manager.add_recurring_task("1m", lambda: None, lane="single")
    clock.advance(3 * MINUTE)
    assert (recurring.total_runs, recurring.total_skipped) == (1, 2)
    held.let_go(manager)


# -- clocks that stand still, jump, go back --------------------------------------------------------------------------


def test_fires_missed_asleep_are_made_up_by_one_and_the_rest_counted(every, clock):
    recurring, ran = every("*/10 * * * *")
    clock.advance(25 * MINUTE)
    clock.sleep(8 * HOUR)
    clock.advance(MINUTE)
    assert (len(ran), recurring.total_runs, recurring.total_skipped) == (3, 3, 47)
    assert START + 8 * HOUR + 25 * MINUTE <= ran[-1] <= START + 8 * HOUR + 26 * MINUTE
    assert recurring.next_run == START + 8 * HOUR + 30 * MINUTE


def test_a_fire_missed_by_more_than_the_grace_is_counted_only(every, clock):
    recurring, ran = every("0 * * * *", misfire_grace="5m")
    clock.sleep(HOUR + 20 * MINUTE)
    clock.advance(MINUTE)
    assert (ran, recurring.total_skipped) == ([], 1)
    clock.sleep(42 * MINUTE)  # it is 2:03
    clock.advance(MINUTE)
    assert (len(ran), recurring.total_skipped) == (1, 1)


def test_a_grace_of_zero_still_allows_for_a_timer_that_is_not_exact(every, clock):
    recurring, ran = every("0 * * * *", misfire_grace=0)
    clock.advance(3599.9)
    clock.sleep(0.5)
    clock.advance(0.1)
    assert (ran, recurring.total_skipped) == ([START + HOUR + timedelta(seconds=0.5)], 0)
    clock.sleep(HOUR + MINUTE)
    clock.advance(MINUTE)
    assert (len(ran), recurring.total_skipped) == (1, 1)


def test_an_interval_counts_while_the_machine_sleeps_and_continues_from_its_last_start(every, clock):
    recurring, ran = every("10m")
    clock.advance(15 * MINUTE)
    clock.sleep(2 * HOUR)
    clock.advance(MINUTE)
    assert (recurring.total_runs, recurring.total_skipped) == (2, 11)
    assert recurring.next_run == ran[-1] + 10 * MINUTE


@pytest.mark.parametrize("jump", [-30 * DAY, -HOUR, HOUR, 30 * DAY])
def test_an_interval_goes_by_elapsed_time_wherever_the_clock_is_set(every, clock, jump):
    recurring, ran = every("10m")
    clock.advance(15 * MINUTE)
    clock.set(jump)
    assert recurring.next_run == START + 20 * MINUTE + jump
    clock.advance(15 * MINUTE)
    assert (len(ran), recurring.total_skipped) == (3, 0)


def test_a_clock_set_forward_over_a_fire_makes_it_up_within_a_minute(every, clock):
    recurring, ran = every("0 12 * * *")
    clock.advance(HOUR)
    clock.set(12 * HOUR)
    clock.advance(MINUTE)
    assert (len(ran), recurring.total_skipped) == (1, 0)
    assert recurring.next_run == START + DAY + 12 * HOUR


def test_a_clock_set_back_repeats_what_goes_by_wildcards_and_no_fixed_time(every, clock):
    fixed, fixed_ran = every("30 0 * * *")
    _, wild_ran = every("*/15 * * * *")
    clock.advance(50 * MINUTE)
    clock.set(-40 * MINUTE)  # it is 0:10 again
    clock.advance(45 * MINUTE)
    assert (len(fixed_ran), len(wild_ran)) == (1, 6)
    assert fixed.next_run == START + DAY + 30 * MINUTE


def test_a_clock_that_was_wrong_by_days_is_believed_when_it_is_set_back(every, clock):
    recurring, ran = every("30 0 * * *")
    clock.advance(HOUR)
    clock.set(-3 * DAY)
    clock.advance(MINUTE)
    assert recurring.next_run == START - 2 * DAY + 30 * MINUTE
    assert len(ran) == 1


def test_a_small_adjustment_back_repeats_no_fire(every, clock):
    _, ran = every("* * * * *")
    clock.advance(MINUTE)
    clock.set(timedelta(milliseconds=-400))
    clock.advance(MINUTE + timedelta(seconds=1))
    assert len(ran) == 2


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_through_months_of_sleep_leaps_overlaps_and_failures_every_counter_is_right(manager, clock, seed):
    rng = random.Random(seed)
    backend = manager.backends["lasting"] = LastingBackend(clock)
    begun, most_at_once = [], 0

    def work():
        nonlocal most_at_once
        begun.append(clock.now())
        most_at_once = max(most_at_once, len(backend.live) + 1)
        return rng.choice([0, 60, -60, 900, -1500, 2500])

    recurring = manager.add_recurring_task(
        "*/10 * * * *", work, backend="lasting", timezone="UTC", max_concurrent=2, misfire_grace=DAY
    )
    due = 0
    for _ in range(50):
        before, forward = clock.now(), True
        match rng.choice(["pass", "pass", "sleep", "set forward", "set back"]):
            case "pass":
                clock.advance(MINUTE * rng.randrange(1, 2000))
            case "sleep":
                clock.sleep(MINUTE * rng.randrange(1, 2000))
            case "set forward":
                clock.set(10 * MINUTE * rng.randrange(1, 100))
            case _:
                clock.set(-10 * MINUTE * rng.randrange(1, 15))
                forward = False
        if forward:
            due += fires_between(before, clock.now())
        # The clock is looked at every minute; and nothing is set or put to sleep within that minute of a fire.
        before = clock.now()
        clock.advance(MINUTE)
        due += fires_between(before, clock.now())
        minutes = clock.now().minute % 10
        if minutes > 7 or minutes == 0:
            before = clock.now()
            clock.advance(3 * MINUTE)
            due += fires_between(before, clock.now())
        failures = [outcome.state == "failed" for outcome in backend.ended]
        in_a_row = failures[::-1].index(False) if False in failures else len(failures)
        assert recurring.total_runs + recurring.total_skipped == due
        assert recurring.total_runs == len(begun) and len(recurring.instances) == len(backend.live)
        assert (recurring.total_failures, recurring.consecutive_failures) == (sum(failures), in_a_row)
        assert recurring.last_run == begun[-1] and recurring.next_run - clock.now() <= 10 * MINUTE
    assert most_at_once == 2 and recurring.total_skipped > 100 and recurring.total_runs > 500
    # What still runs comes to its end, which stopping the manager would wait for.
    recurring.disable()
    clock.advance(HOUR)
    assert not backend.live and recurring.total_runs == len(begun) == len(backend.ended)


def fires_between(begin, end):
    """How many times of */10 lie after `begin`, up to `end`."""
    return (end - START) // (10 * MINUTE) - (begin - START) // (10 * MINUTE)


# -- rules --------------------------------------------------------------------------------------------------------


def test_after_max_runs_it_is_off(every, clock):
    recurring, ran = every("1m", max_runs=3)
    assert len(recurring.next_fires(10)) == 3
    clock.advance(HOUR)
    assert (len(ran), recurring.enabled, recurring.ended) == (3, False, "max_runs=3 reached")
    assert not recurring.enable()


def test_nothing_fires_after_until(every, clock):
    recurring, ran = every("* * * * *", until=datetime(2024, 1, 1, 1, 3), timezone=PARIS)  # noqa: DTZ001
    assert len(recurring.next_fires(10)) == 3
    clock.advance(HOUR)
    assert ran == [START + n * MINUTE for n in (1, 2, 3)]
    assert not recurring.enabled and "until 2024-01-01 01:03" in recurring.ended


def test_jitter_delays_each_fire_by_less_than_its_span_and_never_the_schedule(every, clock):
    recurring, ran = every("0 * * * *", jitter="10m")
    clock.advance(100 * HOUR)
    delays = [moment - START - n * HOUR for n, moment in enumerate(ran, 1)]
    assert len(set(delays)) > 90
    assert all(timedelta(0) <= delay < 10 * MINUTE for delay in delays)
    assert recurring.total_skipped == 0


def test_only_if_gets_the_time_of_the_fire_and_counts_nothing(every, clock):
    times = []
    recurring, ran = every("0 * * * *", only_if=lambda moment: times.append(moment) or moment.hour % 2, timezone=PARIS)
    clock.advance(4 * HOUR)
    assert [moment.hour for moment in times] == [2, 3, 4, 5]
    assert times[0].tzinfo == ZoneInfo(PARIS)
    assert (len(ran), recurring.total_runs, recurring.total_skipped) == (2, 2, 0)


def test_an_only_if_that_raises_counts_as_a_failure(every, clock):
    recurring, ran = every("1m", only_if=lambda _: 1 / 0)
    clock.advance(2 * MINUTE)
    assert (ran, recurring.total_failures) == ([], 2)
    assert "ZeroDivisionError" in recurring.last_error


def test_business_hours_are_known_beforehand(every, clock):
    recurring, ran = every("*/30 * * * *", only_if=business_hours, timezone=PARIS)
    assert recurring.next_run == datetime(2024, 1, 1, 9, 0, tzinfo=ZoneInfo(PARIS))
    clock.advance(7 * DAY)
    walls = [moment.astimezone(ZoneInfo(PARIS)) for moment in ran]
    assert len(walls) == 5 * 16
    assert {wall.weekday() for wall in walls} == {0, 1, 2, 3, 4}
    assert {wall.hour for wall in walls} == set(range(9, 17))
    assert recurring.total_skipped == 0


def test_an_interval_keeps_to_business_hours(every, clock):
    recurring, ran = every("45m", only_if=BusinessHours("08:00", "12:00", days="mon,tue"))
    clock.advance(2 * DAY)
    assert {moment.hour for moment in ran} == {8, 9, 10, 11}
    assert recurring.next_run.weekday() == 0


def test_a_night_outside_business_hours_is_not_missed(every, clock):
    recurring, ran = every("0 * * * *", only_if=business_hours)
    clock.advance(17 * HOUR)
    clock.sleep(16 * HOUR + 30 * MINUTE)  # it is 9:30 on Tuesday
    clock.advance(MINUTE)
    assert (len(ran), recurring.total_skipped) == (9, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opens": "17:00", "closes": "09:00"}, "close after they open"),
        ({"days": "mon-fro"}, "unknown day of the week"),
        ({"opens": "nine"}, "a time of day"),
        ({"holidays": ["Christmas"]}, "a holiday is a date, .* 'Christmas' is not"),
        ({"holidays": [20241225]}, "a holiday is a date, .* 20241225 is not"),
        ({"holidays": 20241225}, "holidays are dates, not 20241225"),
    ],
)
def test_wrong_business_hours_say_what_is_wrong(options, message):
    with pytest.raises(InvalidValueError, match=message):
        BusinessHours(**options)


HOLIDAY = datetime(2024, 1, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "holidays",
    [[HOLIDAY.date()], [HOLIDAY], ["2024-01-01"], "2024-01-01, 2024-12-25", {HOLIDAY.date(), "2024-12-25"}],
    ids=["date", "datetime", "text", "texts", "both"],
)
def test_holidays_are_closed(holidays):
    hours = BusinessHours(holidays=holidays, closes="24:00")
    assert not hours(datetime(2024, 1, 1, 12, tzinfo=UTC))
    assert hours(datetime(2024, 1, 2, 23, 59, tzinfo=UTC))


# -- steering -----------------------------------------------------------------------------------------------------


def test_a_disabled_one_does_not_fire_until_it_is_enabled(every, manager, clock):
    recurring, ran = every("10m")
    clock.advance(9 * MINUTE)
    assert manager.disable_recurring_task(recurring.id) and not manager.disable_recurring_task(recurring)
    assert recurring.next_run is None and recurring.next_fires() == []
    clock.advance(HOUR)
    assert manager.enable_recurring_task(recurring) and not manager.enable_recurring_task(recurring)
    clock.advance(10 * MINUTE)
    assert ran == [START + HOUR + 19 * MINUTE]
    assert recurring.total_skipped == 0


def test_a_removed_schedule_is_gone_and_its_running_instances_continue(manager, clock):
    held = Held()
    recurring = manager.add_recurring_task("1m", held)
    clock.advance(MINUTE)
    [instance] = recurring.instances
    assert manager.remove_recurring_task(recurring.id)
    assert manager.list_recurring_tasks() == [] and manager.get_recurring_task(recurring.id) is None
    assert not recurring.remove() and not recurring.enable() and not manager.remove_recurring_task(recurring)
    held.let_go(manager)
    assert instance.state == "completed"
    with pytest.raises(UnknownTaskError):
        manager.run_now(recurring.id)


def test_they_are_listed_oldest_first_and_found_by_id(every, manager):
    added = [every("1h", name=name)[0] for name in "abc"]
    assert manager.list_recurring_tasks() == added
    assert manager.get_recurring_task(added[1].id) is added[1]
    assert manager.get_recurring_task(added[1]) is added[1]
    assert manager.get_recurring_task("nothing") is None
    assert manager.get_task(added[0].id) is None


def test_a_change_of_schedule_takes_effect_at_once(every, manager, clock):
    recurring, ran = every("1h")
    manager.change_recurring_task(recurring, schedule="*/20 * * * *", timezone=PARIS, name="quick", max_concurrent=2)
    assert (recurring.name, recurring.timezone, recurring.max_concurrent) == ("quick", PARIS, 2)
    clock.advance(HOUR)
    assert ran == [START + n * 20 * MINUTE for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "changes",
    [{"schedule": "61 * * * *"}, {"timezone": "Europe/Pariss"}, {"max_runs": 0}, {"speed": 2}, {"until": START - DAY}],
)
def test_a_wrong_change_changes_nothing(every, clock, changes):
    recurring, ran = every("*/10 * * * *")
    before = recurring.as_dict()
    with pytest.raises(InvalidValueError):
        recurring.change(**{"name": "other", **changes})
    assert recurring.as_dict() == before
    clock.advance(20 * MINUTE)
    assert len(ran) == 2


def test_next_fires_are_the_fires_that_come(every, clock):
    for schedule in ("17 */3 * * *", "50m"):
        recurring, ran = every(schedule, timezone="Asia/Kolkata")
        clock.advance(7 * MINUTE)
        foretold = recurring.next_fires(5)
        clock.advance(DAY)
        assert ran[:5] == foretold
        assert {str(moment.tzinfo) for moment in foretold} == {"Asia/Kolkata"}


def test_a_stopped_manager_fires_no_more(every, manager, clock):
    recurring, ran = every("1m")
    manager.stop()
    clock.advance(HOUR)
    assert ran == [] and recurring.enabled
    with pytest.raises(ManagerStoppedError):
        every("1m")


def test_a_switch_off_voids_a_fire_that_is_on_its_way(every, clock):
    recurring, ran = every("1m", only_if=lambda _: recurring.disable())
    clock.advance(MINUTE)
    assert (ran, recurring.total_runs, recurring.total_skipped) == ([], 0, 0)


def test_fires_do_not_wait_for_a_main_thread_that_computes():
    late = []
    every, anchor = timedelta(milliseconds=50), datetime.now(UTC)
    with TaskManager() as manager:
        schedule = IntervalSchedule(every, anchor)
        manager.add_recurring_task(schedule, lambda: late.append((datetime.now(UTC) - anchor) % every))
        end = time.monotonic() + 2
        while time.monotonic() < end:
            sum(range(1000))
    assert len(late) > 20
    assert sorted(late)[len(late) // 2] < timedelta(seconds=0.04)


# -- events -------------------------------------------------------------------------------------------------------


def test_events_of_a_schedule_and_of_its_instances_have_one_parent_id(manager, clock):
    held = Held()
    heard = []
    subscription = manager.add_event_callback(lambda task, event: heard.append((event, task.parent_id)))
    recurring = manager.add_recurring_task("1m", held)
    clock.advance(2 * MINUTE)
    held.let_go(manager)
    subscription.drain(10)
    assert {parent for _, parent in heard} == {recurring.id}
    assert [event for event, _ in heard] == [
        "scheduled", "scheduled", "created", "started", "scheduled", "skipped", "completed",
    ]  # fmt: skip


def test_counters_are_right_in_every_callback(manager, clock):
    seen = []
    recurring = manager.add_recurring_task("1m", fails)
    subscription = manager.add_event_callback(lambda *_: seen.append(recurring.total_failures), events=["failed"])
    clock.advance(MINUTE)
    manager.wait(timeout=10)
    subscription.drain(10)
    assert seen == [1]


def test_changes_of_a_schedule_publish_scheduled_events(every, manager):
    heard = []
    with manager.add_event_callback(lambda task, _: heard.append(task.enabled), events=EventType.SCHEDULED) as events:
        recurring, _ = every("1h")
        recurring.disable()
        recurring.enable()
        recurring.change(schedule="2h")
        recurring.remove()
        events.drain(10)
    assert len(heard) == 5


# -- what is refused ------------------------------------------------------------------------------------------------


async def coroutine():
    """One that runs once."""


@pytest.mark.parametrize(
    ("schedule", "options", "error", "message"),
    [
        ("61 * * * *", {}, InvalidScheduleError, "minute"),
        ("0 0 31 2 *", {}, InvalidScheduleError, "February never has day 31"),
        ("soon", {}, InvalidScheduleError, "neither a cron expression"),
        ("0s", {}, InvalidScheduleError, "longer than zero"),
        (timedelta(microseconds=5), {}, InvalidScheduleError, "at least a millisecond"),
        ("0 8 * * *", {"timezone": "Europe/Pari"}, UnknownTimezoneError, "Europe/Paris"),
        ("5m", {"timezone": "Europe/Pari"}, UnknownTimezoneError, "Europe/Paris"),
        ("0 3 * * *", {"only_if": business_hours}, InvalidScheduleError, "never fires"),
        ("0 3 * * *", {"until": START}, InvalidScheduleError, "no fire until 2024-01-01"),
        ("5m", {"max_concurrent": 0}, InvalidValueError, "from 1 on"),
        ("5m", {"max_runs": True}, InvalidValueError, "from 1 on"),
        ("5m", {"jitter": -1}, InvalidValueError, "0 or more"),
        ("5m", {"misfire_grace": "later"}, InvalidScheduleError, "not an interval"),
        ("5m", {"until": "tomorrow"}, InvalidValueError, "datetime"),
        ("5m", {"only_if": 7}, WorkError, "cannot be called"),
        ("5m", {"retry": 3}, InvalidValueError, "Retry"),
        ("5m", {"name": ""}, InvalidValueError, "non-empty"),
        ("5m", {"lane": "fast"}, UnknownLaneError, "fast"),
        ("5m", {"backend": "moon"}, UnknownBackendError, "moon"),
        ("5m", {"timeout": 0}, InvalidValueError, "more than 0"),
        ("5m", {"speed": 1}, WorkError, "speed"),
    ],
)
def test_wrong_input_says_what_is_allowed_and_schedules_nothing(manager, schedule, options, error, message):
    with pytest.raises(error, match=message):
        manager.add_recurring_task(schedule, lambda: None, **options)
    assert manager.list_recurring_tasks() == []


def test_a_template_that_runs_or_ran_or_runs_once_is_refused(manager):
    held = Held()
    running = manager.create_task("running", held)
    with pytest.raises(AlreadyAddedError, match="is running"):
        manager.add_recurring_task("5m", running)
    for wrong in (coroutine(), Task(), Task, 7):
        with pytest.raises(WorkError):
            manager.add_recurring_task("5m", wrong)
    assert manager.list_recurring_tasks() == []
    held.let_go(manager)


def test_a_hashed_schedule_is_spread_by_its_name(every):
    prices, _ = every("H H * * *", name="prices")
    weather, _ = every("H H * * *", name="weather")
    assert prices.next_run.time() != weather.next_run.time()
    hashed = CronSchedule("H H * * *", "UTC", hash_id="prices")
    assert prices.next_run == hashed.next_after(START)
    prices.change(name="rates", timezone=PARIS)  # a new name does not move the fires
    assert prices.next_run.time() == hashed.next_after(START).time()
    prices.change(schedule="H H  * * *")
    assert prices.next_run.time() == hashed.next_after(START).time()
    prices.change(schedule="H H(0-5) * * *", timezone="UTC")
    assert prices.next_run == CronSchedule("H H(0-5) * * *", "UTC", hash_id="rates").next_after(START)


def test_random_times_stay_through_changes_of_anything_else(every, clock):
    recurring, ran = every("R R * * *", name="prices")
    first = recurring.next_run
    recurring.change(max_concurrent=2)
    recurring.change(schedule="R R * * *")
    recurring.change(timezone=PARIS)
    assert recurring.next_run.time() == first.time()
    recurring.change(timezone="UTC")
    clock.advance(3 * DAY)
    assert {moment.time() for moment in ran} == {first.time()}


def test_a_croniter_object_is_a_schedule(every):
    recurring, _ = every(croniter("30 8 * * 1-5", START.astimezone(ZoneInfo(PARIS))), timezone=None)
    assert (recurring.timezone, recurring.describe()) == (PARIS, "At 08:30, Monday to Friday")


def test_the_schedule_is_read_only_as_json(every):
    recurring, _ = every("5m", name="prices", until=START + DAY, only_if=business_hours)
    record = recurring.as_dict()
    assert (record["name"], record["schedule"], record["until"]) == ("prices", "5m", "2024-01-02T00:00:00+00:00")
    assert "prices" in repr(recurring) and "Every 5 minutes" in repr(recurring)


def test_every_error_is_one_of_ours():
    assert issubclass(InvalidScheduleError, NbtasksError)
    assert issubclass(WaitTimeoutError, NbtasksError)
