"""Keeps the kernel alive and quick while tasks live. Knows the manager and the settings, nothing of cells."""

from __future__ import annotations

from typing import Any

from nbtasks.backends.thread import ThreadBackend
from nbtasks.clock import TimerHandle
from nbtasks.manager import TaskManager
from nbtasks.notebook.kernel import Kernel
from nbtasks.notebook.settings import BackgroundTasks

__all__ = ["Upkeep"]

ALIVE_SECONDS = 50.0


class Upkeep:
    """Applies the settings, and tells the server that the kernel is in use for as long as a task lives or
    a schedule is on.

    A server culls a kernel whose last message is older than its time-out; any message counts. Used from the main
    thread, but for `_beat`, which the manager's timer calls.
    """

    def __init__(self, manager: TaskManager, kernel: Kernel, settings: BackgroundTasks) -> None:
        self._manager = manager
        self._kernel = kernel
        self._settings = settings
        self._next: TimerHandle | None = None

    def start(self) -> None:
        """Begin to beat, and follow the settings."""
        self._settings.observe(self._apply, names=["switch_interval"])
        self._apply()
        self._beat()

    def stop(self) -> None:
        """Beat no more, and leave the interpreter as it was."""
        self._settings.unobserve(self._apply, names=["switch_interval"])
        self._set_switch_interval(None)
        if self._next is not None:
            self._next.cancel()

    def _apply(self, _change: Any = None) -> None:
        self._set_switch_interval(self._settings.switch_interval)

    def _set_switch_interval(self, seconds: float | None) -> None:
        threads = self._manager.backends["thread"]
        if isinstance(threads, ThreadBackend):
            threads.switch_interval = seconds

    def _is_in_use(self) -> bool:
        return len(self._manager.active_tasks) > 0 or self._manager.has_schedules_on

    def _beat(self) -> None:
        if self._settings.keep_kernel_alive and self._is_in_use():
            self._kernel.tell_alive()
        self._next = self._manager.timer.call_later(ALIVE_SECONDS, self._beat)
