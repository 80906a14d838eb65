"""The one thread that writes to widgets: it learns of changes, coalesces them, and flushes what changed.

Knows nothing of any particular view. A view is anything with `refresh()` and `ticks` (see `View`).
"""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from nbtasks.events import STATE_CHANGES, EventType
from nbtasks.interrupts import doze, start_thread, uninterrupted
from nbtasks.manager import TaskManager
from nbtasks.task import Task

__all__ = ["LiveWriter", "View"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
V = TypeVar("V", bound="View")

ALL = ""
"""What stands for the task of a view that shows them all."""

_EVENTS = [event for event in EventType if event is not EventType.PROGRESS]
FLUSH_SECONDS = 0.1
LOOK_SECONDS = 0.125
"""How often is looked whether work that is shown says that it is further; the work itself wakes nobody."""
TICK_SECONDS = 1.0
MESSAGES_PER_SECOND = 11.0
"""Of all views together, where they show no more than progress and time: the rest waits, and is then the newest."""
MOST_DEBT = 30.0
"""Messages, beyond what was due, that are made up for by silence afterwards: what is asked for is sent at once."""


class View(Protocol):
    """What the writer keeps up to date. Both members are used on the writer's thread only.

    One that has an attribute `owes` which is true after a refresh is refreshed again with the next flush. One that
    has a `reading()` is looked at while it ticks, and refreshed when that is no longer what it was.
    """

    def refresh(self) -> int | None:
        """Write to the widgets what changed since the last time; how many messages that took, if it knows."""

    @property
    def ticks(self) -> bool:
        """Whether the view shows running time, and wants a refresh every second."""


class Subject(Protocol):
    """What a view shows: a task, or a recurring task."""

    @property
    def id(self) -> str:
        """Its own, which its events have too."""


class LiveWriter:
    """Keeps views up to date from one thread, at most ten flushes a second for all of them together.

    Changes of state and output come as events. Progress is looked for, a few times a second and only of what is shown:
    so a report costs the work that makes it next to nothing, however often it makes one.

    Progress and time are paced by messages too: where more views change than may be sent, they take turns. What a user
    asks for, and changes of state in the view of one task, are sent with the next flush.

    All comm traffic of the widgets leaves from this thread, which belongs to no cell: ipykernel 7.4 hands a widget's
    clicks to the subshell of the request under which the widget last published, so that a widget written from a cell
    would answer only after the cell that blocks the kernel.

    `_condition` guards the dirty views, the jobs, the views by task, and the stop flag.
    """

    flushes = 0
    """How often anything was refreshed."""
    changes = 0
    """Counts the changes of state of all tasks: whoever lists them looks here whether to look again."""

    def __init__(self, manager: TaskManager) -> None:
        self._condition = threading.Condition()
        self._views: dict[str, list[View]] = {}
        self._dirty: dict[View, None] = {}
        self._urgent: dict[View, None] = {}
        self._may_send, self._counted_at = MESSAGES_PER_SECOND, time.monotonic()
        self._jobs: list[_Job] = []
        self._closed = False
        self._readings: dict[View, object] = {}
        self._next_flush = self._next_tick = self._next_look = float("-inf")
        self._thread = start_thread(self._serve, "nbtasks-live")
        self._subscription = manager.add_event_callback(self._on_event, events=_EVENTS)

    def add(self, task: Subject | None, make: Callable[[], V]) -> V:
        """Make a view of `task`, or of all, on the writer's thread and keep it up to date until `remove`."""

        def job() -> V:
            view = make()
            with self._condition:
                self._views.setdefault(_key(task), []).append(view)
                self._urgent[view] = None
            return view

        return self.run(job)

    def watch(self, task: Subject, view: View) -> None:
        """Keep a view that was added up to date with this task too."""
        with self._condition:
            self._views.setdefault(_key(task), []).append(view)
            self._urgent[view] = None
            self._condition.notify()

    def touch(self, view: View) -> None:
        """Refresh a view before long. Any thread, a front end's too."""
        with self._condition:
            self._urgent[view] = None
            self._condition.notify()

    def remove(self, task: Subject | None, view: View) -> None:
        """Keep a view up to date no longer; the caller closes it (with `run`)."""
        key = _key(task)
        with self._condition:
            views = self._views.get(key, [])
            if view in views:
                views.remove(view)
            if not views:
                self._views.pop(key, None)
            for kept in (self._dirty, self._urgent, self._readings):
                kept.pop(view, None)

    def run(self, job: Callable[[], T]) -> T:
        """Run `job` on the writer's thread and give back what it returns, or raise what it raises."""
        asked = _Job(job)
        self._ask(asked)
        doze(asked.over)
        if asked.error is not None:
            raise asked.error
        return asked.answer  # type: ignore[no-any-return]

    @uninterrupted  # a task that is cancelled while it shows a panel must not keep the condition
    def _ask(self, asked: _Job) -> None:
        with self._condition:
            if self._closed:
                raise RuntimeError("the live writer is closed")
            self._jobs.append(asked)
            self._condition.notify()

    def close(self) -> None:
        """Flush the last changes and end the thread."""
        self._subscription.close()
        with self._condition:
            self._closed = True
            self._urgent.update(dict.fromkeys(view for views in self._views.values() for view in views))
            self._condition.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _on_event(self, task: Task, event_type: EventType) -> None:
        changed = event_type in STATE_CHANGES
        with self._condition:
            self.changes += changed
            # A recurring task's views show its instances too.
            own = [view for subject in (task.id, task.parent_id) for view in self._views.get(subject or "-", ())]
            for views, dirty in ((own, self._urgent if changed else self._dirty), (self._views.get(ALL), self._dirty)):
                if views:
                    dirty.update(dict.fromkeys(views))
                    self._condition.notify()

    def _serve(self) -> None:
        _belong_to_no_cell()
        while (work := self._next_work()) is not None:
            jobs, views = work
            for job in jobs:
                job.do()
            sent = sum(_refresh(view) for view in views)
            if owing := [view for view in views if getattr(view, "owes", False)]:
                with self._condition:  # one that was removed meanwhile owes nothing any more
                    here = {view for views in self._views.values() for view in views}
                    self._dirty.update(dict.fromkeys(view for view in owing if view in here))
            self._may_send = max(self._may_send - sent, -MOST_DEBT)

    def _next_work(self) -> tuple[list[_Job], list[View]] | None:
        """Wait until there are jobs to run or views to refresh; None when the writer is closed and all is flushed."""
        with self._condition:
            while True:
                now = time.monotonic()
                if self._jobs:
                    jobs, self._jobs = self._jobs, []
                    return jobs, []
                ticking = [view for views in self._views.values() for view in views if view.ticks]
                if ticking and now >= self._next_look and not self._closed:
                    self._next_look = now + LOOK_SECONDS
                    moved = [view for view in ticking if self._moved(view)]
                    if now >= self._next_tick - LOOK_SECONDS / 2:  # both at once: fewer messages
                        self._next_tick = max(self._next_tick + TICK_SECONDS, now)
                        moved = ticking
                    self._dirty.update(dict.fromkeys(moved))
                if views := self._next_views(now):
                    return [], views
                if self._closed:
                    return None
                due = []
                if ticking:
                    looks = any(hasattr(view, "reading") for view in ticking)
                    due.append(self._next_look if looks else max(self._next_look, self._next_tick))
                if self._dirty or self._urgent:
                    due.append(max(self._next_flush, now if self._urgent else self._paid_at()))
                self._condition.wait(max(0.0, min(due) - now) if due else None)

    def _next_views(self, now: float) -> list[View]:
        """Under the condition: what to refresh now; of what is not urgent as much as may be sent, in turns."""
        earned = (now - self._counted_at) * MESSAGES_PER_SECOND
        self._may_send, self._counted_at = min(self._may_send + earned, MESSAGES_PER_SECOND / 4), now
        if self._closed:
            self._urgent.update(self._dirty)
        elif now < self._next_flush or not (self._urgent or (self._dirty and self._may_send >= 0)):
            return []
        self._next_flush = now + FLUSH_SECONDS
        self.flushes += 1
        views, self._urgent = list(self._urgent), {}
        for view in views:
            self._dirty.pop(view, None)
        left = self._may_send - len(views)
        while self._dirty and left >= 0:
            view = next(iter(self._dirty))
            del self._dirty[view]
            views.append(view)
            left -= 1
        return views

    def _moved(self, view: View) -> bool:
        """Under the condition: whether work that the view shows says something else than the last time."""
        read = getattr(view, "reading", None)
        if read is None:
            return False
        before, now = self._readings.get(view), read()
        self._readings[view] = now
        return bool(before != now)

    def _paid_at(self) -> float:
        """Under the condition: when something may be sent again that is not urgent."""
        return self._counted_at + max(0.0, -self._may_send / MESSAGES_PER_SECOND)


class _Job:
    """Something to do on the writer's thread, for somebody who waits for it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.answer: Any = None
        self.error: BaseException | None = None
        self.over = threading.Lock()
        self.over.acquire()

    def do(self) -> None:
        try:
            self.answer = self._call()
        except BaseException as error:  # noqa: BLE001 - handed on to whoever asked
            self.error = error
        finally:
            self.over.release()


def _key(task: Subject | None) -> str:
    return ALL if task is None else task.id


def _refresh(view: View) -> int:
    """How many messages it took."""
    try:
        sent = view.refresh()
    except Exception:  # one view's fault must not take the others down
        logger.exception("%r could not be refreshed", view)
        return 1
    return 1 if sent is None else sent


def _belong_to_no_cell() -> None:
    """Give this thread an empty kernel parent, where the kernel keeps one per context (ipykernel 7)."""
    kernelbase = sys.modules.get("ipykernel.kernelbase")
    if kernelbase is None or not kernelbase.Kernel.initialized():
        return
    parent = getattr(kernelbase.Kernel.instance(), "_shell_parent", None)
    if isinstance(parent, contextvars.ContextVar):
        parent.set({})
