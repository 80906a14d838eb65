"""Monkeypatch of the kernel's status: busy while a foreground cell runs.

Front ends show the last status that they have received, whatever request it belongs to. While a cell runs, requests
that other threads handle, such as the messages of widgets and those on the control channel, end with the status idle.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from nbtasks.patch import Patch

__all__ = ["status_patch"]


def status_patch(kernel: Any, is_foreground: Callable[[str], bool], holds_idle: Callable[[str], bool]) -> Patch:
    """Repeat the status busy of the foreground cell after each idle of another request.

    `is_foreground` tells whether the request of that id, which runs a cell, does so in the foreground, and `holds_idle`
    whether its idle is published later, by the same method.
    """
    return Patch(kernel, "_publish_status", lambda publish: _Status(kernel, publish, is_foreground, holds_idle).make())


class _Status:
    """The cells that run, and the statuses that are published.

    `_lock` guards the cells, and the order of what is published: a cell's own idle is its last status.
    """

    def __init__(
        self,
        kernel: Any,
        publish: Callable[..., None],
        is_foreground: Callable[[str], bool],
        holds_idle: Callable[[str], bool],
    ) -> None:
        self._kernel = kernel
        self._publish = publish
        self._is_foreground = is_foreground
        self._holds_idle = holds_idle
        self._lock = threading.Lock()
        self._running: dict[str, dict[str, Any]] = {}
        """The requests whose status is busy, by id."""

    def make(self) -> Callable[..., None]:
        """The method in place of the kernel's."""

        @functools.wraps(self._publish)
        def publish_status(status: str, channel: str, parent: Any = None) -> None:
            header = (parent or self._kernel.get_parent(channel) or {}).get("header") or {}
            if status == "idle" and self._holds_idle(header.get("msg_id", "")):
                return
            with self._lock:
                self._publish(status, channel, parent)
                self._note(status, header)
                for request in [one for one in self._running if status == "idle" and self._is_foreground(one)]:
                    self._publish("busy", "shell", self._running[request])

        return publish_status

    def _note(self, status: str, header: dict[str, Any]) -> None:
        if header.get("msg_type") == "execute_request":
            if status == "busy":
                self._running[header["msg_id"]] = {"header": header}
            else:
                self._running.pop(header["msg_id"], None)
