"""The web interface behind a real jupyter-server-proxy, under a prefix."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from httpx_sse import connect_sse

pytest.importorskip("jupyter_server_proxy")

TOKEN = secrets.token_hex(16)


@pytest.fixture
def jupyter(tmp_path: Path) -> Iterator[str]:
    """The address of a Jupyter server with the proxy."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "jupyter_server", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
        *(f"--IdentityProvider.token={TOKEN}", "--ServerApp.base_url=/user/ada/", f"--ServerApp.root_dir={tmp_path}"),
        *("--allow-root", "--no-browser"),
    ]
    env = {**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "run")}
    env.pop("JUPYTER_TOKEN", None)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/user/ada/"
    try:
        for _ in range(600):
            try:
                httpx.get(f"{address}api", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def test_the_page_its_events_and_its_buttons_work_under_a_prefix(manager, server, jupyter, gate):
    def work(task) -> None:
        task.progress = 50
        gate.wait()

    task = manager.create_task("fit", work)
    base = f"{jupyter}proxy/{server.port}/"
    with httpx.Client(follow_redirects=True, timeout=60) as browser:
        browser.get(f"{jupyter}tree?token={TOKEN}")  # logs in, as a browser that has JupyterLab open is
        page = browser.get(f"{base}?token={server.token}")
        assert page.status_code == 200 and "<title>nbtasks</title>" in page.text and str(page.url) == base
        with connect_sse(browser, "GET", f"{base}events") as stream:
            events = stream.iter_sse()
            assert next(events).json()["tasks"][0]["name"] == "fit"
            origin = jupyter.partition("/user")[0]
            headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
            answer = browser.post(f"{base}api/tasks/{task.id}/cancel", headers=headers)
            assert answer.json() == {"done": True}, answer.text
            gate.set()
            assert any(event.event == "cancelled" for event in iter(lambda: next(events), None))
    assert task.state == "cancelled"


def test_without_the_token_of_the_tasks_the_proxy_alone_does_not_help(server, jupyter):
    with httpx.Client(follow_redirects=True, timeout=60) as browser:
        browser.get(f"{jupyter}tree?token={TOKEN}")
        assert browser.get(f"{jupyter}proxy/{server.port}/api/stats").status_code == 401
