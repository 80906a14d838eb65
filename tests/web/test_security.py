"""Each protection of the web interface, tried by a request that it has to refuse."""

from __future__ import annotations

import httpx
import pytest

from nbtasks.web import security, serve
from nbtasks.web import server as servers


def test_without_the_token_nothing_is_answered(base):
    for path in ("/", "/events", "/openapi.json", "/api/tasks", "/api/lanes"):
        assert httpx.get(base + path).status_code == 401
    assert httpx.post(base + "/api/tasks/x/cancel").status_code == 401


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer wrong", "Basic {token}", "{token}", "Bearer {token}x", "Bearer \u00fc"]
)
def test_a_wrong_token_is_refused(base, server, header):
    value = header.format(token=server.token).encode("utf-8")
    assert httpx.get(base + "/api/stats", headers={"Authorization": value}).status_code == 401


def test_tokens_are_compared_in_constant_time(server, monkeypatch, base):
    compared = []
    real = security.hmac.compare_digest
    monkeypatch.setattr(security.hmac, "compare_digest", lambda *given: compared.append(given) or real(*given))
    httpx.get(base + "/api/stats", headers={"Authorization": "Bearer guess"})
    assert compared == [(b"guess", server.token.encode())]


def test_the_link_sets_a_cookie_of_the_same_site_and_loses_the_token(base, server):
    answer = httpx.get(server.address)
    assert answer.status_code == 303 and answer.headers["location"] == "./"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    with httpx.Client(follow_redirects=True) as browser:
        assert browser.get(server.address).status_code == 200
        assert browser.get(base + "/api/stats").status_code == 200


def test_a_token_in_the_address_changes_nothing_by_post(base, server, manager, gate):
    task = manager.create_task("waits", gate.wait)
    answer = httpx.post(f"{base}/api/tasks/{task.id}/cancel", params={"token": server.token})
    assert answer.status_code == 401 and task.cancel_requested_at is None


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1"])
def test_another_host_is_refused(client, host):
    assert client.get("/api/stats", headers={"Host": host}).status_code in {400, 421}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:5"])
def test_loopback_names_are_allowed(client, host):
    assert client.get("/api/stats", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_change_from_another_page_is_refused(client, manager, gate, headers):
    task = manager.create_task("waits", gate.wait)
    assert client.post(f"/api/tasks/{task.id}/cancel", headers=headers).status_code == 403
    assert task.cancel_requested_at is None


def test_a_change_from_the_own_page_is_allowed(client, base, manager, gate):
    task = manager.create_task("waits", gate.wait, lane="single")
    headers = {"Origin": base, "Sec-Fetch-Site": "same-origin"}
    assert client.post(f"/api/tasks/{task.id}/priority", json={"priority": 1}, headers=headers).status_code == 200


def test_a_form_of_another_page_cannot_set_a_priority(client, manager, gate):
    """Forms send no JSON: what has another content type is refused whatever it says."""
    task = manager.create_task("waits", gate.wait)
    path = f"/api/tasks/{task.id}/priority"
    assert client.post(path, content='{"priority": 1}', headers={"Content-Type": "text/plain"}).status_code == 415


def test_a_long_body_is_refused(client, manager, gate):
    task = manager.create_task("waits", gate.wait)
    path = f"/api/tasks/{task.id}/priority"
    headers = {"Content-Type": "application/json"}
    assert client.post(path, content=b" " * 70_000, headers=headers).status_code == 413

    def pieces():
        for _ in range(70):
            yield b" " * 1_000

    assert client.post(path, content=pieces(), headers=headers).status_code == 413


def test_the_page_allows_only_its_own_script_and_style(client):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"


def test_every_refusal_has_the_headers_too(base):
    assert "default-src 'none'" in httpx.get(base + "/").headers["content-security-policy"]


def test_more_connections_than_allowed_are_refused(manager, monkeypatch):
    """Idle connections count too; the ones that are there are served on."""
    monkeypatch.setattr(servers, "MAX_CONNECTIONS", 3)
    server = serve(manager)
    limits = httpx.Limits(max_keepalive_connections=1)
    headers = {"Authorization": f"Bearer {server.token}"}
    base = f"http://127.0.0.1:{server.port}"
    clients = [httpx.Client(base_url=base, headers=headers, limits=limits) for _ in range(3)]
    try:
        statuses = [client.get("/api/tasks").status_code for client in clients]
        assert statuses == [200, 200, 503]
        assert clients[0].get("/api/tasks").status_code == 200
    finally:
        for client in clients:
            client.close()
        server.stop()
