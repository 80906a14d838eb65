"""One worker kernel: its process, its sockets, how it is interrupted and how it ends.

Must not know what it is asked to do. A worker is used by one thread at a time, apart from `interrupt` and `kill`.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbtasks.exceptions import TaskFailedError, WorkerDiedError
from nbtasks.interrupts import start_thread

__all__ = ["PYTHON_WORKER", "KernelCommand", "Message", "Worker"]

START_SECONDS = 60.0
"""A worker that has not answered by then is taken not to come."""
LEAVE_SECONDS = 2.0
"""How long a worker that is asked to leave may take for its clean-up."""
_ASK_AGAIN_SECONDS = 0.3
_LINGER_MS = 200
"""Not 0: libzmq aborts the whole process (session_base.cpp) where a socket is closed at once while a peer that was
killed has taken half a message. Within this time it notices that the peer is gone."""
_IDLE = {"execution_state": "idle"}


@dataclass(frozen=True)
class KernelCommand:
    """How a kernel is started; `{connection_file}` in `argv` is put in."""

    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    interrupted_by_message: bool = False
    name: str = ""


_MAIN = """\
import os, sys
sys.path[:] = os.environ.pop("NBTASKS_PATH").split(os.pathsep)
from nbtasks.notebook.remote.worker_kernel import main
main()
"""
PYTHON_WORKER = KernelCommand(
    (sys.executable, "-P", "-c", _MAIN, "-f", "{connection_file}", "--HistoryManager.enabled=False")
)


@dataclass(frozen=True)
class Message:
    """What a worker says: `channel` is "shell" (answers) or "iopub" (output)."""

    channel: str
    kind: str
    content: dict[str, Any]
    buffers: list[memoryview]
    answers: str | None
    """The id of the request that it belongs to."""
    metadata: dict[str, Any]


class Worker:
    """A kernel in a process group of its own. It is there once `wait_ready` has returned."""

    def __init__(self, command: KernelCommand, cwd: str | None = None) -> None:
        self.command = command
        self.started_at = time.monotonic()
        self._lock = threading.Lock()
        self._ended = self._swept = False
        self._greeted = 0  # so much of its log it has written while it started
        self._sockets: dict[str, Any] = {}
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="nbtasks-"))
        except OSError as error:  # a full disk
            raise _cannot_start(error) from None
        try:
            self._connect()
            self.process = self._started(cwd)
        except OSError as error:  # a full disk again, or no such program
            self._clear()
            raise _cannot_start(error) from None
        except BaseException:
            self._clear()
            raise
        self._pidfd = os.pidfd_open(self.process.pid) if hasattr(os, "pidfd_open") else None
        if self._pidfd is not None:
            self._poller.register(self._pidfd, select.POLLIN)

    def _started(self, cwd: str | None) -> subprocess.Popen[bytes]:
        command = self.command
        argv = [part.replace("{connection_file}", str(self._file)) for part in command.argv]
        env = {**os.environ, **(command.env or {})}
        if command is PYTHON_WORKER:  # it looks after its parent by itself, and ends all of its processes
            env.pop("JPY_PARENT_PID", None)
            env |= {
                "NBTASKS_PARENT": str(os.getpid()),
                "NBTASKS_FOLDER": str(self.folder),
                "NBTASKS_PATH": os.pathsep.join(sys.path),
            }
        else:
            env["JPY_PARENT_PID"] = str(os.getpid())
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=cwd, start_new_session=True
            )

    def __repr__(self) -> str:
        return f"<Worker {self.pid}>"

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return not self._ended and self._code() is None

    def _code(self) -> int | None:
        """How the process ended; None while it is there. With it end those that it has started.

        Afterwards its number may be somebody else's, and nothing is sent there any more.
        """
        with self._lock:
            code = self.process.poll()
            if code is not None and not self._swept:
                self._swept = True
                if sys.platform != "win32":
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(self.process.pid, signal.SIGKILL)
            return code

    def _connect(self) -> None:
        import zmq
        from jupyter_client import BlockingKernelClient  # type: ignore[attr-defined]
        from jupyter_client.connect import write_connection_file

        self._file = self.folder / "kernel.json"
        self._context = zmq.Context()
        key = os.urandom(32).hex().encode()
        if sys.platform == "win32":
            write_connection_file(str(self._file), key=key)
        else:  # sockets in a folder that only its owner may enter
            write_connection_file(str(self._file), key=key, transport="ipc", ip=str(self.folder / "s"))
        # What a worker says in a flood waits here, it is not dropped.
        self._context.setsockopt(zmq.RCVHWM, 0)
        self._context.setsockopt(zmq.LINGER, _LINGER_MS)
        self._context.setsockopt(zmq.RECONNECT_IVL, 20)
        client = BlockingKernelClient(context=self._context)
        client.load_connection_file(str(self._file))
        self.session = client.session
        self._sockets = {
            "shell": client.connect_shell(), "iopub": client.connect_iopub(), "control": client.connect_control()
        }  # fmt: skip
        self._poller = zmq.Poller()
        for name in ("shell", "iopub"):
            self._poller.register(self._sockets[name], zmq.POLLIN)

    # -- speaking ---------------------------------------------------------------------------------------------

    def wait_ready(self, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait until the kernel answers and its output is heard; False if it was `given_up` meanwhile.

        Raises WorkerDiedError if it does not come.
        """
        limit = time.monotonic() + START_SECONDS
        answered = heard = False
        asked = 0.0
        while not (answered and heard):
            now = time.monotonic()
            if given_up():
                return False
            if now > limit:
                raise WorkerDiedError(f"the worker did not answer within {START_SECONDS:g} s{self.last_words()}")
            if now - asked > _ASK_AGAIN_SECONDS:
                asked = now
                self.send("kernel_info_request", {})
            for message in self.receive(_ASK_AGAIN_SECONDS):
                answered |= message.kind == "kernel_info_reply"
                heard |= message.channel == "iopub" and message.kind == "status"
        self._file.unlink(missing_ok=True)  # it has the key, and has been read
        self._greeted = (self.folder / "log").stat().st_size
        return True

    def send(self, kind: str, content: dict[str, Any], buffers: Sequence[Any] = (), *, channel: str = "shell") -> str:
        """Send a request; returns its id."""
        from nbtasks.workers.serialization import raw

        message = self.session.msg(kind, content)
        self.session.send(self._sockets[channel], message, buffers=[raw(buffer) for buffer in buffers])
        return str(message["header"]["msg_id"])

    def receive(self, timeout: float) -> list[Message]:
        """What has come within `timeout` seconds: at once, if there is something. Raises WorkerDiedError."""
        ready = dict(self._poller.poll(round(timeout * 1000)))
        found: list[Message] = []
        for channel in ("iopub", "shell"):
            while self._sockets[channel] in ready and len(found) < 100:
                message = self._next(channel)
                if message is None:
                    break
                found.append(message)
        if not found and (self._ended or self._code() is not None):
            raise WorkerDiedError(self.how_it_ended() + self.last_words(), self.process.returncode)
        return found

    def _next(self, channel: str) -> Message | None:
        import zmq

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
        )

    # -- the end ----------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Interrupt what it does, and the processes that it has started. Any thread."""
        if self.command.interrupted_by_message:
            self.send("interrupt_request", {}, channel="control")
        elif sys.platform == "win32":
            self.kill()  # there is no other way without an event handle of its own
        else:
            self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End the process, and those that it has started, at once. Any thread."""
        if sys.platform == "win32":
            self.process.kill()
        else:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._code() is not None:
            return
        with self._lock:
            if not self._ended and not self._swept:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.process.pid, number)

    def leave(self) -> None:
        """Let the worker clean up, and end it; without waiting for that."""
        start_thread(self._leave, "nbtasks-worker-leaves")

    def _leave(self) -> None:
        try:
            if self.alive:
                self.send("shutdown_request", {"restart": False}, channel="control")
            limit = time.monotonic() + LEAVE_SECONDS
            while self._code() is None and time.monotonic() < limit:
                time.sleep(0.02)
        finally:
            self.end()

    def end(self) -> None:
        """End the process if it has not ended, and leave nothing of it behind."""
        self.kill()
        while self._code() is None:
            time.sleep(0.01)
        with self._lock:
            if self._ended:
                return
            self._ended = True
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._clear()

    def _clear(self) -> None:
        """Leave nothing behind: sockets, files."""
        for socket in self._sockets.values():
            socket.close(_LINGER_MS)
        self._context.term()
        shutil.rmtree(self.folder, ignore_errors=True)

    def how_it_ended(self) -> str:
        """Why the process is gone, for people."""
        code = self._code()
        if code is None:
            return "the worker process was ended"
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

    def last_words(self) -> str:
        """What the process itself wrote at its end, if it did."""
        try:
            text = (self.folder / "log").read_bytes()[self._greeted :][-2000:].decode(errors="replace").strip()
        except OSError:
            return ""
        return f"; it said:\n{text}" if text else ""


def _cannot_start(error: OSError) -> TaskFailedError:
    return TaskFailedError(f"a worker process cannot be started: {error}")
