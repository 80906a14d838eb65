"""`Scheduler`: starts the instances of recurring tasks when they are due."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

from nbtasks.clock import Clock, DrivenClock, Timer, TimerHandle
from nbtasks.events import EventBus, EventType, Listener
from nbtasks.exceptions import InvalidScheduleError, ManagerStoppedError
from nbtasks.interrupts import uninterrupted
from nbtasks.schedules.cron import CronSchedule
from nbtasks.schedules.recurring_task import RecurringTask, changed
from nbtasks.schedules.rules import ON_TIME, Decision, Plan, decide
from nbtasks.states import TaskState
from nbtasks.task import Task, call_hook

__all__ = ["Agenda", "Create", "Fire", "Instances", "Scheduler"]

logger = logging.getLogger("nbtasks")
WATCH_SECONDS = 30.0
"""How often the wall clock is checked: it may have been set, or the machine may have slept."""
HEAD_START = 0.05
"""How many seconds before it is due a fire is handed to a thread, which waits for the rest and then runs it: neither
other fires nor a busy interpreter delay the work."""
SET_BACK = timedelta(seconds=1)
"""A clock that went back by more than this was set; by less, it was adjusted, and no fire is repeated for that."""
CORRECTION = timedelta(hours=3)
"""cronie's limit: when the clock was set back by more than this, the times that it shows again are new ones."""
AGAIN_SECONDS = 1.0
"""How long after an error of its own the scheduler looks again for what is due."""
_NOW = timedelta(0)
Entry = tuple[datetime, int, RecurringTask, Plan]


class Create(Protocol):
    """Adds an instance to the manager.

    With `here`, returns the attempt that the calling thread of the pool runs next.
    """

    def __call__(self, instance: Task, loop: asyncio.AbstractEventLoop | None, *, here: bool) -> object:
        """Add it, to run on `loop` if it is a coroutine."""


@dataclass(slots=True)
class Fire:
    """A fire whose instance has not started.

    It is void once the generation of its recurring task has changed.
    """

    recurring: RecurringTask
    generation: int
    planned: datetime
    due: datetime
    instance: Task | None = None


class Agenda:
    """The plans of recurring tasks, in order, and the timer's next call of `wake`.

    It comes `head_start` seconds before the first plan is due.

    Moments of elapsed time are written as times on a clock that agreed with the wall clock when the agenda was made.
    """

    def __init__(self, clock: Clock, timer: Timer, wake: Callable[[], object], head_start: float) -> None:
        self.watch_seconds = WATCH_SECONDS
        self._clock = clock
        self._timer = timer
        self._wake = wake
        self._head_start = timedelta(seconds=head_start)
        # A clock may count the time while the machine sleeps; without, elapsed time stands still then.
        self._elapsed: Callable[[], float] = getattr(clock, "elapsed", clock.monotonic)
        self._zero = clock.now() - timedelta(seconds=self._elapsed())
        self._by_wall: list[Entry] = []
        self._by_elapsed: list[Entry] = []
        self._numbers = itertools.count()
        self._call: TimerHandle | None = None
        self._seen = self._drift()

    def now_of(self, recurring: RecurringTask) -> datetime:
        """Now, in UTC, on the clock of the schedule."""
        return self._elapsed_now() if recurring.by_elapsed_time else self._clock.now()

    def seconds_until(self, recurring: RecurringTask, due: datetime) -> float:
        """How long to wait for a fire that was taken early; 0 if it is due, or the clock was set meanwhile."""
        wait = due - self.now_of(recurring)
        return wait.total_seconds() if _NOW < wait <= self._head_start else 0.0

    def plan(self, recurring: RecurringTask, plan: Plan) -> None:
        """Make this its next fire."""
        recurring.plan = plan
        heap = self._by_elapsed if recurring.by_elapsed_time else self._by_wall
        heapq.heappush(heap, (plan.due, next(self._numbers), recurring, plan))

    def due(self) -> Iterator[tuple[RecurringTask, Plan, datetime]]:
        """Take the plans that are due within `head_start`, each with the time on its clock."""
        found: list[tuple[RecurringTask, Plan, datetime]] = []
        for heap, now in self._clocks():
            while heap and (heap[0][0] <= now + self._head_start or not _is_current(heap[0])):
                entry = heapq.heappop(heap)
                if _is_current(entry):
                    found.append((entry[2], entry[3], now))
        found.sort(key=_due)
        yield from found

    def arm(self) -> None:
        """Schedule the call of `wake`: in time for the first plan, and within `watch_seconds`."""
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
        earlier = self._call
        if earlier is not None and earlier.callback is not None and earlier.when <= when:
            return
        self._call = self._timer.call_at(when, self._wake)
        if earlier is not None:
            earlier.cancel()

    def restore(self, recurring: Iterable[RecurringTask], seconds: float) -> None:
        """After an error: take the plans of the recurring tasks again, and call `wake` after `seconds`."""
        self._by_wall.clear()
        self._by_elapsed.clear()
        for one in recurring:
            if one.plan is not None:
                self.plan(one, one.plan)
        self._call = self._timer.call_later(seconds, self._wake)

    def set_back_by(self) -> timedelta:
        """How far the wall clock was set back since the last call; negative: forward."""
        before, self._seen = self._seen, self._drift()
        return before - self._seen

    def close(self) -> None:
        """Remove all plans."""
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
    return entry[2].plan is entry[3]


