"""`after`: tasks that start when others have completed, or are cancelled."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from nbtasks import Retry, Task, TaskCancelledError, TaskManager
from nbtasks import exceptions as errors


@pytest.mark.parametrize("named_by", ["task", "id", "list"])
def test_after_waits_for_completion(manager: TaskManager, gate: threading.Event, named_by: str) -> None:
    first = manager.create_task("first", gate.wait)
    after = {"task": first, "id": first.id, "list": [first]}[named_by]
    second = manager.create_task("second", lambda: 2, after=after)
    assert second.state == "pending" and second.after == (first.id,)
    gate.set()
    assert second.wait(30) == 2 and second.started_at >= first.completed_at


def test_after_several_waits_for_the_last_of_them(manager: TaskManager) -> None:
    gates = [threading.Event() for _ in range(3)]
    firsts = [manager.create_task(f"first {n}", gate.wait) for n, gate in enumerate(gates)]
    last = manager.create_task("last", lambda: "last", after=firsts)
    for gate, first in zip(gates, firsts, strict=True):
        assert last.state == "pending"
        gate.set()
        first.wait(30)
    assert last.wait(30) == "last"


def test_what_has_completed_already_holds_nothing_up(manager: TaskManager) -> None:
    first = manager.create_task("first", lambda: 1)
    first.wait(30)
    manager.remove_task(first)
    assert manager.create_task("second", lambda: 2, after=first).wait(30) == 2


def test_a_failure_cancels_dependants_with_the_reason(manager: TaskManager, gate: threading.Event) -> None:
    def fails() -> None:
        gate.wait()
        raise ValueError

    broken = manager.create_task("broken", fails)
    second = manager.create_task("second", lambda: 2, after=broken)
    third = manager.create_task("third", lambda: 3, after=second)
    gate.set()
    with pytest.raises(TaskCancelledError, match=r"'second' was cancelled: dependency 'broken' failed"):
        second.wait(30)
    manager.wait(third, timeout=30)
    assert third.error == "dependency 'second' was cancelled" and third.attempts == 0


def test_a_cancel_cancels_what_was_to_come_after_and_says_why(manager: TaskManager, gate: threading.Event) -> None:
    manager.create_task("blocks", gate.wait, lane="single")
    first = manager.create_task("first", lambda: 1, lane="single")
    second = manager.create_task("second", lambda: 2, after=first)
    first.cancel()
    assert (second.state, second.error) == ("cancelled", "dependency 'first' was cancelled")


def test_what_comes_after_a_failure_that_is_over_is_cancelled_at_once(manager: TaskManager) -> None:
    broken = manager.create_task("broken", lambda: 1 / 0)
    manager.wait(broken, timeout=30)
    task = manager.create_task("late", lambda: 1, after=broken)
    assert (task.state, task.error) == ("cancelled", "dependency 'broken' failed")


def test_a_retry_is_no_failure_for_what_comes_after(manager: TaskManager) -> None:
    tries: list[int] = []

    def flaky() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError

    first = manager.create_task("first", flaky, retry=Retry(attempts=2, delay=0.001))
    assert manager.create_task("second", lambda: len(tries), after=first).wait(30) == 2


def test_a_task_that_waits_for_others_takes_no_slot(manager: TaskManager, gate: threading.Event) -> None:
    first = manager.create_task("first", gate.wait)
    manager.create_task("second", lambda: 2, lane="single", after=first)
    assert manager.create_task("free", lambda: 3, lane="single").wait(30) == 3


def test_a_long_chain_is_cancelled_with_its_head(manager: TaskManager) -> None:
    manager.max_succeeded_tasks = None
    manager.resize_lane("single", 0)
    task = head = manager.create_task("head", lambda: 1, lane="single")
    chain = [task := manager.create_task(f"link {number}", lambda: 1, after=task) for number in range(3_000)]
    head.cancel()
    assert {task.state.value for task in chain} == {"cancelled"}


def test_a_long_chain_runs_link_by_link(manager: TaskManager, gate: threading.Event) -> None:
    order: list[int] = []
    task = manager.create_task("head", gate.wait)
    for number in range(500):
        task = manager.create_task("link", lambda number=number: order.append(number), after=task)
    gate.set()
    task.wait(30)
    assert order == list(range(500))


@dataclass
class Step(Task):
    def run(self) -> str:
        return self.name


def test_cycles_are_refused_with_the_names_on_the_way(manager: TaskManager) -> None:
    a, b = Step(name="a"), Step(name="b")
    a.after, b.after = b, [a]
    with pytest.raises(errors.DependencyCycleError, match="'a' after 'b' after 'a'"):
        manager.add_task(a)
    own = Step(name="own")
    own.after = own
    with pytest.raises(errors.DependencyCycleError, match="'own' after 'own'"):
        manager.add_task(own)
    assert manager.list_tasks() == []


def test_what_comes_after_a_task_that_is_not_added_is_refused(manager: TaskManager) -> None:
    with pytest.raises(errors.UnknownTaskError, match="<Step 'later'"):
        manager.create_task("t", lambda: 1, after=Step(name="later"))
    assert manager.list_tasks() == []
