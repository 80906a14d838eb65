"""Text for durations, sizes and counted nouns."""

from __future__ import annotations

import pytest

from nbtasks.formatting import align_columns, clock, duration, listed, plural, short_duration, size, took


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0:00"), (0, "0:00"), (11.2, "0:12"), (3725, "1:02:05"), (86_399, "23:59:59"), (273_600, "3 d 4 h")],
)
def test_seconds_on_a_stopwatch(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (0.00042, "0.00042 s"), (0.5321, "0.532 s"), (59.9, "59.9 s"), (59.99, "1:00")]
)
def test_a_duration_has_three_digits_below_a_minute(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "took < 0.01 s"),
        (0.527, "took 0.53 s"),
        (9.951, "took 10 s"),
        (59.6, "took 1 min"),
        (389, "took 6 min 29 s"),
        (7261, "took 2 h 1 min"),
        (273_600, "took 3 d 4 h"),
    ],
)
def test_what_work_took_has_its_two_largest_units(seconds, text):
    assert took(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (2.24e-05, "0.02 ms"), (0.008114, "8.11 ms"), (0.0996, "99.6 ms"), (0.1, "0.1 s"), (75, "1:15")],
)
def test_a_short_duration_fits_a_narrow_column(seconds, text):
    assert short_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (999_960, "1.0 MB"), (94e6, "94.0 MB"), (1.5e16, "15,000.0 TB")],
)
def test_bytes_in_decimal_units(count, text):
    assert size(count) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 tasks"), (1, "1 task"), (1.5, "1.5 tasks"), (1200, "1,200 tasks")])
def test_a_noun_agrees_with_its_count(count, text):
    assert plural(count, "task") == text


def test_an_irregular_plural():
    assert (plural(1, "retry", "retries"), plural(2, "retry", "retries")) == ("1 retry", "2 retries")


def test_more_names_than_the_limit_are_counted():
    assert [listed("abcd"[:count], 2) for count in range(5)] == ["", "a", "a, b", "a, b and 1 more", "a, b and 2 more"]


def test_columns_are_as_wide_as_their_longest_cell():
    assert align_columns([("a", "bb"), ("ccc", "")]) == ["a    bb", "ccc"]
    assert align_columns([]) == []
