"""Records of schedules: to JSON and back, and what cannot be kept."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from nbtasks import Retry, Task, TaskManager
from nbtasks.exceptions import WorkError
from nbtasks.schedules.business_hours import BusinessHours
from nbtasks.schedules.persistence import made_from, record_of, rule_from, rule_record, template_from

PARIS = ZoneInfo("Europe/Paris")
HOURS = BusinessHours(time(9), time(17, 30), days="mon-fri", holidays=["2030-01-01"], timezone=PARIS)


@dataclass
class Refresh(Task):
    """A template with fields of its own."""

    source: str
    sizes: tuple[int, ...] = ()
    limits: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Do nothing."""


@dataclass
class Picky(Task):
    """A template whose constructor refuses what is odd."""

    count: int = 0

    def __post_init__(self) -> None:
        if self.count % 2:
            raise ValueError(f"{self.count} is odd")

    def run(self) -> None:
        """Do nothing."""


class Hourly:
    """A schedule of a class of one's own."""

    def next_after(self, moment: datetime) -> datetime:
        return moment + timedelta(hours=1)

    def upcoming(self, moment: datetime, number: int) -> Iterator[datetime]:
        return (moment + timedelta(hours=hour) for hour in range(1, number + 1))

    def describe(self) -> str:
        return "my own"


def stored(value: Any) -> Any:
    """The value as the history gives it back."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize(
    "rule",
    [
        *(None, 3, 0.5, "text", timedelta(minutes=5), datetime(2030, 1, 1, tzinfo=UTC), operator.not_),
        Retry(3, 1.0, 2.0, 0.1, (ValueError, OSError), 60.0),
    ],
    ids=repr,
)
def test_a_rule_survives_as_json(rule):
    assert rule_from(stored(rule_record(rule))) == rule


def test_business_hours_survive_with_days_holidays_and_zone():
    again = rule_from(stored(rule_record(HOURS)))
    moments = [datetime(2030, 1, day, hour, 15, tzinfo=UTC) for day in range(1, 8) for hour in range(24)]
    assert [again(moment) for moment in moments] == [HOURS(moment) for moment in moments]
    assert any(map(HOURS, moments)) and not all(map(HOURS, moments))


@pytest.mark.parametrize("rule", [lambda moment: True, HOURS.next_opening], ids=["lambda", "method"])
def test_a_rule_that_no_other_kernel_can_import_is_named(rule):
    with pytest.raises(WorkError, match="cannot be imported by another kernel"):
        rule_record(rule)


@pytest.mark.parametrize("name", ["operator:gone", "no_such_module_of_ours:rule"])
def test_a_rule_that_is_gone_is_named(name):
    with pytest.raises(WorkError, match=f"{name.replace(':', '.')} does not exist any more"):
        rule_from(["function", name])


@pytest.mark.parametrize("schedule", ["*/5 9-17 * * mon-fri", "H H * * *", "90m", timedelta(seconds=7)], ids=str)
def test_a_schedule_fires_at_the_same_times_when_it_is_restored(manager: TaskManager, schedule):
    template = Refresh("a", (1, 2), {"b": 0.5}, name="refresh", priority=3, tags=("x", "y"), lane="single")
    recurring = manager.add_recurring_task(schedule, template, timezone="Europe/Paris", max_runs=9, only_if=HOURS)
    record = stored(record_of(recurring))
    assert "lost" not in record
    again = made_from("refresh", "id", record, template_from(record))
    fire = ours = datetime(2030, 3, 30, tzinfo=UTC)
    for _ in range(20):
        fire, ours = again.parsed.next_after(fire), recurring.parsed.next_after(ours)
        assert fire == ours
    made = again.template
    assert (made.source, list(made.sizes), made.limits) == ("a", [1, 2], {"b": 0.5})
    assert (made.priority, tuple(made.tags), made.lane, again.rules.max_runs) == (3, ("x", "y"), "single", 9)


def test_a_template_that_its_class_refuses_now_is_named(manager: TaskManager):
    recurring = manager.add_recurring_task("1h", Picky(count=2, name="picky"))
    record = stored(record_of(recurring))
    record["work"]["fields"]["count"] = 3
    with pytest.raises(WorkError, match=r"Picky cannot be created: ValueError: 3 is odd"):
        template_from(record)


@pytest.mark.parametrize(
    ("schedule", "template", "lost"),
    [
        ("1h", Refresh("a", {"a set"}), "its sizes is a set; only numbers, texts, lists and dicts can be kept"),
        ("1h", Refresh("a", limits={1: 2.0}), "its limits is a dict"),
        ("1h", lambda: None, "cannot be imported by another kernel"),
        (Hourly(), print, "its schedule is of the class Hourly, which is not built in"),
    ],
    ids=["set", "keys", "lambda", "schedule"],
)
def test_what_cannot_be_kept_is_said_in_the_record(manager: TaskManager, schedule, template, lost):
    record = stored(record_of(manager.add_recurring_task(schedule, template, name="it")))
    assert lost in record["lost"]
    assert record["enabled"] is True
