"""The life of tasks once they are given in: admission, attempts, retries, time-outs, cancels, dependencies, ends.

The only writer of a task's state. Must not know who asks or how work is described: the manager has checked all that.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from nbtasks.backends.base import Attempt, Backend
from nbtasks.clock import Clock, Timer
from nbtasks.events import EventBus, EventType
from nbtasks.exceptions import AlreadyAddedError, ManagerStoppedError, TaskTimeoutError
from nbtasks.lanes import Lane, Lanes
from nbtasks.registry import Registry
from nbtasks.states import LIVE_STATES, TRANSITIONS, TaskState, check_transition
from nbtasks.task import Outcome, Task, TaskOwner
from nbtasks.ties import Waiter, ties_of
from nbtasks.work import Once, is_async

__all__ = ["Dispatcher"]

logger = logging.getLogger("nbtasks")

_PENDING, _RUNNING = TaskState.PENDING, TaskState.RUNNING
_COMPLETED, _FAILED, _CANCELLED = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED
_CREATED, _STARTED = EventType.CREATED, EventType.STARTED
_ENDS = {
    _COMPLETED: EventType.COMPLETED,
    _FAILED: EventType.FAILED,
    _CANCELLED: EventType.CANCELLED,
}


class Owner(TaskOwner, Protocol):
    """What the dispatcher asks of the manager that owns it."""

    def default_loop(self) -> asyncio.AbstractEventLoop: ...


class Dispatcher:
    """Takes tasks through their states.

    `lock` guards everything here, the lanes, the registry, the queues of events, and all that it writes on tasks. What
    may block or runs code of others happens after the lock is let go: it is put into `_effects` and `_starting` under
    the lock, and done by `_after`. Whoever ends a task starts the next.
    """

    def __init__(self, owner: Owner, lanes: Lanes, clock: Clock, backends: dict[str, Backend]) -> None:
        self.owner = owner
        self.lock = threading.Lock()
        self.lanes = lanes
        self.clock = clock
        self.timer = Timer(clock)
        self.bus = EventBus(self.lock, self.timer)
        self.registry = Registry()
        self.backends = backends
        self.keep: int | None = None
        self.stopped = False
        self.on_stop: list[Callable[[], object]] = []
        self.blocked_loops: dict[asyncio.AbstractEventLoop, list[Callable[[], object]]] = {}
        """Loops whose thread is asleep in a wait, with what wakes it if work is started there."""
        self._rng = random.Random()
        self._effects: list[Callable[[], object]] = []
        self._starting: list[Attempt] = []
        self._on_finished = self.finished
        self._time: Callable[[], float] = getattr(clock, "time", None) or (lambda: clock.now().timestamp())
        self._doomed: list[tuple[Task, str]] = []
        self._watermarks: list[Waiter] = []

    # -- into the house ---------------------------------------------------------------------------------------

    def submit(
        self, task: Task, after: list[Task], parent: Task | None, taker: Backend | None = None
    ) -> Attempt | None:
        """Take a new task: start it, or let it wait for its lane or for the tasks of `after`.

        An attempt on `taker`, which the calling thread belongs to, is returned, for that thread to run.
        """
        self.lock.acquire()  # `with` takes twice as long, and this is a part of every task's start
        try:
            if self.stopped:
                raise ManagerStoppedError(f"the manager was stopped: it does not take {task.name!r}")
            if task._manager is not None:
                raise AlreadyAddedError(f"{task.name!r} ({task.id}) was added before; a task runs once")
            lane = self.lanes[task.lane]
            task._manager = self.owner
            now = task._created_at = self._time()
            if self._watermarks:
                self._count_in(task)
            if parent is not None and parent._state in LIVE_STATES:
                ties_of(parent).children[task.number] = task
                ties_of(task).parent = parent
            if self.bus.listeners:
                self.bus.publish(task, _CREATED)
            attempt = None
            if after and not self._is_unblocked(task, after):
                pass
            elif self.lanes.enter(lane):
                attempt = self._launch(task, now)
            else:
                self.registry.add(task)
                lane.push(task)
            more = self._take() if self._effects or self._doomed else None
        finally:
            self.lock.release()
        if more is not None:
            starting, effects = more
            return self._after(starting if attempt is None else [*starting, attempt], effects, taker)
        return attempt if attempt is None or attempt.backend is taker else self._start(attempt)

    def _is_unblocked(self, task: Task, after: list[Task]) -> bool:
        """Under the lock: whether all that `task` waits for has completed; else it is tied to the rest."""
        self.registry.add(task)
        for other in after:
            if other._state not in LIVE_STATES and not task._may_follow(other):
                self._end(task, _CANCELLED, reason=_broken(other))
                return False
        blockers = [other for other in after if other._state in LIVE_STATES]
        if blockers:
            ties_of(task).blockers = blockers
            for other in blockers:
                ties_of(other).dependants.append(task)
        return not blockers

    # -- attempts ---------------------------------------------------------------------------------------------

    def _launch(self, task: Task, now: float) -> Attempt:
        """Under the lock, the slot taken: make the next attempt of `task`, to be started when the lock is let go."""
        self._move(task, _RUNNING)
        task.attempts += 1
        task._started_at = now
        function = task._work or task.run
        if task._is_async is None:
            task._is_async = is_async(function)
        context: Any = task._context
        attempt = task._attempt = Attempt(
            task,
            function,
            (task,) if task._takes_task else (),
            self.backends[task.backend],  # type: ignore[index]
            task._is_async,
            context if task.retry is None else context.copy(),
            task._loop,
            self._on_finished,
        )
        if task.timeout is not None:
            attempt.time_limit = self.timer.call_later(task.timeout, partial(self._out_of_time, attempt))  # type: ignore[arg-type]
        if self.bus.listeners:
            self.bus.publish(task, _STARTED)
        if self.blocked_loops:
            self._wake_loop(attempt)
        return attempt

    def finished(self, attempt: Attempt, outcome: Outcome) -> Attempt | None:
        """The work of `attempt` has stopped. Called by backends, outside the lock."""
        task = attempt.task
        result = outcome.result
        awaitable = result is not None and hasattr(result, "__await__") and not attempt.is_async
        if awaitable and self._goes_on_in_loop(attempt, result):
            return None
        if attempt.timed_out and outcome.state is _CANCELLED and task._cancel_requested_at is None:
            error = TaskTimeoutError(f"{task.name!r} ran longer than its time-out of {task.timeout:g} s")
            outcome = Outcome(_FAILED, None, error)
        if task.__class__ is not Task:
            outcome = _told(task, outcome)
        self.lock.acquire()  # see `submit`
        try:
            if task._attempt is not attempt:
                logger.error("%r was reported as finished twice", attempt)
                return None
            self._close(attempt, outcome)
            starting, effects = self._take()
        finally:
            self.lock.release()
        taker = attempt.backend if attempt.backend.takes_over else None
        if len(starting) == 1 and not effects and starting[0].backend is taker:
            return starting[0]
        return self._after(starting, effects, taker)

    def _close(self, attempt: Attempt, outcome: Outcome) -> None:
        """Under the lock: the end of an attempt, and of the task unless it is retried."""
        task = attempt.task
        task._attempt = None
        if attempt.time_limit is not None:
            attempt.time_limit.cancel()
        lane = self.lanes[task.lane]
        if task._ties is not None and task._ties.waits_on:
            self._stop_lending(task)
        self.lanes.vacate(lane)
        if outcome.state is _FAILED and task.retry is not None and self._retries(task, outcome.exception):
            pass
        else:
            self._end(task, outcome.state, outcome.result, outcome.exception)
        self.fill(lane)

    def _retries(self, task: Task, error: BaseException | None) -> bool:
        """Under the lock: whether the failed task is tried again; if so, see to it."""
        retry = task.retry
        assert retry is not None
        if self.stopped or task._cancel_requested_at is not None or error is None:
            return False
        if not retry.allows(task.attempts, error):
            return False
        task._exception = error
        task._progress = None
        self._move(task, _PENDING)
        self.bus.settle(task)
        self.bus.publish(task, EventType.RETRYING)
        seconds = retry.seconds_before_next(task.attempts, self._rng)
        ties_of(task).timer = self.timer.call_later(seconds, partial(self._again, task))
        return True

    def _again(self, task: Task) -> None:
        """The delay before a retry is over. On the timer's thread."""
        with self.lock:
            ties = task._ties
            if task._state is not _PENDING or ties is None or ties.timer is None:
                return
            ties.timer = None
            self._queue(task)
            starting, effects = self._take()
        self._after(starting, effects)

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
        if attempt.backend is backend or not inspect.isawaitable(awaitable):
            return False
        with self.lock:
            attempt.backend = backend
            attempt.handle = None
            attempt.function, attempt.args = (lambda: awaitable), ()
            if attempt.loop is None:
                attempt.loop = self.owner.default_loop()
            if self.blocked_loops:
                self._wake_loop(attempt)
        self._after([attempt], [])
        return True

    # -- changes of state -------------------------------------------------------------------------------------

    def _move(self, task: Task, state: TaskState) -> None:
        """Under the lock: the only place where a state is set."""
        old = task._state
        task._state = state if state in TRANSITIONS[old] else check_transition(old, state)
        self.registry.move(task, old, state)

    def _end(
        self,
        task: Task,
        state: TaskState,
        result: Any = None,
        error: BaseException | None = None,
        reason: str | None = None,
    ) -> None:
        """Under the lock: the end of a task. It lets go of all that it no longer needs."""
        bus = self.bus
        if bus.listeners:
            bus.settle(task)
        task._completed_at = self._time()
        self._move(task, state)
        if state is _COMPLETED:
            task._result = result
            task._exception = None
            task._work = None
        elif state is _FAILED:
            task._exception = error
            self._effects.append(partial(_logged_failure, task))
        else:
            task._reason = reason or task._reason or "cancelled"
            task._exception = None
        task._context = task._loop = None
        if bus.listeners:
            bus.publish(task, _ENDS[state])
        if task._ties is not None:
            self._untie(task)
        if self._watermarks:
            self._count_out(task)
        if state is not _FAILED and self.keep is not None and self.registry.count(state) > self.keep:
            self.drop(self.registry.oldest(state))

    def _untie(self, task: Task) -> None:
        """Under the lock: wake who waits for the task, and deal with those that were to come after it."""
        ties = ties_of(task)
        task._ties = None
        if ties.timer is not None:
            ties.timer.cancel()
        if ties.parent is not None and ties.parent._ties is not None:
            ties.parent._ties.children.pop(task.number, None)
        for waiter in ties.waiters:
            self._count_down(waiter)
        if task.wanted:
            for blocker in ties.blockers:
                self._want(blocker, -task.wanted)
        for dependant in ties.dependants:
            if dependant._state is not _PENDING:
                continue
            if not dependant._may_follow(task):
                self._doomed.append((dependant, _broken(task)))
                continue
            blockers = ties_of(dependant).blockers
            blockers.remove(task)
            if not blockers:
                self._queue(dependant)

    def drop(self, task: Task) -> None:
        """Under the lock: the registry forgets a task that is over."""
        self.registry.remove(task)
        if self.bus.listeners:
            self.bus.publish(task, EventType.PRUNED)
        if type(task)._release is not Task._release:
            self._effects.append(partial(_released, task))

    def drop_all(self, tasks: Iterable[Task]) -> int:
        """The registry forgets these tasks; how many of them it had."""
        with self.lock:
            had = [task for task in tasks if task._state not in LIVE_STATES and task in self.registry]
            for task in had:
                self.drop(task)
            starting, effects = self._take()
        self._after(starting, effects)
        return len(had)

    # -- what others ask for ----------------------------------------------------------------------------------

    def cancel(self, task: Task, *, children: bool = True, reason: str | None = None) -> bool:
        """Cancel what is pending at once, and ask what runs to stop; False if the task is over."""
        with self.lock:
            if task._state not in LIVE_STATES:
                return False
            todo = [task]
            while todo:
                victim = todo.pop()
                if children and victim._ties is not None:
                    todo.extend(victim._ties.children.values())
                self._cancel_one(victim, reason if victim is task else f"cancelled with {task.name!r}")
            starting, effects = self._take()
        self._after(starting, effects)
        return True

    def _cancel_one(self, task: Task, reason: str | None) -> None:
        now = self._time()
        if task._state is _PENDING:
            self.lanes[task.lane].discard(task)
            task._cancel_requested_at = now
            if isinstance(task._work, Once):
                self._effects.append(task._work.close)
            self._end(task, _CANCELLED, reason=reason)
        elif task._state is _RUNNING:
            if task._cancel_requested_at is None:
                task._cancel_requested_at = now
                task._reason = reason
            attempt = task._attempt
            self._effects.append(partial(attempt.backend.interrupt, attempt))
            if self.bus.watches_progress:  # the views are to say `cancelling`
                self._effects.append(partial(self.bus.progressed, task))

    def set_priority(self, task: Task, priority: int) -> bool:
        """Change the priority of a pending task, at once; False if it is not pending."""
        with self.lock:
            if task._state is not _PENDING:
                return False
            lane = self.lanes[task.lane]
            queued = lane.discard(task)
            task.priority = priority
            if queued:
                lane.push(task, wanted=task.wanted > 0)
            return True

    def refill(self) -> None:
        """Start what may start, after a limit has changed."""
        with self.lock:
            for lane in self.lanes.values():
                self.fill(lane)
            starting, effects = self._take()
        self._after(starting, effects)

    def fill(self, lane: Lane) -> None:
        """Under the lock: start what may start in `lane`, or anywhere if there is a limit over all."""
        lanes = self.lanes
        anywhere = lanes.max_running is not None
        while (task := lanes.admit_any() if anywhere else lanes.admit(lane)) is not None:
            self._starting.append(self._launch(task, self._time()))

    def _queue(self, task: Task) -> None:
        """Under the lock: nothing keeps a pending task any more but its lane."""
        lane = self.lanes[task.lane]
        lane.push(task, wanted=task.wanted > 0)
        self.fill(lane)

    # -- waits ------------------------------------------------------------------------------------------------

    def begin_wait(self, waiter: Waiter, tasks: Iterable[Task] | None, current: Task | None) -> None:
        """Let `waiter` be woken when all of `tasks` are over; None: all that is live now, but for `current` itself.

        The task as part of which somebody waits lends its slot.
        """
        with self.lock:
            if tasks is None:
                waiter.tasks = [task for task in self.registry.live() if task is not current]
                waiter.left = len(waiter.tasks)
                waiter.last_number = max((task.number for task in waiter.tasks), default=0)
                waiter.for_task = current
                if waiter.left:
                    self._watermarks.append(waiter)
            else:
                waiter.tasks = [task for task in tasks if task._state in LIVE_STATES]
                waiter.left = len(waiter.tasks)
                for task in waiter.tasks:
                    ties_of(task).waiters.append(waiter)
            if not waiter.left:
                self._effects.append(waiter.wake)
            elif current is not None and current._state is _RUNNING:
                waiter.for_task = current
                self._lend(waiter, current)
            starting, effects = self._take()
        self._after(starting, effects)

    def end_wait(self, waiter: Waiter) -> None:
        """The wait is over, for whatever reason."""
        with self.lock:
            if waiter.last_number:
                if waiter in self._watermarks:
                    self._watermarks.remove(waiter)
            else:
                for task in waiter.tasks:
                    if task._ties is not None and waiter in task._ties.waiters:
                        task._ties.waiters.remove(waiter)
            current = waiter.for_task
            if current is not None and current._ties is not None and waiter in current._ties.waits_on:
                current._ties.waits_on.remove(waiter)
                for task in waiter.tasks:
                    self._want(task, -1)
                if not current._ties.waits_on:
                    self.lanes.resume(self.lanes[current.lane])

    def _lend(self, waiter: Waiter, current: Task) -> None:
        """Under the lock: while `current` stands still, what it waits for may use its slot."""
        ties = ties_of(current)
        if not ties.waits_on:
            self.lanes.pause(self.lanes[current.lane])
        ties.waits_on.append(waiter)
        for task in waiter.tasks:
            self._want(task, 1)
        for name in {task.lane for task in waiter.tasks} | {current.lane}:
            self.fill(self.lanes[name])

    def _stop_lending(self, task: Task) -> None:
        """Under the lock: the attempt is over, though something that it left behind still waits as part of it."""
        waits: list[Waiter] = task._ties.waits_on
        for waiter in waits:
            for other in waiter.tasks:
                self._want(other, -1)
        waits.clear()
        self.lanes.resume(self.lanes[task.lane])

    def _want(self, task: Task, change: int) -> None:
        """Under the lock: a running task waits for `task`, and so for all that it comes after (or no longer does)."""
        todo = [task]
        while todo:
            task = todo.pop()
            if task._state not in LIVE_STATES:
                continue
            task.wanted += change
            if change > 0 and task._state is _PENDING:
                lane = self.lanes[task.lane]
                if lane.holds(task):
                    lane.want(task)
            if task._ties is not None:
                todo.extend(task._ties.blockers)

    def _count_in(self, task: Task) -> None:
        for waiter in self._watermarks:
            if task.number <= waiter.last_number and task is not waiter.for_task:
                waiter.left += 1
                waiter.tasks.append(task)

    def _count_out(self, task: Task) -> None:
        for waiter in self._watermarks[:]:
            if task.number <= waiter.last_number and task is not waiter.for_task:
                self._count_down(waiter)

    def _count_down(self, waiter: Waiter) -> None:
        waiter.left -= 1
        if waiter.left == 0:
            self._effects.append(waiter.wake)

    def runs_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Under the lock: whether any work needs that loop to turn."""
        backend = self.backends["loop"]
        return any(
            task._attempt.backend is backend and task._attempt.loop is loop
            for task in self.registry.tasks([_RUNNING])
            if task._attempt is not None
        )

    def _wake_loop(self, attempt: Attempt) -> None:
        if attempt.loop in self.blocked_loops and attempt.backend is self.backends["loop"]:
            self._effects.extend(self.blocked_loops[attempt.loop])

    # -- outside the lock -------------------------------------------------------------------------------------

    def _take(self) -> tuple[list[Attempt], list[Callable[[], object]]]:
        """Under the lock: what is to be done once it is let go."""
        while self._doomed:  # a loop, for chains may be long
            self._cancel_one(*self._doomed.pop())
        starting, effects = self._starting, self._effects
        self._starting, self._effects = [], []  # empty ones too: what others add from now on is theirs to do
        return starting, effects

    def _start(self, attempt: Attempt) -> Attempt | None:
        """Start one attempt when nothing else is to be done."""
        try:
            attempt.backend.start(attempt)
        except Exception as error:  # noqa: BLE001 - whatever a backend meets; the task says it
            return self._after(*self._not_started(attempt, error))
        return None

    def _not_started(
        self, attempt: Attempt, error: Exception
    ) -> tuple[list[Attempt], list[Callable[[], object]]]:
        """End an attempt that could not be started; what is to be done then."""
        outcome = _told(attempt.task, Outcome(_FAILED, None, error))
        with self.lock:
            self._close(attempt, outcome)
            return self._take()

    def _after(
        self, starting: list[Attempt], effects: list[Callable[[], object]], taker: Backend | None = None
    ) -> Attempt | None:
        """Do what was decided under the lock. Returns one attempt for `taker`, the backend that starts it itself."""
        taken = None
        while starting or effects:
            for effect in effects:
                effect()
            failed: list[tuple[Attempt, Exception]] = []
            for attempt in starting:
                if taken is None and attempt.backend is taker:
                    taken = attempt
                    continue
                try:
                    attempt.backend.start(attempt)
                except Exception as error:  # noqa: BLE001 - whatever a backend meets; the task says it
                    failed.append((attempt, error))
            starting, effects = [], []
            for attempt, reason in failed:
                more, also = self._not_started(attempt, reason)
                starting += more
                effects += also
        return taken


def _told(task: Task, outcome: Outcome) -> Outcome:
    """Let the task's kind know how the attempt ended; it may replace the outcome."""
    try:
        return task._attempt_ended(outcome) or outcome
    except Exception:  # a kind of task with a fault of its own must not keep the task from ending
        logger.exception("%r: _attempt_ended failed", task)
        return outcome


def _logged_failure(task: Task) -> None:
    task._log_failure()


def _released(task: Task) -> None:
    try:
        task._release()
    except Exception:  # code of a kind of task
        logger.exception("%r: _release failed", task)


def _broken(other: Task) -> str:
    return f"{other.name!r}, which it was to come after, {'failed' if other._state is _FAILED else 'was cancelled'}"