def _due(found: tuple[RecurringTask, Plan, datetime]) -> timedelta:
    return found[1].due - found[2]


class Instances:
    """Starts instances and counts them.

    The bus's lock guards counters and live instances. The user's code (templates, conditions) runs without it.
    """

    def __init__(
        self, *, create: Create, forget: Callable[[Task], object], agenda: Agenda, clock: Clock, bus: EventBus
    ) -> None:
        self.on_change: Callable[[RecurringTask], object] | None = None
        """Called under the bus's lock when a recurring task has changed or was removed."""
        self.by_id: dict[str, RecurringTask] = {}
        self.stopped = False
        self._create = create
        self._forget = forget
        self._agenda = agenda
        self._clock = clock
        self._bus = bus
        bus.add(_Finished(bus, self._finished))

    def publish(self, recurring: RecurringTask, event_type: EventType) -> None:
        """Publish an event of the recurring task."""
        with self._bus.lock:
            self._publish(recurring, event_type)

    def skip(self, recurring: RecurringTask, fires: int) -> None:
        """Count fires that have no instance."""
        with self._bus.lock:
            self._count_skipped(recurring, fires)

    def on_the_wall(self, recurring: RecurringTask, moment: datetime) -> datetime:
        """A moment on the schedule's clock as a time on the wall clock, in the schedule's zone."""
        if recurring.by_elapsed_time:
            moment = moment.astimezone(UTC) + (self._clock.now() - self._agenda.now_of(recurring))
        return moment.astimezone(recurring.zone)

    # -- starts -----------------------------------------------------------------------------------------------

    def run(self, fires: Iterable[Fire], *, here: bool) -> object:
        """Start the instances, each when it is due; see `Create` for `here` and the return value."""
        ready = [fire for fire in fires if self._prepare(fire)]
        following: object = None
        for fire in ready:
            try:
                self._wait_for(fire)
                following = self.start(fire, here=here and fire is ready[-1])
            except ManagerStoppedError:
                return None
            except Exception as error:  # noqa: BLE001 - of the template, or of the manager that refuses it
                self.could_not_start(fire.recurring, error)
        return following

    def start(self, fire: Fire, *, here: bool) -> object:
        """Start the instance, unless too many are running or the fire has become void.

        It is then `fire.instance`. Raises what the template or the manager raises.
        """
        recurring, instance = fire.recurring, fire.instance
        fire.instance = None
        if instance is None:
            with self._bus.lock:
                if not self._admits(fire):
                    return None
            instance = recurring.make_instance()
        try:
            with self._bus.lock:
                if not self._admits(fire):
                    return None
                recurring.count_start(instance, self._clock.now())
            # In a copy of the context that added it: its prints go to that code's cell.
            following = recurring.context.copy().run(self._create, instance, recurring.loop, here=here)
        except BaseException:
            with self._bus.lock:
                recurring.uncount_start(instance)
            raise
        fire.instance = instance
        try:
            with self._bus.lock:
                self._changed(recurring, recurring.why_no_fire() if recurring.used_up else None)
        except Exception:  # the instance runs, on this very thread perhaps: it is what counts
            logger.exception("the counters of %r could not be published", recurring)
        return following

    def _admits(self, fire: Fire) -> bool:
        """Under the bus's lock: whether the fire may start an instance; counts it as skipped if not."""
        recurring = fire.recurring
        if self.stopped or recurring.generation != fire.generation:
            return False
        if len(recurring.instances) < recurring.max_concurrent:
            return True
        self._count_skipped(recurring, 1)
        return False

    def _prepare(self, fire: Fire) -> bool:
        """Do what takes time: evaluate the condition and make the instance, unless too many are running."""
        recurring = fire.recurring
        condition = recurring.rules.only_if
        try:
            if condition is not None and not condition(self.on_the_wall(recurring, fire.planned)):
                return False
            if len(recurring.instances) < recurring.max_concurrent:
                fire.instance = recurring.make_instance()
        except Exception as error:  # noqa: BLE001 - the user's condition or subclass of Task
            self.could_not_start(recurring, error)
            return False
        return True

    def _wait_for(self, fire: Fire) -> None:
        while (seconds := self._agenda.seconds_until(fire.recurring, fire.due)) > 0:
            time.sleep(seconds)

    def could_not_start(self, recurring: RecurringTask, error: Exception) -> None:
        """Count a fire that has no instance because of an error as a failure."""
        logger.error("no instance of the recurring task %r could be started", recurring.name, exc_info=error)
        with self._bus.lock:
            recurring.count_failure(f"could not start: {type(error).__name__}: {error}")
            self._changed(recurring, recurring.failure_limit())

    # -- outcomes -----------------------------------------------------------------------------------------------------

    def _finished(self, task: Task) -> None:
        """Under the bus's lock: count the outcome of an instance."""
        recurring = self.by_id.get(task.parent_id or "")
        if recurring is None or task not in recurring.live:
            return
        too_old = recurring.count_finish(task)
        if too_old is not None:
            self._forget(too_old)
        self._changed(recurring, recurring.failure_limit() if task.state is TaskState.FAILED else None)

    def _changed(self, recurring: RecurringTask, limit: str | None) -> None:
        """Under the bus's lock: counters have changed; switch it off if they have reached a limit."""
        if limit is not None and recurring.enabled:
            recurring.switch_off(limit)
            self._publish(recurring, EventType.SCHEDULED)
        else:
            self._note(recurring)

    def _count_skipped(self, recurring: RecurringTask, fires: int) -> None:
        """Under the bus's lock."""
        recurring.total_skipped += fires
        self._publish(recurring, EventType.SKIPPED)

    def _publish(self, recurring: RecurringTask, event_type: EventType) -> None:
        """Under the bus's lock."""
        self._bus.publish(recurring, event_type)
        self._note(recurring)

    def _note(self, recurring: RecurringTask) -> None:
        """Under the bus's lock."""
        if self.on_change is not None:
            self.on_change(recurring)


