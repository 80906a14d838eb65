"""A kernel in a process of its own: start it, talk to it, interrupt it, end it.

The process belongs to `jupyter_client`: its kernel manager writes the connection file and the command line, and its
provisioner starts the process and sends interrupts, on Windows too. A worker is used by one thread at a time, but any
thread may call `tell`, `interrupt` and `kill`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import zmq
from jupyter_client import AsyncKernelManager, BlockingKernelClient  # type: ignore[attr-defined]
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from nbtasks.exceptions import TaskFailedError, WorkerDiedError
from nbtasks.interrupts import start_thread
from nbtasks.workers.messages import Message
from nbtasks.workers.serialization import raw

__all__ = ["Worker", "python_kernel"]

START_SECONDS = 60.0
"""A worker that has not answered by then has failed to start."""
LEAVE_SECONDS = 2.0
"""How long a worker that was asked to shut down may take for its clean-up."""
_ASK_AGAIN_SECONDS = 0.3
_LINGER_MS = 200
"""Not 0: libzmq aborts the whole process (session_base.cpp) where a socket is closed at once while a peer that was
killed has taken half a message. Within this time it notices that the peer is gone."""

_START = """\
import os, sys
sys.path[:] = os.environ.pop("NBTASKS_PATH").split(os.pathsep)
from {module} import main
main()
"""

T = TypeVar("T")


@functools.cache
def python_kernel(module: str) -> KernelSpec:
    """How to start a worker of this Python, whose kernel is started by the function `main` of `module`."""
    start = _START.format(module=module)
    argv = [sys.executable, "-P", "-c", start, "-f", "{connection_file}", "--HistoryManager.enabled=False"]
    return KernelSpec(argv=argv, language="python")


class _OneSpec(KernelSpecManager):
    """Gives a kernel manager the spec of its kernel, which need not be installed."""

    def __init__(self, spec: KernelSpec) -> None:
        super().__init__()
        self._spec = spec

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:  # noqa: ARG002 - the base class's signature
        """Return that spec, whatever the name."""
        return self._spec


_loop_lock = threading.Lock()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop on which kernel managers and provisioners run, in a thread of its own."""
    loop = asyncio.new_event_loop()
    start_thread(loop.run_forever, "nbtasks-kernel-managers")
    return loop


def _run(awaitable: Awaitable[T]) -> T:
    """Run a coroutine of a kernel manager and wait for it, on any thread, one that runs a loop too."""
    with _loop_lock:
        loop = _loop()
    return asyncio.run_coroutine_threadsafe(_awaited(awaitable), loop).result()


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


