"""The routes of the web interface, asked over HTTP."""

from __future__ import annotations

import threading

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from nbtasks import InvalidValueError, NbtasksError, TaskManager
from nbtasks.web import create_app, serve


def test_tasks_are_listed_newest_first_in_pages(manager, client):
    for number in range(5):
        manager.create_task(f"task {number}", int).wait()
    page = client.get("/api/tasks", params={"limit": 2, "offset": 1}).json()
    assert [task["name"] for task in page["tasks"]] == ["task 3", "task 2"]
    assert page["total"] == 5


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("state=failed", ["broken"]),
        ("state=failed&state=completed", ["broken", "fine"]),
        ("tags=red", ["fine"]),
        ("name=fine&lane=single", ["fine"]),
        ("name=fine&lane=default", []),
        ("task_type=Task&priority=3", ["broken"]),
    ],
)
def test_tasks_are_filtered_as_search_tasks_does(manager, client, query, names):
    manager.create_task("fine", int, tags=["red", "blue"], lane="single").wait()
    broken = manager.create_task("broken", lambda: 1 / 0, 3)
    manager.wait(broken)
    assert [task["name"] for task in client.get(f"/api/tasks?{query}").json()["tasks"]] == names


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/tasks?state=done", 422, "'done'"),
        ("/api/tasks?_work=1", 422, "allowed are"),
        ("/api/tasks?limit=0", 422, "from 1 to 1000"),
        ("/api/tasks?limit=1e3", 422, "whole number"),
        ("/api/tasks/nothing", 404, "no such task"),
        ("/api/recurring/nothing", 404, "no such recurring task"),
        ("/nothing", 404, "Not Found"),
        ("/api/stats/more", 404, "Not Found"),
    ],
)
def test_a_wrong_request_is_told_what_is_allowed(client, path, status, text):
    answer = client.get(path)
    assert answer.status_code == status and text in answer.json()["error"]


def test_a_running_task_is_cancelled(manager, client):
    begun = threading.Event()

    def work() -> None:
        begun.set()
        while True:
            threading.Event().wait(0.01)

    task = manager.create_task("loop", work)
    begun.wait()
    assert client.post(f"/api/tasks/{task.id}/cancel").json() == {"done": True}
    manager.wait(task)
    assert task.state == "cancelled"
    assert client.post(f"/api/tasks/{task.id}/cancel").json() == {"done": False}


def test_a_pending_task_gets_another_priority(manager, client, gate):
    first = manager.create_task("first", gate.wait, lane="single")
    second = manager.create_task("second", int, lane="single")
    answer = client.post(f"/api/tasks/{second.id}/priority", json={"priority": 7})
    assert answer.json() == {"done": True} and second.priority == 7
    gate.set()
    manager.wait(first, second)


@pytest.mark.parametrize(
    "body", ["7", '{"priority": "7"}', '{"priority": true}', '{"priority": 1, "x": 2}', "{", "[" * 9_999]
)
def test_a_wrong_priority_changes_nothing(manager, client, gate, body):
    manager.create_task("first", gate.wait, lane="single")
    second = manager.create_task("second", int, lane="single")
    headers = {"Content-Type": "application/json"}
    answer = client.post(f"/api/tasks/{second.id}/priority", content=body, headers=headers)
    assert answer.status_code == 422 and second.priority == 0


def test_a_failed_task_runs_again(manager, client):
    runs: list[int] = []

    def work() -> None:
        runs.append(1)
        raise OSError("not yet")

    task = manager.create_task("flaky", work)
    manager.wait(task)
    again = client.post(f"/api/tasks/{task.id}/retry").json()["task"]
    manager.wait()
    assert again["name"] == "flaky" and again["id"] != task.id and len(runs) == 2


def test_a_task_that_runs_cannot_run_again(manager, client, gate):
    task = manager.create_task("waits", gate.wait)
    answer = client.post(f"/api/tasks/{task.id}/retry")
    assert answer.status_code == 409 and "only a finished task" in answer.json()["error"]


def test_a_result_is_sent_if_it_is_json(manager, client, gate):
    good, bad = manager.create_task("good", lambda: {"loss": [1, 2]}), manager.create_task("bad", object)
    late = manager.create_task("late", gate.wait)
    manager.wait(good, bad)
    assert client.get(f"/api/tasks/{good.id}/result").json() == {"result": {"loss": [1, 2]}}
    assert client.get(f"/api/tasks/{bad.id}/result").status_code == 406
    assert client.get(f"/api/tasks/{late.id}/result").status_code == 409


def test_lanes_and_numbers(manager, client, gate):
    manager.create_task("waits", gate.wait, lane="single")
    manager.create_task("queues", int, lane="single")
    lanes = {lane.pop("name"): lane for lane in client.get("/api/lanes").json()["lanes"]}
    assert lanes["single"] == {"limit": 1, "running": 1, "pending": 1}
    assert client.get("/api/stats").json()["total"] == 2


def test_recurring_tasks_are_steered(manager, client):
    recurring = manager.add_recurring_task("1h", int, name="hourly")
    assert [one["name"] for one in client.get("/api/recurring").json()["recurring"]] == ["hourly"]
    path = f"/api/recurring/{recurring.id}"
    assert client.post(f"{path}/pause").json() == {"done": True} and not recurring.enabled
    assert client.post(f"{path}/resume").json() == {"done": True} and recurring.enabled
    assert client.post(f"{path}/run").json() == {"done": True}
    manager.wait()
    assert client.get(path).json()["total_runs"] == 1


def test_no_method_but_post_changes_anything(manager, client, gate):
    task = manager.create_task("waits", gate.wait)
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        assert client.request(method, f"/api/tasks/{task.id}/cancel").status_code == 405
    assert task.cancel_requested_at is None


def test_the_app_can_be_mounted_in_another(manager):
    """Under a prefix, without a token of its own: the application around it decides."""
    tasks = create_app(manager, token=False, hosts=["testserver"], max_listeners=0)
    app = Starlette(routes=[Mount("/background", app=tasks)])
    transport = httpx.ASGITransport(app)

    async def ask(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.get(f"/background{path}")

    import asyncio

    assert asyncio.run(ask("/api/stats")).json()["total"] == 0
    assert asyncio.run(ask("/events")).status_code == 503  # a stream is found below the prefix too


def test_a_port_that_is_taken_is_told(manager, server):
    with pytest.raises(NbtasksError, match=f"port {server.port} cannot be used"):
        serve(manager, port=server.port)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_cannot_be_is_refused(manager, port):
    with pytest.raises(InvalidValueError, match=str(port)):
        serve(manager, port=port)


def test_a_short_token_is_refused(manager):
    with pytest.raises(InvalidValueError, match="16 characters"):
        create_app(manager, token="secret")


def test_the_server_ends_with_its_streams(manager: TaskManager):
    server = serve(manager)
    headers = {"Authorization": f"Bearer {server.token}"}
    with httpx.stream("GET", f"http://127.0.0.1:{server.port}/events", headers=headers, timeout=30) as stream:
        assert next(stream.iter_lines()).startswith("id: ")
        assert server.stop() is True
    assert not server.running and server.stop() is False
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{server.port}/")
