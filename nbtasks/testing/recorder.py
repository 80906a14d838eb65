"""`EventRecorder`: records the events of a manager, and checks their order."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from nbtasks.events import ALL_EVENTS, EventType
from nbtasks.exceptions import WaitTimeoutError
from nbtasks.manager import TaskManager
from nbtasks.task import Task

__all__ = ["EventRecorder"]

PATIENCE = 10.0
"""Default timeout of waits, in seconds."""

LEGAL_NEXT: dict[EventType | None, frozenset[EventType]] = {
    None: frozenset({EventType.CREATED}),
    EventType.CREATED: frozenset({EventType.STARTED, EventType.CANCELLED}),
    EventType.STARTED: frozenset({EventType.RETRYING, EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED}),
    EventType.RETRYING: frozenset({EventType.STARTED, EventType.CANCELLED}),
    EventType.COMPLETED: frozenset({EventType.PRUNED}),
    EventType.FAILED: frozenset({EventType.PRUNED}),
    EventType.CANCELLED: frozenset({EventType.PRUNED}),
    EventType.PRUNED: frozenset(),
}
"""The events of state changes that may follow each event."""


class EventRecorder:
    """Records the events of a manager in the order of delivery; a context manager.

    `events` are the types that are recorded, by default all.
    """

    def __init__(self, manager: TaskManager, events: Iterable[str] = ALL_EVENTS) -> None:
        self._changed = threading.Condition()
        self._events: list[tuple[Task, EventType]] = []
        self._subscription = manager.add_event_callback(self._on_event, events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def events(self) -> list[tuple[Task, EventType]]:
        """The events delivered so far."""
        with self._changed:
            return list(self._events)

    def of(self, task: Task) -> list[EventType]:
        """Return the types of the events of one task."""
        return [event_type for other, event_type in self.events if other is task]

    def wait_for(self, event_type: str, task: Task | None = None, *, timeout: float = PATIENCE) -> Task:
        """Wait for such an event, of `task` or of any task; return its task. Raises WaitTimeoutError."""

        def found() -> Task | None:
            matching = (other for other, kind in self._events if kind == event_type and task in (None, other))
            return next(matching, None)

        with self._changed:
            if not self._changed.wait_for(found, timeout):
                raise WaitTimeoutError(f"no event {event_type!r} of {task or 'any task'} within {timeout:g} s")
            result = found()
        assert result is not None
        return result

    def check_legal(self) -> None:
        """Raise AssertionError if the state changes of a task were delivered in an illegal order."""
        last: dict[str, EventType | None] = {}
        for task, event_type in self.events:
            if event_type not in LEGAL_NEXT:
                continue
            before = last.get(task.id)
            assert event_type in LEGAL_NEXT[before], f"{event_type.value} after {before} of {task!r}: {self.of(task)}"
            last[task.id] = event_type

    def close(self) -> None:
        """Record the events up to now, and no later ones."""
        self._subscription.drain(PATIENCE)

    def _on_event(self, task: Task, event_type: EventType) -> None:
        with self._changed:
            self._events.append((task, event_type))
            self._changed.notify_all()
