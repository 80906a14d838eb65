"""The pool of a manager's workers: a limit, free workers, and a warm spare."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from jupyter_client.kernelspec import KernelSpec

from nbtasks.exceptions import NbtasksError
from nbtasks.interrupts import start_thread
from nbtasks.workers.kernel_process import Worker

__all__ = ["Pool"]

IDLE_SECONDS = 60.0
"""A worker of functions that was free for so long is shut down."""


class Pool:
    """At most `limit` workers at a time. Any thread may call any method.

    `kernel` gives the kernel of its own workers, `modules` the names of the modules that a spare one imports early.
    """

    def __init__(self, kernel: Callable[[], KernelSpec], modules: Callable[[], list[str]]) -> None:
        self.limit = max(4, os.cpu_count() or 1)
        self._kernel = kernel
        self._modules = modules
        self._changed = threading.Condition()  # guards which workers there are, and wakes threads that wait for one
        self._busy: dict[Worker, str] = {}
        self._free: list[tuple[float, Worker]] = []
        self._spare: Worker | None = None
        self._starting = 0
        self._warming = False
        self._closed = False

    def take(
        self, label: str, given_up: Callable[[], bool], *, fresh: bool, kernel: KernelSpec | None = None
    ) -> Worker | None:
        """A worker for the caller alone, as soon as there may be one; None if it was `given_up` meanwhile.

        A `fresh` one has not run anything; one of another `kernel` is started for the caller. Raises what stands in the
        way of a start.
        """
        own = self._kernel()
        wanted = own if kernel is None else kernel
        worker: Worker | None = None
        with self._changed:
            while True:
                if self._closed:
                    raise NbtasksError("the process backend is closed")
                if given_up():
                    return None
                if (worker := self._ready(fresh, wanted)) is not None:
                    self._busy[worker] = label
                    break
                if len(self._busy) + self._starting < self.limit:
                    self._starting += 1
                    break
                self._changed.wait(0.2)
        if worker is None:
            worker = self._start(label, given_up, wanted)
        if worker is not None and wanted is own:
            self._warm()
        return worker

    def _ready(self, fresh: bool, kernel: KernelSpec) -> Worker | None:
        """A free worker of that kernel, or the spare one. Called with the lock held."""
        if len(self._busy) + self._starting >= self.limit:
            return None
        fitting = [entry for entry in self._free if entry[1].kernel is kernel]
        while not fresh and fitting:
            entry = fitting.pop()
            self._free.remove(entry)
            if entry[1].alive:
                return entry[1]
            entry[1].leave()
        spare = self._spare
        if spare is None or spare.kernel is not kernel:
            return None
        self._spare = None
        if spare.alive:
            return spare
        spare.leave()
        return None

    def _start(self, label: str, given_up: Callable[[], bool], kernel: KernelSpec) -> Worker | None:
        worker = None
        try:
            worker = Worker(kernel)
            with self._changed:
                self._busy[worker] = label
            if worker.wait_ready(lambda: given_up() or self._closed):
                return worker
        except BaseException:
            self._drop(worker)
            raise
        finally:
            with self._changed:
                self._starting -= 1
        self._drop(worker)
        return None

    def _drop(self, worker: Worker | None) -> None:
        if worker is not None:
            with self._changed:
                self._busy.pop(worker, None)
            worker.end()

    def give_back(self, worker: Worker, *, again: bool) -> None:
        """Take a worker back whose work is over; it may do more of the kind if `again`, else it is shut down."""
        with self._changed:
            self._busy.pop(worker, None)
            kept = again and not self._closed and worker.alive and len(self._free) < self.limit
            if kept:
                self._free.append((time.monotonic(), worker))
            self._changed.notify_all()
        if kept:
            timer = threading.Timer(IDLE_SECONDS, self._let_go_idle)
            timer.daemon = True
            timer.start()
        else:
            worker.leave()

    def _let_go_idle(self) -> None:
        limit = time.monotonic() - IDLE_SECONDS
        with self._changed:
            idle = [worker for since, worker in self._free if since <= limit]
            self._free = [(since, worker) for since, worker in self._free if since > limit]
        for worker in idle:
            worker.leave()

    def _warm(self) -> None:
        """Start a spare worker, if there is none, for the next work."""
        with self._changed:
            spare = self._spare
            if self._closed or self._warming or (spare is not None and spare.kernel is self._kernel()):
                return
            self._warming, self._spare = True, None
        if spare is not None:  # of another kernel: the notebook's extension was loaded since, or unloaded
            spare.leave()
        start_thread(self._make_spare, "nbtasks-spare-worker")

    def _make_spare(self) -> None:
        worker = None
        try:
            worker = Worker(self._kernel())
            ready = worker.wait_ready(lambda: self._closed)
            if ready and (modules := self._modules()):
                request = worker.send("nbtasks_prepare", {"modules": modules, "path": sys.path})
                while not self._closed and not any(
                    m.answers == request and m.channel == "shell" for m in worker.receive(0.5)
                ):
                    pass
        except (NbtasksError, OSError):  # the next work starts a worker itself, and says what is wrong
            ready = False
        with self._changed:
            self._warming = False
            kept = ready and not self._closed and self._spare is None
            if kept:
                self._spare = worker
                self._changed.notify_all()
        if worker is not None and not kept:
            worker.end()

    def rows(self) -> list[dict[str, Any]]:
        """One row for each worker: its `pid`, the name of its `task`, and the `seconds` since its start."""
        with self._changed:
            rows = [(worker, label) for worker, label in self._busy.items()]
            rows += [(worker, "free") for _, worker in self._free]
            rows += [(self._spare, "spare")] if self._spare is not None else []
        now = time.monotonic()
        return [{"pid": w.pid, "task": label, "seconds": now - w.started_at} for w, label in rows if w.alive]

    def close(self) -> None:
        """End all workers, and start no more."""
        with self._changed:
            self._closed = True
            workers = [*self._busy, *(worker for _, worker in self._free), *([self._spare] if self._spare else [])]
            self._free, self._spare = [], None
            idle = [worker for worker in workers if worker not in self._busy]
            self._changed.notify_all()
        for worker in workers:
            worker.kill()
        for worker in idle:
            worker.end()
