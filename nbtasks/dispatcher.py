"""The state machine of tasks: admission, attempts, retries, timeouts and cancels."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

from nbtasks.backends.base import Attempt, Backend
from nbtasks.callables import Once
from nbtasks.clock import Clock, Timer, epoch_seconds
from nbtasks.dependencies import (
    Relations,
    Waiter,
    Waiters,
    add_child,
    add_dependencies,
    relations_of,
    resolve_dependency,
)
from nbtasks.events import EventBus, EventType
from nbtasks.exceptions import AlreadyAddedError, ManagerStoppedError, TaskTimeoutError, UnknownLaneError
from nbtasks.lanes import Lane, Lanes
from nbtasks.progress_hooks import ProgressHooks
from nbtasks.registry import Registry
from nbtasks.states import FINAL_STATES, LIVE_STATES, TaskState
from nbtasks.task import Outcome, PastAttempt, Task, TaskOwner, call_hook

__all__ = ["Dispatcher"]

logger = logging.getLogger("nbtasks")
T = TypeVar("T")
Effect = Callable[[], object]

PAST_ATTEMPTS = 100
"""How many past attempts of one task are kept."""

INTERRUPT_AGAIN_SECONDS = 1.0
"""How long after an interrupt that failed the next one follows, when a timeout has passed."""

_END_EVENTS = {
    TaskState.COMPLETED: EventType.COMPLETED,
    TaskState.FAILED: EventType.FAILED,
    TaskState.CANCELLED: EventType.CANCELLED,
}


class Dispatcher:
    """Takes tasks through their states: the end of one starts the next.

    `lock` guards everything here, the lanes, the registry, the relations of tasks, the queues of events, and all
    fields of tasks except those that their work sets. Calls that may block, or that run code of others, are collected
    in `_starting` and `effects` under the lock, and made by `_after` when it was released.
    """

    def __init__(
        self,
        owner: TaskOwner,
        lanes: Lanes,
        clock: Clock,
        backends: Mapping[str, Backend],
        *,
        call_on_thread: Callable[[Effect], None],
        default_loop: Callable[[], asyncio.AbstractEventLoop],
        on_idle: Effect,
    ) -> None:
        """`on_idle` is called when the dispatcher was stopped and the last work has ended."""
        self.owner = owner
        self.lock = threading.Lock()
        self.lanes = lanes
        self.backends = backends
        self.timer = Timer(clock)
        self.time = epoch_seconds(clock)
        self.bus = EventBus(self.lock, self.timer)
        self.registry = Registry()
        self.waiters = Waiters(lanes)
        self.keep: int | None = None
        """How many completed tasks are kept, and how many cancelled ones; None: all."""
        self.pruned_tasks = 0
        """How many tasks were pruned."""
        self.stopped = False
        self.note: Callable[[Task], object] | None = None
        """Called under the lock with each task that is added, starts or ends: the history's. Atomic and quick."""
        self.past_attempts: WeakKeyDictionary[Task, list[PastAttempt]] = WeakKeyDictionary()
        """Attempts that failed and were followed by others: the last ones of each task that has any."""
        self.blocked_loops: dict[asyncio.AbstractEventLoop, list[Effect]] = {}
        """Event loops whose thread is blocked in a wait, with what wakes it when work is started there."""
        self.effects: list[Effect] = []
        self._starting: list[Attempt] = []
        self._doomed: list[tuple[Task, str]] = []  # to be cancelled, and why
        self._default_loop = default_loop
        self._on_idle = on_idle
        self._hooks = ProgressHooks(self.timer, call_on_thread, default_loop)
        self._rng = random.Random()

    def change(self, change: Callable[[], T]) -> T:
        """Make a change under the lock, and then do what follows from it."""
        try:
            with self.lock:
                result = change()
                starting, effects = self._take()
        except BaseException as error:
            self.recover(error)
            raise
        self._after(starting, effects)
        return result

    def cancel(self, task: Task, *, children: bool = True, running: bool = True, reason: str | None = None) -> bool:
        """Cancel a pending task at once, and interrupt a running one; False if the task is finished.

        Without `running`, only if it is pending.
        """
        return self.change(partial(self._cancel, task, children, running, reason))

    # -- adding a task: pending -------------------------------------------------------------------------------

    def submit(
        self, task: Task, after: Sequence[Task] = (), parent: Task | None = None, taker: Backend | None = None
    ) -> Attempt | None:
        """Add a new task: start it, or queue it for its lane or for the tasks of `after`.

        An attempt on `taker`, the backend that the calling thread belongs to, is returned, for that thread to run.
        """
        internals = task.internals
        try:
            with self.lock:
                if internals.manager is not None:
                    raise AlreadyAddedError(f"{task.name!r} ({task.id}) was added before; a task runs once")
                if self.stopped:
                    raise ManagerStoppedError(f"the manager was stopped: it does not take {task.name!r}")
                lane = self.lanes[internals.lane]  # raises UnknownLaneError, if it was removed meanwhile
                internals.manager = self.owner
                self._add(task, lane, after, parent)
                if not (self._starting or self.effects or self._doomed):
                    return None
                starting, effects = self._take()
        except (AlreadyAddedError, ManagerStoppedError, UnknownLaneError):
            raise
        except BaseException as error:
            self.recover(error, task)
            raise
        return self._after(starting, effects, taker)

    def _add(self, task: Task, lane: Lane, after: Sequence[Task], parent: Task | None) -> None:
        internals = task.internals
        internals.created_at = now = self.time()
        self.registry.add(task)
        if self.waiters.watermarks:
            self.waiters.added(task)
        if parent is not None and parent.state in LIVE_STATES:
            add_child(parent, task)
        if self.bus.listeners:
            self.bus.publish(task, EventType.CREATED)
        if (not after or self._may_start(task, after)) and self.lanes.enter(lane, task):
            self._launch(task, now)
        elif self.note is not None:
            self.note(task)

    def _may_start(self, task: Task, after: Sequence[Task]) -> bool:
        """Whether all dependencies have completed; otherwise remember those that are live."""
        for other in after:
            if other.state not in LIVE_STATES and not task.may_follow(other):
                self._doomed.append((task, _dependency_error(other)))
                return False
        live = [other for other in after if other.state in LIVE_STATES]
        if live:
            add_dependencies(task, live)
        return not live

    def queue(self, task: Task) -> None:
        """Under the lock: let a pending task start as soon as its lane admits it."""
        lane = self.lane_of(task)
        lane.push(task)
        self.fill([lane])

    def fill(self, lanes: Iterable[Lane]) -> None:
        """Under the lock: start what may start in these lanes, or anywhere if there is a limit over all."""
        for lane in lanes:
            admit = self.lanes.admit_any if self.lanes.max_running is not None else partial(self.lanes.admit, lane)
            while (task := admit()) is not None:
                self._launch(task, self.time())

    def lane_of(self, task: Task) -> Lane:
        """The lane of a task that was added, or is about to be."""
        return self.lanes.by_name[task.internals.lane]

    # -- an attempt: running ----------------------------------------------------------------------------------

    def _launch(self, task: Task, now: float) -> None:
        """Begin the next attempt of a pending task that its lane has admitted; it is started after the lock."""
        internals = task.internals
        context = internals.context
        assert context is not None  # the manager sets it before a task is submitted
        attempt = _ManagedAttempt(
            task,
            task.run if internals.work is None else internals.work,
            (task,) if internals.takes_task else (),
            self.backends[internals.backend],  # type: ignore[index]  # set by the manager's checks
            context if internals.retry is None else context.copy(),
            internals.loop,
            self,
        )
        if internals.timeout is not None:
            attempt.time_limit = self.timer.call_later(
                internals.timeout,  # type: ignore[arg-type]  # seconds, by the manager's checks
                partial(self._time_out, attempt),
            )
        self.registry.move(task, TaskState.RUNNING)
        internals.attempts += 1
        internals.started_at = now
        internals.attempt = attempt
        self._starting.append(attempt)  # before anything that might raise: a running task has work
        if self.note is not None:
            self.note(task)
        if type(task).progress_hook is not Task.progress_hook:
            self._hooks.begin(attempt)
        if self.bus.listeners:
            self.bus.publish(task, EventType.STARTED)
        if self.blocked_loops:
            self._wake_loop(attempt)

    def _time_out(self, attempt: Attempt) -> None:
        """Interrupt an attempt that has run for the task's `timeout`. On the timer's thread."""
        with self.lock:
            if attempt.task.internals.attempt is not attempt:
                return
            attempt.timed_out = True
        try:
            attempt.interrupt()
        except Exception:
            logger.exception("%r could not be interrupted; next try in %g s", attempt, INTERRUPT_AGAIN_SECONDS)
            self.timer.call_later(INTERRUPT_AGAIN_SECONDS, partial(self._time_out, attempt))

    def finished(self, attempt: Attempt, outcome: Outcome) -> Attempt | None:
        """End an attempt whose work has stopped. Called by backends, outside the lock: see `Attempt.finished`."""
        if attempt.programs is not None and (outcome.state is TaskState.CANCELLED or attempt.timed_out):
            finish = partial(self._finish_without_programs, attempt, outcome)
            if attempt.programs.close(finish):
                return None
        return self._finish(attempt, outcome)

    def _finish_without_programs(self, attempt: Attempt, outcome: Outcome) -> None:
        """End an attempt that was stopped, now that the programs which it started have ended."""
        try:
            following = self._finish(attempt, outcome)
        except Exception as error:  # noqa: BLE001 - of nbtasks itself; as in `_ManagedAttempt.finished`
            self.recover(error, attempt.task if attempt.task.internals.attempt is attempt else None)
        else:
            attempt.backend.start_following(following)

    def _finish(self, attempt: Attempt, outcome: Outcome) -> Attempt | None:
        task, backend = attempt.task, attempt.backend
        if outcome.result is not None and self._continues_on_loop(attempt, outcome.result):
            return None
        if attempt.timed_out:
            outcome = _timed_out(task, outcome)
        if type(task).on_attempt_end is not Task.on_attempt_end:
            outcome = call_hook(task.on_attempt_end, outcome) or outcome
        with self.lock:
            if task.internals.attempt is not attempt:
                logger.error("%r was reported as finished twice", attempt)
                return None
            self._close(attempt, outcome)
            starting, effects = self._take()
        return self._after(starting, effects, backend if backend.takes_over else None)

    def _continues_on_loop(self, attempt: Attempt, result: object) -> bool:
        """Await what a plain function returned, if it is awaitable, on the loop, as part of the same attempt."""
        backend = self.backends["loop"]
        if attempt.backend is backend or not inspect.isawaitable(result):
            return False
        if attempt.is_async or not attempt.task.awaits_result:
            return False
        with self.lock:
            attempt.backend = backend
            attempt.handle = None
            attempt.function, attempt.args = Once(result), ()
            if attempt.loop is None:
                attempt.loop = self._default_loop()
            self._wake_loop(attempt)
            self._starting.append(attempt)
            starting, effects = self._take()
        self._after(starting, effects)
        return True

    def _close(self, attempt: Attempt, outcome: Outcome) -> None:
        """End the attempt, and the task unless it is retried; pass its slot to the next task."""
        task, now = attempt.task, self.time()
        task.internals.attempt = None
        if attempt.time_limit is not None:
            attempt.time_limit.cancel()
        if task.internals.relations is not None:
            self.waiters.end_all_of(task)
        if task.internals.retry is None or not self._retries(task, outcome):
            self._end(task, outcome, now)
        following = self.lanes.pass_on(self.lane_of(task))
        if following is not None:
            self._launch(following, now)

    # -- retries ----------------------------------------------------------------------------------------------

    def _retries(self, task: Task, outcome: Outcome) -> bool:
        """Whether the task is tried again after this outcome; if so, schedule it."""
        internals, retry, error = task.internals, task.internals.retry, outcome.exception
        if retry is None or error is None or outcome.state is not TaskState.FAILED:
            return False
        if self.stopped or internals.cancel_requested_at is not None or not retry.allows(internals.attempts, error):
            return False
        seconds = retry.seconds_before_next(internals.attempts, self._rng)
        internals.exception = error
        self._remember_attempt(task)
        self.bus.settle(task)
        internals.progress = None
        self.registry.move(task, TaskState.PENDING)
        self._report(task, EventType.RETRYING)
        relations_of(task).retry_timer = self.timer.call_later(seconds, partial(self._try_again, task))
        return True

    def _remember_attempt(self, task: Task) -> None:
        past = self.past_attempts.setdefault(task, [])
        now = datetime.fromtimestamp(self.time(), UTC)
        past.append(PastAttempt(task.attempts, task.started_at or now, now, task.error or ""))
        del past[:-PAST_ATTEMPTS]

    def _try_again(self, task: Task) -> None:
        """The delay before a retry has passed. On the timer's thread."""
        try:
            self.change(partial(self._queue_again, task))
        except Exception as error:  # noqa: BLE001 - the task's end, since nothing else would start it
            self.recover(error, task)

    def _queue_again(self, task: Task) -> None:
        relations: Relations | None = task.internals.relations
        if task.state is TaskState.PENDING and relations is not None and relations.retry_timer is not None:
            relations.retry_timer = None
            self.queue(task)

    # -- the end: completed, failed, cancelled ----------------------------------------------------------------

    def _cancel(self, task: Task, children: bool, running: bool, reason: str | None) -> bool:
        if task.state not in LIVE_STATES or (task.state is TaskState.RUNNING and not running):
            return False
        todo = [task]
        while todo:
            one = todo.pop()
            relations: Relations | None = one.internals.relations
            if children and relations is not None:
                todo.extend(relations.children.values())
            self._cancel_one(one, reason if one is task else f"cancelled with {task.name!r}")
        return True

    def _cancel_one(self, task: Task, reason: str | None) -> None:
        internals, now = task.internals, self.time()
        if internals.state is TaskState.PENDING:
            self.lane_of(task).discard(task)
            internals.cancel_requested_at = now
            if isinstance(internals.work, Once):
                self.effects.append(internals.work.close)
            self._end(task, Outcome(TaskState.CANCELLED), now, reason)
        elif internals.state is TaskState.RUNNING:
            if internals.cancel_requested_at is None:
                internals.cancel_requested_at = now
                internals.reason = reason
            self.effects.append(internals.attempt.interrupt)
            if self.bus.watches_progress:  # views show `cancelling`
                self.effects.append(partial(self.bus.progressed, task))

    def _end(self, task: Task, outcome: Outcome, now: float, reason: str | None = None) -> None:
        """Move the task into its final state; wake waiters, start or cancel dependants, prune."""
        internals, state = task.internals, outcome.state
        if self.bus.listeners:
            self.bus.settle(task)
        internals.completed_at = now
        self.registry.move(task, state)
        internals.exception = outcome.exception if state is TaskState.FAILED else None
        if state is TaskState.COMPLETED:
            internals.result = outcome.result
            internals.work = None
        elif state is TaskState.FAILED:
            # In the context of its creator: what is printed there is output of that cell.
            context = internals.context
            run = copy_context().run if context is None else context.copy().run
            self.effects.append(partial(run, call_hook, task.on_failure))
        else:
            internals.reason = reason or internals.reason or "cancelled"
        internals.context = internals.loop = None
        if self.note is not None or self.bus.listeners:
            self._report(task, _END_EVENTS[state])
        if type(task).on_end is not Task.on_end:
            self.effects.append(partial(call_hook, task.on_end))
        if internals.relations is not None:
            self._end_relations(task, internals.relations)
        self._wake_watermarks(task)
        if self.keep is not None and state is not TaskState.FAILED:
            oldest = self.registry.pop_oldest(state, self.keep)
            if oldest is not None:
                self.pruned(oldest)
        if self.stopped and not self.registry.count(*LIVE_STATES):
            self.effects.append(self._on_idle)

    def _end_relations(self, task: Task, relations: Relations) -> None:
        """Wake what waits for the task, and start or cancel the tasks that come after it."""
        if relations.retry_timer is not None:
            relations.retry_timer.cancel()
        siblings: Relations | None = None if relations.parent is None else relations.parent.internals.relations
        if siblings is not None:
            siblings.children.pop(task.number, None)
        for waiter in relations.waiters:
            self._count_down(waiter)
        if task.internals.wanted:
            self.waiters.forget(task, relations.dependencies)
        for dependant in relations.dependants:
            if dependant.state is not TaskState.PENDING:
                continue
            if not dependant.may_follow(task):
                self._doomed.append((dependant, _dependency_error(task)))
            elif resolve_dependency(dependant, task):
                self.queue(dependant)
        task.internals.relations = None  # at last: `recover` repeats all this, if it was left half done

    def _wake_watermarks(self, task: Task) -> None:
        """Count the task for those who wait for everything up to a number."""
        number = task.internals.number
        for waiter in self.waiters.watermarks:
            if number <= waiter.last_number and task is not waiter.for_task:
                self._count_down(waiter)

    def _count_down(self, waiter: Waiter) -> None:
        waiter.left -= 1
        if waiter.left == 0:
            self.effects.append(waiter.wake)

    def pruned(self, task: Task) -> None:
        """Under the lock: report that the registry no longer has a finished task."""
        self.pruned_tasks += 1
        if self.bus.listeners:
            self.bus.publish(task, EventType.PRUNED)
        if type(task).on_release is not Task.on_release:
            self.effects.append(partial(call_hook, task.on_release))

    # -- event loops ------------------------------------------------------------------------------------------

    def runs_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Under the lock: whether any running work needs that loop to turn."""
        backend = self.backends["loop"]
        attempts = [task.internals.attempt for task in self.registry.by_state[TaskState.RUNNING].values()]
        return any(attempt.backend is backend and attempt.loop is loop for attempt in attempts)

    def _wake_loop(self, attempt: Attempt) -> None:
        """If the attempt needs a loop whose thread is blocked in a wait, wake that."""
        if attempt.loop in self.blocked_loops and attempt.backend is self.backends["loop"]:
            self.effects.extend(self.blocked_loops[attempt.loop])

    # -- after the lock ---------------------------------------------------------------------------------------

    def _report(self, task: Task, event_type: EventType) -> None:
        """Under the lock: report a change of state to the history and to subscribers."""
        if self.note is not None:
            self.note(task)
        self.bus.publish(task, event_type)

    def _take(self) -> tuple[list[Attempt], list[Effect]]:
        """Under the lock: what is to be started and done once it is released."""
        while self._doomed:  # a loop, for chains of dependants may be long
            self._cancel_one(*self._doomed.pop())
        starting, self._starting = self._starting, []
        effects, self.effects = self.effects, []
        return starting, effects

    def _after(self, starting: list[Attempt], effects: list[Effect], taker: Backend | None = None) -> Attempt | None:
        """Do what was decided under the lock. Returns one attempt for `taker`, which starts it itself."""
        _perform(effects)
        taken = None
        for attempt in starting:
            if taken is None and attempt.backend is taker:
                taken = attempt
            else:
                self._start(attempt)
        return taken

    def _start(self, attempt: Attempt) -> None:
        """Start an attempt. If that fails, the task fails and the next one starts."""
        todo = [attempt]
        while todo:  # not recursive, for many may fail in turn
            attempt = todo.pop()
            try:
                attempt.backend.start(attempt)
            except Exception as error:  # noqa: BLE001 - whatever a backend raises is the task's error
                todo.extend(self._not_started(attempt, Outcome(TaskState.FAILED, None, error)))

    def _not_started(self, attempt: Attempt, outcome: Outcome) -> list[Attempt]:
        """End an attempt that could not be started; returns what starts in its place."""
        task = attempt.task
        outcome = call_hook(task.on_attempt_end, outcome) or outcome
        try:
            with self.lock:
                if task.internals.attempt is attempt:
                    self._close(attempt, outcome)
                starting, effects = self._take()
        except Exception as error:  # noqa: BLE001 - the task's end, as above
            self.recover(error, task)
            return []
        _perform(effects)
        return starting

    # -- recovery: after an error between two states ----------------------------------------------------------

    def recover(self, error: BaseException, lost: Task | None = None) -> None:
        """After an error of nbtasks itself: fail the tasks that nothing would move to another state.

        `lost` is one whose work has stopped, or will not be started. Slots are counted again, waits that were left out
        are ended, and what may start is started. The errors of a user's own code never lead here.
        """
        try:
            with self.lock:
                self._repair(error, lost)
                starting, effects = self._take()
            self._after(starting, effects)
        except Exception:
            logger.exception("recovery failed, after %r", error)

    def _repair(self, error: BaseException, lost: Task | None) -> None:
        """Under the lock."""
        if lost is not None:
            self._starting = [attempt for attempt in self._starting if attempt.task is not lost]
            if lost not in self.registry:
                lost.internals.manager = None  # it was not added
        doomed = {task for task, _ in self._doomed}
        live = [task for task in self.registry.tasks(LIVE_STATES) if task not in doomed]
        stranded = [task for task in live if task is lost or self._is_stranded(task)]
        running = self.registry.by_state[TaskState.RUNNING]
        self.lanes.recount(set(running.values()) - set(stranded))
        for task in stranded:
            self._fail_stranded(task, error)
        for task in self.registry.tasks(FINAL_STATES):
            relations: Relations | None = task.internals.relations
            if relations is not None:
                self.waiters.recount(relations.waiters)
                self.effects += [waiter.wake for waiter in relations.waiters if waiter.left == 0]
                relations.waiters = []
                self._end_relations(task, relations)
        self.waiters.recount(self.waiters.watermarks)
        self.effects += [waiter.wake for waiter in self.waiters.watermarks if waiter.left == 0]
        self.lanes.recount(running.values())
        self.fill(self.lanes.values())

    def _is_stranded(self, task: Task) -> bool:
        """Whether nothing will move this live task: no work, no queue, no dependency, no timer."""
        internals = task.internals
        if internals.state is TaskState.RUNNING:
            return internals.attempt is None
        relations: Relations | None = internals.relations
        if self.lane_of(task).holds(task):
            return False
        return relations is None or (
            relations.retry_timer is None and not any(other.state in LIVE_STATES for other in relations.dependencies)
        )

    def _fail_stranded(self, task: Task, error: BaseException) -> None:
        logger.error("%r failed by an error of nbtasks itself", task, exc_info=error)
        internals, outcome = task.internals, Outcome(TaskState.FAILED, None, error)
        self.lane_of(task).discard(task)
        if internals.attempt is not None and internals.attempt.time_limit is not None:
            internals.attempt.time_limit.cancel()
        internals.attempt = None
        self.waiters.end_all_of(task)
        if type(task) is not Task:  # it shows the error
            self.effects.append(partial(call_hook, task.on_attempt_end, outcome))
        self._end(task, outcome, self.time())


class _ManagedAttempt(Attempt):
    """An attempt whose end is reported to the dispatcher."""

    def finished(self, outcome: Outcome) -> Attempt | None:
        dispatcher: Dispatcher = self.listener
        try:
            return dispatcher.finished(self, outcome)
        except BaseException as error:  # noqa: BLE001 - of nbtasks itself; the work has stopped, and the backend continues
            dispatcher.recover(error, self.task if self.task.internals.attempt is self else None)
            return None


def _perform(effects: list[Effect]) -> None:
    """Do what was decided under the lock.

    An error of one effect is logged, and keeps none of the others back.
    """
    for effect in effects:
        try:
            effect()
        except Exception:
            logger.exception("%r failed", effect)


def _timed_out(task: Task, outcome: Outcome) -> Outcome:
    """An attempt that its timeout has stopped has failed; work that suppressed the interrupt has not."""
    if outcome.state is not TaskState.CANCELLED or task.internals.cancel_requested_at is not None:
        return outcome
    error = TaskTimeoutError(f"{task.name!r} ran longer than its timeout of {task.timeout:g} s")
    return Outcome(TaskState.FAILED, None, error)


def _dependency_error(other: Task) -> str:
    """Why a task that comes after `other` cannot start."""
    return f"dependency {other.name!r} {'failed' if other.state is TaskState.FAILED else 'was cancelled'}"
