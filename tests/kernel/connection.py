"""Connection to a kernel: starts it, sends and receives messages on one thread."""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import KernelManager
from jupyter_client.session import Session

from tests.kernel.forking import ForkProvisioner, can_fork

Message = dict[str, Any]
Content = dict[str, Any]

# Waiting longer than this fails; nothing in the tests takes half as long.
TIME_LIMIT = 150.0


@dataclass(frozen=True)
class Arrival:
    """A received message, and when it arrived, by the monotonic clock."""

    at: float
    channel: str
    message: Message

    @property
    def type(self) -> str:
        return str(self.message["header"]["msg_type"])

    @property
    def content(self) -> Content:
        content: Content = self.message["content"]
        return content

    @property
    def parent_id(self) -> str | None:
        """The id of the request that the message belongs to, if any."""
        parent_id: str | None = self.message["parent_header"].get("msg_id")
        return parent_id


class _ThisInterpreter(KernelSpecManager):
    """Has one kernel: ipykernel in the interpreter that runs the tests."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        # With frozen modules the debugger writes a warning to stderr at any time.
        options = ["-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        argv = [sys.executable, *options]
        return KernelSpec(argv=argv, display_name="this interpreter", language="python")


class Connection:
    """A kernel process and the sockets to it.

    `on_arrival` is called for every message, in order, on the thread that owns the sockets. All methods may be called
    on any thread. A kernel that is not `stock` is forked, where that can be done.
    """

    def __init__(
        self, env: Mapping[str, str], cwd: Path, on_arrival: Callable[[Arrival], None], *, stock: bool = False
    ) -> None:
        self._env, self._cwd = dict(env), cwd
        self._on_arrival = on_arrival
        self._manager = KernelManager(kernel_spec_manager=_ThisInterpreter())
        # A kernel drops messages of iopub, also that a cell is done, when a thousand wait for the front end.
        self._manager.context.rcvhwm = 0
        if can_fork() and not stock:
            spec = self._manager.kernel_spec
            self._manager.provisioner = ForkProvisioner(kernel_id="", kernel_spec=spec, parent=self._manager)
        self._outbox: queue.SimpleQueue[tuple[str, Message]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stop = False
        # A kernel cannot request input before the stdin socket of the front end is connected.
        self._stdin_known = threading.Event()
        # A session numbers its messages, without a lock of its own.
        self._numbering = threading.Lock()

    def open(self) -> None:
        """Start the kernel and connect to it. The kernel may not listen yet."""
        self._manager.start_kernel(env=self._env, cwd=str(self._cwd))
        self.session = Session(key=self._manager.session.key, username="tests")
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="kernel-connection", daemon=True)
        self._thread.start()

    def wait_connected(self) -> bool:
        """Wait until the stdin socket is connected; the other sockets show that by their first message."""
        return self._stdin_known.wait(TIME_LIMIT)

    def close(self, *, now: bool = False) -> None:
        """Shut the kernel down; kill it after five seconds, or `now`."""
        if self._thread is not None:
            self._stop = True
            self._wake_write.send(b".")
            self._thread.join(TIME_LIMIT)
            self._thread = None
            self._wake_read.close()
            self._wake_write.close()
            # Last, since the manager closes the context of the sockets too.
            self._manager.shutdown_kernel(now=now or not self.alive)

    @property
    def alive(self) -> bool:
        return bool(self._manager.is_alive())

    @property
    def pid(self) -> int:
        return int(getattr(self._manager.provisioner, "pid", 0))

    def interrupt(self) -> None:
        """SIGINT."""
        self._manager.interrupt_kernel()

    def send(self, channel: str, msg_type: str, content: Content, subshell: str | None = None) -> str:
        """Send a new message; returns its id."""
        message = self.message(msg_type, content)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self.post(channel, message)
        return str(message["header"]["msg_id"])

    def message(self, msg_type: str, content: Content, metadata: Content | None = None) -> Message:
        """A new message, not sent yet."""
        with self._numbering:
            message: Message = self.session.msg(msg_type, content, metadata=metadata)
        return message

    def post(self, channel: str, message: Message) -> None:
        """Send a message that was made by `message`."""
        self._outbox.put((channel, message))
        self._wake_write.send(b".")

    def _serve(self) -> None:
        identity = self.session.bsession
        sockets = {
            "iopub": self._manager.connect_iopub(),
            "shell": self._manager.connect_shell(identity=identity),
            "control": self._manager.connect_control(identity=identity),
            "stdin": self._manager.context.socket(zmq.DEALER),
        }
        # As `connect_stdin` does, but with the monitor first: it does not report a handshake that is over already.
        sockets["stdin"].identity = identity
        monitor = sockets["stdin"].get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        address = self._manager.get_connection_info()
        sockets["stdin"].connect(f"{address['transport']}://{address['ip']}:{address['stdin_port']}")
        poller = zmq.Poller()
        poller.register(monitor, zmq.POLLIN)
        poller.register(self._wake_read, zmq.POLLIN)
        for channel_socket in sockets.values():
            poller.register(channel_socket, zmq.POLLIN)
        while not self._stop:
            ready = dict(poller.poll())
            if self._wake_read.fileno() in ready:
                self._wake_read.recv(4096)
            if monitor in ready:
                monitor.recv_multipart()
                self._stdin_known.set()
            while not self._outbox.empty():
                channel, message = self._outbox.get()
                self.session.send(sockets[channel], message)
            for channel, channel_socket in sockets.items():
                if channel_socket in ready:
                    self._receive(channel, channel_socket)
        sockets["stdin"].disable_monitor()
        for channel_socket in (monitor, *sockets.values()):
            channel_socket.close(linger=0)

    def _receive(self, channel: str, channel_socket: zmq.Socket[bytes]) -> None:
        while channel_socket.poll(0):
            _, message = self.session.recv(channel_socket, mode=zmq.NOBLOCK)
            if message is not None:
                self._on_arrival(Arrival(time.monotonic(), channel, message))
