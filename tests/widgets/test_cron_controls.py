"""Schedules typed into the cron controls: their meaning, errors and next fires."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nbtasks import business_hours
from nbtasks.schedules import PRESETS, next_fire_times
from nbtasks.schedules.rules import Rules
from nbtasks.widgets.cron_controls import fires_text, preset_choices, read_input, zone_names

NOW = datetime(2026, 11, 21, 14, 2, tzinfo=UTC)


def test_a_valid_schedule_has_a_description_and_its_next_five_fires():
    typed = read_input(" 0 8 * * 1-5 ", "Europe/Paris", NOW)
    assert (typed.description, typed.error) == ("At 08:00, Monday to Friday", "")
    assert list(typed.fires) == next_fire_times("0 8 * * 1-5", "Europe/Paris", NOW)


@pytest.mark.parametrize(
    ("expression", "zone", "message"),
    [
        ("", "UTC", "neither a cron expression"),
        ("61 * * * *", "UTC", "minute '61': 61 is out of range"),
        ("0 0 30 2 *", "UTC", "February never has day 30"),
        ("0s", "UTC", "longer than zero"),
        ("5m", "Europe/Pari", "the nearest are Europe/Paris"),
    ],
)
def test_an_invalid_schedule_has_an_error_and_neither_description_nor_fires(expression, zone, message):
    typed = read_input(expression, zone, NOW)
    assert message in typed.error
    assert (typed.description, typed.fires) == ("", ())


def test_the_rules_of_the_recurring_task_apply_to_a_typed_schedule():
    rules = Rules(only_if=business_hours, until=datetime(2026, 11, 23, 12, tzinfo=UTC))
    fires = read_input("0 */4 * * *", "UTC", NOW, rules).fires  # it is a Saturday
    assert [f"{fire:%a %H:%M}" for fire in fires] == ["Mon 12:00"]


def test_an_empty_zone_is_that_of_the_machine():
    assert read_input("@daily", "", NOW).zone == "local"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("*/5 * * * *", "14:05, 14:10, 14:15, 14:20, 14:25"),
        ("0 8,20 * * *", "20:00; Sun 22 Nov 08:00, 20:00; Mon 23 Nov 08:00, 20:00"),
        ("20s", "14:02:20, 14:02:40, 14:03:00, 14:03:20, 14:03:40"),
        ("0 0 29 2 *", "Tue 29 Feb 2028 00:00"),
    ],
)
def test_fires_are_listed_with_each_day_once(expression, text):
    assert fires_text(read_input(expression, "UTC", NOW).fires, NOW).startswith(text)


def test_presets_have_descriptions_and_all_zones_are_listed():
    assert [preset for _, preset in preset_choices()] == list(PRESETS)
    assert len({words for words, _ in preset_choices()}) == len(PRESETS)
    assert zone_names()[:2] == ("local", "UTC") and "Europe/Paris" in zone_names()
