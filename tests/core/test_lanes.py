"""Lanes: limits of one lane and over all, user-defined lanes, lent slots."""

from __future__ import annotations

import asyncio
import threading

import pytest

from nbtasks import DeadlockError, Task, TaskManager, WaitTimeoutError
from nbtasks import exceptions as errors
from nbtasks.lanes import Lane, Lanes


def states(*tasks: Task) -> list[str]:
    return [task.state.value for task in tasks]


# -- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lane", "limit"), [("single", 1), ("multiple", 10), ("default", 3)])
def test_a_lane_never_runs_more_than_its_limit(
    manager: TaskManager, gate: threading.Event, lane: str, limit: int
) -> None:
    tasks = [manager.create_task("t", gate.wait, lane=lane) for _ in range(limit + 2)]
    assert states(*tasks) == ["running"] * limit + ["pending"] * 2
    assert (manager.lanes[lane].running, manager.lanes[lane].pending) == (limit, 2)
    gate.set()
    manager.wait(timeout=30)
    assert (manager.lanes[lane].running, manager.lanes[lane].pending) == (0, 0)


def test_lanes_are_set_when_the_manager_is_made(gate: threading.Event) -> None:
    with TaskManager(lanes={"single": 2, "gpu": 1, "free": None}) as manager:
        limits = {name: lane.limit for name, lane in manager.lanes.items()}
        assert limits == {"single": 2, "multiple": 10, "default": 3, "gpu": 1, "free": None}
        tasks = [manager.create_task("t", gate.wait, lane="gpu") for _ in range(2)]
        assert states(*tasks) == ["running", "pending"]
        free = [manager.create_task("t", gate.wait, lane="free") for _ in range(20)]
        assert states(*free) == ["running"] * 20
        gate.set()


def test_a_lane_of_ones_own_is_added_and_removed_at_run_time(manager: TaskManager, gate: threading.Event) -> None:
    lane = manager.add_lane("own", 1)
    tasks = [manager.create_task("t", gate.wait, lane="own") for _ in range(2)]
    assert states(*tasks) == ["running", "pending"] and repr(lane) == "<Lane 'own': 1 of 1 running, 1 pending>"
    with pytest.raises(errors.LaneError, match="lane 'own' is in use by 2 tasks, 't' among them"):
        manager.remove_lane("own")
    gate.set()
    manager.wait(timeout=30)
    manager.remove_lane("own")
    assert "own" not in manager.lanes
    with pytest.raises(errors.UnknownLaneError, match=r"'own'.*default"):
        manager.create_task("t", gate.wait, lane="own")
    with pytest.raises(errors.UnknownLaneError, match=r"\['own'\]"):
        manager.create_task("t", gate.wait, lane=["own"])  # type: ignore[arg-type]
    assert manager.lanes.get("own") is None


def test_a_lane_that_only_tasks_with_something_before_them_are_in_is_in_use(
    manager: TaskManager, gate: threading.Event
) -> None:
    manager.add_lane("own", 1)
    first = manager.create_task("first", gate.wait)
    manager.create_task("second", lambda: 2, lane="own", after=first)
    with pytest.raises(errors.LaneError, match="'second'"):
        manager.remove_lane("own")


def test_a_larger_limit_starts_what_waits_at_once(manager: TaskManager, gate: threading.Event) -> None:
    tasks = [manager.create_task("t", gate.wait, lane="single") for _ in range(4)]
    manager.resize_lane("single", 3)
    assert states(*tasks) == ["running"] * 3 + ["pending"]
    manager.resize_lane("single", None)
    assert states(*tasks) == ["running"] * 4


def test_a_smaller_limit_lets_what_runs_go_on_and_nothing_start(manager: TaskManager) -> None:
    gates = [threading.Event() for _ in range(3)]
    running = [manager.create_task("t", gate.wait) for gate in gates]
    manager.resize_lane("default", 1)
    waiting = manager.create_task("waits", lambda: 1)
    assert states(*running) == ["running"] * 3
    for gate, task in zip(gates[:2], running, strict=False):
        gate.set()
        task.wait(30)
    assert waiting.state == "pending"
    gates[2].set()
    assert waiting.wait(30) == 1


