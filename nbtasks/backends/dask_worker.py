"""What runs on a Dask worker: functions in its own threads, cells in worker processes of ours beside it.

Must not know the notebook but by the messages that it says there, nor what a cell is. Imported on Dask's workers.
"""

from __future__ import annotations

import contextvars
import io
import os
import pickle
import sys
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from jupyter_client.kernelspec import KernelSpec

from nbtasks.backends.base import Attempt
from nbtasks.backends.process import ProcessBackend
from nbtasks.backends.remote_work import RemoteWork
from nbtasks.backends.thread import ThreadBackend
from nbtasks.patch import Patch, PatchSet
from nbtasks.states import TaskState
from nbtasks.task import Outcome, Task
from nbtasks.workers.kernel_process import python_kernel
from nbtasks.workers.messages import RESULT, Message
from nbtasks.workers.serialization import Buffers, kind_of, pack_names, raw, unpack
from nbtasks.workers.worker_side import TaskHere, call, pack_error

__all__ = ["SMALL", "Parcel", "run", "strike"]

SMALL = 1_000_000
"""Answers of up to so many bytes come with the message that says the work is over; others as Dask's result."""

_LOOK_SECONDS = 0.1

_out: contextvars.ContextVar[Any] = contextvars.ContextVar("nbtasks_out", default=None)
_running: dict[str, tuple[Any, _Attempt]] = {}
_struck: dict[str, int] = {}
_lock = threading.Lock()
"""Guards what runs and what was struck."""
_processes: ProcessBackend | None = None
_threads = ThreadBackend()


class Parcel:
    """Buffers, which Dask sends as they are."""

    def __init__(self, *buffers: Any) -> None:
        self.buffers = buffers

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Parcel, tuple(
            pickle.PickleBuffer(buffer) if protocol >= 5 and raw(buffer).nbytes > SMALL else bytes(raw(buffer))
            for buffer in self.buffers
        )


class _Attempt(Attempt):
    """One attempt here, which somebody waits for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.over = threading.Event()
        self.outcome = Outcome(TaskState.CANCELLED)

    def finished(self, outcome: Outcome) -> Attempt | None:
        self.outcome = outcome
        self.over.set()
        return None


def run(topic: str, key: str, what: str, content: dict[str, Any], parcel: Parcel) -> Any:
    """Do the work, and say all that it says. Returns the number of messages, and the answer if it is not small."""
    from distributed import get_worker

    worker = get_worker()
    said = 0
    lock = threading.Lock()

    def say(channel: str, kind: str, about: dict[str, Any], buffers: Sequence[Any], metadata: Any = None) -> None:
        nonlocal said
        message = pickle.dumps((channel, kind, about, [bytes(raw(b)) for b in buffers], metadata or {}), protocol=5)
        with lock:
            said += 1
            worker.log_event(topic, {"key": key, "number": said, "message": message})

    say("iopub", "nbtasks_begun", {"worker": worker.address}, [])
    do = _do_call if content["what"] == "call" else _do_cell
    answer, buffers = do(key, what, content, parcel.buffers, say, worker)
    if sum(raw(one).nbytes for one in buffers) > SMALL:
        return said, answer, Parcel(*buffers)
    say("shell", "nbtasks_reply", answer, buffers)
    return said, None, None


async def strike(key: str, number: int) -> bool:
    """Interrupt the work of that key; True if it is here. What has not begun by then does not begin any more.

    `number` counts the interrupts that were asked for: each strikes once.
    """
    with _lock:
        backend, attempt = _running.get(key, (None, None))
        is_new = number > _struck.get(key, 0)
        _struck[key] = number
    if backend is not None and is_new:
        backend.interrupt(attempt)
    return backend is not None


def _do(key: str, backend: Any, task: Task, function: Any, not_counted: threading.Event | None = None) -> Outcome:
    """Do it on `backend`, and wait. Once `not_counted` is set, another task may take this one's place on the worker."""
    from distributed import secede

    attempt = _Attempt(task, function, (), backend, contextvars.copy_context(), None)
    with _lock:
        if key in _struck:
            return attempt.outcome
        _running[key] = backend, attempt
    try:
        backend.start(attempt)
        while not attempt.over.wait(_LOOK_SECONDS):
            if not_counted is not None and not_counted.is_set():
                not_counted.clear()
                secede()
    finally:
        with _lock:
            _running.pop(key, None)
            _struck.pop(key, None)
    return attempt.outcome


# -- functions ----------------------------------------------------------------------------------------------------


