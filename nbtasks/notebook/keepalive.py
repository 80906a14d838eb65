"""Keep-alive messages: a server does not cull the kernel while tasks are active."""

from __future__ import annotations

from nbtasks.clock import TimerHandle
from nbtasks.manager import TaskManager
from nbtasks.notebook.kernel import Kernel
from nbtasks.notebook.settings import BackgroundTasks

__all__ = ["KeepAlive"]

ALIVE_SECONDS = 50.0


class KeepAlive:
    """Sends messages to the server while a task is active or a schedule is on.

    A server culls a kernel whose last message is older than its timeout; any message counts. Used on the main thread,
    apart from `_send`, which runs on the manager's timer thread.
    """

    def __init__(self, manager: TaskManager, kernel: Kernel, settings: BackgroundTasks) -> None:
        self._manager = manager
        self._kernel = kernel
        self._settings = settings
        self._stopped = False
        self._next: TimerHandle | None = None

    def start(self) -> None:
        """Send the messages from now on."""
        self._stopped = False
        self._send()

    def stop(self) -> None:
        """Send no more messages."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()

    def _is_in_use(self) -> bool:
        return len(self._manager.active_tasks) > 0 or self._manager.has_schedules_on

    def _send(self) -> None:
        if self._settings.keep_kernel_alive and self._is_in_use():
            self._kernel.send_hidden("nbtasks-alive", {})
        self._next = self._manager.timer.call_later(ALIVE_SECONDS, self._send)
        if self._stopped:  # while this ran on the timer thread
            self._next.cancel()
