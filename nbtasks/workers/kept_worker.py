"""A worker process that is kept after its work, for the live objects in it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbtasks.workers.kernel_process import Worker
    from nbtasks.workers.messages import Message
    from nbtasks.workers.pool import Pool

__all__ = ["KeptWorker"]

logger = logging.getLogger("nbtasks")


class KeptWorker:
    """A worker that has live objects, for later work that uses them.

    A subclass knows what the objects are. The fields belong to the pool, and its lock guards them.
    """

    def __init__(self, worker: Worker, running: str) -> None:
        self.worker = worker
        self.used_at = time.monotonic()
        """When work in it has ended last."""
        self.running = running
        """The name of the task that runs in it; empty if none does."""
        self.waiting: list[object] = []
        """Work that waits for it, in the order in which it has come."""
        self.watched = False
        """Whether a thread of the pool receives from it."""
        self.needed = True
        """Whether something needs its objects: else it ends once no work runs in it or waits for it."""
        self.gone = False
        """Whether it has ended, or is going to."""
        self.pool: Pool | None = None

    @property
    def label(self) -> str:
        """What it is kept for, in a few words."""
        return ""

    def receive(self, message: Message) -> None:
        """Take a message that does not belong to the work which runs in it now, if any does."""

    def takes(self, message: Message) -> bool:  # noqa: ARG002 - for subclasses
        """Whether a message, which came while other work runs in it, belongs to earlier work."""
        return False

    def ended(self, why: str) -> None:
        """It is gone, for this reason, with all that was in it."""

    def end(self) -> None:
        """Nothing needs its objects: end it, as soon as no work runs in it or waits for it. Any thread."""
        self.needed = False
        if self.pool is not None:
            self.pool.end_unneeded(self)

    def received(self, message: Message) -> None:
        """Take a message on a thread of the pool, which continues whatever happens."""
        try:
            self.receive(message)
        except Exception:  # showing it runs code of the front end's libraries
            logger.exception("cannot show what a kept worker process has sent")
