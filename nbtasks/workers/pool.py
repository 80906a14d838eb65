"""The workers of one manager: how many there may be, which are free, and one spare that is kept warm.

Must not know what they are asked to do. `_changed` guards which workers there are, and tells those that wait for one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from nbtasks.exceptions import NbtasksError
from nbtasks.interrupts import start_thread
from nbtasks.workers.kernel_process import PYTHON_WORKER, KernelCommand, Worker

__all__ = ["Pool"]

IDLE_SECONDS = 60.0
"""A worker of functions that has had nothing to do for so long is let go."""


class Pool:
    """At most `limit` workers at a time. Any thread may call any method."""

    def __init__(self, modules: Callable[[], list[str]] = list) -> None:
        self.limit = max(4, os.cpu_count() or 1)
        self._modules = modules  # gives the names of the modules that a spare worker imports beforehand
        self._changed = threading.Condition()
        self._busy: dict[Worker, str] = {}
        self._free: list[tuple[float, Worker]] = []
        self._spare: Worker | None = None
        self._starting = 0
        self._warming = False
        self._closed = False

    def take(self, label: str, given_up: Callable[[], bool], *, fresh: bool, command: KernelCommand) -> Worker | None:
        """A worker that nobody else uses, as soon as there may be one; None if it was `given_up` meanwhile.

        A `fresh` one has not run anything. Raises what stands in the way of a start.
        """
        worker: Worker | None = None
        with self._changed:
            while True:
                if self._closed:
                    raise NbtasksError("the process backend is closed")
                if given_up():
                    return None
                if (worker := self._ready(fresh, command)) is not None:
                    self._busy[worker] = label
                    break
                if len(self._busy) + self._starting < self.limit:
                    self._starting += 1
                    break
                self._changed.wait(0.2)
        if worker is None:
            worker = self._start(label, given_up, command)
        if worker is not None and command is PYTHON_WORKER:
            self._warm()
        return worker

    def _ready(self, fresh: bool, command: KernelCommand) -> Worker | None:
        """Under the lock: one that can begin at once."""
        if command is not PYTHON_WORKER or len(self._busy) + self._starting >= self.limit:
            return None
        while not fresh and self._free:
            _, worker = self._free.pop()
            if worker.alive:
                return worker
            worker.leave()
        spare, self._spare = self._spare, None
        if spare is not None and not spare.alive:
            spare.leave()
            return None
        return spare

    def _start(self, label: str, given_up: Callable[[], bool], command: KernelCommand) -> Worker | None:
        worker = None
        try:
            worker = Worker(command)
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
        """It has done its work; it may do more of the kind if `again`, else it is let go."""
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
        """Have a spare worker ready for the next one who asks."""
        with self._changed:
            if self._closed or self._warming or self._spare is not None:
                return
            self._warming = True
        start_thread(self._make_spare, "nbtasks-spare-worker")

    def _make_spare(self) -> None:
        worker = None
        try:
            worker = Worker(PYTHON_WORKER)
            ready = worker.wait_ready(lambda: self._closed)
            if ready and (modules := self._modules()):
                import sys

                asked = worker.send("nbtasks_prepare", {"modules": modules, "path": sys.path})
                while not self._closed and not any(
                    m.answers == asked and m.channel == "shell" for m in worker.receive(0.5)
                ):
                    pass
        except (NbtasksError, OSError):  # whoever needs a worker starts one then, and says what is wrong
            ready = False
        with self._changed:
            self._warming = False
            kept = ready and not self._closed and self._spare is None
            if kept:
                self._spare = worker
                self._changed.notify_all()
        if worker is not None and not kept:
            worker.end()

    def shown(self) -> list[dict[str, Any]]:
        """The workers there are: pid, what they do, seconds since their start."""
        with self._changed:
            rows = [(worker, label) for worker, label in self._busy.items()]
            rows += [(worker, "free") for _, worker in self._free]
            rows += [(self._spare, "spare")] if self._spare is not None else []
        now = time.monotonic()
        return [{"pid": w.pid, "task": label, "seconds": now - w.started_at} for w, label in rows if w.alive]

    def close(self) -> None:
        """End all workers, and start none any more."""
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
