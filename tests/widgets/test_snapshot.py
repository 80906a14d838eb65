"""Snapshots: content of panels, with rates, times, loops, attempts and children."""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from nbtasks import Retry, TaskManager, track
from nbtasks.formatting import plain_text
from nbtasks.progress import Meter
from nbtasks.tqdm_progress import tqdm_patches
from nbtasks.widgets.snapshot import (
    ERROR_CHARACTERS,
    Pace,
    Snapshot,
    attempt_text,
    children_text,
    group_snapshot,
    loop_text,
    rate_text,
    task_snapshot,
)


@pytest.fixture
def manager():
    with TaskManager() as manager:
        yield manager


class Gate:
    """A place where work waits: `reached` when it is there, `go` lets it continue."""

    def __init__(self):
        self.reached, self.go = threading.Event(), threading.Event()

    def wait(self):
        self.reached.set()
        assert self.go.wait(30)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.go.set()


def final_snapshot(manager, work) -> Snapshot:
    task = manager.create_task("it", work)
    manager.wait(task)
    return task_snapshot(task, datetime.now(UTC))


def snapshot(**fields) -> Snapshot:
    return Snapshot(**{"state": "running", "title": "it", "elapsed": 3, **fields})


def group(*tasks) -> Snapshot:
    return group_snapshot(tasks, datetime.now(UTC))


def fail(text="boom"):
    def work():
        raise ValueError(text)

    return work


def test_a_short_error_is_shown_whole(manager):
    assert final_snapshot(manager, fail()).note == "ValueError: boom"


def test_a_long_error_is_cut(manager):
    note = final_snapshot(manager, fail("x" * 10_000)).note
    assert note.startswith("ValueError: xxx")
    assert note.endswith(" …")
    assert len(note) <= ERROR_CHARACTERS + 2


def test_a_cancelled_task_keeps_its_last_body(manager, gate):
    manager.create_task("first", gate.wait, lane="single")
    task = manager.create_task("second", gate.wait, lane="single", body="epoch 4")
    manager.cancel_task(task)
    cancelled = task_snapshot(task, datetime.now(UTC))
    assert (cancelled.state, cancelled.note) == ("cancelled", "epoch 4")


@pytest.mark.parametrize(
    ("state", "progress", "indeterminate"),
    [
        ("running", None, True),
        ("running", 0.0, False),
        ("pending", None, False),
        ("cancelling", None, False),
        ("failed", None, False),
    ],
)
def test_only_a_running_task_with_unknown_progress_is_indeterminate(state, progress, indeterminate):
    assert snapshot(state=state, progress=progress).indeterminate is indeterminate


def test_a_slow_cancel_is_explained_after_two_seconds():
    assert snapshot(state="cancelling", body="in C", cancel_seconds=1).note == "in C"
    late = snapshot(state="cancelling", body="in C", cancel_seconds=75)
    assert late.note == "in C (cannot be stopped yet; cancel requested 1:15 ago)"


def test_a_slow_cancel_in_a_thread_says_what_ends_such_work(manager, gate):
    task = manager.create_task("it", gate.wait)
    assert gate.reached.wait(30)
    task.cancel()
    later = task_snapshot(task, datetime.now(UTC) + timedelta(seconds=5))
    assert later.note.endswith(" ago; next time, run it in a process: --backend process")


def test_elapsed_time_runs_from_the_start_to_the_end(manager):
    task = manager.create_task("it", lambda: 1)
    manager.wait(task)
    assert 0 <= task_snapshot(task, datetime.now(UTC) + timedelta(hours=2)).elapsed < 60


def test_all_figures_in_one_line():
    assert snapshot(progress=40.0, rate="12 it/s", seconds_left=18).figures == "40% · 0:18 left · 0:03 · 12 it/s"


