"""The scheduler: keeps the recurring tasks of a manager, and starts their instances when they are due.

Must not know the manager: it is handed `create`, a timer, the event bus and threads. The only writer of a
RecurringTask. What a due fire comes to is decided by `rules`.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

from nbtasks.clock import Clock, DrivenClock, Timer, TimerHandle
from nbtasks.events import EventBus, EventType, Listener
from nbtasks.exceptions import InvalidScheduleError, ManagerStoppedError
from nbtasks.interrupts import uninterrupted
from nbtasks.schedules import CronSchedule
from nbtasks.schedules.recurring_task import RecurringTask, changed
from nbtasks.schedules.rules import ON_TIME, Decision, Plan, decide, goes_by_elapsed_time, plan_after
from nbtasks.states import TaskState
from nbtasks.task import Task

__all__ = ["Agenda", "Create", "Fire", "Instances", "Scheduler"]

WATCH_SECONDS = 30.0
"""How often the clock on the wall is looked at again: it may have been set, or gone on while the machine slept."""
_NOW = timedelta(0)
Entry = tuple[datetime, int, RecurringTask, Plan]


class Agenda:
    """The plans of recurring tasks, in order, and the timer's next call to `wake`, so many seconds ahead of the first.

    Moments by elapsed time are written as times of a clock of its own, which agreed with the one on the wall when the
    agenda was made.
    """

    def __init__(self, clock: Clock, timer: Timer, wake: Callable[[], object], head_start: float) -> None:
        self.watch_seconds = WATCH_SECONDS
        self._clock = clock
        self._timer = timer
        self._wake = wake
        self._head_start = timedelta(seconds=head_start)
        # A clock may tell the time that goes on while the machine sleeps; without, elapsed time stands still then.
        self._elapsed: Callable[[], float] = getattr(clock, "elapsed", clock.monotonic)
        self._zero = clock.now() - timedelta(seconds=self._elapsed())
        self._by_wall: list[Entry] = []
        self._by_elapsed: list[Entry] = []
        self._numbers = itertools.count()
        self._call: TimerHandle | None = None
        self._seen = self._drift()

    def now_of(self, recurring: RecurringTask) -> datetime:
        """The moment, in UTC, on the clock that the schedule goes by."""
        return self._elapsed_now() if goes_by_elapsed_time(recurring._parsed) else self._clock.now()

    def seconds_until(self, recurring: RecurringTask, due: datetime) -> float:
        """How long to wait for a fire that was taken early; 0 if it is due, or if the clock was set meanwhile."""
        wait = due - self.now_of(recurring)
        return wait.total_seconds() if _NOW < wait <= self._head_start else 0.0

    def plan(self, recurring: RecurringTask, plan: Plan) -> None:
        """Make this its next fire, in place of another."""
        recurring._plan = plan
        heap = self._by_elapsed if goes_by_elapsed_time(recurring._parsed) else self._by_wall
        heapq.heappush(heap, (plan.due, next(self._numbers), recurring, plan))

    def due(self) -> Iterator[tuple[RecurringTask, Plan, datetime]]:
        """Take what is due, or is so soon, each with the moment on its clock. Each recurring task comes once."""
        found: list[tuple[RecurringTask, Plan, datetime]] = []
        for heap, now in self._clocks():
            while heap and (heap[0][0] <= now + self._head_start or not _is_current(heap[0])):
                entry = heapq.heappop(heap)
                if _is_current(entry):
                    found.append((entry[2], entry[3], now))
        found.sort(key=_due)
        yield from found

    def arm(self) -> None:
        """Have `wake` called in time for what comes first, and within half a minute anyhow, if anything comes."""
        wait: timedelta | None = None
        for heap, now in self._clocks():
            while heap and not _is_current(heap[0]):
                heapq.heappop(heap)
            if heap:
                until_due = heap[0][0] - now - self._head_start
                wait = until_due if wait is None else min(wait, until_due)
        if wait is None:
            return
        when = self._clock.monotonic() + min(self.watch_seconds, max(0.0, wait.total_seconds()))
        if self._call is not None:
            if self._call.callback is not None and self._call.when <= when:
                return
            self._call.cancel()
        self._call = self._timer.call_at(when, self._wake)

    def set_back_by(self) -> timedelta:
        """How far the clock on the wall was set back since this was last asked; negative: forward."""
        before, self._seen = self._seen, self._drift()
        return before - self._seen

    def close(self) -> None:
        """Nothing is due any more."""
        self._by_wall.clear()
        self._by_elapsed.clear()
        if self._call is not None:
            self._call.cancel()

    def _elapsed_now(self) -> datetime:
        return self._zero + timedelta(seconds=self._elapsed())

    def _drift(self) -> timedelta:
        return self._clock.now() - self._elapsed_now()

    def _clocks(self) -> tuple[tuple[list[Entry], datetime], ...]:
        return (self._by_wall, self._clock.now()), (self._by_elapsed, self._elapsed_now())


def _is_current(entry: Entry) -> bool:
    return entry[2]._plan is entry[3]


def _due(found: tuple[RecurringTask, Plan, datetime]) -> timedelta:
    return found[1].due - found[2]


logger = logging.getLogger("nbtasks")
AWAKE_SECONDS = 0.0002
"""The last moment before a fire is waited out awake: a sleep ends a tenth of a millisecond late or more."""
FAILED_KEPT = 10
"""Of the failed instances of a schedule so many stay, the newest: there may be nobody to prune them."""


class Create(Protocol):
    """Adds an instance to the manager. With `here`, what the calling thread of the pool is to run next is returned."""

    def __call__(self, instance: Task, loop: asyncio.AbstractEventLoop | None, *, here: bool) -> object:
        """Add it, to run on `loop` where it is a coroutine."""


@dataclass(slots=True)
class Fire:
    """A fire on its way to its instance. It is void once the generation of its recurring task has changed."""

    recurring: RecurringTask
    generation: int
    planned: datetime
    due: datetime
    instance: Task | None = None


class Instances:
    """Starts instances, and counts them.

    Counters and live instances are guarded by the bus's lock. Code of others (templates, conditions) runs without it.
    """

    def __init__(
        self, *, create: Create, forget: Callable[[Task], object], agenda: Agenda, clock: Clock, bus: EventBus
    ) -> None:
        self.on_change: Callable[[RecurringTask], object] | None = None
        """Called under the bus's lock when something of a recurring task has changed, or it was removed."""
        self.by_id: dict[str, RecurringTask] = {}
        self.stopped = False
        self._create = create
        self._forget = forget
        self._agenda = agenda
        self._clock = clock
        self._bus = bus
        bus.add(_Ends(bus, self._ended))

    def publish(self, recurring: RecurringTask, event_type: EventType) -> None:
        """Tell of a change of the recurring task."""
        with self._bus.lock:
            self._publish(recurring, event_type)

    def skip(self, recurring: RecurringTask, fires: int) -> None:
        """Count fires that have no instance."""
        with self._bus.lock:
            self._count_skipped(recurring, fires)

    def on_the_wall(self, recurring: RecurringTask, moment: datetime) -> datetime:
        """A moment on the clock that the schedule goes by, on the wall's clock, in the schedule's zone."""
        if goes_by_elapsed_time(recurring._parsed):
            moment = moment.astimezone(UTC) + (self._clock.now() - self._agenda.now_of(recurring))
        return moment.astimezone(recurring._zone)

    # -- starts -----------------------------------------------------------------------------------------------

    def run(self, fires: Iterable[Fire], *, here: bool) -> object:
        """Start their instances, each at its moment. With `here`, on a thread of the pool: what it is to run next."""
        ready = [fire for fire in fires if self._prepare(fire)]
        following: object = None
        for fire in ready:
            self._wait_for(fire)
            try:
                following = self.start(fire, here=here and fire is ready[-1])
            except ManagerStoppedError:
                return None
            except Exception as error:  # noqa: BLE001 - the template, or what the manager does not take
                self._could_not_start(fire.recurring, error)
        return following

    def start(self, fire: Fire, *, here: bool) -> object:
        """Start the instance, unless there are too many, or something has changed since the fire was decided.

        If it was, `fire.instance` is it. Raises what the template or the manager raises.
        """
        recurring, instance = fire.recurring, fire.instance
        fire.instance = None
        if instance is None:
            with self._bus.lock:
                if not self._admits(fire):
                    return None
            instance = recurring._instance()
        with self._bus.lock:
            if not self._admits(fire):
                return None
            recurring._live.append(instance)
            recurring.total_runs += 1
            recurring.last_run = self._clock.now()
        try:
            # In the context of whoever added it: its prints go where that code's do.
            following = recurring._context.copy().run(self._create, instance, recurring._loop, here=here)
        except BaseException:
            with self._bus.lock:
                recurring._live.remove(instance)
                recurring.total_runs -= 1
            raise
        fire.instance = instance
        with self._bus.lock:
            self._started(recurring)
        return following

    def _admits(self, fire: Fire) -> bool:
        """Under the bus's lock: whether the fire may have an instance; if only others are in its way, it is counted."""
        recurring = fire.recurring
        if self.stopped or recurring._generation != fire.generation:
            return False
        if len(recurring.instances) < recurring.max_concurrent:
            return True
        self._count_skipped(recurring, 1)
        return False

    def _prepare(self, fire: Fire) -> bool:
        """Do what takes time: ask the condition, and make the instance, unless there are too many."""
        recurring = fire.recurring
        condition = recurring.rules.only_if
        try:
            if condition is not None and not condition(self.on_the_wall(recurring, fire.planned)):
                return False
            if len(recurring.instances) < recurring.max_concurrent:
                fire.instance = recurring._instance()
        except Exception as error:  # noqa: BLE001 - the user's condition, or a kind of task with a fault of its own
            self._could_not_start(recurring, error)
            return False
        return True

    def _wait_for(self, fire: Fire) -> None:
        while (seconds := self._agenda.seconds_until(fire.recurring, fire.due)) > 0:
            if seconds > AWAKE_SECONDS:
                time.sleep(seconds - AWAKE_SECONDS)

    def _started(self, recurring: RecurringTask) -> None:
        """Under the bus's lock."""
        most = recurring.rules.max_runs
        if most is not None and recurring.total_runs >= most and recurring.enabled:
            recurring._switch_off(recurring._nothing_left())
            self._publish(recurring, EventType.SCHEDULED)
        self._noticed(recurring)

    def _could_not_start(self, recurring: RecurringTask, error: Exception) -> None:
        logger.error("no instance of the recurring task %r could be started", recurring.name, exc_info=error)
        with self._bus.lock:
            self._count_failure(recurring, f"could not start: {type(error).__name__}: {error}")

    # -- ends -------------------------------------------------------------------------------------------------

    def _ended(self, task: Task) -> None:
        """Under the bus's lock: an instance is over."""
        recurring = self.by_id.get(task.parent_id or "")
        if recurring is None or task not in recurring._live:
            return
        recurring._live.remove(task)
        if task.state is not TaskState.CANCELLED and task.started_at is not None and task.completed_at is not None:
            recurring.last_duration = (task.completed_at - task.started_at).total_seconds()
        if task.state is TaskState.COMPLETED:
            recurring.consecutive_failures = 0
        elif task.state is TaskState.FAILED:
            recurring._failed.append(task)
            if len(recurring._failed) > FAILED_KEPT:
                self._forget(recurring._failed.pop(0))
            self._count_failure(recurring, task.error)
        self._noticed(recurring)

    def _count_failure(self, recurring: RecurringTask, message: str | None) -> None:
        """Under the bus's lock."""
        recurring.total_failures += 1
        recurring.consecutive_failures += 1
        recurring.last_error = message
        most = recurring.rules.max_consecutive_failures
        if most is not None and recurring.consecutive_failures >= most and recurring.enabled:
            recurring._switch_off(f"it failed {most} times in a row")
            self._publish(recurring, EventType.SCHEDULED)
        self._noticed(recurring)

    def _count_skipped(self, recurring: RecurringTask, fires: int) -> None:
        """Under the bus's lock."""
        recurring.total_skipped += fires
        self._publish(recurring, EventType.SKIPPED)

    def _publish(self, recurring: RecurringTask, event_type: EventType) -> None:
        """Under the bus's lock."""
        self._bus.publish(recurring, event_type)
        self._noticed(recurring)

    def _noticed(self, recurring: RecurringTask) -> None:
        """Under the bus's lock."""
        if self.on_change is not None:
            self.on_change(recurring)


