"""Keep-alive messages, and settings by `%config BackgroundTasks`."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking import BlockingKernelClient

from tests.kernel.conftest import kernel_env
from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel


class Server:
    """A real Jupyter server that culls kernels after eight idle seconds."""

    def __init__(self, home: Path) -> None:
        self.runtime = home / "runtime"
        self.token = secrets.token_hex(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--ServerApp.ip=127.0.0.1"]
        command += [f"--ServerApp.port={self.port}", "--allow-root", f"--IdentityProvider.token={self.token}"]
        command += ["--MappingKernelManager.cull_idle_timeout=8", "--MappingKernelManager.cull_interval=1"]
        environment = {**kernel_env(home), "JUPYTER_RUNTIME_DIR": str(self.runtime)}
        self.process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def ask(self, path: str, *, post: Any = None) -> Any:
        data = None if post is None else json.dumps(post).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}", data=data, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def wait(self, holds: Any, what: str) -> Any:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if value := holds():
                    return value
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, "the server ended"
            time.sleep(0.1)  # the server has no event for this
        raise AssertionError(f"60 s passed without {what}")

    def kernels(self) -> set[str]:
        return {kernel["id"] for kernel in self.ask("kernels")}

    def client(self, kernel_id: str) -> BlockingKernelClient:
        client = BlockingKernelClient(connection_file=str(self.runtime / f"kernel-{kernel_id}.json"))
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        return client

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    try:
        started.wait(lambda: started.ask("status"), "an answer")
        yield started
    finally:
        started.stop()


@pytest.mark.long
def test_a_server_does_not_cull_a_kernel_with_a_task_that_writes_nothing(server: Server) -> None:
    """The messages come every half second here, since the timeout of this server is short."""
    with_task, without = (server.ask("kernels", post={"name": "python3"})["id"] for _ in range(2))
    client = server.client(with_task)
    for code in (
        "import nbtasks.notebook.keepalive\nnbtasks.notebook.keepalive.ALIVE_SECONDS = 0.5",
        "%load_ext nbtasks\nimport threading\ngo = threading.Event()",
        "%%bgtask quiet --quiet\ngo.wait()",
    ):
        assert client.execute(code, reply=True, timeout=60)["content"]["status"] == "ok"
    server.wait(lambda: without not in server.kernels(), "the end of the kernel without a task")
    alive_since = time.monotonic()
    server.wait(lambda: time.monotonic() > alive_since + 10, "ten more seconds")
    assert with_task in server.kernels()
    client.execute("go.set()", reply=True, timeout=60)
    client.stop_channels()
    server.wait(lambda: with_task not in server.kernels(), "the end of the kernel after its task")


def test_the_switch_interval_is_short_while_thread_tasks_run_and_restored_after_the_last(
    kernel: KernelDriver,
) -> None:
    notebook = load(kernel)
    notebook.run("import sys").check()
    usual = notebook.value("sys.getswitchinterval()")
    notebook.run("%%bgtask a --quiet\ngates['a'].wait()").check()
    notebook.run("%%bgtask b --quiet\ngates['b'].wait()").check()
    assert notebook.value("sys.getswitchinterval()") == 0.001
    notebook.run("gates['a'].set()").check()
    wait_over(notebook, "a")
    assert notebook.value("sys.getswitchinterval()") == 0.001
    notebook.run("gates['b'].set()").check()
    wait_over(notebook, "b")
    notebook.wait_until(lambda: notebook.value("sys.getswitchinterval()") == usual, what="the usual interval")


def test_settings_are_changed_by_the_config_magic_and_checked(kernel: KernelDriver) -> None:
    notebook = load(kernel)
    notebook.run("%config BackgroundTasks.switch_interval = 0.002").check()
    notebook.run("%%bgtask a --quiet\ngates['a'].wait()").check()
    notebook.run("import sys").check()
    assert notebook.value("sys.getswitchinterval()") == 0.002
    notebook.run("gates['a'].set()").check()
    assert (
        "expected a float, not the str 'fast'" in notebook.run("%config BackgroundTasks.switch_interval = 'fast'").text
    )
