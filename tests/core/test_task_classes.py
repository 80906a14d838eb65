"""Subclasses of `Task`: fields, `run`, defaults, progress hooks."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from nbtasks import Task, TaskManager, current_task
from nbtasks import exceptions as errors
from nbtasks.testing import EventRecorder, FakeClock
from tests.core.clocks import wait_until


@dataclass
class Sum(Task):
    numbers: list[int]
    label: str = "sum"
    lane = "single"
    priority = 2
    tags = ("arithmetic",)
    heading = "Adding up"
    body: str | None = "numbers"
    img = "sum.png"
    update_sleep_time = 0.5

    def run(self) -> int:
        self.progress = 50
        return sum(self.numbers)


@dataclass
class Later(Task):
    seconds: float

    async def run(self) -> str:
        await asyncio.sleep(self.seconds)
        return threading.current_thread().name


# -- fields -------------------------------------------------------------------------------------------------------


def test_a_plain_run_goes_to_a_thread_and_its_value_is_the_result(manager: TaskManager) -> None:
    task = manager.add_task(Sum([1, 2, 3]))
    assert task.wait(30) == 6 and (task.backend, task.progress) == ("thread", 100.0)


def test_an_async_run_goes_to_the_loop(manager: TaskManager) -> None:
    task = manager.add_task(Later(0.001))
    assert task.wait(30) == "nbtasks-loop" and task.backend == "loop"


def test_a_class_says_defaults_for_every_field(manager: TaskManager) -> None:
    task = Sum([1])
    values = (task.name, task.lane, task.priority, task.tags, task.heading, task.body, task.img, task.update_sleep_time)
    assert values == ("Sum", "single", 2, ("arithmetic",), "Adding up", "numbers", "sum.png", 0.5)
    assert (Sum.lane, Sum.priority) == ("single", 2)
    given = Sum([1], name="mine", lane="multiple", priority=0, heading="Mine", tags="x", update_sleep_time=3)
    manager.add_task(given)
    values = (given.name, given.lane, given.priority, given.tags, given.heading, given.update_sleep_time)
    assert values == ("mine", "multiple", 0, ("x",), "Mine", 3.0)


def test_own_fields_are_a_dataclasss_and_stand_in_the_record(manager: TaskManager) -> None:
    task = manager.add_task(Sum([1, 2], "mine", name="t"))
    task.wait(30)
    record = task.as_dict()
    assert (record["task_type"], record["numbers"], record["label"], record["result"]) == ("Sum", [1, 2], "mine", 3)
    assert manager.search_tasks(task_type="Sum", label="mine") == [task]


def test_tasks_are_told_apart_by_identity_not_by_their_fields() -> None:
    first, second = Sum([1]), Sum([1])
    assert first != second and len({first, second}) == 2
    assert repr(first) == f"<Sum 'Sum' ({first.id}): pending>"


def test_a_subclass_of_a_subclass_inherits_and_overrides(manager: TaskManager) -> None:
    @dataclass
    class Mean(Sum):
        digits: int = 1
        lane = "multiple"

        def run(self) -> float:
            return round(super().run() / len(self.numbers), self.digits)

    task = manager.add_task(Mean([1, 2, 4]))
    assert task.wait(30) == 2.3 and (task.name, task.lane, task.priority) == ("Mean", "multiple", 2)


def test_a_subclass_need_be_no_dataclass(manager: TaskManager) -> None:
    class Plain(Task):
        note: ClassVar[str] = "a class attribute"

        def __init__(self, amount: int) -> None:
            self.amount = amount

        def run(self) -> int:
            return self.amount

    task = manager.add_task(Plain(7))
    assert task.wait(30) == 7 and (task.name, task.lane, task.priority, task.tags) == ("Plain", "default", 0, ())


def test_a_subclass_with_slots_and_defaults_made_for_each(manager: TaskManager) -> None:
    @dataclass(slots=True)
    class Slotted(Task):
        seen: list[int] = field(default_factory=list)
        timeout = 30

        def run(self) -> list[int]:
            self.seen.append(1)
            return self.seen

    first, second = manager.add_task(Slotted()), manager.add_task(Slotted())
    assert first.wait(30) == second.wait(30) == [1] and first.timeout == 30


def test_the_work_knows_its_task(manager: TaskManager) -> None:
    class Knows(Task):
        def run(self) -> bool:
            return current_task() is self

    assert manager.add_task(Knows()).wait(30) is True


# -- what is refused ----------------------------------------------------------------------------------------------


def test_a_class_without_run_is_refused(manager: TaskManager) -> None:
    @dataclass
    class NoRun(Task):
        pass

    with pytest.raises(errors.WorkError, match=r"NoRun has no run\(self\)"):
        manager.add_task(NoRun(name="n"))
    with pytest.raises(errors.WorkError, match=r"NoRun has no run\(self\)"):
        NoRun().run()
    assert manager.list_tasks() == []


def test_a_field_that_has_a_name_of_the_records_is_refused() -> None:
    with pytest.raises(errors.WorkError, match=r"Clash\.result: every task has a 'result' of its own"):

        class Clash(Task):
            result: int


def test_what_is_no_task_is_refused(manager: TaskManager) -> None:
    for wrong in (Sum, "a task", lambda: 1):
        with pytest.raises(errors.WorkError, match="add_task takes an instance of a Task subclass, not "):
            manager.add_task(wrong)  # type: ignore[arg-type]


def test_a_task_that_was_added_cannot_be_added_again(manager: TaskManager) -> None:
    task = manager.add_task(Sum([1], name="once"))
    with pytest.raises(errors.AlreadyAddedError, match=f"'once' .{task.id}. was added before"):
        manager.add_task(task)
    with TaskManager() as other, pytest.raises(errors.AlreadyAddedError, match="'once'"):
        other.add_task(task)


@pytest.mark.parametrize("call", ["wait", "cancel", "__await__"])
def test_a_task_that_was_not_added_has_no_manager_to_ask(call: str) -> None:
    with pytest.raises(errors.NotAddedError, match="'Sum' has not been added"):
        getattr(Sum([1]), call)()


@pytest.mark.parametrize("attribute", ["lane", "backend"])
def test_lane_and_backend_cannot_change_once_the_task_is_added(manager: TaskManager, attribute: str) -> None:
    task = Sum([1])
    setattr(task, attribute, "thread" if attribute == "backend" else "multiple")
    manager.add_task(task)
    with pytest.raises(errors.ReadOnlyError, match="'elsewhere'"):
        setattr(task, attribute, "elsewhere")


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"lane": "fast"}, errors.UnknownLaneError, "'fast'"),
        ({"backend": "gpu"}, errors.UnknownBackendError, "'gpu'"),
        ({"priority": "high"}, errors.PriorityError, "'high'"),
        ({"timeout": "1h"}, errors.TimeoutValueError, "'1h'"),
        ({"retry": 3}, errors.RetryError, "Retry.*not 3"),
        ({"update_sleep_time": 0}, errors.TimeoutValueError, "update_sleep_time .*not 0"),
        ({"update_sleep_time": "fast"}, errors.TimeoutValueError, "'fast'"),
        ({"tags": 5}, errors.InvalidValueError, "5"),
        ({"name": 5}, errors.InvalidValueError, "5"),
        ({"after": "nowhere"}, errors.UnknownTaskError, "'nowhere'"),
    ],
)
def test_a_wrong_field_is_a_named_error_and_nothing_is_started(
    manager: TaskManager, fields: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        manager.add_task(Sum([1], **fields))
    assert manager.list_tasks() == []


# -- progress hooks -----------------------------------------------------------------------------------------------


class Watched(Task):
    """Runs until it is told; its progress is read from outside."""

    update_sleep_time = 0.01
    lane = "multiple"

    def __init__(self, hook: Callable[[Watched], Any]) -> None:
        self.over = threading.Event()
        self.calls = 0
        self.hook = hook

    def run(self) -> int:
        self.over.wait(30)
        return self.calls

    def progress_hook(self) -> Any:
        self.calls += 1
        return self.hook(self)


def test_a_hook_is_called_again_and_again_while_the_task_runs_and_sets_progress(manager: TaskManager) -> None:
    def hook(task: Watched) -> None:
        task.progress, task.body = 10 * task.calls, f"call {task.calls}"

    task = manager.add_task(Watched(hook))
    wait_until(lambda: task.calls >= 3)
    assert task.progress >= 20 and task.body is not None
    task.over.set()
    task.wait(30)
    calls = task.calls
    threading.Event().wait(0.05)  # five times as long as it waits between two calls
    assert task.calls <= calls + 1  # one may have been under way


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_what_a_hook_returns_is_the_progress(manager: TaskManager, kind: str) -> None:
    async def later() -> float:
        await asyncio.sleep(0)
        return 40

    with EventRecorder(manager, ["progress"]) as recorder:
        task = manager.add_task(Watched(lambda _: 40 if kind == "plain" else later()))
        assert recorder.wait_for("progress") is task and task.progress == 40.0
        calls = task.calls
        wait_until(lambda: task.calls > calls)  # and so on
        task.over.set()
        task.wait(30)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_hook_that_raises_keeps_the_last_progress_and_does_no_harm(
    manager: TaskManager, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_later() -> None:
        raise RuntimeError("a hook's own fault")

    def hook(task: Watched) -> Any:
        if task.calls == 1:
            return 30
        if kind == "async":
            return fail_later()
        raise RuntimeError("a hook's own fault")

    with caplog.at_level(logging.WARNING, "nbtasks"):
        task = manager.add_task(Watched(hook))
        wait_until(lambda: task.calls >= 4)
    assert (task.state, task.progress) == ("running", 30.0)
    task.over.set()
    assert task.wait(30) >= 4
    assert caplog.text.count("the progress hook of") == 1  # once, not each time


def test_a_hook_is_called_every_update_sleep_time() -> None:
    clock = FakeClock()
    with TaskManager(clock=clock) as manager:
        task = Watched(lambda task: task.calls)
        task.update_sleep_time = 60
        manager.add_task(task)
        clock.advance(59)
        assert task.calls == 0
        for minute in range(1, 4):
            clock.advance(1 if minute == 1 else 60)
            wait_until(lambda minute=minute: task.progress == minute)
        task.over.set()
        assert task.wait(30) == 3


def test_a_hook_is_never_called_twice_at_a_time(manager: TaskManager, gate: threading.Event) -> None:
    inside = threading.Event()

    def hook(task: Watched) -> None:
        inside.set()
        gate.wait(30)

    task = manager.add_task(Watched(hook))
    assert inside.wait(30)
    threading.Event().wait(0.05)
    assert task.calls == 1
    task.over.set()


def test_a_slow_hook_holds_up_neither_time_outs_nor_other_hooks(manager: TaskManager, gate: threading.Event) -> None:
    slow = manager.add_task(Watched(lambda _: gate.wait(30)))
    quick = manager.add_task(Watched(lambda task: task.calls))
    wait_until(lambda: quick.calls >= 3)
    timed = manager.create_task("timed", lambda: [None for _ in iter(int, 1)], timeout=0.02)
    manager.wait(timed, timeout=30)
    assert timed.state == "failed" and slow.calls <= 1
    slow.over.set()
    quick.over.set()


# -- hooks of kinds of tasks ---------------------------------------------------------------------------------------


class Faulty(Task):
    def run(self) -> int:
        return 1

    def on_attempt_end(self, outcome: Any) -> None:
        raise RuntimeError("at the end")

    def on_wait_end(self) -> None:
        raise RuntimeError("at the wait")


def test_the_faults_of_a_kind_keep_no_task_from_ending(manager: TaskManager, caplog: pytest.LogCaptureFixture) -> None:
    assert manager.add_task(Faulty()).wait(30) == 1
    assert "on_attempt_end failed" in caplog.text and "on_wait_end failed" in caplog.text


class FaultyFailure(Task):
    def run(self) -> None:
        raise ValueError

    def on_failure(self) -> None:
        raise RuntimeError("while it says so")


def test_a_kind_that_cannot_say_that_it_failed_has_failed(
    manager: TaskManager, caplog: pytest.LogCaptureFixture
) -> None:
    task = manager.add_task(FaultyFailure())
    manager.wait(task, timeout=30)
    wait_until(lambda: "on_failure failed" in caplog.text)
    assert task.state == "failed"


def test_the_signature_of_a_kind_is_that_of_its_fields() -> None:
    """For help and completion."""

    @dataclass
    class Train(Task):
        epochs: int
        rate: float = 0.1

        def run(self) -> None: ...

    assert str(inspect.signature(Train)).startswith("(epochs: 'int', rate: 'float' = 0.1, *, name: ")