class _Ends(Listener):
    """Hears of the ends of instances at once, under the bus's lock, so that counters are right in every callback."""

    def __init__(self, bus: EventBus, ended: Callable[[Task], object]) -> None:
        super().__init__(bus, frozenset({EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED}), None)
        self._tell = ended

    def offer(self, task: Any, event_type: EventType) -> None:
        """Tell of an instance's end."""
        if event_type in self.events and task.parent_id is not None:
            self._tell(task)


HEAD_START = 0.05
"""So many seconds before it is due a fire is given to a thread that waits out the rest and then runs it: neither other
fires nor a busy interpreter then stand between the moment and the work."""
SET_BACK = timedelta(seconds=1)
"""A clock that went back by more than this was set; by less, it was adjusted, and no fire comes twice for that."""
CORRECTION = timedelta(hours=3)
"""cronie's limit: the times that a clock shows again when it was set back by more than this are new ones."""


class Scheduler:
    """Starts the instances of recurring tasks.

    `_lock` guards the agenda and what is planned; the bus's lock, which may be taken inside `_lock` and never the other
    way round, guards the counters (see `Instances`). Code of others runs under neither.
    """

    def __init__(
        self,
        *,
        create: Create,
        forget: Callable[[Task], object],
        call_in_thread: Callable[[Callable[[], object]], object],
        clock: Clock,
        timer: Timer,
        bus: EventBus,
    ) -> None:
        self._call_in_thread = call_in_thread
        self._clock = clock
        self._driven = isinstance(clock, DrivenClock)
        self._lock = threading.Lock()
        self.agenda = Agenda(clock, timer, self._serve, 0.0 if self._driven else HEAD_START)
        self.instances = Instances(create=create, forget=forget, agenda=self.agenda, clock=clock, bus=bus)
        self._recurring = self.instances.by_id
        self._rng = random.Random()

    # -- what is asked of it ----------------------------------------------------------------------------------

    @uninterrupted
    def add(self, recurring: RecurringTask, *, enabled: bool = True) -> None:
        """Keep a new recurring task, and let it fire if it is `enabled`. InvalidScheduleError if it never does."""
        with self._lock:
            if self.instances.stopped:
                raise ManagerStoppedError(f"the manager was stopped: it does not take {recurring.name!r}")
            now = self.agenda.now_of(recurring)
            recurring._begin_at(now)
            if self._next(recurring, now) is None:
                raise InvalidScheduleError(f"{recurring.name!r} never fires: {recurring._nothing_left()}")
            recurring._owner = self
            recurring.created_at = recurring.created_at or self._clock.now()
            self._recurring[recurring.id] = recurring
            if enabled:
                self._switch_on(recurring)
            self.instances.publish(recurring, EventType.SCHEDULED)

    def get(self, recurring_id: str) -> RecurringTask | None:
        """The recurring task of that id."""
        return self._recurring.get(recurring_id)

    def list(self) -> list[RecurringTask]:
        """All of them, oldest first."""
        with self._lock:
            return list(self._recurring.values())

    @uninterrupted
    def enable(self, recurring: RecurringTask) -> bool:
        """Let it fire; False if it does, or has nothing to come."""
        with self._lock:
            if recurring.enabled or self.instances.stopped or recurring._owner is None:
                return False
            recurring._begin_at(self.agenda.now_of(recurring))
            switched = self._switch_on(recurring)
            self.instances.publish(recurring, EventType.SCHEDULED)
        return switched

    @uninterrupted
    def disable(self, recurring: RecurringTask) -> bool:
        """Let it fire no more; False if it does not."""
        with self._lock:
            if not recurring.enabled:
                return False
            recurring._switch_off(None)
            self.instances.publish(recurring, EventType.SCHEDULED)
        return True

    @uninterrupted
    def remove(self, recurring: RecurringTask) -> bool:
        """Keep it no more."""
        with self._lock:
            if self._recurring.pop(recurring.id, None) is None:
                return False
            recurring._switch_off(None)
            recurring._owner = None
            self.instances.publish(recurring, EventType.SCHEDULED)
        return True

    @uninterrupted
    def change(self, recurring: RecurringTask, changes: Mapping[str, Any]) -> None:
        """Change what it was given, all or nothing."""
        new = changed(recurring, changes)
        with self._lock:
            replanned = (recurring._parsed, recurring.rules) != (new["_parsed"], new["rules"])
            was_on, old = recurring.enabled, {name: getattr(recurring, name) for name in new}
            _assign(recurring, new)
            if replanned:
                now = self.agenda.now_of(recurring)
                recurring._begin_at(now)
                if self._next(recurring, now) is None:
                    message = f"{recurring.name!r} would never fire: {recurring._nothing_left()}"
                    _assign(recurring, old)
                    recurring._begin_at(self.agenda.now_of(recurring))
                    raise InvalidScheduleError(message)
                recurring._switch_off(recurring.ended)
                if was_on:
                    self._switch_on(recurring)
            self.instances.publish(recurring, EventType.SCHEDULED)

    @uninterrupted
    def run_now(self, recurring: RecurringTask) -> Task | None:
        """Start an instance outside the schedule; None if too many run already."""
        now = self._clock.now()
        fire = Fire(recurring, recurring._generation, now, now)
        self.instances.start(fire, here=False)
        return fire.instance

    def next_run(self, recurring: RecurringTask) -> datetime | None:
        """When it fires next, by the clock on the wall, in its zone."""
        plan = recurring._plan
        return None if plan is None or not recurring.enabled else self.instances.on_the_wall(recurring, plan.due)

    def tell(self, note: Callable[[RecurringTask], object] | None) -> None:
        """Have `note` called whenever something of a recurring task has changed, and for each that there is now.

        It is called under the bus's lock: atomic and quick.
        """
        with self._lock:
            self.instances.on_change = note
            if note is not None:
                for recurring in self._recurring.values():
                    note(recurring)

    @property
    def is_on(self) -> bool:
        """Whether any schedule is on."""
        return any(recurring.enabled for recurring in self.list())

    def stop(self) -> None:
        """Let nothing fire any more. What is on stays on in the records."""
        with self._lock:
            self.instances.stopped = True
            self.agenda.close()

    # -- plans ------------------------------------------------------------------------------------------------

    def _next(self, recurring: RecurringTask, after: datetime) -> Plan | None:
        return plan_after(recurring._fires, recurring.rules, after.astimezone(recurring._zone), self._rng)

    def _switch_on(self, recurring: RecurringTask) -> bool:
        """Under the lock: plan the next fire; False if there is none."""
        most = recurring.rules.max_runs
        used_up = most is not None and recurring.total_runs >= most
        plan = None if used_up else self._next(recurring, self.agenda.now_of(recurring))
        if plan is None:
            recurring.ended = recurring._nothing_left()
            return False
        if recurring.ended is not None:  # it failed too often, and is given as many tries again
            recurring.ended, recurring.consecutive_failures = None, 0
        recurring.enabled = True
        self.agenda.plan(recurring, plan)
        self.agenda.arm()
        return True

    def _serve(self) -> None:
        """Something is due, or the clock is to be looked at. On the timer's thread."""
        fires: list[Fire] = []
        with self._lock:
            if self.instances.stopped:
                return
            set_back = self.agenda.set_back_by()
            if set_back > SET_BACK:
                self._plan_again(forget_what_was=set_back > CORRECTION)
            for recurring, plan, now in self.agenda.due():
                fire = self._take(recurring, plan, now)
                if fire is not None:
                    fires.append(fire)
            self.agenda.arm()
        if fires and self._driven:
            self.instances.run(fires, here=False)
        elif fires:
            self._call_in_thread(partial(self.instances.run, fires, here=True))

    def _take(self, recurring: RecurringTask, plan: Plan, now: datetime) -> Fire | None:
        """Under the lock: decide what becomes of a fire, and plan the next one."""
        generation = recurring._generation  # read first: a switch-off from now on makes the fire void
        if not recurring.enabled:
            return None
        decision = Decision(plan.planned, 0, plan.planned)
        if plan.due <= now:
            decision = decide(recurring._fires, recurring.rules, plan, now)
        after = decision.served
        if goes_by_elapsed_time(recurring._parsed) and now - plan.due > ON_TIME:
            recurring._begin_at(now)
            after = now
        following = self._next(recurring, after)
        if following is not None:
            self.agenda.plan(recurring, following)
        else:
            recurring._switch_off(recurring._nothing_left())
            generation = recurring._generation
        if decision.missed:
            self.instances.skip(recurring, decision.missed)
        self.instances.publish(recurring, EventType.SCHEDULED)
        if decision.run is None:
            return None
        return Fire(recurring, generation, decision.run, plan.due)

    def _plan_again(self, *, forget_what_was: bool) -> None:
        """Under the lock: the clock was set back. Fixed times that it shows again have had their fires."""
        for recurring in self._recurring.values():
            schedule = recurring._parsed
            if not recurring.enabled or goes_by_elapsed_time(schedule):
                continue
            if isinstance(schedule, CronSchedule) and schedule.is_fixed and not forget_what_was:
                continue
            plan = self._next(recurring, self._clock.now())
            if plan is not None:
                self.agenda.plan(recurring, plan)
                self.instances.publish(recurring, EventType.SCHEDULED)


def _assign(recurring: RecurringTask, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(recurring, name, value)