class Worker:
    """A kernel in a process group of its own, ready once `wait_ready` has returned."""

    def __init__(self, kernel: KernelSpec, cwd: str | None = None) -> None:
        self.kernel = kernel
        self.started_at = time.monotonic()
        self._lock = threading.Lock()  # guards the signals, and the end
        self._sending = threading.Lock()  # guards the control socket, and the session while something is sent
        self._exit_code: int | None = None
        self._closed = False
        self._log_at_start = 0  # the size of its log once it had started
        self._sockets: dict[str, Any] = {}
        self._pidfd: int | None = None
        self._wakes: socket.socket | None = None
        self._woken: socket.socket | None = None
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="nbtasks-"))
        except OSError as error:  # a full disk
            raise _cannot_start(error) from None
        self._context = zmq.Context()
        self._manager = self._made_manager()
        try:
            _run(self._start(cwd))
            self._connect()
        except OSError as error:  # a full disk again, or no such program
            self._clear()
            raise _cannot_start(error) from None
        except BaseException:
            self._clear()
            raise

    def _made_manager(self) -> AsyncKernelManager:
        file = str(self.folder / "kernel.json")
        # Sockets in a folder that only its owner may enter, where there are such sockets.
        place = {} if sys.platform == "win32" else {"transport": "ipc", "ip": str(self.folder / "s")}
        return AsyncKernelManager(kernel_spec_manager=_OneSpec(self.kernel), connection_file=file, **place)

    async def _start(self, cwd: str | None) -> None:
        env = os.environ | {"NBTASKS_FOLDER": str(self.folder), "NBTASKS_PATH": os.pathsep.join(sys.path)}
        with (self.folder / "log").open("wb") as log:
            await self._manager.start_kernel(stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=cwd)

    def _connect(self) -> None:
        # No high-water mark: a flood of messages is queued here, and none is dropped.
        self._context.setsockopt(zmq.RCVHWM, 0)
        self._context.setsockopt(zmq.SNDHWM, 0)
        self._context.setsockopt(zmq.LINGER, _LINGER_MS)
        self._context.setsockopt(zmq.RECONNECT_IVL, 20)
        client = BlockingKernelClient(context=self._context)
        client.load_connection_info(self._manager.get_connection_info())
        self.session = client.session
        self._sockets = {"shell": client.connect_shell(), "iopub": client.connect_iopub()}
        self._poller = zmq.Poller()
        for channel in self._sockets.values():
            self._poller.register(channel, zmq.POLLIN)
        self._sockets["control"] = client.connect_control()  # what is sent there has no answer
        if self.pid is not None and hasattr(os, "pidfd_open"):  # its end wakes `receive`
            self._pidfd = os.pidfd_open(self.pid)
            self._poller.register(self._pidfd, select.POLLIN)
        self._wakes, self._woken = socket.socketpair()
        self._poller.register(self._woken.fileno(), zmq.POLLIN)

    def __repr__(self) -> str:
        return f"<Worker {self.pid}>"

    @property
    def pid(self) -> int | None:
        """The process's id; None where the kernel's provisioner starts it on another machine."""
        provisioner = self._manager.provisioner
        return provisioner.pid if isinstance(provisioner, LocalProvisioner) else None

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._code() is None

    def _code(self) -> int | None:
        """The process's exit code; None while it is running. The processes that it has started end with it."""
        with self._lock:
            if self._exit_code is None and self._manager.provisioner is not None:
                self._exit_code = _run(self._manager.provisioner.poll())
                if self._exit_code is not None and self.pid is not None:
                    _run(self._manager.provisioner.kill())  # its process group
            return self._exit_code

    # -- messages ---------------------------------------------------------------------------------------------

    def wait_ready(self, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait until the kernel answers and its output is received; False if it was `given_up` meanwhile.

        Raises WorkerDiedError if it does not start.
        """
        limit = time.monotonic() + START_SECONDS
        answers = publishes = False
        requested_at = 0.0
        while not (answers and publishes):
            now = time.monotonic()
            if given_up():
                return False
            if now > limit:
                raise WorkerDiedError(f"the worker did not answer within {START_SECONDS:g} s{self.last_output()}")
            if now - requested_at > _ASK_AGAIN_SECONDS:
                requested_at = now
                self.send("kernel_info_request", {})
            for message in self.receive(_ASK_AGAIN_SECONDS):
                answers |= message.kind == "kernel_info_reply"
                publishes |= message.channel == "iopub" and message.kind == "status"
        (self.folder / "kernel.json").unlink(missing_ok=True)  # it has the key, and has been read
        self._log_at_start = (self.folder / "log").stat().st_size
        return True

    def send(self, kind: str, content: dict[str, Any], buffers: Sequence[Any] = ()) -> str:
        """Send a request; returns its id."""
        with self._sending:
            message = self.session.msg(kind, content)
            self.session.send(self._sockets["shell"], message, buffers=[raw(buffer) for buffer in buffers])
        return str(message["header"]["msg_id"])

    def tell(self, kind: str, content: dict[str, Any], buffers: Sequence[Any] = ()) -> None:
        """Send a message that has no answer, also while the worker computes. Any thread, also after the end."""
        with self._sending:
            if not self._sockets["control"].closed:
                self.session.send(self._sockets["control"], kind, content, buffers=[raw(one) for one in buffers])

    def receive(self, timeout: float) -> list[Message]:
        """The messages that arrive within `timeout` seconds; returns as soon as there are some, or at `wake`.

        Raises WorkerDiedError where the process has ended.
        """
        ready = dict(self._poller.poll(round(timeout * 1000)))
        found: list[Message] = []
        if self._woken is not None and self._woken.fileno() in ready:
            self._woken.recv(1)
        for channel in ("iopub", "shell"):
            while self._sockets[channel] in ready and len(found) < 100:
                message = self._next(channel)
                if message is None:
                    break
                found.append(message)
        if not found and (code := self._code()) is not None:
            raise WorkerDiedError(_description(code) + self.last_output(), code)
        return found

    def wake(self) -> None:
        """Have `receive` return, in the thread that waits there. Any thread, not after the end."""
        if self._wakes is not None:
            self._wakes.send(b"w")

    def _next(self, channel: str) -> Message | None:
        try:
            parts = self._sockets[channel].recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        _, parts = self.session.feed_identities(parts, copy=False)
        message = self.session.deserialize(parts, copy=False)
        return Message(
            channel,
            message["msg_type"],
            message["content"],
            message["buffers"],
            message["parent_header"].get("msg_id"),
            message["metadata"],
            message["parent_header"],
        )

    # -- the end ----------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Interrupt its work, and the processes that it has started. Any thread."""
        if self._code() is None:
            with self._lock:
                if not self._closed:
                    _run(self._manager.interrupt_kernel())

    def kill(self) -> None:
        """End the process, and those that it has started, at once. Any thread."""
        if self._code() is None:
            with self._lock:
                if not self._closed and self._manager.provisioner is not None:
                    _run(self._manager.provisioner.kill())

    def leave(self) -> None:
        """Shut the worker down: let it clean up, then end it. Returns at once."""
        start_thread(self._leave, "nbtasks-worker-leaves")

    def _leave(self) -> None:
        try:
            if self.alive:
                _run(self._manager.request_shutdown())
            limit = time.monotonic() + LEAVE_SECONDS
            while self.alive and time.monotonic() < limit:
                time.sleep(0.02)
        finally:
            self.end()

    def end(self) -> None:
        """End the process if it is running, and leave nothing of it behind."""
        self.kill()
        while self.alive:
            time.sleep(0.01)
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._clear()

    def _clear(self) -> None:
        """Leave nothing behind: sockets, files."""
        if self._pidfd is not None:
            os.close(self._pidfd)
        for one in (self._wakes, self._woken):
            if one is not None:
                one.close()
        with self._sending:
            for channel in self._sockets.values():
                channel.close(_LINGER_MS)
        self._context.term()
        with contextlib.suppress(OSError):  # of a start that failed
            _run(self._manager.cleanup_resources())
        shutil.rmtree(self.folder, ignore_errors=True)

    def last_output(self) -> str:
        """What the process has written to its log since it started, the end of it, as part of a message."""
        try:
            text = (self.folder / "log").read_bytes()[self._log_at_start :][-2000:].decode(errors="replace").strip()
        except OSError:
            return ""
        return f"; it said:\n{text}" if text else ""


def _description(code: int) -> str:
    """Why a process with that exit code is gone."""
    if code >= 0:
        return f"the worker process exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = {
        "SIGKILL": " (the system does that where memory runs out)",
        "SIGSEGV": " (a segmentation fault)",
        "SIGABRT": " (C code gave up)",
    }.get(name, "")
    return f"the worker process was killed by {name}{hint}"


def _cannot_start(error: OSError) -> TaskFailedError:
    return TaskFailedError(f"a worker process cannot be started: {error}")
