"""When a cron expression fires, by cronie's rules for clocks that change.

It must not know of the syntax of expressions, nor of tasks, timers or the present time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from nbtasks.cron.changes import ClockChange, is_irregular
from nbtasks.cron.fields import parse
from nbtasks.cron.walltimes import WallTimes
from nbtasks.cron.words import describe_fields, why_never
from nbtasks.cron.zones import find_zone, is_steady, zone_name
from nbtasks.exceptions import InvalidScheduleError, InvalidValueError

__all__ = ["CronSchedule"]

SECOND = timedelta(seconds=1)
# The limits of crond's main loop. It compares the minute now with the last one that it served, so that a
# gap looks one minute longer than it is, and a repeat one minute shorter.
LATE_WAKE_UP = timedelta(minutes=5)
FORWARD_LIMIT = timedelta(hours=3)
BACK_LIMIT = timedelta(hours=3, minutes=1)


class CronSchedule:
    """The fire times of a cron expression in a time zone, by the rules of cronie.

    The expression has five fields, six with seconds first, or is an alias such as `@hourly`. The zone is a
    name, a tzinfo, or None for the machine's own. Immutable, hashable and picklable. Raises
    InvalidScheduleError for an expression that is wrong or never fires, UnknownTimezoneError for a zone that
    is not known.

    When the clock changes, an expression whose minute and hour (and second) do not begin with `*` fires right
    after the gap for what the gap skipped, once however much that was, and the first time only for what is
    repeated. Any other fires whenever the clock shows a matching time, so that `*/15` keeps to every 15
    minutes. A change of more than three hours, as at the date line, is a correction of the clock: nothing is
    made up or left out.
    """

    __slots__ = ("_expression", "_fields", "_steady", "_times", "_zone")

    def __init__(self, expression: str, timezone: str | tzinfo | None = None) -> None:
        if not isinstance(expression, str):
            raise InvalidScheduleError(f"a cron expression is text such as '*/5 * * * *': {expression!r} is not")
        self._expression = " ".join(expression.split())
        self._fields = parse(self._expression)
        self._times = WallTimes(self._fields)
        self._zone = find_zone(timezone)
        self._steady = is_steady(self._zone)
        if self._times.never():
            raise InvalidScheduleError(f"{self._expression!r} never fires: {why_never(self._fields)}")

    @property
    def expression(self) -> str:
        """The expression, its fields apart by one space each."""
        return self._expression

    @property
    def timezone(self) -> tzinfo:
        """The zone that the expression is read in, and that fire times are given in."""
        return self._zone

    @property
    def timezone_name(self) -> str:
        """The zone's name as `CronSchedule` takes it: "local", "Europe/Paris"."""
        return zone_name(self._zone)

    @property
    def is_fixed(self) -> bool:
        """Whether it names times of day: neither minute nor hour (nor second) begins with `*`."""
        return not self._fields.wildcard

    def describe(self) -> str:
        """The expression in words, without the zone: "At 08:00, Monday to Friday"."""
        return describe_fields(self._fields)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first fire later than this aware moment, in the schedule's zone; None past the year 9999."""
        if moment.tzinfo is None:
            raise InvalidValueError(f"next_after needs an aware datetime: {moment!r} has no time zone")
        try:
            local = moment.astimezone(self._zone)
        except OverflowError:
            return None
        if self._steady:
            return self._times.after(local, self._zone)
        if is_irregular(local):
            # Arithmetic on wall times may have led into a gap, where no clock ever stood.
            local = local.astimezone(UTC).astimezone(self._zone)
            if is_irregular(local):
                return self._next_in_repeat(local)
        return self._next_regular(local)

    def _next_regular(self, wall: datetime) -> datetime | None:
        """The next fire after a wall time that the clock does not show again."""
        while (fire := self._times.after(wall, self._zone)) is not None:
            if not is_irregular(fire):
                return fire
            change = ClockChange.around(fire)
            if change.forward <= timedelta(0):
                return fire  # The first of its two times.
            if self._made_up(change):
                return change.after.replace(tzinfo=self._zone)
            wall = change.after - SECOND
        return None

    def _next_in_repeat(self, local: datetime) -> datetime | None:
        """The next fire after a moment whose wall time the clock shows twice."""
        change = ClockChange.around(local)
        starts = [(0, local), (1, change.after - SECOND)] if local.fold == 0 else [(1, local)]
        for fold, start in starts:
            if fold == 0 or not self._kept_back(change):
                fire = self._times.after(start)
                if fire is not None and fire < change.before:
                    return fire.replace(tzinfo=self._zone, fold=fold)
        return self._next_regular(change.before - SECOND)

    def _made_up(self, change: ClockChange) -> bool:
        """Whether what the gap skipped fires right after it."""
        limit = LATE_WAKE_UP if self._fields.wildcard else FORWARD_LIMIT
        return change.forward < limit

    def _kept_back(self, change: ClockChange) -> bool:
        """Whether what fired the first time does not fire again in the repeat."""
        return not self._fields.wildcard and -change.forward <= BACK_LIMIT

    def __str__(self) -> str:
        return self._expression

    def __repr__(self) -> str:
        return f"CronSchedule({self._expression!r}, {self.timezone_name!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CronSchedule):
            return NotImplemented
        return (self._expression, self._zone) == (other._expression, other._zone)

    def __hash__(self) -> int:
        return hash((self._expression, self._zone))

    def __reduce__(self) -> tuple[type[CronSchedule], tuple[str, tzinfo]]:
        return CronSchedule, (self._expression, self._zone)