def test_a_limit_of_nothing_shuts_a_lane_until_it_is_resized(manager: TaskManager) -> None:
    manager.resize_lane("default", 0)
    task = manager.create_task("t", lambda: 1)
    assert manager.create_task("elsewhere", lambda: 2, lane="single").wait(30) == 2 and task.state == "pending"
    manager.resize_lane("default", 1)
    assert task.wait(30) == 1


def test_the_lanes_are_there_to_be_read(manager: TaskManager) -> None:
    with pytest.raises(TypeError):
        manager.lanes["own"] = manager.lanes["single"]  # type: ignore[index]
    assert "single" in manager.lanes and len(manager.lanes) == 3


# -- the limit over all -------------------------------------------------------------------------------------------


def test_a_limit_over_all_lanes_holds_and_is_the_default_lanes(gate: threading.Event) -> None:
    with TaskManager(max_concurrent_tasks=2) as manager:
        tasks = [manager.create_task("t", gate.wait, lane=lane) for lane in ("default", "multiple", "single")]
        assert states(*tasks) == ["running", "running", "pending"]
        assert (manager.max_concurrent_tasks, manager.lanes["default"].limit) == (2, 2)
        gate.set()
        manager.wait(timeout=30)


def test_a_default_lane_that_is_given_keeps_its_limit_beside_the_limit_over_all() -> None:
    with TaskManager(max_concurrent_tasks=5, lanes={"default": 2}) as manager:
        assert (manager.max_concurrent_tasks, manager.lanes["default"].limit) == (5, 2)


def test_the_limit_over_all_is_changed_at_run_time(manager: TaskManager, gate: threading.Event) -> None:
    manager.max_concurrent_tasks = 1
    tasks = [manager.create_task("t", gate.wait, lane=lane) for lane in ("multiple", "default", "single")]
    assert states(*tasks) == ["running", "pending", "pending"]
    manager.max_concurrent_tasks = 2
    assert states(*tasks) == ["running", "running", "pending"]
    manager.max_concurrent_tasks = None
    assert states(*tasks) == ["running"] * 3


def test_a_slot_under_the_limit_over_all_goes_to_the_first_in_order_of_all_lanes(gate: threading.Event) -> None:
    order: list[str] = []
    with TaskManager(max_concurrent_tasks=1) as manager:
        manager.create_task("blocks", gate.wait)
        for name, lane, priority in (("a", "single", 0), ("b", "multiple", 2), ("c", "default", 1), ("d", "single", 0)):
            manager.create_task(name, lambda task: order.append(task.name), priority, lane=lane)
        gate.set()
        manager.wait(timeout=30)
    assert order == ["b", "c", "a", "d"]


# -- slots that are lent ------------------------------------------------------------------------------------------


def test_a_parent_that_waits_for_children_in_its_own_lane_lends_them_its_slot(manager: TaskManager) -> None:
    def parent(task: Task) -> list[int]:
        return [task.create_child("child", lambda n=n: n).wait(30) for n in range(3)]

    assert manager.create_task("parent", parent, lane="single").wait(30) == [0, 1, 2]


async def test_a_coroutine_that_awaits_children_in_its_own_lane_lends_them_its_slot(manager: TaskManager) -> None:
    async def parent(task: Task) -> list[int]:
        return [await task.create_child("child", asyncio.sleep(0, n)) for n in range(3)]

    assert await manager.create_task("parent", parent, lane="single") == [0, 1, 2]


def test_children_of_children_run_in_a_lane_for_one(manager: TaskManager) -> None:
    def descend(task: Task, depth: int) -> int:
        if depth == 0:
            return 0
        return 1 + task.create_child("child", lambda task: descend(task, depth - 1)).wait(30)

    assert manager.create_task("top", lambda task: descend(task, 6), lane="single").wait(30) == 6


def test_a_slot_is_lent_under_the_limit_over_all_too() -> None:
    with TaskManager(max_concurrent_tasks=1) as manager:

        def parent(task: Task) -> int:
            return task.create_child("child", lambda: 7, lane="multiple").wait(30)

        assert manager.create_task("parent", parent).wait(30) == 7


def test_what_a_child_comes_after_is_lent_the_slot_too(manager: TaskManager) -> None:
    def parent(task: Task) -> str:
        first = task.create_child("first", lambda: "first")
        return task.create_child("second", lambda: first.result + ", second", after=first).wait(30)

    assert manager.create_task("parent", parent, lane="single").wait(30) == "first, second"


