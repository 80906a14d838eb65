"""Random sequences of concurrent operations (hypothesis), and invariants.

The invariants: no lane and no manager runs more than its limit, a slot lent to a child aside; parents and children in
one lane do not deadlock; no task runs twice at a time; nothing is pending while its lane has a free slot; a task has
one final state; its events are legal and in order; the manager's books agree.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nbtasks import Retry, Task, TaskCancelledError, TaskManager
from nbtasks.exceptions import ManagerStoppedError
from nbtasks.lanes import Lane
from nbtasks.states import FINAL_STATES, LIVE_STATES, TaskState
from nbtasks.testing import EventRecorder

THREADS = 4
LANES = ("one", "two", "wide")
PATIENCE = 60.0
KINDS = ("quick", "busy", "coroutine", "fails", "flaky", "overdue", "parent", "async_parent", "after", "stubborn")

number = st.integers(0, 10_000)
created = st.tuples(st.just("create"), st.sampled_from(KINDS), st.sampled_from(LANES), number)
OTHERS = ("cancel", "prioritise", "prioritise", "resize", "limit", "wait", "prune", "look", "subscribe", "remove")
others = st.tuples(
    st.sampled_from(OTHERS),
    st.just(""),
    st.sampled_from(LANES),
    number,
)
operations = st.lists(st.one_of(created, created, others), min_size=4, max_size=40)


class Scene:
    """One manager, all that is done to it, and what was seen."""

    def __init__(self) -> None:
        self.manager = TaskManager(lanes={"one": 1, "two": 2, "wide": 5}, max_succeeded_tasks=None)
        self.recorder = EventRecorder(self.manager)
        self.tasks: list[Task] = []
        self.faults: list[str] = []
        self.active: dict[Task, int] = {}
        self.ceilings: dict[str, float] = {"one": 1, "two": 2, "wide": 5, "all": float("inf")}
        dispatcher = self.manager._dispatcher
        finished = dispatcher.finished

        def report(attempt: Any, outcome: Any) -> Any:
            self.active.pop(attempt.task, None)  # here its work has stopped, and its slot is not passed on yet
            return finished(attempt, outcome)

        dispatcher.finished = report  # type: ignore[method-assign]
        lanes = dispatcher.lanes
        admit = lanes.admit

        def admitted(lane: Lane) -> Task | None:
            task = admit(lane)
            lent = lane.paused if task is not None and task.internals.wanted else 0
            if task is not None and lane.limit is not None and lane.running > lane.limit + lent:
                self.faults.append(f"{task!r} was let into {lane!r}, of which {lane.paused} stand still")
            return task

        lanes.admit = admitted  # type: ignore[method-assign]

    # -- what tasks do --------------------------------------------------------------------------------------------

    def begin(self, task: Task) -> None:
        """The first thing that work does."""
        if task in self.active:
            self.faults.append(f"{task!r} runs twice at a time")
        self.active[task] = task.attempts
        if task.parent_id is not None:
            return  # it may have been lent a slot
        running = [other.lane for other in list(self.active) if other.parent_id is None]
        for name, count in ((task.lane, running.count(task.lane)), ("all", len(running))):
            if count > self.ceilings[name]:
                self.faults.append(f"{count} run in {name!r}, whose limit is {self.ceilings[name]}")

    def quick(self, task: Task) -> None:
        self.begin(task)

    def busy(self, task: Task) -> int:
        self.begin(task)
        total = 0
        for step in range(3_000):
            total += step
            task.progress = step % 100
        return total

    async def coroutine(self, task: Task) -> None:
        self.begin(task)
        await asyncio.sleep(0.003)

    def fails(self, task: Task) -> None:
        self.begin(task)
        raise ValueError(task.name)

    def flaky(self, task: Task) -> None:
        self.begin(task)
        if task.attempts < 3:
            raise ConnectionError(task.name)

    def overdue(self, task: Task) -> None:
        self.begin(task)
        while True:
            pass

    def stubborn(self, task: Task) -> str:
        self.begin(task)
        try:
            for _ in range(300):
                task.body = "continues"
        except BaseException:
            return "finished all the same"
        return "finished"

    def parent(self, task: Task) -> None:
        self.begin(task)
        children = [task.create_child("child", work) for work in (self.quick, self.coroutine)]
        self.joined(*children)

    async def async_parent(self, task: Task) -> None:
        self.begin(task)
        children = [task.create_child("child", work) for work in (self.quick, self.coroutine)]
        for child in children:
            with suppress(TaskCancelledError):
                await child

    def joined(self, *tasks: Task) -> None:
        try:
            self.manager.wait(*tasks, timeout=PATIENCE)
        except TimeoutError:
            self.faults.append(f"a parent and its children wait for each other: {tasks}")

    # -- what is done to them -------------------------------------------------------------------------------------

    def create(self, kind: str, lane: str, value: int) -> None:
        options: dict[str, Any] = {}
        if kind == "flaky":
            options["retry"] = Retry(attempts=3, delay=0.0005 * (value % 3), jitter=0.0005)
        elif kind == "overdue":
            options["timeout"] = 0.001
        elif kind == "after":
            options["after"] = [self.any_task(value + step) for step in range(1 + value % 2) if self.tasks]
        work = self.quick if kind == "after" else getattr(self, kind)
        self.tasks.append(self.manager.create_task(kind, work, value % 5, lane=lane, **options))

    def any_task(self, value: int) -> Task:
        return self.tasks[value % len(self.tasks)]

    def cancel(self, lane: str, value: int) -> None:
        self.any_task(value).cancel(children=value % 2 == 0)

    def prioritise(self, lane: str, value: int) -> None:
        self.manager.set_priority(self.any_task(value), value % 7)

    def resize(self, lane: str, value: int) -> None:
        self.manager.resize_lane(lane, 1 + value % 5)

    def limit(self, lane: str, value: int) -> None:
        self.manager.max_concurrent_tasks = None if value % 4 == 0 else value % 7 + 1

    def wait(self, lane: str, value: int) -> None:
        try:
            self.manager.wait(self.any_task(value), timeout=0.001 * (value % 4))
        except TimeoutError:
            return

    def prune(self, lane: str, value: int) -> None:
        self.manager.prune(older_than=timedelta(seconds=1))

    def look(self, lane: str, value: int) -> None:
        stats = self.manager.get_stats()
        assert stats["total"] == sum(count for name, count in stats.items() if name != "total")
        self.manager.search_tasks(name="busy", state=["pending", "running"])
        self.any_task(value).as_dict()

    def subscribe(self, lane: str, value: int) -> None:
        with self.manager.add_event_callback(lambda task, event: None, ["progress", "started"]):
            self.any_task(value).progress = value % 100

    def remove(self, lane: str, value: int) -> None:
        self.manager.remove_task(self.any_task(value))

    # -- all at once ----------------------------------------------------------------------------------------------

    def burst(self, chosen: list[tuple[str, str, str, int]], *, stop: bool = False) -> None:
        """Do all of this on several threads that start together."""
        self.allow(chosen)
        together = threading.Barrier(THREADS + stop)
        threads = [
            threading.Thread(target=self.act, args=(together, chosen[start::THREADS])) for start in range(THREADS)
        ]
        if stop:
            threads.append(threading.Thread(target=lambda: (together.wait(), self.manager.stop(PATIENCE))))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * PATIENCE)
            if thread.is_alive():
                faulthandler.dump_traceback(all_threads=True)
                self.faults.append("an operation does not come to its end")

    def act(self, together: threading.Barrier, chosen: list[tuple[str, str, str, int]]) -> None:
        together.wait()
        for name, kind, lane, value in chosen:
            try:
                if name == "create":
                    self.create(kind, lane, value)
                elif self.tasks:
                    getattr(self, name)(lane, value)
            except ManagerStoppedError:
                continue
            except Exception as error:
                self.faults.append(f"{name} {kind} {lane} {value}: {error!r}")

    def allow(self, chosen: list[tuple[str, str, str, int]]) -> None:
        """Note how many may run at most while this is done: tasks beyond a new, lower limit continue."""
        lanes = self.manager._dispatcher.lanes
        self.ceilings = {name: max(lanes[name].limit or 0, lanes[name].running) for name in LANES}
        self.ceilings["all"] = float("inf") if lanes.max_running is None else max(lanes.max_running, lanes.running)
        for name, _, lane, value in chosen:
            if name == "resize":
                self.ceilings[lane] = max(self.ceilings[lane], 1 + value % 5)
            elif name == "limit":
                self.ceilings["all"] = float("inf") if value % 4 == 0 else max(self.ceilings["all"], value % 7 + 1)

    # -- what always holds ----------------------------------------------------------------------------------------

    def check_books(self) -> None:
        """At any moment, under the lock."""
        dispatcher = self.manager._dispatcher
        with dispatcher.lock:
            lanes, registry = dispatcher.lanes, dispatcher.registry
            running: dict[str, int] = defaultdict(int)
            for task in registry.by_state[TaskState.RUNNING].values():
                running[task.lane] += 1
            counts = {name: lane.running for name, lane in lanes.items() if lane.running}
            assert counts == running and lanes.running == sum(counts.values())
            assert all(0 <= lane.paused <= lane.running for lane in lanes.values())
            assert lanes.paused == sum(lane.paused for lane in lanes.values())
            free = lanes.max_running is None or lanes.running < lanes.max_running
            lost = [lane for lane in lanes.values() if free and lane.pending and lane.has_free_slot()]
            assert not lost or self.manager._dispatcher.stopped, f"a wake-up was lost: {lost}"
            for task in registry.by_state[TaskState.PENDING].values():
                relations = task.internals.relations
                waits = lanes[task.lane].holds(task) or (
                    relations is not None and (relations.dependencies or relations.retry_timer)
                )
                assert waits, f"nothing will ever start {task!r}"

    def come_to_rest(self) -> None:
        """Lift the limit over all, and wait until all is over."""
        self.ceilings["all"] = float("inf")
        self.manager.max_concurrent_tasks = None
        self.manager.wait(timeout=PATIENCE)

    def finish(self) -> None:
        """Let all come to its end, and look at what became of it."""
        if not self.manager._dispatcher.stopped:
            try:
                self.come_to_rest()
            except TimeoutError as error:
                self.faults.append(str(error))
        states = {task: task.state for task in {*self.tasks, *self.manager.list_tasks()}}
        self.check_books()
        if not all(state in FINAL_STATES for state in states.values()):
            faulthandler.dump_traceback(all_threads=True)
        assert self.faults == []
        assert {task: state for task, state in states.items() if state not in FINAL_STATES} == {}
        self.manager.stop(PATIENCE)
        self.recorder.close()
        self.recorder.check_legal()
        for task, state in states.items():
            ends = [event.value for event in self.recorder.of(task) if event in ("completed", "failed", "cancelled")]
            assert ends == [state.value], f"{task!r} ended as {ends}"
            assert task.state is state and (task.internals.attempt, task.internals.relations) == (None, None)
            assert task.attempts == [event.value for event in self.recorder.of(task)].count("started")
        assert not self.active


class Races(RuleBasedStateMachine):
    """Bursts of operations, which may overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        logging.getLogger("nbtasks").setLevel(logging.CRITICAL)  # tasks fail on purpose
        self.scene: Scene | None = None

    @initialize()
    def begin(self) -> None:
        self.scene = Scene()

    @rule(chosen=operations)
    def burst(self, chosen: list[tuple[str, str, str, int]]) -> None:
        self.scene.burst(chosen)

    @rule(milliseconds=st.integers(0, 5))
    def pass_time(self, milliseconds: int) -> None:
        time.sleep(milliseconds / 1_000)

    @rule(chosen=operations)
    def stop_meanwhile(self, chosen: list[tuple[str, str, str, int]]) -> None:
        self.scene.burst(chosen, stop=True)
        self.scene.finish()
        self.scene = Scene()

    @rule()
    def come_to_rest(self) -> None:
        self.scene.come_to_rest()
        assert not [task for task in self.scene.tasks if task.state in LIVE_STATES]

    @invariant()
    def books_agree(self) -> None:
        if self.scene is not None:
            self.scene.check_books()
            assert self.scene.faults == []

    def teardown(self) -> None:
        try:
            if self.scene is not None:
                self.scene.finish()
        finally:
            sys.setswitchinterval(self.interval)
            logging.getLogger("nbtasks").setLevel(logging.NOTSET)


def profile(examples: int, steps: int) -> settings:
    """Threads do not repeat what they did: nothing is shrunk, and no example is kept."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


class TestRaces(Races.TestCase):
    settings = profile(30, 10)


@pytest.mark.long
@pytest.mark.timeout(3_600)
class TestRacesForLong(Races.TestCase):
    settings = profile(300, 30)
