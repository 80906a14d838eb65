"""`EventRecorder`: what a manager has told of its tasks, kept in order, and whether that order is legal.

Must not know how events come about.
"""

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
"""Seconds after which something that should have happened is taken not to."""

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
"""Which change of state may be told after which."""


class EventRecorder:
    """Keeps all events of a manager, in the order in which they were delivered. Also a context manager.

    `events` are the types that it records, by default all.
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
        """All that was delivered so far."""
        with self._changed:
            return list(self._events)

    def of(self, task: Task) -> list[EventType]:
        """The types of the events of one task."""
        return [event_type for other, event_type in self.events if other is task]

    def wait_for(self, event_type: str, task: Task | None = None, *, timeout: float = PATIENCE) -> Task:
        """Wait until there is such an event, of that task or of any; its task. Raises WaitTimeoutError."""

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
        """Raise AssertionError if the changes of state of any task came in an order that cannot be."""
        last: dict[str, EventType | None] = {}
        for task, event_type in self.events:
            if event_type not in LEGAL_NEXT:
                continue
            before = last.get(task.id)
            assert event_type in LEGAL_NEXT[before], f"{event_type.value} after {before} of {task!r}: {self.of(task)}"
            last[task.id] = event_type

    def close(self) -> None:
        """Record nothing more, after what has happened so far."""
        self._subscription.drain(PATIENCE)

    def _on_event(self, task: Task, event_type: EventType) -> None:
        with self._changed:
            self._events.append((task, event_type))
            self._changed.notify_all()
