"""Instances of recurring tasks: started when their fire is due, counted when they end.

Must not know when fires come, nor the manager: it is handed `create`. The only writer of a RecurringTask's counters.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from nbtasks.clock import Clock
from nbtasks.events import EventBus, EventType, Listener
from nbtasks.exceptions import ManagerStoppedError
from nbtasks.recurring.agenda import Agenda
from nbtasks.recurring.rules import goes_by_elapsed_time
from nbtasks.recurring.task import RecurringTask
from nbtasks.states import TaskState
from nbtasks.task import Task

__all__ = ["Create", "Fire", "Instances"]

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
