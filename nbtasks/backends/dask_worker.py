"""The Dask worker's side of the `dask` backend.

Functions run in threads of the Dask worker, cells in worker processes beside it. Messages go to the notebook as events
of the scheduler. Imported on Dask's workers.
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
from nbtasks.workers.worker_side import WorkerTaskOwner, call, pack_error

__all__ = ["SMALL", "Parcel", "interrupt", "run"]

SMALL = 1_000_000
"""Answers of up to this number of bytes are sent as a message, bigger ones as Dask's result."""

_CHECK_SECONDS = 0.1

_out: contextvars.ContextVar[Any] = contextvars.ContextVar("nbtasks_out", default=None)
_running: dict[str, tuple[Any, _Attempt]] = {}
_interrupted: dict[str, int] = {}
_lock = threading.Lock()
"""Guards `_running` and `_interrupted`."""
_processes: ProcessBackend | None = None
_threads = ThreadBackend()


class Parcel:
    """Buffers that Dask sends without copying them."""

    def __init__(self, *buffers: Any) -> None:
        self.buffers = buffers

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Parcel, tuple(
            pickle.PickleBuffer(buffer) if protocol >= 5 and raw(buffer).nbytes > SMALL else bytes(raw(buffer))
            for buffer in self.buffers
        )


class _Attempt(Attempt):
    """One attempt on this worker; `over` is set when it has ended."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.over = threading.Event()
        self.outcome = Outcome(TaskState.CANCELLED)

    def finished(self, outcome: Outcome) -> Attempt | None:
        self.outcome = outcome
        self.over.set()
        return None


def run(topic: str, key: str, what: str, content: dict[str, Any], parcel: Parcel) -> Any:
    """Do the work and send its messages. Returns their number, and the answer if it is not small."""
    from distributed import get_worker

    worker = get_worker()
    sent = 0
    lock = threading.Lock()

    def say(channel: str, kind: str, about: dict[str, Any], buffers: Sequence[Any], metadata: Any = None) -> None:
        nonlocal sent
        message = pickle.dumps((channel, kind, about, [bytes(raw(b)) for b in buffers], metadata or {}), protocol=5)
        with lock:
            sent += 1
            worker.log_event(topic, {"key": key, "number": sent, "message": message})

    say("iopub", "nbtasks_begun", {"worker": worker.address}, [])
    do = _do_call if content["what"] == "call" else _do_cell
    answer, buffers = do(key, what, content, parcel.buffers, say, worker)
    if sum(raw(one).nbytes for one in buffers) > SMALL:
        return sent, answer, Parcel(*buffers)
    say("shell", "nbtasks_reply", answer, buffers)
    return sent, None, None


async def interrupt(key: str, number: int) -> bool:
    """Interrupt the work of that key; True if it runs here. Work that has not begun will not begin.

    `number` counts the interrupts of that work: each is delivered once.
    """
    with _lock:
        backend, attempt = _running.get(key, (None, None))
        is_new = number > _interrupted.get(key, 0)
        _interrupted[key] = number
    if backend is not None and is_new:
        backend.interrupt(attempt)
    return backend is not None


def _do(key: str, backend: Any, task: Task, function: Any, not_counted: threading.Event | None = None) -> Outcome:
    """Run it on `backend` and wait. Once `not_counted` is set, it leaves Dask's thread pool."""
    from distributed import secede

    attempt = _Attempt(task, function, (), backend, contextvars.copy_context(), None)
    with _lock:
        if key in _interrupted:
            return attempt.outcome
        _running[key] = backend, attempt
    try:
        backend.start(attempt)
        while not attempt.over.wait(_CHECK_SECONDS):
            if not_counted is not None and not_counted.is_set():
                not_counted.clear()
                secede()
    finally:
        with _lock:
            _running.pop(key, None)
            _interrupted.pop(key, None)
    return attempt.outcome


# -- functions ----------------------------------------------------------------------------------------------------


def _do_call(key: str, _: str, content: dict[str, Any], buffers: Sequence[Any], say: Any, worker: Any) -> Any:
    owner = WorkerTaskOwner(lambda kind, about, parcel: say("iopub", kind, about, parcel))
    split = content["split"]
    try:
        about = unpack(buffers[:split], {})
        task = owner.make(about["kind"], content["number"], content["prefix"], about["fields"])
        work = unpack(buffers[split:], {}, task)
    except Exception as error:  # noqa: BLE001 - unpickling runs the objects' own code
        described, parcel = pack_error(error)
        return {"status": "error", **described}, parcel
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
        joined.set()  # it may wait for other work of the cluster, and must not occupy a thread of it
    outcome = _do(key, _threads, task, function, joined)
    owner.end()
    if outcome.state is TaskState.CANCELLED:
        return {"status": "cancelled"}, []
    if outcome.exception is not None:
        described, parcel = pack_error(outcome.exception)
        return {"status": "error", **described}, parcel
    parcel, refused = pack_names({RESULT: outcome.result}, task=task)
    stayed = {name: [kind_of(outcome.result), str(why)] for name, why in refused.items()}
    return {"status": "ok", "stayed": stayed}, parcel


class _Stream(io.TextIOBase):
    """A standard stream that sends the output of our functions as messages."""

    def __init__(self, name: str, below: Any) -> None:
        self._name = name
        self._below = below

    def write(self, text: str) -> int:
        """Send text, or write it to the stream itself."""
        say = _out.get()
        if say is None:
            self._below.write(text)
        else:
            say("iopub", "stream", {"name": self._name, "text": text}, [])
        return len(text)

    def flush(self) -> None:
        """Flush the stream itself."""
        self._below.flush()


_stream_patches = PatchSet(Patch(sys, name, partial(_Stream, name)) for name in ("stdout", "stderr"))
_stream_patches_lock = threading.Lock()


# -- cells --------------------------------------------------------------------------------------------------------


class _Relay(RemoteWork):
    """The request of a notebook, passed on to a process of this machine."""

    fresh = True

    def __init__(self, content: dict[str, Any], buffers: Sequence[Any], say: Any) -> None:
        self._content = content
        self._buffers = buffers
        self._say = say
        self._worker_module = content["worker_module"]
        self.memory = content["memory"]
        self.joined = threading.Event()
        """Set when the cell uses the cluster: it must not occupy a thread there while it waits."""
        self.answer: tuple[dict[str, Any], Buffers] | None = None

    @property
    def kernel(self) -> KernelSpec:
        """That of the notebook's own workers."""
        return python_kernel(self._worker_module)

    def request(self) -> tuple[str, dict[str, Any], Buffers]:
        """The notebook's request."""
        return "nbtasks_run", self._content, list(self._buffers)

    def receive(self, message: Message) -> None:
        """Pass a message on to the notebook."""
        if message.kind == "nbtasks_joined":
            self.joined.set()
        self._say("iopub", message.kind, message.content, message.buffers, message.metadata)

    def restarted(self, why: str) -> None:
        """Nothing: Dask runs lost work again."""

    def answered(self, message: Message) -> Outcome:
        """Keep the answer, to be passed on."""
        self.answer = message.content, [bytes(buffer) for buffer in message.buffers]
        return Outcome(TaskState.COMPLETED)


class _CellTask(Task):
    """The task of a cell's process."""

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
        described, parcel = pack_error(outcome.exception)
        return {"status": "error", **described}, parcel
    return {"status": "cancelled"}, []
