"""Details of one task: facts, errors, names, attempts; with all text escaped."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from sklearn.neural_network import MLPClassifier

from nbtasks import Retry, Task, TaskManager
from nbtasks.widgets.details import NAMES, details_html, value_text


@pytest.fixture
def manager():
    with TaskManager() as manager:
        yield manager


def fail():
    raise ValueError("<b>boom</b> \x1b[31mred\x1b[0m")


def test_an_error_has_its_traceback_without_the_frames_of_nbtasks(manager):
    task = manager.create_task("it", fail)
    manager.wait(task)
    details = details_html(task)
    assert "in fail" in details
    assert "ValueError: &lt;b&gt;boom&lt;/b&gt; red" in details
    assert "<b>" not in details
    assert "\x1b" not in details
    assert "backends" not in details


def test_failed_attempts_are_listed(manager):
    task = manager.create_task("it", fail, retry=Retry(attempts=3, delay=0))
    manager.wait(task)
    past = manager.past_attempts(task)
    assert [one.number for one in past] == [1, 2]
    assert all(one.started_at <= one.ended_at for one in past)
    details = details_html(task, past)
    assert "Attempts" in details
    assert "2: " in details
    assert "attempts</span> 3" in details


def test_a_task_that_never_failed_has_no_past_attempts(manager):
    task = manager.create_task("it", str)
    manager.wait(task)
    assert manager.past_attempts(task) == []


class Output:
    excerpt = ()
    tail = ""


@dataclass
class Cell(Task):
    """A task with the details of a cell."""

    source: str = "x = '</pre><script>alert(1)</script>'"
    namespace: dict = field(default_factory=dict)
    output: Output = field(default_factory=Output)
    notify: bool = False

    def cell_details(self):
        return self

    def run(self):
        return None


def test_source_and_names_are_escaped(manager):
    task = manager.add_task(Cell(name="it", namespace={"table": pd.DataFrame({"a": [1, 2]}), "_hidden": 1, "np": np}))
    manager.wait(task)
    details = details_html(task)
    assert "<script>" not in details
    assert "&lt;script&gt;" in details
    assert "table: DataFrame 2 x 1" in details
    assert "_hidden" not in details
    assert "np:" not in details


def test_only_the_first_of_many_names_are_listed(manager):
    task = manager.add_task(Cell(name="it", namespace={f"n{number}": number for number in range(NAMES + 5)}))
    manager.wait(task)
    assert "… and 5 more" in details_html(task)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.zeros((100, 3)), "ndarray 100 x 3, 2.4 kB"),
        ("abc", f"str of 3, {sys.getsizeof('abc')} B"),
        (np.zeros(250_000_000, dtype="b"), "ndarray 250000000, 250.0 MB"),
        (pd.DataFrame({"a": np.zeros(1000)}, index=np.arange(1000)), "DataFrame 1000 x 1, 16.0 kB"),
    ],
)
def test_a_value_is_described_by_type_shape_and_size(value, text):
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([b"x" * 1000] * 3, "list of 3"),
        ({"a": 1}, "dict of 1"),
        (object(), "object"),
        (MLPClassifier(), "MLPClassifier"),
    ],
)
def test_a_size_that_is_not_known_is_left_out(value, text):
    assert value_text(value) == text


def test_an_object_whose_own_code_fails_is_described_by_its_type():
    class Odd:
        @property
        def shape(self):
            raise RuntimeError("no")

    assert value_text(Odd()) == "Odd"
