"""A served manager, and a client with its token."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from nbtasks import TaskManager
from nbtasks.web import Server, serve


@pytest.fixture
def server(manager: TaskManager) -> Iterator[Server]:
    """The manager of the test on a free port."""
    server = serve(manager)
    yield server
    server.stop()


@pytest.fixture
def base(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def client(server: Server, base: str) -> Iterator[httpx.Client]:
    """A client that sends the token."""
    headers = {"Authorization": f"Bearer {server.token}"}
    with httpx.Client(base_url=base, headers=headers, timeout=30) as client:
        yield client
