"""What the end of a task brings about: for those who wait for it, come after it or stem from it, and for what is kept.

Must not know how work is started or run.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from nbtasks import hooks
from nbtasks.clock import Clock, Timer, epoch_seconds
from nbtasks.events import EventBus, EventType
from nbtasks.exceptions import TaskTimeoutError
from nbtasks.lanes import Lanes
from nbtasks.owner import TaskOwner
from nbtasks.registry import Registry
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Outcome, Task
from nbtasks.ties import Ties, WaitBook, Waiter, untie_blocker
from nbtasks.work import Once

__all__ = ["Endings", "Owner", "broken", "timed_out"]

_PENDING, _RUNNING = TaskState.PENDING, TaskState.RUNNING
_COMPLETED, _FAILED, _CANCELLED = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED
_ENDS = {_COMPLETED: EventType.COMPLETED, _FAILED: EventType.FAILED, _CANCELLED: EventType.CANCELLED}


class Owner(TaskOwner, Protocol):
    """What is asked of the manager."""

    def default_loop(self) -> asyncio.AbstractEventLoop:
        """See `TaskManager.default_loop`."""

    def _idle(self) -> None: ...


class Endings(ABC):
    """The part of the `Dispatcher` that deals with ends. All of it is done under `lock`, which guards what is here.

    What may block or runs code of others is left in `effects`, to be done after the lock was let go; tasks that are to
    be cancelled with another in `_doomed`.
    """

    def __init__(self, owner: Owner, lanes: Lanes, clock: Clock) -> None:
        self.owner = owner
        self.lock = threading.Lock()
        self.lanes = lanes
        self.timer = Timer(clock)
        self.bus = EventBus(self.lock, self.timer)
        self.registry = Registry()
        self.waits = WaitBook(lanes)
        self.keep: int | None = None
        """How many completed tasks are kept, and how many cancelled ones."""
        self.stopped = False
        self.note: Callable[[Task], object] | None = None
        """Told of each task that waits, starts or ends: the history's. Atomic and quick."""
        self.time = epoch_seconds(clock)
        self.effects: list[Callable[[], object]] = []
        self._doomed: list[tuple[Task, str]] = []

    @abstractmethod
    def _queue(self, task: Task) -> None:
        """Nothing keeps a pending task any more but its lane."""

    def _cancel_one(self, task: Task, reason: str | None) -> None:
        now = self.time()
        if task._state is _PENDING:
            self.lanes[task._lane].discard(task)
            task._cancel_requested_at = now
            if isinstance(task._work, Once):
                self.effects.append(task._work.close)
            self._end(task, _CANCELLED, now, reason=reason)
        elif task._state is _RUNNING:
            if task._cancel_requested_at is None:
                task._cancel_requested_at = now
                task._reason = reason
            attempt = task._attempt
            self.effects.append(partial(attempt.backend.interrupt, attempt))
            if self.bus.watches_progress:  # the views are to say `cancelling`
                self.effects.append(partial(self.bus.progressed, task))

    def _end(  # noqa: C901 - written out, for it is among the hottest paths
        self,
        task: Task,
        state: TaskState,
        now: float,
        result: Any = None,
        error: BaseException | None = None,
        reason: str | None = None,
    ) -> None:
        """The end of a task. It lets go of all that it no longer needs."""
        listeners = self.bus.listeners
        if listeners:
            self.bus.settle(task)
        task._completed_at = now
        self.registry.move(task, state)
        if state is _COMPLETED:
            task._result = result
            task._exception = task._work = None
        elif state is _FAILED:
            task._exception = error
            self._complain(task)
        else:
            task._reason = reason or task._reason or "cancelled"
            task._exception = None
        task._context = task._loop = None
        if listeners or self.note is not None:
            self._announce(task)
        if task._future is not None:
            self.effects.append(task._future.settle)
            task._future = None
        if task._ties is not None:
            self._untie(task)
        if self.waits.watermarks:
            self._count_down_all(task)
        if self.keep is not None and state is not _FAILED:
            oldest = self.registry.pop_oldest(state, self.keep)
            if oldest is not None:
                self.forgotten(oldest)
        if self.stopped:
            self._check_idle()

    def _complain(self, task: Task) -> None:
        """Have the failure logged, unless the one who holds the future is to look."""
        if task._future is None:
            self.effects.append(partial(hooks.failure_logged, task))

    def _announce(self, task: Task) -> None:
        """Say that it is over."""
        if self.note is not None:
            self.note(task)
        if self.bus.listeners:
            self.bus.publish(task, _ENDS[task._state])

    def _untie(self, task: Task) -> None:
        """Wake who waits for the task, and deal with those that were to come after it."""
        ties: Ties = task._ties
        task._ties = None
        if ties.retry_timer is not None:
            ties.retry_timer.cancel()
        if ties.parent is not None and ties.parent._ties is not None and ties.parent._ties.children is not None:
            ties.parent._ties.children.pop(task._number, None)
        for waiter in ties.waiters:
            self._count_down(waiter)
        if task._wanted:
            self.waits.forget(task, ties.blockers)
        for dependant in ties.dependants:
            if dependant._state is not _PENDING:
                continue
            if not dependant._may_follow(task):
                self._doomed.append((dependant, broken(task)))
            elif untie_blocker(dependant, task):
                self._queue(dependant)

    def _check_idle(self) -> None:
        if not self.registry.count(*LIVE_STATES):
            self.effects.append(self.owner._idle)

    def _count_down(self, waiter: Waiter) -> None:
        waiter.left -= 1
        if waiter.left == 0:
            self.effects.append(waiter.wake)

    def _count_down_all(self, task: Task) -> None:
        """Tell those who wait for everything up to a number."""
        number = task._number
        for waiter in self.waits.watermarks:
            if number <= waiter.last_number and task is not waiter.for_task:
                self._count_down(waiter)

    def forgotten(self, task: Task) -> None:
        """The registry has let go of a task that is over."""
        if self.bus.listeners:
            self.bus.publish(task, EventType.PRUNED)
        if type(task) is not Task:
            self.effects.append(partial(hooks.released, task))


def timed_out(task: Task, outcome: Outcome) -> Outcome:
    """An attempt that its time-out has stopped has failed; work that swallowed the interrupt has not."""
    if outcome.state is not _CANCELLED or task._cancel_requested_at is not None:
        return outcome
    error = TaskTimeoutError(f"{task.name!r} ran longer than its time-out of {task.timeout:g} s")
    return Outcome(_FAILED, None, error)


def broken(other: Task) -> str:
    """Why a task that was to come after `other` cannot start."""
    return f"{other.name!r}, which it was to come after, {'failed' if other._state is _FAILED else 'was cancelled'}"
