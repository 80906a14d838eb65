"""The scheduler: keeps the recurring tasks of a manager, and starts their instances when they are due.

Must not know the manager: it is handed `create`, a timer, the event bus and threads. The only writer of a
RecurringTask. What a due fire comes to is decided by `rules`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from nbtasks.clock import Clock, DrivenClock, Timer
from nbtasks.cron import CronSchedule
from nbtasks.events import EventBus, EventType
from nbtasks.exceptions import InvalidScheduleError, ManagerStoppedError
from nbtasks.recurring.agenda import Agenda
from nbtasks.recurring.instances import Create, Fire, Instances
from nbtasks.recurring.making import changed
from nbtasks.recurring.rules import ON_TIME, Decision, Plan, decide, goes_by_elapsed_time, plan_after
from nbtasks.recurring.task import RecurringTask
from nbtasks.task import Task
from nbtasks.threads import uninterrupted

__all__ = ["Scheduler"]

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
