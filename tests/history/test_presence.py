"""Whether a history file has anything of a notebook."""

from __future__ import annotations

import pytest

from nbtasks import TaskManager
from nbtasks.history.history import History
from nbtasks.history.presence import has_records


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.sqlite"


def record(path, notebook):
    with TaskManager(history=History(path, notebook=notebook)) as manager:
        manager.create_task("it", str).wait()


def test_a_notebook_that_has_run_tasks_has_records(path):
    record(path, "/home/user/it.ipynb")
    assert has_records(path, "/home/user/it.ipynb")
    assert has_records(path, "it.ipynb")  # as the queries of the history find it


def test_the_tasks_of_another_notebook_do_not_count(path):
    record(path, "/home/user/other.ipynb")
    assert not has_records(path, "/home/user/it.ipynb")
    assert not has_records(path, "er.ipynb")


def test_a_schedule_counts(path):
    with TaskManager(history=History(path, notebook="it.ipynb")) as manager:
        manager.add_recurring_task("1h", str, name="hourly", enabled=False)
    assert has_records(path, "it.ipynb")


def test_no_file_has_no_records_and_is_not_made(path):
    assert not has_records(path, "it.ipynb")
    assert not path.exists()


def test_a_file_that_cannot_be_read_may_have_records(path):
    path.write_text("no database")
    assert has_records(path, "it.ipynb")
