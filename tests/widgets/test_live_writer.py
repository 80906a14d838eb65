"""Live writer: one thread, limited flushes, and the final state always written."""

from __future__ import annotations

import threading
import time

import pytest

from nbtasks import TaskManager
from nbtasks.widgets.live_writer import FLUSH_SECONDS, MESSAGES_PER_SECOND, LiveWriter, View


@pytest.fixture
def manager():
    with TaskManager() as manager:
        yield manager


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


class Progress(View):
    """A view that records the states and progress of its task."""

    ticks = True
    watches_progress = True

    def __init__(self, task):
        self.task = task
        self.seen = []
        self.threads = set()

    def progress_state(self):
        return self.task.progress

    def refresh(self) -> int:
        self.seen.append((self.task.state.value, self.task.progress))
        self.threads.add(threading.current_thread())
        return 1


class Broken(View):
    ticks = False

    def refresh(self) -> int:
        raise RuntimeError("broken")


def report(task, gate, seconds: float) -> None:
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        count += 1
        task.progress = count % 100
        gate.wait(0.001)


@pytest.mark.parametrize("views", [1, 10])
def test_ten_views_need_no_more_flushes_than_one(manager, live, gate, views):
    task = manager.create_task("it", gate.wait)
    shown = [live.add(task, lambda: Progress(task)) for _ in range(views)]
    before, start = live.flushes, time.monotonic()
    report(task, gate, 2.0)
    live.run(lambda: None)
    took = time.monotonic() - start
    assert 5 <= live.flushes - before <= took / FLUSH_SECONDS + 2
    assert sum(len(view.seen) for view in shown) <= took * MESSAGES_PER_SECOND + 2 * views + 5


def test_too_many_views_take_turns(manager, live, gate):
    task = manager.create_task("it", gate.wait)
    shown = [live.add(task, lambda: Progress(task)) for _ in range(20)]
    for view in shown:
        view.seen.clear()
    report(task, gate, 4.0)
    counts = [len(view.seen) for view in shown]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 3


def test_the_final_state_is_always_written_and_on_one_thread(manager, live, gate):
    task = manager.create_task("it", gate.wait)
    shown = [live.add(task, lambda: Progress(task)) for _ in range(50)]
    task.progress = 50
    gate.set()
    manager.wait(task)
    end = time.monotonic() + 20
    while not all(view.seen[-1] == ("completed", 100.0) for view in shown):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert len(set().union(*(view.threads for view in shown))) == 1


def test_closing_writes_the_last_changes(manager, gate):
    live = LiveWriter(manager)
    task = manager.create_task("it", gate.wait)
    view = live.add(task, lambda: Progress(task))
    task.progress = 77
    live.close()
    assert view.seen[-1] == ("running", 77)
    with pytest.raises(RuntimeError, match="closed"):
        live.run(lambda: None)


def test_opened_again_it_writes_what_has_changed_meanwhile(manager, live, gate):
    task = manager.create_task("it", gate.wait)
    view = live.add(task, lambda: Progress(task))
    live.close()
    seen = len(view.seen)
    task.progress = 33
    live.open()
    live.run(lambda: None)
    end = time.monotonic() + 20
    while ("running", 33) not in view.seen[seen:]:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert len(view.threads) == 2


def test_a_removed_view_is_not_refreshed(manager, live, gate):
    task = manager.create_task("it", gate.wait)
    view = live.add(task, lambda: Progress(task))
    other = live.add(task, lambda: Progress(task))
    live.remove(task, view)
    live.run(lambda: None)
    seen = len(view.seen)
    gate.set()
    end = time.monotonic() + 20
    while other.seen[-1:] != [("completed", 100.0)]:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert len(view.seen) == seen


def test_an_error_in_one_view_does_not_stop_the_others(manager, live, gate, caplog):
    task = manager.create_task("it", gate.wait)
    live.add(task, Broken)
    view = live.add(task, lambda: Progress(task))
    gate.set()
    end = time.monotonic() + 20
    while view.seen[-1:] != [("completed", 100.0)]:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert "could not be refreshed" in caplog.text
