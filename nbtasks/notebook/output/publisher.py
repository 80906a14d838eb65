"""The one thread that publishes what tasks write, paced so that all of them together send a few messages a second.

Knows nothing of what is written or where it goes.
"""

from __future__ import annotations

import threading
from typing import Protocol

from nbtasks.interrupts import start_thread, uninterrupted

__all__ = ["Publisher"]

# One message takes this many seconds of the publisher's time, so that many writers share a few a second.
SECONDS_PER_MESSAGE = 0.06
GATHER_SECONDS = 0.02


class Publishable(Protocol):
    """What has something to publish now and then."""

    def publish(self) -> int:
        """Send what waits; returns the number of messages sent."""

    @property
    def pending(self) -> bool:
        """Whether something waits to be sent."""


class Publisher:
    """Calls `publish` of what changed. `_condition` guards those that wait, and the stop flag."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._waiting: dict[Publishable, None] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    @uninterrupted  # the writing thread may be cancelled at any moment, but not while it holds the condition
    def changed(self, output: Publishable) -> None:
        """Publish `output` soon."""
        with self._condition:
            self._waiting[output] = None
            if self._thread is None and not self._closed:
                self._thread = start_thread(self._serve, "nbtasks-output")
            self._condition.notify()

    def close(self) -> None:
        """Publish what waits and end the thread; output that changes later starts another one."""
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
                # A moment for what is being written together; then the pause that the last round has earned.
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
