"""Kernels that are forked from a process in which ipykernel is imported."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

SERVER = Path(__file__).parent / "fork_server.py"
# What a process reads of its environment when it starts: kernels share a server if they agree on these.
READ_AT_START = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_", "TZ")


def can_fork() -> bool:
    """Whether kernels can be forked: on Linux."""
    return hasattr(os, "pidfd_open")


class ForkedProcess:
    """A forked kernel; what jupyter_client uses of `subprocess.Popen`.

    The exit code is not known, and given as 0.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    def __del__(self) -> None:
        os.close(self._pidfd)

    def poll(self) -> int | None:
        """0 if it has ended."""
        return 0 if select.select([self._pidfd], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        if not select.select([self._pidfd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"kernel {self.pid}", timeout or 0)
        return 0

    def send_signal(self, number: int) -> None:
        """Send a signal; not to a kernel that has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks; it ends with this one.

    The lock guards the socket: one request at a time.
    """

    def __init__(self, options: list[str], env: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *options, SERVER, str(theirs.fileno())],
                env=env,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def fork(self, argv: list[str], env: Mapping[str, str], cwd: str) -> ForkedProcess:
        request = json.dumps({"argv": argv, "env": dict(env), "cwd": cwd}).encode()
        with self._lock:
            self._channel.send(request)
            answer, [pidfd], _, _ = socket.recv_fds(self._channel, 100, 1)
        return ForkedProcess(int(answer), pidfd)

    def close(self) -> None:
        self._channel.close()
        self._process.wait()


class ForkProvisioner(LocalProvisioner):
    """Provisioner of jupyter_client that forks the kernel.

    A server forks kernels with the same options of Python and the same settings that are read at its start. The lock
    guards the servers, which end with this process.
    """

    _servers: ClassVar[dict[Any, ForkServer]] = {}
    _servers_lock = threading.Lock()

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        env, cwd = kwargs["env"], kwargs["cwd"]
        process: Any = self.server(cmd, env).fork(cmd, env, cwd)  # in place of a Popen object
        self.process, self.pid, self.pgid, self.cwd = process, process.pid, process.pid, cwd
        return self.connection_info

    @classmethod
    def server(cls, cmd: list[str], env: Mapping[str, str]) -> ForkServer:
        options = cmd[1 : cmd.index("-m")]
        key = (*options, *sorted(item for item in env.items() if item[0].startswith(READ_AT_START)))
        with cls._servers_lock:
            if not cls._servers:
                atexit.register(cls._end_servers)
            if key not in cls._servers:
                cls._servers[key] = ForkServer(options, env)
            return cls._servers[key]

    @classmethod
    def _end_servers(cls) -> None:
        with cls._servers_lock:
            while cls._servers:
                cls._servers.popitem()[1].close()
