"""The `dask` backend: work on a Dask cluster.

Functions run in the threads of Dask's workers, cells in processes beside them. Dask is imported on first use.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

from nbtasks.backends.base import Attempt, Backend
from nbtasks.backends.remote_work import RemoteWork, show_streams, work_of
from nbtasks.exceptions import InvalidValueError, NbtasksError, TaskFailedError, WorkerDiedError
from nbtasks.interrupts import start_thread
from nbtasks.states import TaskState
from nbtasks.task import Outcome
from nbtasks.workers.messages import Message

__all__ = ["DaskBackend"]

LATE_SECONDS = 5.0
"""How long messages of a worker may arrive after the end of its work."""
_GONE = ("closed", "closing")


class DaskBackend(Backend):
    """Runs work on a Dask cluster.

    The cluster is that of `connect`, else that of the process's `Client`, else a local one, which is started here.
    One thread submits work, another receives messages; only the second one changes what is running.
    """

    name: ClassVar[str] = "dask"

    def __init__(self) -> None:
        self.on_display: Callable[[Message], None] = show_streams
        """Shows what a function prints or displays; called in the context of its attempt."""
        self._given: Any = None
        self._clients: dict[str | None, Any] = {}  # those made here, by address; None: of the cluster started here
        self._cluster: Any = None
        self._subscribed: weakref.WeakSet[Any] = weakref.WeakSet()
        self._topic = f"nbtasks-{uuid.uuid4().hex}"
        self._lock = threading.Lock()  # guards the start of the threads, and the end
        self._submitting: queue.SimpleQueue[_Run | None] = queue.SimpleQueue()
        self._receiving: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._running: dict[str, _Run] = {}
        self._serves = self._closed = False

    def connect(self, client: Any) -> None:
        """Use this `distributed.Client`, or the cluster at this address ("tcp://host:8786"), from now on.

        None: the client that the process has, as before. Running work stays where it is.
        """
        if not (client is None or isinstance(client, str) or _is_client(client)):
            raise InvalidValueError(f"connect() takes a distributed.Client, an address or None, not {client!r}")
        self._given = client

    def start(self, attempt: Attempt) -> None:
        """Submit the work, without waiting for a cluster."""
        try:
            import distributed  # noqa: F401 - only whether it is there
        except ImportError:
            raise TaskFailedError("the dask backend needs Dask: pip install distributed") from None
        with self._lock:
            if self._closed:
                raise TaskFailedError("the dask backend is closed")
            if not self._serves:
                self._serves = True
                start_thread(self._submit_all, "nbtasks-dask-submits")
                start_thread(self._receive_all, "nbtasks-dask-receives")
        attempt.handle = run = _Run(self, attempt)
        self._submitting.put(run)

    def interrupt(self, attempt: Attempt) -> None:
        """Interrupt the work in its worker, or cancel it on the cluster if it has not begun."""
        attempt.interrupted = True
        run = attempt.handle
        if run is not None:
            self.later(run.interrupt)

    def close(self) -> None:
        """Disconnect from the cluster; end one that was started here."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._submitting.put(None)
        self._receiving.put(None)
        if not self._serves:
            self._end()

    # -- the cluster ------------------------------------------------------------------------------------------

    def client(self) -> Any:
        """The client in use; found, made or started on first use."""
        client = self._find()
        if client not in self._subscribed:
            client.subscribe_topic(self._topic, self._take)
            self._subscribed.add(client)
        return client

    def _find(self) -> Any:
        import dask
        import distributed

        given = self._given
        if given is None:
            with contextlib.suppress(ValueError):  # there is none
                given = distributed.default_client()
        if given is None:
            given = dask.config.get("scheduler-address", None)
        if given is None or isinstance(given, str):
            return self._made(given, None)
        if given.status in _GONE:
            raise TaskFailedError(f"the Dask client was closed: {given!r}")
        if getattr(given, "_asynchronous", False):  # it answers on its own loop only
            return self._made(given.scheduler.address, given.security)
        return given

    def _made(self, address: str | None, security: Any) -> Any:
        """A client of our own, at this address or of a local cluster of our own."""
        import distributed

        client = self._clients.get(address)
        if client is None or client.status in _GONE:
            if address is None and (self._cluster is None or self._cluster.status.name != "running"):
                self._cluster = distributed.LocalCluster(threads_per_worker=1, dashboard_address="127.0.0.1:0")
            client = distributed.Client.__new__(distributed.Client)
            try:
                distributed.Client.__init__(
                    client, address or self._cluster, security=security, set_as_default=address is None
                )
            except (OSError, ValueError) as error:  # no scheduler answers there, or it is no address
                client.close(timeout=5)  # closed by garbage collection, it may hang Dask's next client
                raise TaskFailedError(f"there is no Dask cluster at {address}: {error}") from None
            self._clients[address] = client
        return client

    def _end(self) -> None:
        for one in (*self._clients.values(), self._cluster):
            if one is not None:
                with contextlib.suppress(Exception):  # it may have gone already
                    one.close(timeout=5)
        self._clients.clear()
        self._cluster = None

    # -- the two threads --------------------------------------------------------------------------------------

    def _submit_all(self) -> None:
        while (run := self._submitting.get()) is not None:
            run.submit()

    def _receive_all(self) -> None:
        while (call := self._receiving.get()) is not None:
            call()
        for run in list(self._running.values()):
            run.end(Outcome(TaskState.CANCELLED))
        self._end()

    def later(self, call: Callable[[], None]) -> None:
        """Call it on the receiving thread."""
        self._receiving.put(call)

    def _take(self, event: tuple[float, dict[str, Any]]) -> None:
        """On the client's own loop: a message of a worker."""
        message = event[1]
        self.later(lambda: self._deliver(message))

    def _deliver(self, event: dict[str, Any]) -> None:
        run = self._running.get(event["key"])
        if run is not None:
            run.receive(event["number"], event["message"])

    def enter(self, run: _Run) -> None:
        """Deliver messages of its key to this run from now on."""
        self._running[run.key] = run

    def leave(self, run: _Run) -> None:
        """Deliver no more: it has ended."""
        self._running.pop(run.key, None)


