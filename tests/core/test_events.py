"""Events: receivers, order, threads; callbacks that fail or hang."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
from typing import Any

import pytest

from nbtasks import EventType, Retry, Subscription, Task, TaskManager
from nbtasks import exceptions as errors
from nbtasks.events import ALL_EVENTS, STATE_CHANGES
from nbtasks.testing import EventRecorder
from tests.core.clocks import wait_until

# -- what is told -------------------------------------------------------------------------------------------------


def test_by_default_a_callback_gets_the_changes_of_state_in_order(manager: TaskManager) -> None:
    received: list[str] = []
    subscription = manager.add_event_callback(lambda task, event: received.append(event))
    manager.create_task("t", lambda task: setattr(task, "progress", 5)).wait(30)
    assert subscription.drain(30) and received == ["created", "started", "completed"]
    assert {EventType.PROGRESS, EventType.OUTPUT} == ALL_EVENTS - STATE_CHANGES


def test_every_way_of_ending_has_its_event(manager: TaskManager, gate: threading.Event) -> None:
    with EventRecorder(manager) as recorder:
        done = manager.create_task("done", lambda: 1)
        failed = manager.create_task("failed", lambda: 1 / 0)
        retried = manager.create_task("retried", lambda: 1 / 0, retry=Retry(attempts=2, delay=0.001))
        manager.wait(timeout=30)
        manager.create_task("blocks", gate.wait, lane="single")
        waiting = manager.create_task("waiting", gate.wait, lane="single")
        waiting.cancel()
        manager.remove_task(done)
        recorder.wait_for("pruned")
        assert recorder.of(done) == ["created", "started", "completed", "pruned"]
        assert recorder.of(failed) == ["created", "started", "failed"]
        assert recorder.of(retried) == ["created", "started", "retrying", "started", "failed"]
        assert recorder.of(waiting) == ["created", "cancelled"]


def test_event_types_compare_equal_to_their_strings() -> None:
    assert EventType.COMPLETED == "completed" and {"completed": 1}[EventType.COMPLETED] == 1
    assert f"{EventType.COMPLETED}" == "completed"


@pytest.mark.parametrize("events", ["completed", ["completed"], EventType.COMPLETED, {EventType.COMPLETED}])
def test_a_callback_gets_the_events_it_asks_for(manager: TaskManager, events: Any) -> None:
    received: list[str] = []
    subscription = manager.add_event_callback(lambda task, event: received.append(event), events)
    manager.create_task("t", lambda: 1).wait(30)
    assert subscription.drain(30) and received == ["completed"]


def test_a_callback_gets_the_events_of_the_task_it_asks_for(manager: TaskManager, gate: threading.Event) -> None:
    received: list[tuple[str, str]] = []
    mine = manager.create_task("mine", gate.wait)
    subscription = manager.add_event_callback(lambda task, event: received.append((task.name, event)), task=mine)
    manager.create_task("other", lambda: 1).wait(30)
    gate.set()
    mine.wait(30)
    assert subscription.drain(30) and received == [("mine", "completed")]


def test_progress_is_told_on_request_coalesced_with_the_last_value_before_the_end(manager: TaskManager) -> None:
    received: list[tuple[str, float | None]] = []

    def work(task: Task) -> None:
        for number in range(1_000):
            task.progress = number / 10
        raise ValueError

    subscription = manager.add_event_callback(
        lambda task, event: received.append((event, task.progress)), events=["progress", "failed"]
    )
    manager.wait(manager.create_task("t", work), timeout=30)
    assert subscription.drain(30)
    assert received[-1] == ("failed", 99.9) and received[-2][0] == "progress" and len(received) < 50


@pytest.mark.parametrize("attribute", ["heading", "body", "img"])
def test_changes_of_what_is_shown_are_told_with_progress(
    manager: TaskManager, gate: threading.Event, attribute: str
) -> None:
    with EventRecorder(manager, ["progress"]) as recorder:
        task = manager.create_task("t", gate.wait)
        setattr(task, attribute, "new")
        assert recorder.wait_for("progress") is task


def test_a_cancel_of_what_runs_is_told_with_progress(manager: TaskManager, gate: threading.Event) -> None:
    with EventRecorder(manager, ["progress"]) as recorder:
        task = manager.create_task("t", gate.wait)
        task.cancel()
        assert recorder.wait_for("progress") is task and task.cancelling


def test_output_is_told_on_request_coalesced_and_before_the_end(manager: TaskManager) -> None:
    def work(task: Task) -> None:
        for _ in range(1_000):
            task.output_written()

    with EventRecorder(manager, ["output", "completed"]) as recorder:
        task = manager.create_task("t", work)
        task.wait(30)
        recorder.wait_for("completed", task)
        received = recorder.of(task)
        assert received[0] == "output" and received[-1] == "completed" and len(received) < 50


def test_output_is_told_before_long_while_the_task_runs(manager: TaskManager, gate: threading.Event) -> None:
    with EventRecorder(manager, ["output"]) as recorder:
        task = manager.create_task("t", gate.wait)
        task.output_written()
        assert recorder.wait_for("output") is task


def test_events_of_each_task_come_in_order_to_each_callback(manager: TaskManager) -> None:
    manager.max_succeeded_tasks = None
    recorders = [EventRecorder(manager) for _ in range(4)]
    tasks = [manager.create_task("t", lambda: 1, lane="multiple") for _ in range(300)]
    manager.wait(timeout=60)
    for recorder in recorders:
        recorder.close()
        recorder.check_legal()
        assert all(recorder.of(task) == ["created", "started", "completed"] for task in tasks[::29])
        assert len(recorder.events) == 900


# -- where callbacks run ------------------------------------------------------------------------------------------


def test_plain_callbacks_run_one_event_after_the_other_on_a_thread_of_their_own(manager: TaskManager) -> None:
    threads: set[str] = set()
    busy = threading.Lock()
    overlaps: list[Task] = []

    def callback(task: Task, event: EventType) -> None:
        threads.add(threading.current_thread().name)
        if not busy.acquire(blocking=False):
            overlaps.append(task)
            return
        threading.Event().wait(0.0005)
        busy.release()

    subscription = manager.add_event_callback(callback)
    for _ in range(20):
        manager.create_task("t", lambda: 1)
    manager.wait(timeout=30)
    assert subscription.drain(30) and threads == {"nbtasks-events-callback"} and overlaps == []


async def test_async_callbacks_run_on_the_loop_one_event_after_the_other(manager: TaskManager) -> None:
    received: list[str] = []
    over = asyncio.Event()

    async def callback(task: Task, event: EventType) -> None:
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)
        received.append(event)
        if event == "completed":
            over.set()

    loop = asyncio.get_running_loop()
    manager.add_event_callback(callback)
    await manager.create_task("t", lambda: 1)
    await asyncio.wait_for(over.wait(), 30)
    assert received == ["created", "started", "completed"]


def test_async_callbacks_run_on_a_private_loop_where_there_is_no_other(manager: TaskManager) -> None:
    received: list[str] = []

    async def callback(task: Task, event: EventType) -> None:
        received.append(threading.current_thread().name)

    subscription = manager.add_event_callback(callback, "completed")
    manager.create_task("t", lambda: 1).wait(30)
    assert subscription.drain(30) and received == ["nbtasks-loop"]


def test_a_callback_runs_in_the_context_in_which_it_was_registered(manager: TaskManager) -> None:
    cell = contextvars.ContextVar("cell", default="none")
    seen: list[str] = []
    token = cell.set("the one that registered it")
    subscription = manager.add_event_callback(lambda task, event: seen.append(cell.get()), "completed")
    cell.reset(token)
    manager.create_task("t", lambda: 1).wait(30)
    assert subscription.drain(30) and seen == ["the one that registered it"]


# -- callbacks that misbehave -------------------------------------------------------------------------------------


def test_a_callback_that_fails_or_hangs_delays_no_other(
    manager: TaskManager, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    received: list[EventType] = []

    def fails(task: Task, event: EventType) -> None:
        raise RuntimeError("a callback's own fault")

    failing = manager.add_event_callback(fails)
    manager.add_event_callback(lambda task, event: gate.wait())
    subscription = manager.add_event_callback(lambda task, event: received.append(event))
    assert manager.create_task("t", lambda: 1).wait(30) == 1
    assert subscription.drain(30) and received == ["created", "started", "completed"]
    assert failing.drain(30) and caplog.text.count("RuntimeError: a callback's own fault") == 3


def test_an_async_callback_that_fails_is_logged_and_told_the_next_event(
    manager: TaskManager, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(task: Task, event: EventType) -> None:
        raise RuntimeError(f"at {event}")

    with caplog.at_level(logging.ERROR, "nbtasks"):
        subscription = manager.add_event_callback(fails, ["started", "completed"])
        manager.create_task("t", lambda: 1).wait(30)
        assert subscription.drain(30)
    assert "at started" in caplog.text and "at completed" in caplog.text


def test_an_async_callback_whose_loop_is_closed_receives_nothing_and_disturbs_no_other(
    manager: TaskManager, caplog: pytest.LogCaptureFixture
) -> None:
    async def callback(task: Task, event: EventType) -> None:
        raise AssertionError("it cannot run")

    async def subscribe() -> Subscription:
        return manager.add_event_callback(callback)

    loop = asyncio.new_event_loop()  # `asyncio.run` of nest_asyncio2 does not close its loop
    subscription = loop.run_until_complete(subscribe())
    loop.close()
    assert manager.create_task("t", lambda: 1).wait(30) == 1
    assert subscription.drain(30) and "Event loop is closed" in caplog.text


def test_a_loop_that_is_closed_before_it_calls_an_async_callback_blocks_no_subscription(
    manager: TaskManager, caplog: pytest.LogCaptureFixture
) -> None:
    scheduled = threading.Event()

    async def callback(task: Task, event: EventType) -> None:
        raise AssertionError("it cannot run")

    async def subscribe() -> Subscription:
        return manager.add_event_callback(callback, "completed")

    loop = asyncio.new_event_loop()
    call_soon_threadsafe = loop.call_soon_threadsafe
    subscription = loop.run_until_complete(subscribe())

    def schedule(*args: Any, **options: Any) -> asyncio.Handle:
        handle = call_soon_threadsafe(*args, **options)
        scheduled.set()
        return handle

    loop.call_soon_threadsafe = schedule  # type: ignore[method-assign]
    assert manager.create_task("t", lambda: 1).wait(30) == 1
    assert scheduled.wait(30)
    loop.close()
    assert subscription.drain(30) and "Event loop is closed" in caplog.text


def test_a_loop_that_is_closed_under_a_waiting_async_callback_blocks_no_subscription(
    manager: TaskManager, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.new_event_loop()
    waiting: list[asyncio.Future[None]] = []

    async def callback(task: Task, event: EventType) -> None:
        waiting.append(loop.create_future())
        loop.call_soon(loop.stop)
        await waiting[0]

    async def subscribe() -> Subscription:
        return manager.add_event_callback(callback, "completed")

    subscription = loop.run_until_complete(subscribe())
    assert manager.create_task("t", lambda: 1).wait(30) == 1
    loop.run_forever()
    loop.close()
    assert subscription.drain(30) and "Event loop is closed" in caplog.text


def test_a_callback_may_use_the_manager(manager: TaskManager) -> None:
    seen: list[Any] = []

    def follow_up(task: Task, event: EventType) -> None:
        if task.name == "first":
            seen.append(manager.create_task("second", lambda: 2).wait(30))
            seen.append(manager.get_stats()["completed"])

    subscription = manager.add_event_callback(follow_up, "completed")
    manager.create_task("first", lambda: 1).wait(30)
    assert subscription.drain(30) and seen == [2, 2]


def test_a_callback_may_close_its_own_subscription(manager: TaskManager) -> None:
    received: list[str] = []
    subscriptions: list[Subscription] = []

    def once(task: Task, event: EventType) -> None:
        received.append(event)
        subscriptions[0].close()
        assert subscriptions[0].drain() is False  # it is the one that would have to end

    subscriptions.append(manager.add_event_callback(once))
    manager.create_task("t", lambda: 1).wait(30)
    subscriptions[0]._thread.join(30)
    assert received == ["created"] and "(closed)" in repr(subscriptions[0])


# -- subscriptions ------------------------------------------------------------------------------------------------


def test_a_closed_subscription_is_told_nothing(manager: TaskManager) -> None:
    received: list[EventType] = []
    with manager.add_event_callback(lambda task, event: received.append(event)) as subscription:
        assert isinstance(subscription, Subscription)
    subscription.close()
    manager.create_task("t", lambda: 1).wait(30)
    assert received == [] and subscription.drain(30)


def test_a_drain_that_takes_too_long_says_so(manager: TaskManager, gate: threading.Event) -> None:
    subscription = manager.add_event_callback(lambda task, event: gate.wait())
    manager.create_task("t", lambda: 1).wait(30)
    assert subscription.drain(0.01) is False
    gate.set()
    assert subscription.drain(30) is True


def test_a_subscription_keeps_no_task_alive_that_it_has_been_told_of(manager: TaskManager) -> None:
    import weakref

    with EventRecorder(manager, ["pruned"]):
        received = threading.Event()
        manager.add_event_callback(lambda task, event: received.set(), "pruned")
        task = manager.create_task("t", lambda: 1)
        task.wait(30)
    gone = weakref.ref(task)
    manager.prune()
    del task
    assert received.wait(30)
    wait_until(lambda: gc.collect() is not None and gone() is None)


# -- the stream ---------------------------------------------------------------------------------------------------


async def test_events_are_an_async_iterator(manager: TaskManager) -> None:
    received: list[tuple[str, str]] = []
    stream = manager.events()
    manager.create_task("t", lambda: 1)
    async for task, event in stream:
        received.append((task.name, event))
        if event == "completed":
            break
    assert received == [("t", "created"), ("t", "started"), ("t", "completed")]


async def test_a_stream_takes_the_filters_of_callbacks(manager: TaskManager, gate: threading.Event) -> None:
    mine = manager.create_task("mine", gate.wait)
    async with manager.events("completed", task=mine) as stream:
        await manager.create_task("other", lambda: 1)
        gate.set()
        assert await anext(stream) == (mine, EventType.COMPLETED)


async def test_a_stream_ends_when_it_is_closed_and_when_the_manager_stops() -> None:
    with TaskManager() as manager:
        closed, stopped = manager.events(), manager.events()
        closed.close()
        assert [event async for event in closed] == []
        reader = asyncio.ensure_future(_all_of(stopped))
        await manager.create_task("t", lambda: 1)
    assert await asyncio.wait_for(reader, 30) == ["created", "started", "completed"]


async def _all_of(stream: Any) -> list[str]:
    return [event async for _, event in stream]


async def test_progress_in_a_stream_is_coalesced(manager: TaskManager, gate: threading.Event) -> None:
    async with manager.events(["progress", "completed"]) as stream:
        task = manager.create_task("t", gate.wait)
        for number in range(100):
            task.progress = number
            manager.bus.flush()
        gate.set()
        await task
        assert [event async for event in _until_completed(stream)] == ["progress", "completed"]


async def _until_completed(stream: Any) -> Any:
    async for _, event in stream:
        yield event
        if event == "completed":
            return


def test_a_stream_that_is_dropped_is_forgotten(manager: TaskManager) -> None:
    stream = manager.events()
    assert len(manager.bus.listeners) == 1
    del stream
    gc.collect()
    manager.create_task("t", lambda: 1).wait(30)
    assert manager.bus.listeners == ()


def test_a_reader_whose_loop_is_closed_disturbs_no_other(manager: TaskManager) -> None:
    stream = manager.events()

    async def read() -> None:
        await anext(stream)

    loop = asyncio.new_event_loop()
    reader = loop.create_task(read())
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert manager.create_task("t", lambda: 1).wait(30) == 1
    reader._log_destroy_pending = False  # type: ignore[attr-defined]


# -- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("callback", ["print", None, 5])
def test_what_is_not_callable_is_refused(manager: TaskManager, callback: Any) -> None:
    with pytest.raises(errors.WorkError, match=f"must be callable with .task, event_type., not {callback!r}"):
        manager.add_event_callback(callback)
    assert manager.bus.listeners == ()


@pytest.mark.parametrize("method", ["add_event_callback", "events"])
def test_an_unknown_event_is_refused(manager: TaskManager, method: str) -> None:
    arguments = [print] if method == "add_event_callback" else []
    with pytest.raises(errors.UnknownEventError, match=r"unknown event type 'finished': one of cancelled, completed"):
        getattr(manager, method)(*arguments, events=["finished"])
    with pytest.raises(errors.UnknownTaskError, match="'missing'"):
        getattr(manager, method)(*arguments, task="missing")
