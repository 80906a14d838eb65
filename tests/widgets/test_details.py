"""What is told of one task: facts, errors, names, attempts; as text, whatever the user wrote."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from nbtasks import Retry, Task, TaskManager
from nbtasks.widgets.details import MOST_NAMES, details_html, size_text


@pytest.fixture
def manager():
    with TaskManager() as manager:
        yield manager


def fail():
    raise ValueError("<b>boom</b> \x1b[31mred\x1b[0m")


def test_of_an_error_the_traceback_is_told_without_our_own_frames(manager):
    task = manager.create_task("it", fail)
    manager.wait(task)
    told = details_html(task)
    assert "in fail" in told
    assert "ValueError: &lt;b&gt;boom&lt;/b&gt; red" in told
    assert "<b>" not in told
    assert "\x1b" not in told
    assert "backends" not in told


def test_the_attempts_that_failed_are_told(manager):
    task = manager.create_task("it", fail, retry=Retry(attempts=3, delay=0))
    manager.wait(task)
    past = manager.past_attempts(task)
    assert [one.number for one in past] == [1, 2]
    assert all(one.started_at <= one.ended_at for one in past)
    told = details_html(task, past)
    assert "Attempts" in told
    assert "2: " in told
    assert "attempts</span> 3" in told


def test_a_task_that_never_failed_has_no_past_attempts(manager):
    task = manager.create_task("it", str)
    manager.wait(task)
    assert manager.past_attempts(task) == []


@dataclass
class Cell(Task):
    source: str = "x = '</pre><script>alert(1)</script>'"
    namespace: dict = field(default_factory=dict)

    def run(self):
        return None


def test_source_and_names_are_told_as_text(manager):
    task = manager.add_task(Cell(name="it", namespace={"table": pd.DataFrame({"a": [1, 2]}), "_hidden": 1, "np": np}))
    manager.wait(task)
    told = details_html(task)
    assert "<script>" not in told
    assert "&lt;script&gt;" in told
    assert "table: DataFrame 2 x 1" in told
    assert "_hidden" not in told
    assert "np:" not in told


def test_of_very_many_names_the_first_are_told(manager):
    task = manager.add_task(Cell(name="it", namespace={f"n{number}": number for number in range(MOST_NAMES + 5)}))
    manager.wait(task)
    assert "… and 5 more" in details_html(task)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.zeros((100, 3)), "ndarray 100 x 3, 2.4 KB"),
        ([1, 2, 3], "list of 3, "),
        ("abc", "str of 3, "),
        (np.zeros(250_000_000, dtype="b"), "ndarray 250000000, 250 MB"),
    ],
)
def test_a_value_is_told_by_kind_shape_and_size(value, told):
    assert size_text(value).startswith(told)


def test_an_object_whose_own_code_fails_is_told_by_its_kind():
    class Odd:
        @property
        def shape(self):
            raise RuntimeError("no")

    assert size_text(Odd()) == "Odd"