def test_a_slot_is_lent_to_what_is_waited_for_and_to_nothing_else(manager: TaskManager, gate: threading.Event) -> None:
    waiting = threading.Event()

    def parent(task: Task) -> None:
        child = task.create_child("child", gate.wait)
        waiting.set()
        child.wait(30)

    task = manager.create_task("parent", parent, lane="single")
    assert waiting.wait(30)
    while manager.lanes["single"].running < 2:  # until the child has the slot that is lent
        pass
    other = manager.create_task("other", lambda: 1, 10, lane="single")
    assert other.state == "pending" and manager.lanes["single"].running == 2
    gate.set()
    assert other.wait(30) == 1 and task.state == "completed"


def test_a_wait_that_ends_early_takes_its_slot_back(manager: TaskManager, gate: threading.Event) -> None:
    def parent(task: Task) -> tuple[int, int]:
        child = task.create_child("child", gate.wait)
        with pytest.raises(WaitTimeoutError):
            child.wait(0.01)
        lane = manager.lanes["single"]
        return lane.paused, lane.running

    assert manager.create_task("parent", parent, lane="single").wait(30) == (0, 2)
    assert manager.create_task("next", lambda: 1, lane="single").state == "pending"


def test_work_that_waits_for_itself_is_told_that_this_would_never_end(manager: TaskManager) -> None:
    with pytest.raises(DeadlockError, match="deadlock: 'own' waits for 'own'"):
        manager.create_task("own", lambda task: task.wait()).wait(30)


def test_tasks_that_wait_for_each_other_are_told_that_this_would_never_end(manager: TaskManager) -> None:
    tasks: dict[str, Task] = {}
    both_there = threading.Event()

    def work(other: str) -> str:
        both_there.wait(30)
        try:
            tasks[other].wait()
        except DeadlockError as error:
            return str(error)
        return "waited"

    for name, other in (("a", "b"), ("b", "a")):
        tasks[name] = manager.create_task(name, lambda other=other: work(other))
    both_there.set()
    results = sorted(task.wait(30) for task in tasks.values())
    assert results[0].startswith("deadlock: ") and results[1] == "waited"


def test_waiting_for_a_dependant_is_a_deadlock(manager: TaskManager) -> None:
    def work(task: Task) -> str:
        following = manager.create_task("following", lambda: 1, after=task)
        with pytest.raises(DeadlockError, match="deadlock: 'first' waits for 'following', which waits for 'first'"):
            following.wait()
        return "told"

    assert manager.create_task("first", work).wait(30) == "told"


# -- the books, without threads -----------------------------------------------------------------------------------


def waiting(priority: int = 0) -> Task:
    return Task(name="t", priority=priority, lane="own")


def test_a_task_taken_out_of_the_queue_leaves_nothing_behind() -> None:
    lane = Lane("own", 1)
    tasks = [waiting(number % 3) for number in range(1_000)]
    for task in tasks:
        lane.push(task)
    for task in tasks[:990]:
        assert lane.discard(task) and not lane.discard(task)
    assert lane.pending == 10 and len(lane._heap) < 200
    assert [lane.pop() for _ in range(10)] == sorted(tasks[990:], key=lambda task: -task.priority)
    assert lane.head() is None


def test_wants_that_were_taken_back_leave_nothing_behind_and_lend_nothing() -> None:
    lane = Lane("own", 1)
    task = waiting()
    lane.push(task)
    for _ in range(500):
        lane.want(task)
    assert len(lane._wanted) < 200 and lane.pop_wanted() is None  # nothing waits for it any more
    task.internals.wanted = 1
    lane.want(task)
    assert lane.pop_wanted() is task and lane.pop_wanted() is None


def test_a_slot_is_not_lent_past_the_limits() -> None:
    lanes = Lanes({"own": 1}, max_running=1)
    lane = lanes["own"]
    assert len(lanes) == 1 and "own" in lanes and "other" not in lanes
    first, task = waiting(), waiting()
    task.internals.wanted = 1
    lane.push(first)
    lane.push(task)
    assert lanes.admit(lane) is first
    assert lanes.admit(lane) is None and lanes.admit_any() is None
    lanes.pause(lane)
    assert lanes.admit_any() is task and (lane.running, lanes.running) == (2, 2)
    with pytest.raises(errors.LaneError, match="lane 'own' is in use: 2 running, 0 pending"):
        lanes.remove("own")
