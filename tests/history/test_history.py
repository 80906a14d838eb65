"""The history: records of tasks and schedules, dead kernels, unusable files."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nbtasks import Retry, Task, TaskManager
from nbtasks.exceptions import HistoryError, InvalidScheduleError, MissingPackageError, UnknownStateError
from nbtasks.history.history import _STATISTICS, _TASKS, History, _conditions
from nbtasks.schedules import CronSchedule, IntervalSchedule
from nbtasks.schedules.business_hours import BusinessHours

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "history.sqlite"


@pytest.fixture
def kept(path):
    """A manager that keeps a history."""
    with TaskManager(history=path) as manager:
        yield manager


def fails():
    raise ValueError("no data")


@dataclass
class Writes(Task):
    """Keeps what it writes, as a cell does."""

    says: str = "text"

    class Output:
        def __init__(self, text):
            self.text = text

        def ending(self, characters):
            return self.text[-characters:]

    @property
    def output(self):
        return Writes.Output(self.says)

    def run(self):
        return len(self.says)


# -- tasks --------------------------------------------------------------------------------------------------------


def test_every_task_is_recorded_with_its_times_state_and_error(kept):
    kept.create_task("fine", lambda: 1)
    kept.create_task("broken", fails)
    kept.create_task("never", lambda: None, after=[kept.create_task("gone", fails)])
    kept.wait()
    fine, broken, gone, never = (kept.history.tasks(name)[0] for name in ("fine", "broken", "gone", "never"))
    assert (fine.state, fine.attempts, fine.lane, fine.error) == ("completed", 1, "default", None)
    assert fine.created_at <= fine.started_at <= fine.completed_at <= datetime.now(UTC)
    assert (broken.state, broken.error) == ("failed", "ValueError: no data")
    assert (never.state, never.started_at) == ("cancelled", None) and "'gone'" in never.error
    assert gone.duration >= 0 and never.duration is None


def test_a_task_that_lives_is_recorded_as_it_is_now(kept):
    go = threading.Event()
    begun = threading.Event()
    kept.create_task("first", lambda: (begun.set(), go.wait(10)), lane="single")
    kept.create_task("second", lambda: None, lane="single")
    assert begun.wait(10)
    assert {record.name: record.state for record in kept.history.tasks()} == {"first": "running", "second": "pending"}
    go.set()
    kept.wait()
    assert {record.state for record in kept.history.tasks()} == {"completed"}


def test_of_a_kind_of_task_its_kind_parent_and_the_end_of_its_output_are_recorded(kept):
    parent = kept.create_task("parent", lambda: 1)
    kept.add_task(Writes(name="child", says="x" * 5_000 + "the end", parent_id=parent.id))
    kept.wait()
    [child] = kept.history.tasks("child")
    assert (child.kind, child.parent_id) == ("Writes", parent.id)
    assert child.tail.endswith("the end") and len(child.tail) == 4_000


def test_records_outlive_the_manager_and_the_pruning(path):
    with TaskManager(max_succeeded_tasks=1, history=path) as manager:
        for number in range(20):
            manager.create_task(f"t{number}", lambda: None)
        manager.wait()
    with TaskManager(history=path) as manager:
        assert [record.name for record in manager.history.tasks()] == [f"t{number}" for number in range(20)]


def test_tasks_are_found_by_name_state_notebook_and_time(path):
    for notebook in ("a.ipynb", "b.ipynb"):
        with TaskManager(history=History(path, notebook=notebook)) as manager:
            manager.create_task("fine", lambda: None)
            manager.create_task("broken", fails)
            manager.wait()
    with TaskManager(history=path) as manager:
        found = manager.history.tasks
        assert [(one.name, one.notebook) for one in found(state="failed", notebook="b.ipynb")] == [
            ("broken", "b.ipynb")
        ]
        assert len(found("fine")) == 2 and len(found(state=["failed", "completed"])) == 4
        assert len(found(since="1h")) == len(found(since=timedelta(hours=1))) == 4
        assert found(since=datetime.now(UTC)) == []
        assert [one.notebook for one in found(limit=2)] == ["b.ipynb", "b.ipynb"]
        with pytest.raises(InvalidScheduleError, match="not an interval"):
            found(since="yesterday")


def test_statistics_tell_runs_failures_median_and_95th_percentile(kept):
    durations = iter([0.0, 0.03, 0.06])
    for _ in range(3):
        kept.create_task("work", lambda: time.sleep(next(durations))).wait()
    kept.create_task("work", fails)
    kept.wait()
    [work] = kept.history.statistics("work")
    assert (work.runs, work.failures) == (4, 1)
    assert 0.03 <= work.median < 0.06 <= work.percentile_95 < 1


def test_names_are_listed_with_their_last_runs_the_newest_first(kept):
    for number in range(5):
        kept.create_task("load", fails if number == 3 else str)
        kept.wait()
    kept.create_task("fit", str).wait()
    page = kept.history.runs_by_name(last=3)
    assert [(one.name, one.runs) for one in page.names] == [("fit", 1), ("load", 5)]
    load = page.names[1]
    assert [run.state for run in load.last] == ["completed", "failed", "completed"]
    assert load.last[0].began_at <= load.last[1].began_at <= load.last[2].began_at
    assert all(run.duration >= 0 for run in load.last)
    assert (page.total, page.states["completed"], page.states["failed"], page.states["lost"]) == (2, 5, 1, 0)
    assert kept.history.last_runs("load", limit=2) == list(load.last[1:])
    assert kept.history.newest_tasks(["load", "none"]) == {"load": kept.history.tasks("load")[-1]}


def test_names_are_found_by_state_by_text_and_by_page(kept):
    for number in range(5):
        kept.create_task(f"fit {number}", fails if number == 3 else str)
        kept.wait()
    kept.create_task("100%_done", str).wait()

    def found(**query):
        return [one.name for one in kept.history.runs_by_name(**query).names]

    assert found(state="failed") == ["fit 3"]
    assert found(text="FIT") == ["fit 4", "fit 3", "fit 2", "fit 1", "fit 0"]
    assert found(text="no data") == ["fit 3"] and found(text="0%_") == ["100%_done"]
    assert found(text="_") == found(text="%") == ["100%_done"]
    assert found(text="fit", limit=2, offset=2) == ["fit 2", "fit 1"] and found(name="fit 1") == ["fit 1"]
    page = kept.history.runs_by_name(text="fit", state="failed", limit=1)
    assert (page.total, page.states["completed"]) == (1, 4)
    assert [one.name for one in kept.history.tasks(text="fit", limit=2, offset=1)] == ["fit 2", "fit 3"]
    assert found(since="1ms") == [] and found(notebook="other.ipynb") == []


def test_statistics_of_the_newest_names(kept):
    for name in ("b", "a", "c"):
        kept.create_task(name, str).wait()
    assert [one.name for one in kept.history.statistics(limit=2)] == ["a", "c"]
    assert [one.name for one in kept.history.statistics()] == ["a", "b", "c"]


@pytest.mark.parametrize("number", [1, 2, 19, 20, 21, 100])
def test_statistics_take_the_middle_and_the_nearest_rank(kept, path, number):
    kept.create_task("work", str).wait()
    kept.history.flush()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM tasks")
        [(kernel,)] = database.execute("SELECT id FROM kernels").fetchall()
        database.executemany(
            "INSERT INTO tasks (id, kernel, name, lane, state, attempts, created_at, started_at, completed_at, kind) "
            "VALUES (?, ?, 'work', 'default', 'completed', 1, 0, 0, ?, 'Task')",
            [(str(took), kernel, took) for took in range(1, number + 1)],
        )
        database.commit()
    [work] = kept.history.statistics()
    durations = list(range(1, number + 1))
    assert work.median == statistics.median(durations)
    assert work.percentile_95 == durations[math.ceil(0.95 * number) - 1]


def test_lists_of_runs_do_not_read_the_tasks_with_their_texts(kept, path):
    kept.create_task("work", str).wait()
    kept.history.runs_by_name()
    queries = []
    connection = sqlite3.connect(path)
    where, values = _conditions(None, "failed", "a.ipynb", "2d")
    for query in (f"SELECT count(DISTINCT name) FROM {_TASKS} {where}", _STATISTICS.format(where=where)):
        queries += [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    connection.close()
    scans = [line for line in queries if re.search(r"(SCAN|SEARCH) tasks", line)]
    assert len(scans) == 2 and all("COVERING INDEX tasks_by_name" in line for line in scans)


# -- frames -------------------------------------------------------------------------------------------------------


def test_a_frame_has_the_records_with_their_types(kept):
    pandas = pytest.importorskip("pandas")
    kept.add_task(Writes(name="fine", says="all of it"))
    kept.create_task("never", str, after=[kept.create_task("broken", fails)])
    kept.wait()
    frame = kept.history.to_frame()
    records = kept.history.tasks()
    assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == {
        **dict.fromkeys(("id", "name", "notebook", "kind", "parent_id", "lane"), "string"),
        "state": "category",
        "attempts": "int64",
        **dict.fromkeys(("created_at", "started_at", "completed_at"), "datetime64[us, UTC]"),
        "duration": "float64",
        **dict.fromkeys(("error", "source", "output"), "string"),
    }
    assert list(frame["name"]) == ["fine", "broken", "never"] and list(frame["attempts"]) == [1, 1, 0]
    assert list(frame["state"]) == ["completed", "failed", "cancelled"] and "lost" in frame["state"].cat.categories
    for record, row in zip(records, frame.itertuples(), strict=True):
        assert abs(row.created_at.to_pydatetime() - record.created_at) < timedelta(microseconds=2)
    assert frame["duration"][0] == pytest.approx(records[0].duration, abs=1e-5)
    assert frame["output"][0] == "all of it" and frame["error"][1] == "ValueError: no data"
    assert pandas.isna(frame["started_at"][2]) and pandas.isna(frame["duration"][2]) and frame["output"].isna()[1]
    assert list(kept.history.to_frame("broken")["name"]) == ["broken"]
    empty = kept.history.to_frame("none")
    assert len(empty) == 0 and dict(empty.dtypes) == dict(frame.dtypes)
    with pytest.raises(UnknownStateError, match="faild"):
        kept.history.to_frame(state="faild")


def test_without_pandas_the_error_says_what_to_install(kept, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setattr(importlib, "import_module", refuse_pandas)
    with pytest.raises(MissingPackageError, match=r"History.to_frame needs pandas: pip install pandas$"):
        kept.history.to_frame()


def refuse_pandas(name):
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


# -- the file -----------------------------------------------------------------------------------------------------


def test_cleanup_removes_what_is_older_and_90_days_is_the_default(kept, path):
    kept.create_task("old", lambda: None)
    kept.create_task("new", lambda: None)
    kept.wait()
    assert kept.history.cleanup() == 0
    with contextlib.closing(sqlite3.connect(path)) as database:
        long_ago = time.time() - 91 * 86_400
        times = {"then": long_ago}
        database.execute("UPDATE tasks SET created_at = :then, completed_at = :then WHERE name = 'old'", times)
        database.commit()
    assert kept.history.cleanup(older_than="92d") == 0
    assert kept.history.cleanup() == 1
    assert [record.name for record in kept.history.tasks()] == ["new"]


def test_the_file_is_its_owners_only(kept, path):
    kept.create_task("one", lambda: None).wait()
    kept.history.flush()
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir() if file.is_file()}
    assert set(modes.values()) == {0o600} and len(modes) >= 1
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_history_may_begin_and_end_with_tasks_under_way(path):
    go = threading.Event()
    with TaskManager() as manager:
        assert manager.history is None
        manager.create_task("before", lambda: go.wait(10))
        manager.history = path
        go.set()
        manager.wait()
        assert [record.state for record in manager.history.tasks()] == ["completed"]
        manager.history = None
        manager.create_task("after", lambda: None).wait()
    with TaskManager(history=path) as manager:
        assert [record.name for record in manager.history.tasks()] == ["before"]


# -- schedules ----------------------------------------------------------------------------------------------------


def test_a_schedule_is_recorded_with_its_counters_until_it_is_removed(kept):
    recurring = kept.add_recurring_task("1h", time.gmtime, name="hourly")
    recurring.run_now().wait()
    [record] = kept.history.schedules()
    assert (record.id, record.name, record.removed, record.offered) == (recurring.id, "hourly", False, False)
    assert record.details["total_runs"] == 1
    recurring.remove()
    assert kept.history.schedules()[0].removed


def test_a_schedule_is_offered_to_the_next_kernel_and_restored_in_one_only(path):
    with TaskManager(history=path) as manager:
        hours = BusinessHours("08:00", "24:00", days="mon,sat", timezone="Asia/Tokyo")
        retry = Retry(2, delay=0.5, max_delay=60)
        rules = {"only_if": hours, "retry": retry, "jitter": "2s", "max_concurrent": 3, "max_runs": 9}
        before = manager.add_recurring_task("*/5 * * * *", time.gmtime, name="it", timezone="Asia/Tokyo", **rules)
        manager.add_recurring_task("1h", lambda: None, name="of a lambda")
        before.run_now().wait()
    with TaskManager(history=path) as one, TaskManager(history=path) as two:
        offers = one.history.schedules()
        assert [(offer.name, offer.offered) for offer in offers] == [("it", True), ("of a lambda", True)]
        assert "cannot be imported by another kernel" in offers[1].details["lost"]
        assert [manager.history.claim(offers[0]) for manager in (one, two)] == [True, False]
        again = one.restore_recurring_task("it", offers[0].id, offers[0].details)
        assert (again.id, again.total_runs, again.enabled, again.timezone) == (before.id, 1, True, "Asia/Tokyo")
        assert (again.rules, again.schedule) == (before.rules, again.parsed)
        again.run_now().wait()
        assert one.history.schedules()[0].details["total_runs"] == 2


def test_drawn_times_and_anchors_are_restored(path):
    with TaskManager(history=path) as manager:
        schedules = {
            "random": "R R(1-4) * * *",
            "hashed": "H H * * *",
            "six": CronSchedule("R 0 H * * *", "Asia/Tokyo", hash_id="x"),
            "anchored": IntervalSchedule("1h", datetime(2026, 1, 1, 0, 17, tzinfo=UTC)),
        }
        before = {
            name: manager.add_recurring_task(schedule, time.gmtime, name=name, timezone="UTC").next_run
            for name, schedule in schedules.items()
        }
    with TaskManager(history=path) as manager:
        for offer in manager.history.schedules():
            again = manager.restore_recurring_task(f"{offer.name} again", offer.id, offer.details)
            form = "%M:%S" if offer.name == "anchored" else "%H:%M:%S"  # the hour may have passed meanwhile
            assert f"{again.next_run:{form}}" == f"{before[offer.name]:{form}}"


def test_the_schedule_of_a_task_class_is_restored_with_its_fields(path, tmp_path, monkeypatch):
    (tmp_path / "kinds_of_tasks.py").write_text(
        "from dataclasses import dataclass\nfrom nbtasks import Task\n"
        "@dataclass\nclass Refresh(Task):\n    url: str\n    pages: list\n"
        "    def run(self): return self.url, self.pages\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from kinds_of_tasks import Refresh

    with TaskManager(history=path) as manager:
        template = Refresh("local", [1, 2], name="refresh", lane="single", tags=("x",))
        manager.add_recurring_task("1h", template, enabled=False)
    with TaskManager(history=path) as manager:
        [offer] = manager.history.schedules()
        again = manager.restore_recurring_task(offer.name, offer.id, offer.details)
        assert not again.enabled
        run = again.run_now()
        assert (run.wait(), run.lane, tuple(run.tags)) == (("local", [1, 2]), "single", ("x",))


# -- kernels that die ---------------------------------------------------------------------------------------------

KILLED = """
import os, random, sys, threading, time
from nbtasks import EventType, TaskManager

