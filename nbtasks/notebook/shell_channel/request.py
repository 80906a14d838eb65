"""`Request`: a message of the shell channel on its way to a thread of the kernel."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
from collections.abc import Sequence
from typing import Any

__all__ = ["Request", "is_stop_aborting"]

_STOP_ABORTING = b"stop aborting"
"""The message by which ipykernel ends the time in which it aborts requests."""
_numbers = itertools.count()


class Request:
    """A message for the main shell, until it has been handled.

    The router's lock guards the fields that change.
    """

    def __init__(self, session: Any, frames: Sequence[Any]) -> None:
        self.frames = frames
        """As they came from the socket."""
        self.header = _header_of(session, frames)
        self.key = self.header.get("msg_id") or f"nbtasks-{next(_numbers)}"
        self.kind: str = self.header.get("msg_type", "")
        self.context: contextvars.Context | None = None
        """A copy of the context in which it was begun."""
        self.began_at = 0.0
        """The monotonic time then."""
        self.threads: frozenset[threading.Thread] = frozenset()
        """The threads that there were then."""
        self.execution_count: int | None = None
        """The shell's count after the cell has begun, which is one more than the cell's own number."""
        self.task: asyncio.Task[Any] | None = None
        """The asyncio task that the cell runs in."""
        self.streams: tuple[Any, ...] = ()
        """What `sys.stdout`, `sys.stderr` and the display publisher were then."""

    def __repr__(self) -> str:
        return f"<Request {self.kind} {self.key}>"

    @property
    def runs_cell(self) -> bool:
        """Whether it is a request to run code."""
        return self.kind == "execute_request"

    @property
    def is_comm(self) -> bool:
        """Whether it is a message to a widget or another comm."""
        return self.kind in ("comm_open", "comm_msg", "comm_close")

    def parent(self, session: Any) -> dict[str, Any]:
        """The whole message, as ipykernel keeps it while it handles the request."""
        _, parts = session.feed_identities(self.frames, copy=False)
        header, parent_header, metadata, content = (session.unpack(_bytes(part)) for part in parts[1:5])
        return {
            "header": header,
            "msg_id": header["msg_id"],
            "msg_type": header["msg_type"],
            "parent_header": parent_header,
            "metadata": metadata,
            "content": content,
            "buffers": [],
        }


def is_stop_aborting(frames: Sequence[Any]) -> bool:
    """Whether it is the message by which ipykernel ends the time in which it aborts requests."""
    return len(frames) == 1 and _bytes(frames[0]) == _STOP_ABORTING


def _header_of(session: Any, frames: Sequence[Any]) -> dict[str, Any]:
    """The header of a message; empty if it has none."""
    if len(frames) == 1:
        return {}
    try:
        _, parts = session.feed_identities(frames, copy=False)
        header: dict[str, Any] = session.unpack(_bytes(parts[1]))
    except Exception:  # noqa: BLE001 - the kernel itself reports messages that it cannot read
        return {}
    return header


def _bytes(frame: Any) -> bytes:
    return frame if isinstance(frame, bytes) else bytes(frame.buffer)
