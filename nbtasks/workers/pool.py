"""The pool of a manager's workers: a limit, free and kept ones, and a warm spare."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from jupyter_client.kernelspec import KernelSpec

from nbtasks.exceptions import NbtasksError, WorkerDiedError
from nbtasks.interrupts import start_thread
from nbtasks.workers.kept_worker import KeptWorker
from nbtasks.workers.kernel_process import Worker

__all__ = ["Pool"]

IDLE_SECONDS = 60.0
"""A worker of functions that was free for so long is shut down."""
KEPT_LIMIT = 8
"""How many workers are kept for live objects."""
_WATCH_SECONDS = 1.0
"""How long the end of a kept worker may go unnoticed on a system without pidfds."""


class Pool:
    """At most `limit` workers at a time. Any thread may call any method.

    `kernel` gives the kernel of its own workers, `modules` the names of the modules that a spare one imports early.
    Kept workers in which nothing runs do not count. A thread of the pool receives from each of these.
    """

    def __init__(self, kernel: Callable[[], KernelSpec], modules: Callable[[], list[str]]) -> None:
        self.limit = max(4, os.cpu_count() or 1)
        self.kept_limit = KEPT_LIMIT
        self._kernel = kernel
        self._modules = modules
        self._changed = threading.Condition()  # guards which workers there are, and wakes threads that wait for one
        self._busy: dict[Worker, str] = {}
        self._free: list[tuple[float, Worker]] = []
        self._kept: dict[Worker, KeptWorker] = {}
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
            free = again and not self._closed and worker.alive and len(self._free) < self.limit
            if free:
                self._free.append((time.monotonic(), worker))
            self._changed.notify_all()
        if free:
            timer = threading.Timer(IDLE_SECONDS, self._let_go_idle)
            timer.daemon = True
            timer.start()
        else:
            worker.leave()

    # -- kept workers -----------------------------------------------------------------------------------------

    def keep(self, kept: KeptWorker) -> None:
        """Take a worker back whose work is over, and keep it for the objects in it, if they are still needed."""
        with self._changed:
            self._busy.pop(kept.worker, None)
            kept.pool, kept.running, kept.used_at, kept.watched = self, "", time.monotonic(), True
            self._kept[kept.worker] = kept
            if self._closed or not kept.needed:
                self._forget_idle(kept)
            idle = sorted((one for one in self._kept.values() if _is_idle(one)), key=lambda one: one.used_at)
            excess = idle[: max(0, len(self._kept) - self.kept_limit)]
            self._changed.notify_all()
        start_thread(lambda: self._watch(kept), "nbtasks-kept-worker")
        for one in excess:
            self.lose(one, f"at most {self.kept_limit} such processes are kept, and it was not used for longest")

    def take_kept(self, kept: KeptWorker, label: str, given_up: Callable[[], bool]) -> bool:
        """Wait until nothing runs in a kept worker, which is the caller's then.

        False if that was `given_up`, or the worker is gone.
        """
        place = object()
        with self._changed:
            kept.waiting.append(place)
            try:
                while not self._may_run(kept, place):
                    if given_up() or kept.gone:
                        return False
                    self._changed.wait(0.2)
                kept.running = self._busy[kept.worker] = label
            finally:
                kept.waiting.remove(place)
                if not kept.needed:
                    self._forget_idle(kept)
            if kept.watched:
                kept.worker.wake()
            while kept.watched:
                self._changed.wait()
            if kept.gone:
                self._busy.pop(kept.worker, None)
            return not kept.gone

    def _may_run(self, kept: KeptWorker, place: object) -> bool:
        """Whether this place in the queue of a kept worker is served now. Called with the lock held."""
        if self._closed:
            raise NbtasksError("the process backend is closed")
        is_free = kept.waiting[0] is place and not kept.running and not kept.gone
        return is_free and len(self._busy) + self._starting < self.limit

    def end_unneeded(self, kept: KeptWorker) -> None:
        """Shut down a kept worker that is not needed, unless work runs in it or waits for it."""
        with self._changed:
            if not kept.needed:
                self._forget_idle(kept)

    def lose(self, kept: KeptWorker, why: str) -> None:
        """Shut down a kept worker whose objects are needed, or which has died, for this reason."""
        with self._changed:
            if kept.gone:
                return
            self._busy.pop(kept.worker, None)
            self._forget(kept)
            watched = kept.watched
        kept.ended(why)
        if not watched:
            kept.worker.leave()

    def _forget_idle(self, kept: KeptWorker) -> None:
        if _is_idle(kept):
            self._forget(kept)

    def _forget(self, kept: KeptWorker) -> None:
        """Have the thread that watches it shut it down. Called with the lock held."""
        kept.gone = True
        self._kept.pop(kept.worker, None)
        if kept.watched:
            kept.worker.wake()
        self._changed.notify_all()

    def _watch(self, kept: KeptWorker) -> None:
        """Receive from a kept worker until it is taken, or ends, or is to be shut down."""
        why = ""
        while not why:
            with self._changed:
                if kept.gone:
                    break
                if kept.running:
                    kept.watched = False
                    self._changed.notify_all()
                    return
            try:
                for message in kept.worker.receive(_WATCH_SECONDS):
                    kept.received(message)
            except WorkerDiedError as error:
                why = str(error)
        with self._changed:
            lost = not kept.gone
            if lost:
                self._forget(kept)
        if lost:
            kept.ended(why)
        if self._closed:
            kept.worker.end()
        else:
            kept.worker.leave()
        with self._changed:
            kept.watched = False
            self._changed.notify_all()

    # -- what is idle -----------------------------------------------------------------------------------------

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
            rows += [(one.worker, f"kept for {one.label}") for one in self._kept.values() if not one.running]
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
            kept = [one for one in self._kept.values() if not one.running]
            for one in kept:
                self._forget(one)
            self._changed.notify_all()
        for worker in workers:
            worker.kill()
        for worker in idle:
            worker.end()
        with self._changed:
            while any(one.watched for one in kept):
                self._changed.wait()


def _is_idle(kept: KeptWorker) -> bool:
    return not kept.running and not kept.waiting and not kept.gone