log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def heard(task, event):
    if event != "scheduled" and event != "skipped":
        os.write(log, f"{time.time()} {task.id} {event.value}\\n".encode())

manager = TaskManager(history=sys.argv[1], lanes={"wide": 50}, max_succeeded_tasks=None)
manager.add_event_callback(heard, events=["created", "started", "completed"])
for number in range(5):
    manager.add_recurring_task(f"{50 + 13 * number}ms", time.gmtime, name=f"s{number}")
def work():
    time.sleep(random.random() * 1.5)
    manager.create_task("work", work, lane="wide")
for _ in range(50):
    manager.create_task("work", work, lane="wide")
os.write(1, b"ready\\n")
time.sleep(60)
"""


def killed_at_a_random_moment(path, log, seconds):
    """Run tasks and schedules in a process, and kill it; what it had said by then, and the moment."""
    command = [sys.executable, "-c", KILLED, str(path), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        killed_at = time.time()
    lines = [line.split() for line in log.read_text().splitlines()]
    return [(float(at), task_id, event) for at, task_id, event in lines], killed_at


def check_after_kill(path, lines, killed_at):
    known = {}
    for at, task_id, event in lines:
        if at < killed_at - 1.0:
            known[task_id] = event
    with TaskManager(history=path) as manager:
        records = {record.id: record for record in manager.history.tasks()}
        schedules = manager.history.schedules()
    missing = known.keys() - records.keys()
    assert not missing, f"{len(missing)} of {len(known)} tasks that were older than a second are not recorded"
    for task_id, event in known.items():
        if event == "completed":
            assert records[task_id].state == "completed"
    assert {record.state for record in records.values()} <= {"completed", "lost", "cancelled"}
    assert any(record.state == "lost" for record in records.values())
    assert all(record.error == "the kernel died while it ran" for record in records.values() if record.state == "lost")
    assert [(one.name, one.offered) for one in schedules] == [(f"s{number}", True) for number in range(5)]


@pytest.mark.parametrize("seconds", [1.3, 2.05])
def test_a_killed_process_loses_no_more_than_the_last_second(tmp_path, seconds):
    path = tmp_path / "history.sqlite"
    check_after_kill(path, *killed_at_a_random_moment(path, tmp_path / "log", seconds))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(20))
def test_a_killed_process_loses_no_more_than_the_last_second_each_time(tmp_path, number):
    path = tmp_path / "history.sqlite"
    check_after_kill(path, *killed_at_a_random_moment(path, tmp_path / "log", 1.2 + 0.173 * number))


def test_what_a_living_process_runs_is_not_lost(tmp_path):
    path, log = tmp_path / "history.sqlite", tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), str(log)], stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        try:
            process.send_signal(signal.SIGSTOP)  # it is slow, and not dead
            with TaskManager(history=path) as manager:
                states = {record.state for record in manager.history.tasks()}
                assert "lost" not in states
        finally:
            process.kill()
    with TaskManager(history=path) as manager:
        assert {record.state for record in manager.history.tasks()} <= {"completed", "lost", "cancelled"}


# -- files that cannot be used --------------------------------------------------------------------------------------


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def use(path, tasks=5):
    """Run tasks with that history, over several of its writes."""
    with TaskManager(history=path) as manager:
        for _ in range(tasks):
            assert manager.create_task("one", lambda: 7).wait() == 7
            manager.history.flush(10)
        with pytest.raises(HistoryError):
            manager.history.tasks()


def garbage(path):
    path.write_bytes(os.urandom(4096))


def folder(path):
    path.mkdir()


def read_only(path):
    """SQLite opens a file of a newer version for reading only; root can write any other."""
    with TaskManager(history=path) as manager:
        manager.create_task("earlier", lambda: None).wait()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x03")


def from_a_newer_version(path):
    with TaskManager(history=path) as manager:
        manager.create_task("earlier", lambda: None).wait()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO migrations VALUES ('colours of tasks')")
        database.commit()


@pytest.mark.parametrize("spoil", [garbage, folder, read_only, from_a_newer_version])
def test_a_file_that_cannot_be_used_costs_one_warning_and_no_task(tmp_path, caplog, spoil):
    path = tmp_path / "history.sqlite"
    spoil(path)
    use(path)
    [warning] = warnings_of(caplog)
    assert "cannot be written; tasks run without it" in warning and str(path) in warning


def test_a_full_disk_costs_one_warning_and_no_task(tmp_path):
    code = f"""
