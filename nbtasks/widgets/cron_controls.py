"""Cron controls: edit, pause, run and remove one recurring task.

Written on the live writer's thread only; clicks arrive on the front end's thread. When a page is turned, its controls
are reused for other recurring tasks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from typing import Any
from zoneinfo import available_timezones

from nbtasks.exceptions import NbtasksError
from nbtasks.formatting import clock, duration, plural
from nbtasks.schedules import PRESETS, find_zone, next_fire_times, parse_schedule
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.schedules.rules import Rules, fires_of
from nbtasks.widgets.html import error_html, label_html, message_html, wrapped_html
from nbtasks.widgets.snapshot import recurring_state, snapshot_of
from nbtasks.widgets.widget_factory import ClickGuard, Confirmation, WidgetFactory, update

__all__ = [
    "CronControls",
    "ScheduleEditor",
    "ScheduleInput",
    "fires_text",
    "preset_choices",
    "read_input",
    "zone_names",
]

FIRES = 5
"""Number of next fires that are listed."""
ERROR_CHARACTERS = 300
_FIELD = {"margin": "0 6px 4px 0", "height": "28px"}


# -- the schedule that is typed -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScheduleInput:
    """A typed expression and zone with their meaning, or the error that they have."""

    expression: str
    zone: str
    description: str = ""
    error: str = ""
    fires: tuple[datetime, ...] = ()


def read_input(expression: str, zone: str, now: datetime, rules: Rules | None = None, name: str = "") -> ScheduleInput:
    """The meaning of a typed schedule at `now`, with the rules and name of a recurring task.

    An empty zone is that of the kernel's machine.
    """
    expression, zone = expression.strip(), zone.strip() or "local"
    try:
        timezone = find_zone(zone)
        schedule = parse_schedule(expression, timezone, hash_id=name)
        with_rules = schedule if rules is None else fires_of(schedule, rules, now.astimezone(timezone))
        fires = next_fire_times(with_rules, timezone, now, FIRES)
    except NbtasksError as error:
        return ScheduleInput(expression, zone, error=str(error))
    if rules is not None and rules.until is not None:
        fires = [fire for fire in fires if fire <= rules.until]
    return ScheduleInput(expression, zone, schedule.describe(), fires=tuple(fires))


def schedule_text(description: str, verb: str, fires: Sequence[datetime], now: datetime) -> str:
    """A description with the time until the first fire, and the next fires."""
    if not fires:
        return description
    until = clock((fires[0].astimezone(UTC) - now).total_seconds())
    return f"{description} · {verb} in {until}: {fires_text(fires, now)}"


def fires_text(fires: Sequence[datetime], now: datetime) -> str:
    """The times of these fires, with each day once: "14:05, 14:10; Mon 23 Nov 08:00"."""
    seconds = any(fire.second or fire.microsecond for fire in fires)
    days: dict[str, list[str]] = {}
    for fire in fires:
        local_now = now.astimezone(fire.tzinfo)
        year = "" if fire.year == local_now.year else " %Y"
        day = "" if fire.date() == local_now.date() else f"{fire:%a %d %b{year}} "
        days.setdefault(day, []).append(f"{fire:%H:%M:%S}" if seconds else f"{fire:%H:%M}")
    return "; ".join(day + ", ".join(times) for day, times in days.items())


@functools.cache
def preset_choices() -> tuple[tuple[str, str], ...]:
    """The most frequent expressions, each with its description."""
    return tuple((parse_schedule(preset, UTC).describe(), preset) for preset in PRESETS)


@functools.cache
def zone_names() -> tuple[str, ...]:
    """The names of time zones, the machine's own first."""
    return "local", "UTC", *sorted(available_timezones() - {"UTC"})


# -- the editor -----------------------------------------------------------------------------------------------