@pytest.mark.parametrize(
    ("state", "seconds", "figures"),
    [
        ("completed", 389.2, "took 6 min 29 s"),
        ("completed", 0.0004, "took < 0.01 s"),
        ("completed", 3720, "took 1 h 2 min"),
        ("failed", 12.4, "40% · took 12 s"),
        ("cancelled", 1.24, "40% · took 1.2 s"),
        ("lost", 64, "40% · 1:04"),
    ],
)
def test_what_is_finished_says_how_long_it_took(state, seconds, figures):
    progress = 100.0 if state == "completed" else 40.0
    assert snapshot(state=state, progress=progress, elapsed=seconds).figures == figures


def test_the_last_error_is_shown_while_a_retry_is_pending():
    assert snapshot(state="pending", last_error="ValueError: boom").note == "the last attempt failed: ValueError: boom"


def test_control_codes_are_removed():
    text = "\x1b[31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07 \x00\x9b \u202egnal\nnext"
    assert plain_text(text).split() == ["red", "link", "\u202egnal", "next"]


# -- groups -----------------------------------------------------------------------------------------------------


def test_a_group_has_counts_and_average_progress(manager, gate):
    running = manager.create_task("running", gate.wait, lane="single")
    pending = manager.create_task("pending", gate.wait, lane="single")
    completed = manager.create_task("completed", str)
    failed = manager.create_task("failed", fail())
    manager.wait(completed, failed)
    running.progress = 20
    together = group(running, pending, completed, failed)
    assert together.status == "1 pending, 1 running, 1 completed, 1 failed"
    assert together.title == "4 tasks: running, pending, completed, …"
    assert together.progress == (20 + 0 + 100 + 100) / 4
    assert not together.finished


def test_a_finished_group_lists_its_failures(manager):
    tasks = [manager.create_task(f"bad {number}", fail()) for number in range(7)]
    tasks.append(manager.create_task("good", str))
    manager.wait(*tasks)
    together = group(*tasks)
    assert (together.state, together.finished) == ("failed", True)
    assert together.note.splitlines()[0] == "bad 0: ValueError: boom"
    assert together.note.splitlines()[-1] == "… and 2 more"


# -- rate, time left and loops ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "text"),
    [(1, "1.0 file/s"), (33.4, "33 file/s"), (3_456, "3,400 file/s"), (0.5, "2.0 s/file"), (0.01, "100 s/file")],
)
def test_a_rate_has_two_digits(rate, text):
    assert rate_text(rate, "file") == text


def test_the_rate_is_the_recent_one():
    meter = Meter(total=1000)
    start = time.monotonic()
    for second in range(100):
        meter.count = second if second < 50 else 50 + 10 * (second - 50)
        rate = meter.rate(start + second)
    assert 9 <= rate <= 10.5
    assert 40 <= meter.seconds_left(start + 100) <= 55


def test_rate_and_time_left_are_unknown_before_the_first_step():
    meter = Meter(total=10)
    assert meter.rate() is None
    assert meter.seconds_left() is None


def test_a_loop_of_unknown_length_shows_its_count():
    assert loop_text(Meter(None, "file", count=1234)) == "1,234 file"
    assert loop_text(Meter(None, "file", "load", count=5)) == "load 5 file"
    assert loop_text(Meter(10, "file", "load", count=5)) == "load 5/10"


def test_nested_loops_are_shown_from_the_outermost_to_the_innermost(manager, gate):
    def work():
        for epoch in track(range(10), description="epoch"):
            for batch in track(range(200), description="batch", unit="batch"):
                if (epoch, batch) == (3, 40):
                    gate.wait()
                    return

    task = manager.create_task("it", work)
    gate.reached.wait(30)
    pace = Pace.of(task)
    assert pace.loops == "epoch 3/10 · batch 40/200"
    assert pace.rate.endswith(" batch/s") and pace.rate.count("batch") == 1
    assert isinstance(pace.seconds_left, int)
    assert pace.progress == 30.0


@pytest.mark.parametrize(("description", "whose"), [("step", "step "), ("", "inner loop ")])
def test_the_rate_of_nested_loops_says_whose_it_is(manager, gate, description, whose):
    def work():
        for _ in track(range(10), description="epoch"):
            for step in track(range(200), description=description):
                if step == 40:
                    gate.wait()
                    return

    task = manager.create_task("it", work)
    gate.reached.wait(30)
    assert re.fullmatch(rf"{whose}[\d.,]+ it/s", Pace.of(task).rate)


