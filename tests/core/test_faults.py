"""One fault at a time in the calls that the parts of a manager make of each other.

The calls are discovered: a run of the scene without a fault notes which public methods of these parts are called from
within nbtasks, and how often. Then the scene is run once for each of them, with an error raised before or after the
call. Whatever happens to the tasks, each ends, and the manager takes new work.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from inspect import isfunction
from pathlib import Path
from typing import Any

import pytest

from nbtasks import Retry, Task, TaskManager
from nbtasks.backends.loop import LoopBackend
from nbtasks.backends.thread import ThreadBackend
from nbtasks.clock import Timer
from nbtasks.dependencies import Waiters
from nbtasks.dispatcher import Dispatcher
from nbtasks.events import EventBus
from nbtasks.history.database import Database
from nbtasks.history.history import Batch, History
from nbtasks.lanes import Lane, Lanes
from nbtasks.progress_hooks import ProgressHooks
from nbtasks.registry import Registry
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.schedules.scheduler import Agenda, Instances, Scheduler
from tests.core.clocks import wait_until

PARTS = (
    *(Dispatcher, Registry, Lanes, Lane, Waiters, EventBus, Timer, ProgressHooks, ThreadBackend, LoopBackend),
    *(Scheduler, Agenda, Instances, RecurringTask, History, Batch, Database),
)
SECONDS = 20.0
HANDED_OVER = ("Dispatcher.finished", "Instances.run", "Instances.start")
"""They end by returning the attempt that the calling thread runs: there is no "after" that could fail."""


class InjectedError(Exception):
    pass


@dataclass(frozen=True)
class Fault:
    """An error at the `number`-th call of a method, `before` the call or after it."""

    method: str
    number: int
    before: bool

    def __str__(self) -> str:
        return f"{'before' if self.before else 'after'}-{self.method}-{self.number}"


class Injector:
    """Counts calls of public methods of `PARTS` by nbtasks, and raises one error."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self.raised = False
        self.armed = False
        self._fault = fault
        self._lock = threading.Lock()

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if not self.armed or not caller.startswith("nbtasks."):
                return function(*args, **kwargs)
            with self._lock:
                self.calls[name] += 1
                fault = self._fault
                is_here = fault is not None and fault.method == name and fault.number == self.calls[name]
                self.raised |= is_here
            if is_here and fault.before:
                raise InjectedError(name)
            result = function(*args, **kwargs)
            if is_here:
                raise InjectedError(name)
            return result

        return wrapped


@contextmanager
def injected(fault: Fault | None) -> Iterator[Injector]:
    injector = Injector(fault)
    with pytest.MonkeyPatch.context() as patch:
        for part in PARTS:
            for name, function in vars(part).items():
                if isfunction(function) and not name.startswith("_"):
                    patch.setattr(part, name, injector.wrap(f"{part.__name__}.{name}", function))
        yield injector


class Hooked(Task):
    """A task with a progress hook."""

    update_sleep_time = 0.005

    def run(self) -> str:
        time.sleep(0.02)
        return "hooked"

    def progress_hook(self) -> float:
        return 50.0


def endless() -> None:
    while True:
        time.sleep(0.001)


