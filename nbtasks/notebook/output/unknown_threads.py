"""`UnknownThreads`: which cell a thread belongs to that Python did not start.

C and Rust code starts threads that call back into Python, each in an empty context. They leave no trace of who started
them.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from nbtasks.notebook.output.sink import Sink

__all__ = ["UnknownThreads"]


class UnknownThreads:
    """The cells of threads that no Python code started.

    `_lock` guards both collections.

    If one background cell runs alone, a thread that is first seen then is its own, also later. Otherwise the thread may
    belong to the foreground: its output appears in the foreground cell, where `report` gets the names of the
    background cells that it may belong to, once for each foreground cell and thread.
    """

    def __init__(
        self,
        running: Callable[[], Mapping[str, Any]],
        foreground: Callable[[], object],
        report: Callable[[list[str]], object],
    ) -> None:
        self._running = running
        """Returns the sinks of the background cells that run in threads, by name."""
        self._foreground = foreground
        """Returns what identifies the running foreground cell; None while there is none."""
        self._report = report
        self._lock = threading.Lock()
        self._known: dict[int, weakref.ref[Any]] = {}
        self._reported: set[tuple[int, object]] = set()

    def sink(self) -> Sink | None:
        """The sink of the cell that this thread belongs to; None if that is the foreground, or not known."""
        if not _is_unknown():
            return None
        thread = threading.get_native_id()
        with self._lock:
            known = self._known.get(thread)
        sink: Sink | None = None if known is None else known()
        if sink is not None:
            return sink
        running, foreground = self._running(), self._foreground()
        if not running:
            return None
        if foreground is None and len(running) == 1:
            [sink] = running.values()
            with self._lock:
                self._known[thread] = weakref.ref(sink, lambda _: self._known.pop(thread, None))
            return sink
        with self._lock:
            is_new = (thread, foreground) not in self._reported
            self._reported = {one for one in self._reported if one[1] == foreground} | {(thread, foreground)}
        if is_new:
            self._report(list(running))
        return None


def _is_unknown() -> bool:
    """Whether Python first met this thread when it called back.

    `threading.current_thread` would make an object for such a thread, which reads `sys.stderr`, which asks here.
    """
    known = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]
    return known is None or type(known) is threading._DummyThread
