"""The web interface on a thread of this process, served by uvicorn."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
from collections.abc import Callable, Collection
from typing import Any

import uvicorn

from nbtasks import validation
from nbtasks.exceptions import InvalidValueError, NbtasksError
from nbtasks.manager import TaskManager
from nbtasks.task import Task
from nbtasks.web.app import create_app
from nbtasks.web.security import Guard

__all__ = ["Server", "serve"]

STOP_SECONDS = 5.0
"""How long `Server.stop` waits for requests that are being answered."""
MAX_CONNECTIONS = 4_000


class Server:
    """A running server: `address` with its token, and `stop()`. Any thread may use it."""

    def __init__(self, app: Guard, listener: socket.socket, hosts: Collection[str] = ()) -> None:
        self.app = app
        self.hosts = frozenset(hosts)
        self.host, self.port = listener.getsockname()[:2]
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
            limit_concurrency=MAX_CONNECTIONS,
            server_header=False,
            proxy_headers=False,
        )
        self._server = uvicorn.Server(config)
        self._listener = listener
        self._started = threading.Event()
        # An empty context: what is started from a background cell must not belong to that cell.
        context = contextvars.Context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="nbtasks-web", daemon=True)

    def start(self) -> None:
        """Serve, on a thread; returns when requests are answered."""
        self._thread.start()
        self._started.wait()

    @property
    def token(self) -> str | None:
        """The token that requests need."""
        return self.app.token

    @property
    def address(self) -> str:
        """The address of the page; opened once, a cookie takes the place of the token in it."""
        base = f"http://{self.host}:{self.port}/"
        return base if self.token is None else f"{base}?token={self.token}"

    @property
    def running(self) -> bool:
        """Whether requests are answered."""
        return self._thread.is_alive()

    def stop(self) -> bool:
        """End the server and its connections; False if it had ended before."""
        if not self.running:
            return False
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS)
        if self.running:
            self._server.force_exit = True
            self._thread.join(STOP_SECONDS)
        return True

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve())
        self._listener.close()
        self.app.events.close()

    async def _serve(self) -> None:
        asyncio.get_running_loop().call_soon(self._started.set)
        await self._server.serve(sockets=[self._listener])

    def __repr__(self) -> str:
        return f"<Server http://{self.host}:{self.port}/ {'running' if self.running else 'stopped'}>"


def serve(
    manager: TaskManager,
    *,
    port: int = 0,
    hosts: Collection[str] = (),
    retry: Callable[[Task], Any] | None = None,
) -> Server:
    """Serve the tasks of `manager` on 127.0.0.1, on a thread of this process.

    `port` 0 takes a free one. `hosts`: names besides localhost by which the server is reached through a proxy. Raises
    NbtasksError where the port is taken.
    """
    number = validation.whole_number("port", port)
    if not 0 <= number <= 65_535:
        raise InvalidValueError(f"port must be between 0 and 65535, not {port!r}")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", number))
        listener.listen(1_024)
    except OSError as error:
        listener.close()
        raise NbtasksError(
            f"port {number} cannot be used: {error.strerror}; choose another, or 0 for a free one"
        ) from None
    server = Server(create_app(manager, hosts=hosts, retry=retry), listener, hosts)
    server.start()
    return server
