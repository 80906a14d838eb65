"""`Publisher`: a thread that publishes the output of all tasks at a limited rate."""

from __future__ import annotations

import threading
from typing import Protocol

from nbtasks.interrupts import start_thread, uninterrupted

__all__ = ["Publisher"]

SECONDS_PER_MESSAGE = 0.06
"""The pause after each round, per message that was sent: many tasks together send about 16 a second."""
GATHER_SECONDS = 0.02
"""The delay of the first message, in which more text is collected."""


class Publishable(Protocol):
    """A source of messages."""

    def publish(self) -> int:
        """Send the pending messages; returns their number."""

    @property
    def pending(self) -> bool:
        """Whether there is something to publish, now or after a delay."""


class Publisher:
    """Calls `publish` of outputs that changed.

    `_condition` guards the set of those, and the stop flag.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._waiting: dict[Publishable, None] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    @uninterrupted  # the writing thread must not be interrupted while it holds the condition
    def changed(self, output: Publishable) -> None:
        """Have `output` published soon."""
        with self._condition:
            self._waiting[output] = None
            if self._thread is None and not self._closed:
                self._thread = start_thread(self._serve, "nbtasks-output")
            self._condition.notify()

    def close(self) -> None:
        """Publish all pending output and end the thread; output that changes later starts another one."""
        with self._condition:
            self._closed = True
            thread = self._thread
            self._condition.notify()
        if thread is not None:
            thread.join()
        with self._condition:
            self._closed, self._thread = False, None
            if self._waiting:  # since the thread looked for the last time
                self._thread = start_thread(self._serve, "nbtasks-output")

    def _serve(self) -> None:
        pause = 0.0
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._closed)
                self._condition.wait_for(lambda: self._closed, timeout=max(GATHER_SECONDS, pause))
                outputs, self._waiting = list(self._waiting), {}
                if self._closed and not outputs:
                    return
            sent = 0
            for output in outputs:
                sent += output.publish()
                if output.pending and not self._closed:
                    self.changed(output)
            pause = sent * SECONDS_PER_MESSAGE