import logging, resource, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from nbtasks import TaskManager
with TaskManager(history={str(tmp_path / "h.sqlite")!r}) as manager:
    manager.create_task("one", lambda: 7).wait()
    manager.history.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    for _ in range(5):
        for _ in range(400):
            task = manager.create_task("n" * 300, lambda: 7)
        assert task.wait() == 7
        manager.history.flush(10)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cannot be written") == 1 and done.stdout.count("\n") == 1


def test_what_could_not_be_written_while_the_file_was_locked_is_written_later(path, caplog):
    with TaskManager(history=path) as manager:
        manager.create_task("before", lambda: None).wait()
        manager.history.flush()
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert manager.create_task("meanwhile", lambda: 7).wait() == 7
            manager.history.flush(10)
            assert len(warnings_of(caplog)) == 1
            other.rollback()
        assert [record.name for record in manager.history.tasks()] == ["before", "meanwhile"]
    assert len(warnings_of(caplog)) == 1


def test_texts_come_back_as_they_were(kept):
    kept.add_task(Writes(name="名前", says="\x1b[31m half \udc80 \U0001f600 'quoted' \"twice\" nul \x00")).wait()
    [record] = kept.history.tasks("名前")
    assert record.tail.startswith("\x1b[31m half ") and "\U0001f600 'quoted' \"twice\" nul" in record.tail


def test_an_error_without_text_is_recorded(kept):
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError("mute")

    def work():
        raise MuteError

    kept.create_task("mute", work)
    kept.create_task("fine", lambda: None)
    kept.wait()
    assert {record.name: record.state for record in kept.history.tasks()} == {"mute": "failed", "fine": "completed"}


def test_kernels_that_write_at_once_do_not_get_into_each_others_way(path):
    code = f"""
from nbtasks import TaskManager
with TaskManager(history={str(path)!r}) as manager:
    for _ in range(300):
        manager.create_task("one", lambda: None).wait()
"""
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate()[1] for process in processes] == [b""] * 4
    with TaskManager(history=path) as manager:
        records = manager.history.tasks()
    assert len(records) == 1_200 and {record.state for record in records} == {"completed"}