def _do_call(key: str, _: str, content: dict[str, Any], buffers: Sequence[Any], say: Any, worker: Any) -> Any:
    here = TaskHere(lambda kind, about, parcel: say("iopub", kind, about, parcel))
    split = content["split"]
    try:
        about = unpack(buffers[:split], {})
        task = here.make(about["kind"], content["number"], content["prefix"], about["fields"])
        work = unpack(buffers[split:], {}, task)
    except Exception as error:  # noqa: BLE001 - unpickling runs the objects' own code
        said, parcel = pack_error(error)
        return {"status": "error", **said}, parcel
    with _stream_patches_lock:
        _stream_patches.apply()

    def function() -> Any:
        from distributed.worker import thread_state  # type: ignore[attr-defined]

        thread_state.execution_state = {"worker": worker}
        thread_state.key = key
        _out.set(say)
        return call(task, work["function"], work["args"])

    joined = threading.Event()
    pickled = bytes(buffers[split])
    if b"dask" in pickled or b"distributed" in pickled:
        joined.set()  # it may wait for what the cluster does: it must not keep a place there
    outcome = _do(key, _threads, task, function, joined)
    here.end()
    if outcome.state is TaskState.CANCELLED:
        return {"status": "cancelled"}, []
    if outcome.exception is not None:
        said, parcel = pack_error(outcome.exception)
        return {"status": "error", **said}, parcel
    parcel, refused = pack_names({RESULT: outcome.result}, task=task)
    stayed = {name: [kind_of(outcome.result), str(why)] for name, why in refused.items()}
    return {"status": "ok", "stayed": stayed}, parcel


class _Stream(io.TextIOBase):
    """A standard stream: what functions of ours write to it is said, all else goes where it went."""

    def __init__(self, name: str, below: Any) -> None:
        self._name = name
        self._below = below

    def write(self, text: str) -> int:
        """Take text."""
        say = _out.get()
        if say is None:
            self._below.write(text)
        else:
            say("iopub", "stream", {"name": self._name, "text": text}, [])
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""
        self._below.flush()


_stream_patches = PatchSet(Patch(sys, name, partial(_Stream, name)) for name in ("stdout", "stderr"))
_stream_patches_lock = threading.Lock()


# -- cells --------------------------------------------------------------------------------------------------------


class _Relay(RemoteWork):
    """The request of a notebook, handed on to a process of this machine."""

    fresh = True

    def __init__(self, content: dict[str, Any], buffers: Sequence[Any], say: Any) -> None:
        self._content = content
        self._buffers = buffers
        self._say = say
        self._worker_module = content["worker_module"]
        self.memory = content["memory"]
        self.joined = threading.Event()
        """Set when the cell has the cluster do work: it must not keep a place there while it waits."""
        self.answer: tuple[dict[str, Any], Buffers] | None = None

    @property
    def kernel(self) -> KernelSpec:
        """That of the notebook's own workers."""
        return python_kernel(self._worker_module)

    def request(self) -> tuple[str, dict[str, Any], Buffers]:
        """As it came."""
        return "nbtasks_run", self._content, list(self._buffers)

    def receive(self, message: Message) -> None:
        """Said on."""
        if message.kind == "nbtasks_joined":
            self.joined.set()
        self._say("iopub", message.kind, message.content, message.buffers, message.metadata)

    def restarted(self, why: str) -> None:
        """It does not, here."""

    def answered(self, message: Message) -> Outcome:
        """Kept, to be handed on."""
        self.answer = message.content, [bytes(buffer) for buffer in message.buffers]
        return Outcome(TaskState.COMPLETED)


class _CellTask(Task):
    """The task as part of which a cell's process runs."""

    relay: Any = None

    def remote_work(self, attempt: Attempt) -> RemoteWork:  # noqa: ARG002 - the base class's signature
        """The request of the notebook."""
        work: RemoteWork = self.relay
        return work


def _do_cell(key: str, what: str, content: dict[str, Any], buffers: Sequence[Any], say: Any, worker: Any) -> Any:
    global _processes
    with _lock:
        if _processes is None:
            _processes = ProcessBackend()
        os.environ["NBTASKS_SCHEDULER"] = worker.scheduler.address
    task = _CellTask()
    task.name = what
    task.relay = relay = _Relay(content, buffers, say)
    outcome = _do(key, _processes, task, None, relay.joined)
    if relay.answer is not None:
        return relay.answer
    if outcome.exception is not None and outcome.state is TaskState.FAILED:
        said, parcel = pack_error(outcome.exception)
        return {"status": "error", **said}, parcel
    return {"status": "cancelled"}, []
