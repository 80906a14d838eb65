"""A schedule as somebody types it, without any widget."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nbtasks import business_hours
from nbtasks.schedules import PRESETS, next_fire_times
from nbtasks.schedules.rules import Rules
from nbtasks.widgets.cron_controls import fires_text, preset_choices, read_draft, zone_names

NOW = datetime(2026, 11, 21, 14, 2, tzinfo=UTC)


def test_what_is_right_is_said_in_words_with_its_next_five_fires():
    draft = read_draft(" 0 8 * * 1-5 ", "Europe/Paris", NOW)
    assert (draft.words, draft.error) == ("At 08:00, Monday to Friday", "")
    assert list(draft.fires) == next_fire_times("0 8 * * 1-5", "Europe/Paris", NOW)


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
def test_what_is_wrong_says_why_and_has_neither_words_nor_fires(expression, zone, message):
    draft = read_draft(expression, zone, NOW)
    assert message in draft.error
    assert (draft.words, draft.fires) == ("", ())


def test_the_rules_of_the_recurring_task_hold_for_what_is_typed():
    rules = Rules(only_if=business_hours, until=datetime(2026, 11, 23, 12, tzinfo=UTC))
    fires = read_draft("0 */4 * * *", "UTC", NOW, rules).fires  # it is a Saturday
    assert [f"{fire:%a %H:%M}" for fire in fires] == ["Mon 12:00"]


def test_no_zone_is_the_machines_own():
    assert read_draft("@daily", "", NOW).zone == "local"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("*/5 * * * *", "14:05, 14:10, 14:15, 14:20, 14:25"),
        ("0 8,20 * * *", "20:00; Sun 22 Nov 08:00, 20:00; Mon 23 Nov 08:00, 20:00"),
        ("20s", "14:02:20, 14:02:40, 14:03:00, 14:03:20, 14:03:40"),
        ("0 0 29 2 *", "Tue 29 Feb 2028 00:00"),
    ],
)
def test_fires_are_told_with_each_day_once(expression, text):
    assert fires_text(read_draft(expression, "UTC", NOW).fires, NOW).startswith(text)


def test_each_preset_has_its_words_and_each_zone_is_there():
    assert [preset for _, preset in preset_choices()] == list(PRESETS)
    assert len({words for words, _ in preset_choices()}) == len(PRESETS)
    assert zone_names()[:2] == ("local", "UTC") and "Europe/Paris" in zone_names()