class _Run:
    """One attempt on the cluster. All but `submit` is called on the receiving thread."""

    def __init__(self, backend: DaskBackend, attempt: Attempt) -> None:
        self._backend = backend
        self._attempt = attempt
        self._work: RemoteWork | None = None
        self._future: Any = None
        self._worker: str | None = None
        self._received = 0
        self._interrupts = 0
        self._ended = False
        self.key = f"nbtasks-{attempt.task.id}-{attempt.task.attempts}-{uuid.uuid4().hex[:8]}"

    def submit(self) -> None:
        attempt = self._attempt
        if attempt.interrupted:
            self._backend.later(lambda: self.end(Outcome(TaskState.CANCELLED)))
            return
        try:
            from nbtasks.backends import dask_worker

            self._work = work_of(attempt, self._backend.on_display, settings=False)
            _, content, buffers = attempt.context.run(self._work.request)
            client = self._backend.client()
            self._backend.later(lambda: self._backend.enter(self))
            parcel = dask_worker.Parcel(*buffers)
            self._future = client.submit(
                dask_worker.run, self._backend._topic, self.key, attempt.task.name, content, parcel,
                key=self.key, pure=False, priority=attempt.task.priority,
            )  # fmt: skip
            self._future.add_done_callback(lambda _: self._backend.later(self._done))
            if attempt.interrupted:
                self._backend.later(self.interrupt)
        except Exception as error:  # noqa: BLE001 - no cluster, or an object that cannot be sent
            if isinstance(error, NbtasksError):  # the message says all, and the traceback shows only nbtasks
                error.__traceback__ = None
            ended = Outcome(TaskState.CANCELLED if attempt.interrupted else TaskState.FAILED, None, error)
            self._backend.later(lambda: self.end(ended))

    def interrupt(self) -> None:
        """Interrupt the work wherever it runs; cancel it on the cluster where it does not run yet."""
        if self._ended or self._future is None:
            return
        self._interrupts += 1
        number, client = self._interrupts, self._future.client

        def interrupt() -> None:
            from nbtasks.backends import dask_worker

            try:
                found = any(client.run(dask_worker.interrupt, self.key, number).values())
            except Exception:  # noqa: BLE001 - a worker is gone meanwhile; the cluster says so
                found = True
            if not found:
                self._backend.later(self._take_back)

        start_thread(interrupt, "nbtasks-dask-interrupts")

    def _take_back(self) -> None:
        if not self._ended and self._worker is None:
            self._future.cancel()

    def receive(self, number: int, pickled: bytes) -> None:
        """Take a message of the worker."""
        channel, kind, content, buffers, metadata = pickle.loads(pickled)
        self._received = number
        message = Message(channel, kind, content, buffers, None, metadata)
        if kind == "nbtasks_begun":
            self._begun(content)
        elif channel == "shell":
            self._answered(message)
        elif self._work is not None:
            with contextlib.suppress(NbtasksError):
                self._attempt.context.run(self._work.receive, message)

    def _begun(self, content: dict[str, Any]) -> None:
        if "worker" not in content:  # the message of a process beside the worker
            return
        if self._worker is not None and self._work is not None:
            self._work.restarted(f"the Dask worker {self._worker} was lost: it runs again on {content['worker']}")
        self._worker = content["worker"]

    def _done(self) -> None:
        """The cluster reports the end; the worker's own answer may have come earlier, or be big."""
        if self._ended:
            return
        future = self._future
        if future.status == "cancelled":
            if self._attempt.interrupted:
                self.end(Outcome(TaskState.CANCELLED))
            else:
                self.end(Outcome(TaskState.FAILED, None, WorkerDiedError("the Dask cluster has lost the work")))
            return
        try:
            sent, answer, parcel = future.result(LATE_SECONDS * 12)
        except Exception as error:  # noqa: BLE001 - a lost worker, or an error of Dask's
            self.end(Outcome(TaskState.FAILED, None, _lost(error)))
            return
        self._finish(sent, answer, parcel, time.monotonic() + LATE_SECONDS)

    def _finish(self, sent: int, answer: Any, parcel: Any, limit: float) -> None:
        """End, once all messages of the worker have arrived."""
        if self._ended:
            return
        if self._received < sent and time.monotonic() < limit:
            timer = threading.Timer(0.05, self._backend.later, [lambda: self._finish(sent, answer, parcel, limit)])
            timer.daemon = True
            timer.start()
        elif answer is None:
            self.end(Outcome(TaskState.FAILED, None, WorkerDiedError("the answer of the Dask worker was lost")))
        else:

            self._answered(Message("shell", "nbtasks_reply", answer, list(parcel.buffers), None, {}))

    def _answered(self, message: Message) -> None:
        assert self._work is not None
        try:
            outcome = self._attempt.context.run(self._work.answered, message)
        except Exception as error:  # noqa: BLE001 - unpickling runs the objects' own code
            outcome = Outcome(TaskState.FAILED, None, error)
        self.end(outcome)

    def end(self, outcome: Outcome) -> None:
        if self._ended:
            return
        self._ended = True
        self._backend.leave(self)
        self._attempt.handle = None
        self._backend.start_following(self._attempt.finished(outcome))
        self._future = self._work = None


def _is_client(value: Any) -> bool:
    return any(kind.__module__ == "distributed.client" and kind.__name__ == "Client" for kind in type(value).__mro__)


def _lost(error: Exception) -> Exception:
    if type(error).__name__ == "KilledWorker":
        return WorkerDiedError(f"every Dask worker that ran it was lost: {error}")
    return error
