"""Live writer: the one thread that writes to widgets, ten times a second at most."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

from nbtasks.events import STATE_CHANGES, EventType
from nbtasks.interrupts import acquire_interruptibly, start_thread, uninterrupted
from nbtasks.manager import TaskManager
from nbtasks.task import Task

__all__ = ["LiveWriter", "View", "ViewCount"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
V = TypeVar("V", bound="View")

FLUSH_SECONDS = 0.1
"""Minimum time between two flushes."""
POLL_SECONDS = 0.125
"""Time between two polls of the progress of visible tasks."""
TICK_SECONDS = 1.0
"""Time between two refreshes of views that show elapsed time."""
MESSAGES_PER_SECOND = 11.0
"""Limit for progress and time in all views together; views beyond it take turns."""
MAX_DEBT = 30.0
"""Urgent messages are sent at once; at most this many of them delay later progress messages."""

_EVENTS = [event for event in EventType if event is not EventType.PROGRESS]
_ALL_TASKS = ""
"""Key of the views that show all tasks."""
_NO_PARENT = "-"


class View(ABC):
    """A view that the live writer refreshes. All members are used on its thread only."""

    watches_progress: ClassVar[bool] = False
    """Whether `progress_state` is polled while the view ticks."""
    refresh_due = False
    """Whether the view has more to write, which the last refresh left out: it is refreshed with the next flush."""

    @abstractmethod
    def refresh(self) -> int:
        """Write what has changed since the last time; returns the number of messages."""

    @property
    @abstractmethod
    def ticks(self) -> bool:
        """Whether the view shows elapsed time, and is refreshed every second."""

    def progress_state(self) -> object:
        """A value that changes with the progress of the visible work; the view is refreshed when it differs."""
        return None


class ViewCount:
    """How many views of a widget the front ends show; they report it to the kernel.

    Changes arrive on the front end's thread.
    """

    def __init__(self, widget: Any = None) -> None:
        self._widget = widget
        self._seen = False
        if widget is not None:
            widget._view_count = 0  # from None: do not count
            widget.observe(self._changed, names="_view_count")

    def _changed(self, change: Any) -> None:
        self._seen = self._seen or bool(change["new"])

    def take_cleared(self) -> bool:
        """Whether all views were removed since the last call: the user has cleared the output."""
        cleared = self._seen and self._widget._view_count == 0
        if cleared:
            self._seen = False
        return cleared


class Subject(Protocol):
    """What a view shows: a task or a recurring task."""

    @property
    def id(self) -> str:
        """The id that its events carry."""


class LiveWriter:
    """Keeps views up to date from one thread.

    State changes and output come as events. Progress is polled a few times a second, and only that of visible tasks: so
    a report costs the work next to nothing, however often it reports.

    The number of messages for progress and time is limited too: if more views change than may be sent, they take turns.
    State changes in the view of a single task, and what a user asks for, are sent with the next flush.

    All comm messages of widgets are sent from this thread, which belongs to no cell. ipykernel 7.4 handles the clicks
    on a widget in the subshell of the request under which the widget last sent a message: a widget written from a cell
    would answer only after the cell that blocks the kernel.

    `_condition` guards the dirty views, the jobs, the views by subject, and the closed flag.
    """

    flushes = 0
    """Number of flushes so far."""
    state_changes = 0
    """Number of state changes of all tasks so far: a list of tasks is out of date if this has changed."""

    def __init__(self, manager: TaskManager) -> None:
        self._manager = manager
        self._condition = threading.Condition()
        self._views: dict[str, list[View]] = {}
        self._dirty: dict[View, None] = {}
        self._urgent: dict[View, None] = {}
        self._budget, self._budget_at = MESSAGES_PER_SECOND, time.monotonic()
        self._jobs: list[_Job] = []
        self._progress: dict[View, object] = {}
        self._next_flush = self._next_tick = self._next_poll = float("-inf")
        self.open()

    # -- any thread -------------------------------------------------------------------------------------------

    def add(self, subject: Subject | None, make: Callable[[], V]) -> V:
        """Make a view of `subject`, or of all tasks, on the writer's thread; it is refreshed until `remove`."""

        def job() -> V:
            view = make()
            with self._condition:
                self._views.setdefault(_key(subject), []).append(view)
                self._urgent[view] = None
            return view

        return self.run(job)

    def watch(self, subject: Subject, view: View) -> None:
        """Refresh a view that was added when this subject changes, too."""
        with self._condition:
            self._views.setdefault(_key(subject), []).append(view)
            self._urgent[view] = None
            self._condition.notify()

    def touch(self, view: View) -> None:
        """Refresh a view with the next flush."""
        with self._condition:
            self._urgent[view] = None
            self._condition.notify()

    def remove(self, subject: Subject | None, view: View) -> None:
        """Stop refreshing a view; the caller closes it, by `run`."""
        key = _key(subject)
        with self._condition:
            views = self._views.get(key, [])
            if view in views:
                views.remove(view)
            if not views:
                self._views.pop(key, None)
            for views_by_state in (self._dirty, self._urgent, self._progress):
                views_by_state.pop(view, None)

    def run(self, call: Callable[[], T]) -> T:
        """Call a function on the writer's thread; returns its result or raises its error."""
        job = _Job(call)
        self._add_job(job)
        acquire_interruptibly(job.finished)
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[no-any-return]

    @uninterrupted  # a task that is cancelled while it shows a panel must not keep the condition
    def _add_job(self, job: _Job) -> None:
        with self._condition:
            if self._closed:
                raise RuntimeError("the live writer is closed")
            self._jobs.append(job)
            self._condition.notify()

    def open(self) -> None:
        """Start the thread, also again after `close`: it begins with a refresh of all views."""
        with self._condition:
            self._closed = False
            self._urgent.update(dict.fromkeys(self._all_views()))
        self._thread = start_thread(self._serve, "nbtasks-live")
        self._subscription = self._manager.add_event_callback(self._on_event, events=_EVENTS)

    @property
    def closed(self) -> bool:
        """Whether the thread was stopped by `close`."""
        return self._closed

    def close(self) -> None:
        """Write the last changes and stop the thread."""
        self._subscription.close()
        with self._condition:
            self._closed = True
            self._urgent.update(dict.fromkeys(self._all_views()))
            self._condition.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _on_event(self, task: Task, event_type: EventType) -> None:
        changed = event_type in STATE_CHANGES
        with self._condition:
            self.state_changes += changed
            # Views of a recurring task show its instances too.
            own = [view for key in (task.id, task.parent_id or _NO_PARENT) for view in self._views.get(key, ())]
            (self._urgent if changed else self._dirty).update(dict.fromkeys(own))
            everywhere = self._views.get(_ALL_TASKS, ())
            self._dirty.update(dict.fromkeys(everywhere))
            if own or everywhere:
                self._condition.notify()

    # -- the writer's thread ----------------------------------------------------------------------------------

    def _serve(self) -> None:
        _detach_from_cells()
        while (work := self._next_work()) is not None:
            jobs, views = work
            for job in jobs:
                job.run()
            sent = sum(_refresh(view) for view in views)
            if due := [view for view in views if view.refresh_due]:
                with self._condition:
                    present = set(self._all_views())  # some may have been removed meanwhile
                    self._dirty.update(dict.fromkeys(view for view in due if view in present))
            self._budget = max(self._budget - sent, -MAX_DEBT)

    def _next_work(self) -> tuple[list[_Job], list[View]] | None:
        """Wait for jobs to run or views to refresh; None once the writer is closed and everything is written."""
        with self._condition:
            while True:
                now = time.monotonic()
                if self._jobs:
                    jobs, self._jobs = self._jobs, []
                    return jobs, []
                ticking = [view for view in self._all_views() if view.ticks]
                if ticking and now >= self._next_poll and not self._closed:
                    self._poll(ticking, now)
                if views := self._next_views(now):
                    return [], views
                if self._closed:
                    return None
                self._condition.wait(self._seconds_to_wait(ticking, now))

    def _poll(self, ticking: list[View], now: float) -> None:
        """Under the condition: mark the views whose work has progressed, and once a second all that tick."""
        self._next_poll = now + POLL_SECONDS
        changed = [view for view in ticking if self._has_progressed(view)]
        if now >= self._next_tick - POLL_SECONDS / 2:  # both at once: fewer messages
            self._next_tick = max(self._next_tick + TICK_SECONDS, now)
            changed = ticking
        self._dirty.update(dict.fromkeys(changed))

    def _has_progressed(self, view: View) -> bool:
        if not view.watches_progress:
            return False
        before, now = self._progress.get(view), view.progress_state()
        self._progress[view] = now
        return before != now

    def _next_views(self, now: float) -> list[View]:
        """Under the condition: the urgent views, and of the others those within the budget, in turns."""
        earned = (now - self._budget_at) * MESSAGES_PER_SECOND
        self._budget, self._budget_at = min(self._budget + earned, MESSAGES_PER_SECOND / 4), now
        if self._closed:
            self._urgent.update(self._dirty)
        elif now < self._next_flush or not (self._urgent or (self._dirty and self._budget >= 0)):
            return []
        self._next_flush = now + FLUSH_SECONDS
        self.flushes += 1
        views, self._urgent = list(self._urgent), {}
        for view in views:
            self._dirty.pop(view, None)
        left = self._budget - len(views)
        while self._dirty and left >= 0:
            view = next(iter(self._dirty))
            del self._dirty[view]
            views.append(view)
            left -= 1
        return views

    def _seconds_to_wait(self, ticking: list[View], now: float) -> float | None:
        """Under the condition: seconds until the next poll, tick or flush; None to wait for events."""
        moments = []
        if ticking:
            polls = any(view.watches_progress for view in ticking)
            moments.append(self._next_poll if polls else max(self._next_poll, self._next_tick))
        if self._dirty or self._urgent:
            in_budget = now if self._urgent else self._budget_at + max(0.0, -self._budget / MESSAGES_PER_SECOND)
            moments.append(max(self._next_flush, in_budget))
        return max(0.0, min(moments) - now) if moments else None

    def _all_views(self) -> list[View]:
        return [view for views in self._views.values() for view in views]


class _Job:
    """A call that another thread waits for."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.result: Any = None
        self.error: BaseException | None = None
        self.finished = threading.Lock()
        self.finished.acquire()

    def run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self.error = error
        finally:
            self.finished.release()


def _key(subject: Subject | None) -> str:
    return _ALL_TASKS if subject is None else subject.id


def _refresh(view: View) -> int:
    """Refresh a view; returns the number of messages."""
    try:
        return view.refresh()
    except Exception:  # an error in one view must not stop the others
        logger.exception("%r could not be refreshed", view)
        return 1


def _detach_from_cells() -> None:
    """Give this thread an empty kernel parent, where the kernel keeps one per context (ipykernel 7)."""
    kernelbase = sys.modules.get("ipykernel.kernelbase")
    if kernelbase is None or not kernelbase.Kernel.initialized():
        return
    parent = getattr(kernelbase.Kernel.instance(), "_shell_parent", None)
    if isinstance(parent, contextvars.ContextVar):
        parent.set({})