class ScheduleEditor:
    """Fields for one schedule, and a button that applies it.

    `apply` is called with expression and zone, on any thread; the message of an NbtasksError is shown.
    """

    def __init__(
        self,
        factory: WidgetFactory,
        button: str,
        tooltip: str,
        apply: Callable[[str, str], object],
        touch: Callable[[], None],
    ) -> None:
        self._apply = apply
        self._touch = touch
        self._current: tuple[str, str] | None = None
        """Expression and zone of the schedule that exists."""
        self._input: ScheduleInput | None = None
        self._rules: Rules | None = None
        self._refused: tuple[tuple[str, str], str] | None = None
        """The expression and zone that could not be applied, and why."""
        self._applied = False
        self._expression = factory.text(
            "Schedule", "62px", {"width": "250px", **_FIELD}, placeholder="*/5 * * * *, @hourly, 90s"
        )
        self._expression.tooltip = "A cron expression of five fields, or six with seconds first; or an interval"
        self._presets = factory.choice(
            [("Presets", ""), *preset_choices()], {"width": "96px", **_FIELD}, "Frequent schedules"
        )
        self._zone = factory.combo("Zone", "38px", zone_names(), {"width": "210px", **_FIELD}, value="local")
        self._zone.tooltip = "Time zone of a cron expression; local is that of the kernel's machine"
        self._button = factory.button(button, tooltip, self.apply, **_FIELD)
        self.fields = (self._expression, self._presets, self._zone, self._button)
        self.note = factory.html(margin="0 0 2px 0")
        for field in (self._expression, self._presets, self._zone):
            field.observe(lambda _change: touch(), names="value")
        # Enter in a text field; `on_submit` is deprecated.
        for field in (self._expression, self._zone):
            field.on_msg(lambda _widget, content, _buffers: self._on_message(content))

    @property
    def typed(self) -> tuple[str, str]:
        """The expression and the zone in the fields."""
        return self._expression.value.strip(), self._zone.value.strip() or "local"

    @property
    def edited(self) -> bool:
        """Whether the fields differ from the schedule that exists."""
        return self.typed != self._current

    def apply(self) -> None:
        """Apply what was typed. Any thread."""
        typed = self.typed
        if typed[0] and self.edited:
            try:
                self._apply(*typed)
            except NbtasksError as error:
                self._refused = typed, str(error)
            else:
                self._refused, self._applied = None, True
        self._touch()

    def _on_message(self, content: Any) -> None:
        if isinstance(content, dict) and content.get("event") == "submit":
            self.apply()

    def refresh(
        self,
        current: tuple[str, str] | None,
        now: datetime,
        text: str = "",
        rules: Rules | None = None,
        name: str = "",
    ) -> int:
        """Show the current schedule, and the meaning of the typed one; returns the number of messages.

        `text` is shown unless something else is typed; `rules` and `name` are those of the recurring task.
        """
        sent = 0
        applied, self._applied = self._applied, False
        if current is not None and (current != self._current or applied):
            sent += update(self._expression, value=current[0]) + update(self._zone, value=current[1])
            self._refused = None
        self._current = current
        if self._presets.value:
            sent += update(self._expression, value=self._presets.value) + update(self._presets, value="")
        typed = self._read(now, rules, name)
        edited = self.edited and bool(typed.expression)
        error = typed.error if edited else ""
        ready = edited and not error
        if not error and self._refused is not None and self._refused[0] == (typed.expression, typed.zone):
            error = self._refused[1]
        text = schedule_text(typed.description, "would fire", typed.fires, now) if edited else text
        sent += update(self.note, value=error_html(error) if error else wrapped_html(text))
        return sent + update(self._button, disabled=not ready)

    def _read(self, now: datetime, rules: Rules | None, name: str) -> ScheduleInput:
        """The typed schedule; read again if it has changed, or its first fire has passed."""
        typed, last = self.typed, self._input
        passed = last is not None and bool(last.fires) and last.fires[0] <= now
        if last is None or passed or (last.expression, last.zone) != typed or self._rules != rules:
            self._input, self._rules = read_input(*typed, now, rules, name), rules
            return self._input
        return last


# -- the controls ---------------------------------------------------------------------------------------------


