"""The life of tasks once they are given in: admission, attempts, retries, time-outs, cancels, and ends.

Must not know who asks or how work is described: the manager has checked all that.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from nbtasks import task_hooks as hooks
from nbtasks.backends.base import Attempt, Backend
from nbtasks.callables import Once
from nbtasks.clock import Clock, Timer, epoch_seconds
from nbtasks.dependencies import Ties, WaitBook, Waiter, tie_to_blockers, tie_to_parent, ties_of, untie_blocker
from nbtasks.events import EventBus, EventType
from nbtasks.exceptions import AlreadyAddedError, ManagerStoppedError, TaskTimeoutError
from nbtasks.interrupts import acquire_in_passing
from nbtasks.lanes import Lane, Lanes
from nbtasks.registry import Registry
from nbtasks.states import LIVE_STATES, TaskState
from nbtasks.task import Outcome, PastAttempt, Task, TaskOwner

__all__ = ["Dispatcher", "Endings", "Owner", "broken", "timed_out"]

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


logger = logging.getLogger("nbtasks")
T = TypeVar("T")
_CREATED, _STARTED = EventType.CREATED, EventType.STARTED
_Starting = Attempt | list[Attempt] | None
_Effects = Sequence[Callable[[], object]]
_NOTHING: _Effects = ()
PAST_ATTEMPTS = 100
"""How many attempts of one task are remembered."""


class Dispatcher(Endings):
    """Takes tasks through their states.

    `lock` guards everything here, the lanes, the registry, the ties, the queues of events, and all that is written on
    tasks but what their work sets. What may block or runs code of others happens after the lock is let go: it is put
    into `_starting` and `effects` under the lock, and done by `_after`. Whoever ends a task starts the next.
    """

    def __init__(
        self,
        owner: Owner,
        lanes: Lanes,
        clock: Clock,
        backends: dict[str, Backend],
        call_on_thread: Callable[..., None],
    ) -> None:
        super().__init__(owner, lanes, clock)
        self.backends = backends
        self.blocked_loops: dict[asyncio.AbstractEventLoop, list[Callable[[], object]]] = {}
        """Loops whose thread is asleep in a wait, with what wakes it if work is started there."""
        self._hooks = hooks.ProgressHooks(self.timer, call_on_thread, owner.default_loop)
        self._rng = random.Random()
        self.past_attempts: WeakKeyDictionary[Task, list[PastAttempt]] = WeakKeyDictionary()
        """Attempts that failed and were followed by others, of the few tasks that have such: the last of them."""
        self._starting: list[Attempt] = []

    def change(self, change: Callable[[], T]) -> T:
        """Make a change under the lock, and then do what follows from it."""
        with self.lock:
            result = change()
            starting, effects = self._take()
        self._after(starting, effects)
        return result

    # -- into the house ---------------------------------------------------------------------------------------

    def submit(
        self,
        task: Task,
        after: Sequence[Task] = (),
        parent: Task | None = None,
        taker: Backend | None = None,
        *,
        on_loop: bool = False,
    ) -> Attempt | None:
        """Take a new task: start it, or let it wait for its lane or for the tasks of `after`.

        An attempt on `taker`, which the calling thread belongs to, is returned, for that thread to run. `on_loop` says
        that this thread is the one of the task's loop, if it has one.
        """
        attempt: Attempt | None = None
        starting, effects = None, _NOTHING
        with self.lock:  # no Ctrl-C gets between this and what is inside; `acquire` is quicker, and lets it
            if self.stopped or task._manager is not None:
                self._refuse(task)
            lane = self.lanes.by_name[task._lane]
            is_free = lane.running < lane.capacity and not lane.queued
            task._manager = self.owner
            task._created_at = now = self.time()
            if self.waits.watermarks:
                self.waits.came(task)
            if parent is not None and parent._state in LIVE_STATES:
                tie_to_parent(task, parent)
            if self.bus.listeners:
                self.bus.publish(task, _CREATED)
            if after and not self._is_unblocked(task, after):
                self._keep(task)
            elif is_free and (self.lanes.max_running is None or self.lanes.running < self.lanes.max_running):
                lane.running += 1
                self.registry.add_running(task)
                attempt = self._attempt(task, now, on_loop)
            else:
                self._keep(task)
                lane.push(task)
                return None
            if self.effects or self._doomed:
                if attempt is not None:
                    self._starting.append(attempt)
                starting, effects = self._take()
                attempt = None
        if attempt is not None and attempt.backend is not taker:
            self._start(attempt)
            return None
        return attempt or self._after(starting, effects, taker)

    def _keep(self, task: Task) -> None:
        """Under the lock: a new task that has to wait."""
        self.registry.add(task)
        if self.note is not None:
            self.note(task)

    def _refuse(self, task: Task) -> None:
        if task._manager is not None:
            raise AlreadyAddedError(f"{task.name!r} ({task.id}) was added before; a task runs once")
        raise ManagerStoppedError(f"the manager was stopped: it does not take {task.name!r}")

    def _is_unblocked(self, task: Task, after: Sequence[Task]) -> bool:
        """Under the lock: whether all that `task` comes after has completed; else it is tied to the rest."""
        for other in after:
            if other._state not in LIVE_STATES and not task._may_follow(other):
                self._doomed.append((task, broken(other)))
                return False
        if blockers := [other for other in after if other._state in LIVE_STATES]:
            tie_to_blockers(task, blockers)
        return not blockers

    # -- attempts ---------------------------------------------------------------------------------------------

    def _launch(self, task: Task, now: float) -> Attempt:
        """Under the lock, the slot taken: the next attempt of a pending task, which is to be started after it."""
        self.registry.move(task, _RUNNING)
        return self._attempt(task, now)

    def _attempt(self, task: Task, now: float, on_loop: bool = False) -> Attempt:
        """Under the lock: the next attempt of a task that is running from `now` on."""
        task._attempts += 1
        task._started_at = now
        if self.note is not None:
            self.note(task)
        attempt: Attempt = _Attempt()
        task._attempt = attempt
        attempt.task = task
        attempt.function = task._work or task.run
        attempt.args = (task,) if task._takes_task else ()
        attempt.backend = self.backends[task._backend]  # type: ignore[index]
        attempt.context = task._context if task.retry is None else task._context.copy()  # type: ignore[assignment, union-attr]
        attempt.loop = task._loop
        attempt.listener = self
        if on_loop:
            attempt.on_loop = True
        if task.timeout is not None:
            attempt.time_limit = self.timer.call_later(task.timeout, partial(self._out_of_time, attempt))  # type: ignore[arg-type]
        if type(task) is not Task:
            self._hooks.begin(attempt)
        if self.bus.listeners:
            self.bus.publish(task, _STARTED)
        if self.blocked_loops:
            self._wake_loop(attempt)
        return attempt

    def finished(self, attempt: Attempt, outcome: Outcome) -> Attempt | None:
        """The work of `attempt` has stopped. Called by backends, outside the lock."""
        task, backend, result = attempt.task, attempt.backend, outcome.result
        if result is not None and hasattr(result, "__await__") and self._goes_on_in_loop(attempt, result):
            return None
        if task._future is not None:
            task._future.rouse()
        if attempt.timed_out:
            outcome = timed_out(task, outcome)
        if type(task) is not Task:
            outcome = hooks.ended(task, outcome)
        lock = self.lock
        if not lock.acquire(False):
            acquire_in_passing(lock)
        try:
            if task._attempt is not attempt:
                logger.error("%r was reported as finished twice", attempt)
                return None
            self._close(attempt, outcome)
            starting, effects = None, _NOTHING
            if self.effects or self._doomed or len(self._starting) > 1:
                starting, effects = self._take()
            elif self._starting:
                starting = self._starting.pop()
            else:
                return None
        finally:
            lock.release()
        return self._after(starting, effects, backend if backend.takes_over else None)

    def _close(self, attempt: Attempt, outcome: Outcome) -> None:
        """Under the lock: the end of an attempt, and of the task unless it is retried; its slot goes to the next."""
        task = attempt.task
        task._attempt = None
        if attempt.time_limit is not None:
            attempt.time_limit.cancel()
        if task._ties is not None and task._ties.waits_on:
            self.waits.end_all_of(task)
        now = self.time()
        state = outcome.state
        if state is not _FAILED or task.retry is None or not self._retries(task, outcome.exception):
            self._end(task, state, now, outcome.result, outcome.exception)
        following = self.lanes.pass_on(self.lanes.by_name[task._lane])
        if following is not None:
            self._starting.append(self._launch(following, now))

    def _retries(self, task: Task, error: BaseException | None) -> bool:
        """Under the lock: whether the failed task is tried again; if so, see to it."""
        retry = task.retry
        if retry is None or error is None or self.stopped or task._cancel_requested_at is not None:
            return False
        if not retry.allows(task._attempts, error):
            return False
        task._exception = error
        self._remember(task)
        self.bus.settle(task)
        task._progress = None
        self.registry.move(task, _PENDING)
        if self.note is not None:
            self.note(task)
        self.bus.publish(task, EventType.RETRYING)
        seconds = retry.seconds_before_next(task._attempts, self._rng)
        ties_of(task).retry_timer = self.timer.call_later(seconds, partial(self.change, partial(self._again, task)))
        return True

    def _remember(self, task: Task) -> None:
        """Under the lock: note the attempt that has just failed and is followed by another."""
        past = self.past_attempts.setdefault(task, [])
        started = task.started_at or datetime.now(UTC)
        past.append(PastAttempt(task._attempts, started, datetime.fromtimestamp(self.time(), UTC), task.error or ""))
        del past[:-PAST_ATTEMPTS]

    def _again(self, task: Task) -> None:
        """Under the lock: the delay before a retry is over."""
        if task._state is _PENDING and task._ties is not None and task._ties.retry_timer is not None:
            task._ties.retry_timer = None
            self._queue(task)

    def _out_of_time(self, attempt: Attempt) -> None:
        """The time-out of an attempt has passed. On the timer's thread."""
        with self.lock:
            if attempt.task._attempt is not attempt:
                return
            attempt.timed_out = True
        attempt.backend.interrupt(attempt)

    def _goes_on_in_loop(self, attempt: Attempt, awaitable: Any) -> bool:
        """An awaitable that a plain function returned is awaited on the loop, as part of the same attempt."""
        backend = self.backends["loop"]
        if attempt.backend is backend or attempt.is_async or not attempt.task._awaits_result:
            return False
        if not inspect.isawaitable(awaitable):
            return False
        with self.lock:
            attempt.backend = backend
            attempt.handle = None
            attempt.function, attempt.args = Once(awaitable), ()
            if attempt.loop is None:
                attempt.loop = self.owner.default_loop()
            if self.blocked_loops:
                self._wake_loop(attempt)
            effects, self.effects = self.effects, []
        self._after(attempt, effects)
        return True

    # -- what others ask for ----------------------------------------------------------------------------------

    def cancel(self, task: Task, *, children: bool = True, reason: str | None = None) -> bool:
        """Cancel what is pending at once, and ask what runs to stop; False if the task is over."""
        return self.change(partial(self._cancel, task, children, reason))

    def _cancel(self, task: Task, children: bool, reason: str | None) -> bool:
        if task._state not in LIVE_STATES:
            return False
        todo = [task]
        while todo:
            victim = todo.pop()
            if children and victim._ties is not None and victim._ties.children:
                todo.extend(victim._ties.children.values())
            self._cancel_one(victim, reason if victim is task else f"cancelled with {task.name!r}")
        return True

    def fill(self, lanes: Iterable[Lane]) -> None:
        """Under the lock: start what may start in these lanes, or anywhere if there is a limit over all."""
        now = self.time()
        for lane in lanes:
            admit = self.lanes.admit_any if self.lanes.max_running is not None else partial(self.lanes.admit, lane)
            while (task := admit()) is not None:
                self._starting.append(self._launch(task, now))

    def _queue(self, task: Task) -> None:
        """Under the lock: nothing keeps a pending task any more but its lane."""
        lane = self.lanes[task._lane]
        lane.push(task)
        self.fill([lane])

    def runs_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Under the lock: whether any work needs that loop to turn."""
        backend = self.backends["loop"]
        attempts = [task._attempt for task in self.registry.by_state[_RUNNING].values()]
        return any(attempt.backend is backend and attempt.loop is loop for attempt in attempts)

    def _wake_loop(self, attempt: Attempt) -> None:
        if attempt.loop in self.blocked_loops and attempt.backend is self.backends["loop"]:
            self.effects.extend(self.blocked_loops[attempt.loop])

    # -- outside the lock -------------------------------------------------------------------------------------

    def _take(self) -> tuple[_Starting, _Effects]:
        """Under the lock: what is to be started and done once it is let go. A lone attempt comes without a list."""
        while self._doomed:  # a loop, for chains may be long
            self._cancel_one(*self._doomed.pop())
        effects: _Effects = _NOTHING  # never a list that others add to from now on
        if self.effects:
            effects, self.effects = self.effects, []
        starting = self._starting
        if not starting:
            return None, effects
        if len(starting) == 1:
            return starting.pop(), effects
        self._starting = []
        return starting, effects

    def _after(self, starting: _Starting, effects: _Effects, taker: Backend | None = None) -> Attempt | None:
        """Do what was decided under the lock. Returns one attempt for `taker`, the backend that starts it itself."""
        if effects:
            for effect in effects:
                effect()
        if starting is None:
            return None
        if isinstance(starting, list):
            taken = next((attempt for attempt in starting if attempt.backend is taker), None)
            for attempt in starting:
                if attempt is not taken:
                    self._after(attempt, _NOTHING)
            return taken
        if starting.backend is taker:
            return starting
        self._start(starting)
        return None

    def _start(self, attempt: Attempt) -> None:
        try:
            attempt.backend.start(attempt)
        except Exception as error:  # noqa: BLE001 - whatever a backend meets; the task says it
            self._could_not_start(attempt, error)

    def _could_not_start(self, attempt: Attempt, error: Exception) -> None:
        """The task fails, and the next one takes its place; a loop, for each may fail in its turn."""
        failed: list[tuple[Attempt, Exception]] = [(attempt, error)]
        while failed:
            attempt, error = failed.pop()
            outcome = hooks.ended(attempt.task, Outcome(_FAILED, None, error))
            with self.lock:
                self._close(attempt, outcome)
                starting, effects = self._take()
            for effect in effects:
                effect()
            for another in [starting] if isinstance(starting, Attempt) else starting or []:
                try:
                    another.backend.start(another)
                except Exception as next_error:  # noqa: BLE001 - as above
                    failed.append((another, next_error))


class _Attempt(Attempt):
    """An attempt of whose end the dispatcher learns, and which it fills in by itself: that takes half the time."""

    __init__ = object.__init__

    def finished(self, outcome: Outcome) -> Attempt | None:
        dispatcher: Dispatcher = self.listener
        return dispatcher.finished(self, outcome)
