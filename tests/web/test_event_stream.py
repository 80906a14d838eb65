"""Server-sent events, read by a client that was not written here (httpx-sse)."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager

import httpx
import pytest
from httpx_sse import aconnect_sse, connect_sse

from nbtasks import Retry, TaskManager, current_task
from nbtasks.web import create_app
from nbtasks.web import event_log as event_logs
from nbtasks.web.event_log import EventLog


@contextmanager
def listening(client, **headers):
    with connect_sse(client, "GET", "/events", headers=headers) as source:
        yield source.iter_sse()


def read_until(events, kind, name=None):
    """The events up to the first of that kind, of that task."""
    seen = []
    for event in events:
        seen.append(event)
        if event.event == kind and (name is None or event.json()["task"]["name"] == name):
            return seen
    raise AssertionError(f"the stream ended without {kind}")


def test_a_snapshot_then_every_change(manager, client):
    manager.create_task("before", int).wait()
    with listening(client) as events:
        first = next(events)
        assert first.event == "snapshot" and [task["name"] for task in first.json()["tasks"]] == ["before"]
        manager.create_task("after", int)
        seen = read_until(events, "completed")
    assert [event.event for event in seen if event.event != "progress"] == ["created", "started", "completed"]


def test_a_client_that_comes_back_gets_what_it_missed(manager, client, gate):
    with listening(client) as events:
        next(events)
        manager.create_task("one", int)
        last = read_until(events, "completed")[-1]
    manager.create_task("two", int).wait()
    with listening(client, **{"Last-Event-ID": last.id}) as events:
        seen = read_until(events, "completed", "two")
    assert seen[0].event == "created" and {event.json()["task"]["name"] for event in seen} == {"two"}


@pytest.mark.parametrize("last_id", ["", "x", "-1", "abc-1", "00000000-5", "9" * 400])
def test_an_unknown_last_event_is_answered_with_a_snapshot(manager, client, last_id):
    with listening(client, **{"Last-Event-ID": last_id}) as events:
        assert next(events).event == "snapshot"


def test_nothing_is_lost_of_ten_thousand_events(manager, client):
    """Changes of state of a hundred tasks at once, 101 each, which are never coalesced."""
    manager.resize_lane("multiple", 100)
    attempts = 50

    def work() -> None:
        if current_task().attempts < attempts:
            raise ValueError

    with listening(client) as events:
        next(events)
        retry = Retry(attempts=attempts, delay=0)
        tasks = [manager.create_task(f"task {n}", work, lane="multiple", retry=retry) for n in range(100)]
        ids: list[int] = []
        seen: dict[str, list[str]] = {task.id: [] for task in tasks}
        left = set(seen)
        for event in events:
            ids.append(int(event.id.partition("-")[2]))
            task_id = event.json()["task"]["id"]
            if event.event not in {"progress", "pruned"}:
                seen[task_id].append(event.event)
            if event.event == "completed":
                left.discard(task_id)
            if not left:
                break
    assert ids == list(range(ids[0], ids[0] + len(ids))) and len(ids) >= 10_000
    each = ["created", *["started", "retrying"] * (attempts - 1), "started", "completed"]
    assert {tuple(one) for one in seen.values()} == {tuple(each)}


class Client:
    """An ASGI client of a log that reads only when `read` is called."""

    def __init__(self, log: EventLog, last_id: str | None = None) -> None:
        self._messages: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        self._left = asyncio.Event()
        self._task = asyncio.create_task(log.listen(last_id, [], self._receive, self._send))

    async def _send(self, message) -> None:
        if message["type"] == "http.response.body":
            await self._messages.put(message["body"])

    async def _receive(self):
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def read(self) -> bytes:
        return await self._messages.get()

    async def leave(self) -> None:
        self._left.set()
        await self._task


def test_a_slow_listener_gets_the_newest_state_and_no_queue(manager, monkeypatch):
    """It reads one event, waits while the log moves on, and finds a snapshot."""
    monkeypatch.setattr(event_logs, "LOG_SIZE", 8)

    async def scene() -> list[bytes]:
        log = EventLog(manager)
        client = Client(log)
        seen = [await client.read()]
        for number in range(50):
            manager.create_task(f"task {number}", int)
        await asyncio.to_thread(manager.wait)
        caught_up = threading.Event()
        manager.add_event_callback(lambda *_: caught_up.set())
        manager.create_task("last", int)
        await asyncio.to_thread(caught_up.wait)
        for _ in range(3):
            seen.append(await client.read())
        assert len(log._events) <= 8
        await client.leave()
        log.close()
        return seen

    seen = asyncio.run(scene())
    assert b"event: snapshot" in seen[0] and any(b"event: snapshot" in chunk for chunk in seen[1:])


def test_an_idle_stream_shows_signs_of_life(manager):
    async def scene() -> list[bytes]:
        log = EventLog(manager, heartbeat=0.01)
        client = Client(log)
        seen = [await client.read() for _ in range(3)]
        await client.leave()
        log.close()
        return seen

    assert asyncio.run(scene())[1:] == [b": keep-alive\n\n"] * 2


def test_the_manager_is_observed_only_while_there_are_listeners(manager, client, server):
    events = server.app.events
    assert not events.observing and not manager.bus.watches_progress
    with listening(client) as stream:
        next(stream)
        assert events.observing and manager.bus.watches_progress


def test_observation_ends_some_time_after_the_last_listener(manager):
    async def scene() -> None:
        log = EventLog(manager, linger=0.01)
        client = Client(log)
        first = (await client.read()).split(b"\n")[0]
        await client.leave()
        while log.observing:
            await asyncio.sleep(0.01)
        client = Client(log, first.partition(b": ")[2].decode())
        assert b"event: snapshot" in await client.read()
        await client.leave()
        log.close()

    asyncio.run(scene())


def test_more_listeners_than_allowed_are_refused(manager):
    app = create_app(manager, token=False, max_listeners=1, hosts=["testserver"])

    async def scene() -> int:
        first = Client(app.events)
        await first.read()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
            status = (await client.get("/events")).status_code
        await first.leave()
        app.events.close()
        return status

    assert asyncio.run(scene()) == 503


async def _listen(base: str, token: str, begun: asyncio.Semaphore) -> list[str]:
    seen = []
    async with (
        httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as client,
        aconnect_sse(client, "GET", f"{base}/events") as source,
    ):
        async for event in source.aiter_sse():
            seen.append(event.event)
            if event.event == "snapshot":
                begun.release()
            if event.event == "completed":
                break
    return seen


def test_fifty_listeners_get_the_same(manager: TaskManager, server, base):
    async def scene() -> list[list[str]]:
        begun = asyncio.Semaphore(0)
        listeners = [asyncio.create_task(_listen(base, server.token, begun)) for _ in range(50)]
        for _ in listeners:
            await begun.acquire()
        manager.create_task("one", lambda: json.dumps(current_task().name))
        return await asyncio.gather(*listeners)

    for seen in asyncio.run(scene()):
        assert [event for event in seen if event != "progress"] == ["snapshot", "created", "started", "completed"]