class Scene:
    """What a manager does in a run; the injected error ends one step of it."""

    def __init__(self, manager: TaskManager) -> None:
        self.manager = manager
        self.tasks: list[Task] = []
        self._failures = 0

    def create(self, name: str, work: Any, **options: Any) -> Task | None:
        with suppress(InjectedError):
            self.tasks.append(self.manager.create_task(name, work, **options))
            return self.tasks[-1]
        return None

    def step(self, call: Callable[[], object]) -> None:
        with suppress(InjectedError, TimeoutError):
            call()

    def run(self) -> None:
        manager = self.manager
        subscription: list[Any] = []
        self.step(lambda: subscription.append(manager.add_event_callback(lambda task, event: None)))
        self._plain_work()
        self._related_work()
        self._stopped_work()
        self._schedules()
        self.step(lambda: manager.wait(timeout=1))
        self.step(lambda: manager.history.flush(2))
        self.step(lambda: manager.prune(older_than=0))
        for one in subscription:
            self.step(one.close)

    def _plain_work(self) -> None:
        for number in range(4):
            self.create(f"thread {number}", lambda: time.sleep(0.002), priority=number)
        self.create("coroutine", lambda: asyncio.sleep(0.002), backend="loop")
        self.create("awaitable of a thread", lambda: asyncio.sleep(0.002))
        self.create("retried", self._fail_twice, retry=Retry(attempts=3, delay=0.002))
        self.create("failing", lambda: 1 / 0, retry=Retry(attempts=2, delay=0.0))
        hooked = Hooked(name="hooked")
        self.step(lambda: self.manager.add_task(hooked))
        if hooked.internals.manager is not None:
            self.tasks.append(hooked)

    def _fail_twice(self) -> None:
        self._failures += 1
        if self._failures <= 2:
            raise ConnectionError

    def _related_work(self) -> None:
        first = self.create("first", lambda: time.sleep(0.005))
        broken = self.create("broken", lambda: 1 / 0)
        if first is not None:
            second = self.create("second", lambda: 2, after=first)
            if second is not None:
                self.create("third", lambda: 3, after=[first, second])
        if broken is not None:
            self.create("cannot follow", lambda: 4, after=broken)

        def parent(task: Task) -> None:
            child = task.create_child("child", lambda: 5)
            child.wait(30)

        async def awaits() -> None:
            await self.manager.create_task("awaited", lambda: 6)

        self.create("parent", parent, lane="single")
        self.create("awaits", awaits)

    def _stopped_work(self) -> None:
        manager = self.manager
        self.create("timed out", endless, timeout=0.03)
        running = self.create("cancelled", endless, lane="multiple")
        self.step(lambda: manager.resize_lane("single", 0))
        pending = self.create("cancelled while pending", lambda: 1, lane="single")
        if pending is not None:
            self.step(lambda: manager.set_priority(pending, 3))
            self.step(pending.cancel)
        self.step(lambda: manager.resize_lane("single", 1))
        if running is not None:
            self.step(running.cancel)

    def _schedules(self) -> None:
        manager, made = self.manager, []
        interval = timedelta(seconds=0.06)
        self.step(lambda: made.append(manager.add_recurring_task(interval, lambda: time.sleep(0.001), max_runs=3)))
        for recurring in made:
            self.step(recurring.run_now)
            wait_until(lambda recurring=recurring: recurring.total_runs + recurring.total_failures >= 2, SECONDS)
            self.step(recurring.disable)
            self.step(recurring.enable)
            self.step(recurring.remove)

    def finish(self) -> None:
        """Without further faults: every task ends, and the manager takes new work in every lane."""
        manager = self.manager
        if any(task.name.startswith("cancelled") and not task.done for task in self.tasks):
            for task in self.tasks:
                if task.name.startswith("cancelled"):
                    task.cancel()  # the fault was in the first cancel
        for name in ("single", "default", "multiple"):
            manager.resize_lane(name, {"single": 1, "default": 2, "multiple": 10}[name])
        everything = {*self.tasks, *manager.list_tasks()}
        deadline = time.monotonic() + SECONDS
        while live := [task for task in everything if not task.done]:
            assert time.monotonic() < deadline, f"without anything that moves them: {live}, {manager.lanes!r}"
            time.sleep(0.002)
        for task in everything:
            if task.state == "failed" and isinstance(task.exception, InjectedError):
                assert task.error
        for lane in manager.lanes.values():
            assert (lane.running, lane.paused, lane.pending) == (0, 0, 0), lane
        self._takes_new_work()

    def _takes_new_work(self) -> None:
        for name, lane in self.manager.lanes.items():
            limit = int(lane.limit or 1)
            barrier = threading.Barrier(limit)  # as many at once as the lane allows
            meet = functools.partial(barrier.wait, SECONDS)
            for task in [self.manager.create_task("new", meet, lane=name) for _ in range(limit)]:
                task.wait(SECONDS)
        assert self.manager.create_task("new coroutine", lambda: asyncio.sleep(0, 7), backend="loop").wait(SECONDS) == 7
        retried = iter([ConnectionError(), None])
        task = self.manager.create_task("new retry", lambda: _raise(next(retried)), retry=Retry(2, delay=0.001))
        task.wait(SECONDS)
        recurring = self.manager.add_recurring_task("0.02s", lambda: 8, max_runs=1)
        wait_until(lambda: recurring.total_runs == 1, SECONDS)
        assert self.manager.history.flush(SECONDS)


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error


def run_scene(fault: Fault | None, folder: Path) -> Injector:
    logging.getLogger("nbtasks").setLevel(logging.CRITICAL)
    try:
        with injected(fault) as injector:
            history = History(folder / "history.sqlite")
            history.note = injector.wrap("History.note", history.note)
            manager = TaskManager(lanes={"default": 2}, history=history)
            try:
                scene = Scene(manager)
                injector.armed = True
                scene.run()
                injector.armed = False
                scene.finish()
            finally:
                injector.armed = False
                manager.stop()
            return injector
    finally:
        logging.getLogger("nbtasks").setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How often each method is called in a scene without faults."""
    return run_scene(None, tmp_path_factory.mktemp("no-fault")).calls


def faults(calls: Counter[str], numbers: int) -> list[Fault]:
    return [
        Fault(method, number, before)
        for method in sorted(calls)
        for before in (True, False)
        for number in range(1, min(numbers, calls[method]) + 1)
        if before or method not in HANDED_OVER
    ]


def test_the_scene_calls_every_part(calls: Counter[str]) -> None:
    assert {name.split(".")[0] for name in calls} >= {part.__name__ for part in PARTS}


def check(chosen: list[Fault], tmp_path: Path) -> None:
    wrong = []
    for index, fault in enumerate(chosen):
        folder = tmp_path / str(index)
        folder.mkdir()
        try:
            run_scene(fault, folder)
        except BaseException as error:
            wrong.append(f"{fault}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


# A fault between the making of a coroutine and its start: Python tells of it.
NEVER_AWAITED = pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited:RuntimeWarning")


@NEVER_AWAITED
def test_after_a_fault_in_the_first_call_every_task_ends_and_new_work_is_taken(calls, tmp_path) -> None:
    """A slice of the matrix: every third method."""
    check(faults(calls, 1)[::3], tmp_path)


@pytest.mark.long
@NEVER_AWAITED
def test_after_a_fault_in_any_call_every_task_ends_and_new_work_is_taken(calls, tmp_path) -> None:
    check(faults(calls, 12), tmp_path)