class _Finished(Listener):
    """Calls a function when an instance finishes.

    Under the bus's lock, so that the counters are right in every callback.
    """

    def __init__(self, bus: EventBus, finished: Callable[[Task], object]) -> None:
        super().__init__(bus, frozenset({EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED}), None)
        self._call = finished

    def offer(self, task: Any, event_type: EventType) -> None:
        """Call the function if the task is an instance."""
        if event_type in self.events and task.parent_id is not None:
            self._call(task)


class Scheduler:
    """Starts the instances of recurring tasks.

    `_lock` guards the agenda and the plans; the bus's lock, which may be acquired while `_lock` is held but not the
    other way round, guards the counters (see `Instances`). The user's code runs under neither.
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

    # -- the recurring tasks ------------------------------------------------------------------------------------------

    @uninterrupted
    def add(self, recurring: RecurringTask, *, enabled: bool = True) -> None:
        """Add a recurring task, which fires if it is `enabled`. Raises InvalidScheduleError if it never would."""
        with self._lock:
            if self.instances.stopped:
                raise ManagerStoppedError(f"the manager was stopped: cannot add {recurring.name!r}")
            now = self.agenda.now_of(recurring)
            recurring.begin_at(now)
            if recurring.plan_after(now, self._rng) is None:
                raise InvalidScheduleError(f"{recurring.name!r} never fires: {recurring.why_no_fire()}")
            recurring.owner = self
            recurring.created_at = recurring.created_at or self._clock.now()
            self._recurring[recurring.id] = recurring
            try:
                if enabled:
                    self._switch_on(recurring)
                self.instances.publish(recurring, EventType.SCHEDULED)
            except BaseException:
                recurring.switch_off(None)
                recurring.owner = None
                del self._recurring[recurring.id]
                raise

    def get(self, recurring_id: str) -> RecurringTask | None:
        """The recurring task of that id."""
        return self._recurring.get(recurring_id)

    def list(self) -> list[RecurringTask]:
        """All of them, oldest first."""
        with self._lock:
            return list(self._recurring.values())

    @uninterrupted
    def enable(self, recurring: RecurringTask) -> bool:
        """Let it fire; False if it already does, or has no fire to come."""
        with self._lock:
            if recurring.enabled or self.instances.stopped or recurring.owner is None:
                return False
            recurring.begin_at(self.agenda.now_of(recurring))
            switched = self._switch_on(recurring)
            self.instances.publish(recurring, EventType.SCHEDULED)
        return switched

    @uninterrupted
    def disable(self, recurring: RecurringTask, reason: str | None = None) -> bool:
        """Stop firing; False if it does not fire. `reason` is given where no user has asked for it."""
        with self._lock:
            if not recurring.enabled:
                return False
            recurring.switch_off(reason)
            self.instances.publish(recurring, EventType.SCHEDULED)
        return True

    @uninterrupted
    def remove(self, recurring: RecurringTask) -> bool:
        """Remove it; False if it is not here."""
        with self._lock:
            if self._recurring.pop(recurring.id, None) is None:
                return False
            recurring.switch_off(None)
            recurring.owner = None
            self.instances.publish(recurring, EventType.SCHEDULED)
        for failed in recurring.take_failed():
            call_hook(failed.on_release)
        return True

    @uninterrupted
    def change(self, recurring: RecurringTask, changes: Mapping[str, Any]) -> None:
        """Change its options: all of them or, on an error, none."""
        new = changed(recurring, changes)
        with self._lock:
            replanned = (recurring.parsed, recurring.rules) != (new["parsed"], new["rules"])
            was_on, old = recurring.enabled, {name: getattr(recurring, name) for name in new}
            _assign(recurring, new)
            if replanned:
                now = self.agenda.now_of(recurring)
                recurring.begin_at(now)
                if recurring.plan_after(now, self._rng) is None:
                    message = f"{recurring.name!r} would never fire: {recurring.why_no_fire()}"
                    _assign(recurring, old)
                    recurring.begin_at(self.agenda.now_of(recurring))
                    raise InvalidScheduleError(message)
                recurring.switch_off(recurring.ended)
                if was_on:
                    self._switch_on(recurring)
            self.instances.publish(recurring, EventType.SCHEDULED)

    @uninterrupted
    def run_now(self, recurring: RecurringTask) -> Task | None:
        """Start an instance outside the schedule; None if too many are running."""
        now = self._clock.now()
        fire = Fire(recurring, recurring.generation, now, now)
        self.instances.start(fire, here=False)
        return fire.instance

    def next_run(self, recurring: RecurringTask) -> datetime | None:
        """When it fires next, by the wall clock, in its zone."""
        plan = recurring.plan
        return None if plan is None or not recurring.enabled else self.instances.on_the_wall(recurring, plan.due)

    def notify(self, note: Callable[[RecurringTask], object] | None) -> None:
        """Call `note` for each recurring task now, and whenever one has changed.

        It is called under the bus's lock, so it must be quick.
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
        """Stop all firing. Schedules that are on stay on in the history."""
        with self._lock:
            self.instances.stopped = True
            self.agenda.close()

    # -- plans ------------------------------------------------------------------------------------------------

    def _switch_on(self, recurring: RecurringTask) -> bool:
        """Under the lock: plan the next fire; False if there is none."""
        plan = None if recurring.used_up else recurring.plan_after(self.agenda.now_of(recurring), self._rng)
        if plan is None:
            recurring.ended = recurring.why_no_fire()
            return False
        if recurring.ended is not None:  # it failed too often: it may fail as often again
            recurring.ended, recurring.consecutive_failures = None, 0
        recurring.enabled = True
        try:
            self.agenda.plan(recurring, plan)
            self.agenda.arm()
        except BaseException as error:  # one that is on, fires
            recurring.switch_off(f"{type(error).__name__}: {error}")
            raise
        return True

    def _serve(self) -> None:
        """On the timer's thread: start what is due, and check the wall clock."""
        fires: list[Fire] = []
        try:
            self._take_due(fires)
        except Exception:
            logger.exception("the scheduler failed; it looks again in %g s", AGAIN_SECONDS)
            with self._lock:
                self.agenda.restore(self._recurring.values(), AGAIN_SECONDS)
        if fires and self._driven:
            self.instances.run(fires, here=False)
        elif fires:
            self._run_on_thread(fires)

    def _run_on_thread(self, fires: Sequence[Fire]) -> None:
        try:
            self._call_in_thread(partial(self.instances.run, fires, here=True))
        except Exception as error:  # noqa: BLE001 - there is no thread: the failure is that of each schedule
            for fire in fires:
                self.instances.could_not_start(fire.recurring, error)

    def _take_due(self, fires: MutableSequence[Fire]) -> None:
        """Add to `fires` what is due."""
        with self._lock:
            if self.instances.stopped:
                return
            set_back = self.agenda.set_back_by()
            if set_back > SET_BACK:
                self._plan_again(from_scratch=set_back > CORRECTION)
            for recurring, plan, now in self.agenda.due():
                try:
                    fire = self._take(recurring, plan, now)
                except Exception as error:  # noqa: BLE001 - of a schedule of the user's; it is that schedule's failure
                    fire = None
                    self._could_not_take(recurring, plan, error)
                if fire is not None:
                    fires.append(fire)
            self.agenda.arm()

    def _could_not_take(self, recurring: RecurringTask, plan: Plan, error: Exception) -> None:
        """Under the lock: count a fire that could not be decided, and plan the next one; else switch it off."""
        try:
            self.instances.could_not_start(recurring, error)
            if recurring.plan is plan:
                following = recurring.plan_after(max(plan.due, self.agenda.now_of(recurring)), self._rng)
                if following is None:
                    recurring.switch_off(recurring.why_no_fire())
                else:
                    self.agenda.plan(recurring, following)
        except Exception as again:
            logger.exception("%r cannot be planned, and is switched off", recurring)
            recurring.switch_off(f"{type(again).__name__}: {again}")

    def _take(self, recurring: RecurringTask, plan: Plan, now: datetime) -> Fire | None:
        """Under the lock: decide whether a fire runs, and plan the next one."""
        generation = recurring.generation  # read first: a switch-off from now on makes the fire void
        if not recurring.enabled:
            return None
        decision = Decision(plan.planned, 0, plan.planned)
        if plan.due <= now:
            decision = decide(recurring.fires, recurring.rules, plan, now)
        after = decision.served
        if recurring.by_elapsed_time and now - plan.due > ON_TIME:
            recurring.begin_at(now)
            after = now
        following = recurring.plan_after(after, self._rng)
        if following is not None:
            self.agenda.plan(recurring, following)
        else:
            recurring.switch_off(recurring.why_no_fire())
            generation = recurring.generation
        if decision.missed:
            self.instances.skip(recurring, decision.missed)
        self.instances.publish(recurring, EventType.SCHEDULED)
        if decision.run is None:
            return None
        return Fire(recurring, generation, decision.run, plan.due)

    def _plan_again(self, *, from_scratch: bool) -> None:
        """Under the lock: the clock was set back. Fixed times that it shows again have fired already."""
        for recurring in self._recurring.values():
            schedule = recurring.parsed
            if not recurring.enabled or recurring.by_elapsed_time:
                continue
            if isinstance(schedule, CronSchedule) and schedule.is_fixed and not from_scratch:
                continue
            plan = recurring.plan_after(self._clock.now(), self._rng)
            if plan is not None:
                self.agenda.plan(recurring, plan)
                self.instances.publish(recurring, EventType.SCHEDULED)


def _assign(recurring: RecurringTask, values: Mapping[str, Any]) -> None:
    """Set these attributes."""
    for name, value in values.items():
        setattr(recurring, name, value)