class CronControls:
    """The controls of the recurring task that was last given to `show`."""

    def __init__(self, factory: WidgetFactory, touch: Callable[[], None]) -> None:
        self.task: RecurringTask | None = None
        self._touch = touch
        self._guard = ClickGuard()
        self._remove_confirmation = Confirmation()
        self._message = ""
        """Why the last click had no effect."""
        gap = {"margin": "0 0 0 6px"}
        self._label = factory.html(flex="1 1 auto", min_width="0", margin="0 10px 0 0")
        self._switch = factory.button(on_click=lambda: self._act(_switch))
        self._run = factory.button("Run now", "Run once, besides the schedule", lambda: self._act(self._run_now), **gap)
        self._remove = factory.button(
            "Remove", "Remove schedule (running tasks continue)", lambda: self._act(self._remove_task), **gap
        )
        head = factory.row(self._label, self._switch, self._run, self._remove, align_items="center", width="100%")
        head.add_class("nbtasks-controls-row")
        self._editor = ScheduleEditor(factory, "Apply", "Use this schedule from now on", self._change, touch)
        fields = factory.row(*self._editor.fields, flex_flow="wrap", align_items="center", margin="4px 0 0 0")
        self._facts = factory.html()
        self.widget = factory.column(head, fields, self._editor.note, self._facts, width="100%")
        self.widget.add_class("nbtasks-controls")

    @property
    def ticks(self) -> bool:
        """Whether the time until the next fire, of a run, or of a confirmation is running."""
        task = self.task
        return task is not None and (task.enabled or bool(task.instances) or self._remove_confirmation.pending)

    def show(self, task: RecurringTask, now: datetime) -> int:
        """Show this recurring task as it is now; returns the number of messages."""
        if self.task is not task:
            if self.task is not None:
                self._guard.reused()
            self.task = task
            self._remove_confirmation.reset()
            self._message = ""
        state = "running" if task.instances else recurring_state(task)
        sent = update(
            self._label, value=label_html(replace(snapshot_of(task, now), state=state, title=task.name), live=True)
        )
        sent += self._show_buttons(task)
        text = schedule_text(task.describe(), "next", task.next_fires(FIRES), now)
        if not task.enabled:
            text += f" · {task.ended or ('removed' if task.removed else 'paused')}"
        sent += self._editor.refresh((task.expression, task.timezone), now, text, task.rules, task.name)
        return sent + update(self._facts, value=_facts_html(task, self._message))

    def _show_buttons(self, task: RecurringTask) -> int:
        self._remove_confirmation.expire()
        removing, disabled = self._remove_confirmation.pending, task.removed
        label = "Pause" if task.enabled else "Resume"
        tooltip = "Pause" if task.enabled else "Resume"
        sent = update(self._switch, description=label, tooltip=tooltip, disabled=disabled)
        sent += update(self._run, disabled=disabled)
        label, style = ("Really remove?", "danger") if removing else ("Remove", "")
        return sent + update(self._remove, description=label, button_style=style, disabled=disabled)

    # -- clicks, on the front end's thread --------------------------------------------------------------------

    def _act(self, act: Callable[[RecurringTask], object]) -> None:
        task = self.task
        if task is not None and not self._guard.stale:
            self._message = ""
            try:
                act(task)
            except NbtasksError as error:
                self._message = str(error)
        self._touch()

    def _run_now(self, task: RecurringTask) -> None:
        if task.run_now() is None:
            self._message = f"skipped: {task.name!r} is already running (max_concurrent={task.max_concurrent})"

    def _remove_task(self, task: RecurringTask) -> None:
        """Remove the recurring task with the second click."""
        if self._remove_confirmation.click():
            task.remove()

    def _change(self, expression: str, zone: str) -> None:
        if self.task is not None:
            self.task.change(schedule=expression, timezone=zone)


def _switch(task: RecurringTask) -> None:
    if task.enabled:
        task.disable()
    else:
        task.enable()


def _facts_html(task: RecurringTask, message: str) -> str:
    """The counters, the message of the last click, and the last error."""
    lines = wrapped_html(counters_text(task), "opacity:.85;") + message_html(message)
    runs = task.template.kept_runs()
    if runs is not None and (line := runs.line_to_paste(task.expression, task.timezone)):
        code = f'<code style="user-select:all;overflow-wrap:anywhere;white-space:pre-wrap">{escape(line)}</code>'
        lines += f"<div>To keep this schedule when the cell is run again, paste its first line: {code}</div>"
    if task.last_error is not None:
        style = "white-space:pre-wrap;overflow-wrap:anywhere;max-height:80px;overflow:auto"
        lines += error_html(f"last error: {task.last_error[:ERROR_CHARACTERS]}", style, role="")
    return lines


def counters_text(recurring: RecurringTask) -> str:
    """Runs, failures, skipped fires and the last duration, in one line."""
    in_a_row = f" ({recurring.consecutive_failures} in a row)" if recurring.consecutive_failures else ""
    counters = [
        plural(recurring.total_runs, "run"),
        f"{recurring.total_failures} failed{in_a_row}",
        f"{recurring.total_skipped} skipped",
    ]
    if recurring.last_duration is not None:
        counters.append(f"last took {duration(recurring.last_duration)}")
    return " · ".join(counters)
