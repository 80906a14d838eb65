"""What a manager can do with recurring tasks, as a mixin.

Must not know the manager that it is mixed into: that makes the scheduler. The rest of this package is imported on first
use.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from nbtasks.exceptions import UnknownTaskError
from nbtasks.task import Task

if TYPE_CHECKING:
    from nbtasks.cron import Schedule
    from nbtasks.recurring.scheduler import Scheduler
    from nbtasks.recurring.task import RecurringTask
    from nbtasks.retry import Retry

__all__ = ["RecurringMethods"]

_making = threading.Lock()


class RecurringMethods:
    """Adds, finds and steers recurring tasks. All methods may be called on any thread, and take a task or its id."""

    _scheduler: Scheduler | None = None

    def _make_scheduler(self) -> Scheduler:
        """The manager's one scheduler."""
        raise NotImplementedError

    def _check_template(self, template: Task) -> None:
        """Raise what adding a task like this one would raise."""
        raise NotImplementedError

    def add_recurring_task(
        self,
        schedule: str | timedelta | Schedule,
        template: Task | Callable[..., Any],
        *,
        name: str | None = None,
        max_concurrent: int = 1,
        timezone: str | tzinfo | None = None,
        misfire_grace: timedelta | float | str | None = None,
        jitter: timedelta | float | str = 0,
        max_runs: int | None = None,
        until: datetime | None = None,
        only_if: Callable[[datetime], Any] | None = None,
        retry: Retry | None = None,
        max_consecutive_failures: int | None = None,
        enabled: bool = True,
        **options: Any,
    ) -> RecurringTask:
        """Run clones of `template` on a schedule: a cron expression, or an interval, which is from start to start.

        `template` is a Task that was not added, or a function, for which `priority`, `lane`, `backend`, `timeout`,
        `tags`, `parameters`, `heading`, `body` and `img` may be given. `timezone` is that of a cron expression, by
        default the machine's. For the other options see `Rules`. Raises InvalidScheduleError for what is wrong or never
        fires, UnknownTimezoneError, WorkError; then nothing is scheduled.
        """
        from nbtasks.recurring.making import make, template_of

        prepared = template_of(template, name, options)
        recurring = make(
            schedule,
            prepared,
            name=name,
            timezone=timezone,
            rules={
                "max_concurrent": max_concurrent,
                "misfire_grace": misfire_grace,
                "jitter": jitter,
                "max_runs": max_runs,
                "until": until,
                "only_if": only_if,
                "retry": retry,
                "max_consecutive_failures": max_consecutive_failures,
            },
        )
        self._check_template(prepared)
        recurring._loop = asyncio._get_running_loop()
        self._schedules().add(recurring, enabled=enabled)
        return recurring

    def restore_recurring_task(self, name: str, recurring_id: str, record: Any, template: Task | None = None) -> Any:
        """The schedule that another kernel left in the history, with its counters, on as it was there.

        `template` is its work, where that is no importable class or function. What is needed was claimed before.
        """
        from nbtasks.recurring.keeping import made_from, template_from

        recurring = made_from(name, recurring_id, record, template_from(record) if template is None else template)
        self._check_template(recurring.template)
        self._schedules().add(recurring, enabled=bool(record["enabled"]))
        if not recurring.enabled:
            recurring.ended = record["ended"]
        return recurring

    def get_recurring_task(self, recurring: RecurringTask | str) -> RecurringTask | None:
        """The recurring task of that id, if this manager has it (still)."""
        if self._scheduler is None:
            return None
        known = self._scheduler.get(recurring if isinstance(recurring, str) else recurring.id)
        return known if isinstance(recurring, str) or known is recurring else None

    def list_recurring_tasks(self) -> list[RecurringTask]:
        """All recurring tasks, oldest first."""
        return [] if self._scheduler is None else self._scheduler.list()

    @property
    def has_schedules_on(self) -> bool:
        """Whether any recurring task fires."""
        return self._scheduler is not None and self._scheduler.is_on

    def enable_recurring_task(self, recurring: RecurringTask | str) -> bool:
        """Let it fire, from now on; False if it is unknown, does already, or has nothing to come."""
        known = self.get_recurring_task(recurring)
        return known is not None and known.enable()

    def disable_recurring_task(self, recurring: RecurringTask | str) -> bool:
        """Let it fire no more; what runs goes on. False if it is unknown or does not fire."""
        known = self.get_recurring_task(recurring)
        return known is not None and known.disable()

    def remove_recurring_task(self, recurring: RecurringTask | str) -> bool:
        """Forget it; what runs goes on. False if it is unknown."""
        known = self.get_recurring_task(recurring)
        return known is not None and known.remove()

    def change_recurring_task(self, recurring: RecurringTask | str, **changes: Any) -> RecurringTask:
        """Change its `schedule`, `timezone`, `name` or rules; raises UnknownTaskError, and what adding it raises."""
        known = self._known_recurring(recurring)
        known.change(**changes)
        return known

    def run_now(self, recurring: RecurringTask | str) -> Task | None:
        """Start an instance at once, outside the schedule; None, and counted as skipped, if too many run already."""
        return self._known_recurring(recurring).run_now()

    def _known_recurring(self, recurring: RecurringTask | str) -> RecurringTask:
        known = self.get_recurring_task(recurring)
        if known is None:
            raise UnknownTaskError(f"this manager has no recurring task {recurring!r}")
        return known

    def _schedules(self) -> Scheduler:
        with _making:
            if self._scheduler is None:
                self._scheduler = self._make_scheduler()
            return self._scheduler