def test_a_single_unnamed_loop_shows_only_its_rate(manager, gate):
    def work():
        for number in track(range(10)):
            if number == 5:
                gate.wait()

    task = manager.create_task("it", work)
    gate.reached.wait(30)
    assert Pace.of(task).loops == ""
    assert Pace.of(task).rate.endswith("it/s")


def test_the_progress_of_a_generator_of_unknown_length_is_unknown(manager, gate):
    def work():
        for number in track(n for n in range(10)):
            if number == 5:
                gate.wait()

    task = manager.create_task("it", work)
    gate.reached.wait(30)
    assert task.progress is None
    assert Pace.of(task).loops == "5 it"
    assert Pace.of(task).seconds_left is None


def test_async_iterables_are_shown(manager, gate):
    async def numbers():
        for number in range(10):
            yield number

    async def work():
        async for number in track(numbers(), total=10, description="read"):
            if number == 5:
                gate.wait()

    task = manager.create_task("it", work)
    gate.reached.wait(30)
    assert Pace.of(task).loops == "read 5/10"
    assert Pace.of(task).progress == 50.0


def test_a_loop_that_was_left_is_not_shown(manager, gate):
    def work():
        for _ in track(range(10), description="left"):
            break
        for _ in track(range(10), description="now"):
            gate.wait()

    task = manager.create_task("it", work)
    gate.reached.wait(30)
    assert Pace.of(task).loops == "now 0/10"


def test_bars_of_tqdm_are_shown(manager, gate):
    from tqdm import tqdm

    patches = tqdm_patches()
    patches.apply()

    def work():
        for number in tqdm(range(10), desc="files", unit="file", mininterval=0, miniters=1):
            if number == 5:
                gate.wait()

    task = manager.create_task("it", work)
    gate.reached.wait(30)
    assert Pace.of(task).loops == "files 5/10"
    assert "file" in Pace.of(task).rate
    gate.go.set()
    manager.wait(task)
    patches.revert()


def test_the_attempt_is_shown_after_the_first_has_failed(manager, gate):
    def work(task):
        if task.attempts == 1:
            raise ValueError("boom")
        gate.wait()

    task = manager.create_task("it", work, retry=Retry(attempts=3, delay=0))
    gate.reached.wait(30)
    assert attempt_text(task) == "attempt 2 of 3"
    other = manager.create_task("other", str, retry=Retry(attempts=3))
    manager.wait(other)
    assert attempt_text(other) == ""


def test_live_children_are_counted(manager, gate):
    def work(task):
        for number in range(3):
            task.create_child(f"child {number}", gate.go.wait, lane="single")
        gate.wait()

    task = manager.create_task("parent", work)
    gate.reached.wait(30)
    assert children_text(task) == "1 running, 2 pending"


@pytest.mark.parametrize("total", ["10", True])
def test_a_total_must_be_a_number(total):
    with pytest.raises(Exception, match="total is the number of items"):
        track([1], total)


def test_progress_events_come_while_a_loop_runs(manager, gate):
    seen = []

    def work():
        for _ in track(range(1000)):
            if gate.go.wait(0.005):
                break

    subscription = manager.add_event_callback(lambda task, _: seen.append(task.progress), events="progress")
    task = manager.create_task("it", work)
    end = time.monotonic() + 20
    while len(set(seen)) < 4:
        assert time.monotonic() < end
        time.sleep(0.01)
    gate.go.set()
    manager.wait(task)
    subscription.close()
    assert seen == sorted(seen)


def test_progress_that_is_set_inside_a_loop_stays(manager):
    def work(task):
        seen = []
        for number in track(range(4)):
            if number == 1:
                task.progress = 70
            seen.append(task.progress)
        return seen

    assert manager.create_task("it", work).wait(30) == [0.0, 70.0, 70.0, 70.0]
