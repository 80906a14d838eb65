"""How a task gets on, in words: rates, time left, nested loops, attempts, children."""

from __future__ import annotations

import threading
import time

import pytest

from nbtasks import Retry, TaskManager, track
from nbtasks.progress import Meter
from nbtasks.widgets.pace import Pace, attempt_text, children_text, count_text, rate_text


@pytest.fixture
def manager():
    with TaskManager() as manager:
        yield manager


class Stops:
    """A gate that work stands still at: `reached` when it is there, `go` to let it on."""

    def __init__(self):
        self.reached, self.go = threading.Event(), threading.Event()

    def stop(self):
        self.reached.set()
        assert self.go.wait(30)


@pytest.fixture
def at():
    at = Stops()
    yield at
    at.go.set()


@pytest.mark.parametrize(
    ("rate", "told"),
    [(1, "1.0 file/s"), (33.4, "33 file/s"), (3_456, "3,400 file/s"), (0.5, "2.0 s/file"), (0.01, "100 s/file")],
)
def test_a_rate_has_two_digits(rate, told):
    assert rate_text(rate, "file") == told


def test_a_rate_is_that_of_late():
    meter = Meter(total=1000)
    begun = time.monotonic()
    for second in range(100):
        meter.count = second if second < 50 else 50 + 10 * (second - 50)
        rate = meter.rate(begun + second)
    assert 9 <= rate <= 10.5
    assert 40 <= meter.seconds_left(begun + 100) <= 55


def test_before_the_first_step_nothing_is_told():
    meter = Meter(total=10)
    assert meter.rate() is None
    assert meter.seconds_left() is None


def test_a_loop_of_unknown_length_tells_its_count():
    assert count_text(Meter(None, "file", count=1234)) == "1,234 file"
    assert count_text(Meter(None, "file", "load", count=5)) == "load 5 file"
    assert count_text(Meter(10, "file", "load", count=5)) == "load 5/10"


def test_nested_loops_are_told_from_the_outermost_on(manager, at):
    def work():
        for epoch in track(range(10), description="epoch"):
            for batch in track(range(200), description="batch", unit="batch"):
                if (epoch, batch) == (3, 40):
                    at.stop()
                    return

    task = manager.create_task("it", work)
    at.reached.wait(30)
    pace = Pace.of(task)
    assert pace.loops == "epoch 3/10 · batch 40/200"
    assert pace.rate.endswith("/s")
    assert "batch" in pace.rate
    assert isinstance(pace.left, int)
    assert pace.progress == 30.0


def test_one_plain_loop_adds_only_its_rate(manager, at):
    def work():
        for number in track(range(10)):
            if number == 5:
                at.stop()

    task = manager.create_task("it", work)
    at.reached.wait(30)
    assert Pace.of(task).loops == ""
    assert Pace.of(task).rate.endswith("it/s")


def test_a_generator_of_unknown_length_leaves_the_progress_unknown(manager, at):
    def work():
        for number in track(n for n in range(10)):
            if number == 5:
                at.stop()

    task = manager.create_task("it", work)
    at.reached.wait(30)
    assert task.progress is None
    assert Pace.of(task).loops == "5 it"
    assert Pace.of(task).left is None


def test_an_async_iterable_is_told_too(manager, at):
    async def numbers():
        for number in range(10):
            yield number

    async def work():
        async for number in track(numbers(), total=10, description="read"):
            if number == 5:
                at.stop()

    task = manager.create_task("it", work)
    at.reached.wait(30)
    assert Pace.of(task).loops == "read 5/10"
    assert Pace.of(task).progress == 50.0


def test_a_loop_that_was_left_is_forgotten(manager, at):
    def work():
        for _ in track(range(10), description="left"):
            break
        for _ in track(range(10), description="now"):
            at.stop()

    task = manager.create_task("it", work)
    at.reached.wait(30)
    assert Pace.of(task).loops == "now 0/10"


def test_bars_of_tqdm_are_told_too(manager, at):
    from tqdm import tqdm

    from nbtasks.notebook.patches.tqdm import tqdm_patches

    patches = tqdm_patches()
    patches.apply()

    def work():
        for number in tqdm(range(10), desc="files", unit="file", mininterval=0, miniters=1):
            if number == 5:
                at.stop()

    task = manager.create_task("it", work)
    at.reached.wait(30)
    assert Pace.of(task).loops == "files 5/10"
    assert "file" in Pace.of(task).rate
    at.go.set()
    manager.wait(task)
    patches.revert()


def test_attempts_are_told_once_one_has_failed(manager, at):
    def work(task):
        if task.attempts == 1:
            raise ValueError("boom")
        at.stop()

    task = manager.create_task("it", work, retry=Retry(attempts=3, delay=0))
    at.reached.wait(30)
    assert attempt_text(task) == "attempt 2 of 3"
    other = manager.create_task("other", str, retry=Retry(attempts=3))
    manager.wait(other)
    assert attempt_text(other) == ""


def test_live_children_are_counted(manager, at):
    def work(task):
        for number in range(3):
            task.create_child(f"child {number}", at.go.wait, lane="single")
        at.stop()

    task = manager.create_task("parent", work)
    at.reached.wait(30)
    assert children_text(task) == "1 running, 2 pending"


@pytest.mark.parametrize("total", ["10", True])
def test_a_total_that_is_no_number_is_refused(total):
    with pytest.raises(Exception, match="total is the number of items"):
        track([1], total)


def test_a_loop_is_told_of_while_it_runs(manager, at):
    seen = []

    def work():
        for _ in track(range(1000)):
            if at.go.wait(0.005):
                break

    subscription = manager.add_event_callback(lambda task, _: seen.append(task.progress), events="progress")
    task = manager.create_task("it", work)
    end = time.monotonic() + 20
    while len(set(seen)) < 4:
        assert time.monotonic() < end
        time.sleep(0.01)
    at.go.set()
    manager.wait(task)
    subscription.close()
    assert seen == sorted(seen)


def test_what_is_set_by_hand_inside_a_loop_stays(manager):
    def work(task):
        seen = []
        for number in track(range(4)):
            if number == 1:
                task.progress = 70
            seen.append(task.progress)
        return seen

    assert manager.create_task("it", work).wait(30) == [0.0, 70.0, 70.0, 70.0]
