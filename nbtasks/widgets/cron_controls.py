"""The controls of one recurring task: its schedule to look at and to change, and buttons that steer it.

Written by the live writer's thread only. Controls are used for one recurring task after the other, as pages turn.
"""

from __future__ import annotations

import functools
import html
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import available_timezones

from nbtasks.exceptions import NbtasksError
from nbtasks.schedules import PRESETS, find_zone, next_fire_times, parse_schedule
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.schedules.rules import Rules, fires_of
from nbtasks.widgets.recurring_shown import RecurringShown, counters_text, span_text, state_of
from nbtasks.widgets.snapshot import LOOKS, label_html
from nbtasks.widgets.widget_factory import Parts, put

__all__ = [
    "CONTROLS_STYLE",
    "FIRES",
    "CronControls",
    "Draft",
    "ScheduleEditor",
    "fires_text",
    "fires_told",
    "preset_choices",
    "read_draft",
    "zone_names",
]

Typed = tuple[str, str]
"""An expression and a zone."""
GAP = {"margin": "0 6px 4px 0", "height": "28px"}


class ScheduleEditor:
    """Fields for one schedule. `apply` is given what was typed, on any thread; what it raises of ours is shown."""

    def __init__(
        self, parts: Parts, words: str, tooltip: str, apply: Callable[[str, str], object], wake: Callable[[], None]
    ) -> None:
        self._apply = apply
        self._wake = wake
        self._given: Typed | None = None
        self._draft: Draft | None = None
        self._rules: Rules | None = None
        self._refused: tuple[Typed, str] | None = None
        self._applied = False
        self._expression = parts.text(
            "Schedule", "62px", {"width": "250px", **GAP}, placeholder="*/5 * * * *, @hourly, 90s"
        )
        self._expression.tooltip = "A cron expression of five fields, or of six with seconds first; or an interval"
        self._presets = parts.choice(
            [("Presets", ""), *preset_choices()], {"width": "96px", **GAP}, "Schedules that many use"
        )
        self._zone = parts.combo("Zone", "38px", zone_names(), {"width": "210px", **GAP}, value="local")
        self._zone.tooltip = "The time zone of a cron expression; local is that of the kernel's machine"
        self._button = parts.button(words, tooltip, self.apply, **GAP)
        self.fields = (self._expression, self._presets, self._zone, self._button)
        self.note = parts.html(margin="0 0 2px 0")
        for field in (self._expression, self._presets, self._zone):
            field.observe(lambda _change: wake(), names="value")
        # Enter in a field of text; `on_submit` is deprecated.
        for field in (self._expression, self._zone):
            field.on_msg(lambda _widget, content, _buffers: self._heard(content))

    @property
    def typed(self) -> Typed:
        """What the fields hold."""
        return self._expression.value.strip(), self._zone.value.strip() or "local"

    @property
    def edited(self) -> bool:
        """Whether that differs from the schedule that there is."""
        return self.typed != self._given

    def apply(self) -> None:
        """Have what was typed take effect. On any thread."""
        typed = self.typed
        if typed[0] and self.edited:
            try:
                self._apply(*typed)
            except NbtasksError as error:
                self._refused = typed, str(error)
            else:
                self._refused, self._applied = None, True
        self._wake()

    def _heard(self, content: Any) -> None:
        if isinstance(content, dict) and content.get("event") == "submit":
            self.apply()

    def refresh(
        self, given: Typed | None, now: datetime, told: str = "", rules: Rules | None = None, name: str = ""
    ) -> int:
        """Show the schedule that there is, if it is another one, and what the typed one means; how many messages.

        `told` is what there is to say as long as nothing else is typed; `rules` and `name` are the recurring task's.
        """
        sent = 0
        applied, self._applied = self._applied, False
        if given is not None and (given != self._given or applied):
            sent += put(self._expression, value=given[0]) + put(self._zone, value=given[1])
            self._refused = None
        self._given = given
        if self._presets.value:
            sent += put(self._expression, value=self._presets.value) + put(self._presets, value="")
        draft = self._read(now, rules, name)
        edited = self.edited and bool(draft.expression)
        error = draft.error if edited else ""
        ready = edited and not error
        if not error and self._refused is not None and self._refused[0] == (draft.expression, draft.zone):
            error = self._refused[1]
        text = fires_told(draft.words, "would fire", draft.fires, now) if edited else told
        sent += put(self.note, value=_error_html(error) if error else _html(text))
        return sent + put(self._button, disabled=not ready)

    def _read(self, now: datetime, rules: Rules | None, name: str) -> Draft:
        """What was typed, checked: once, and again where its time has gone on."""
        typed, draft = self.typed, self._draft
        gone = draft is not None and bool(draft.fires) and draft.fires[0] <= now
        if draft is None or gone or (draft.expression, draft.zone) != typed or self._rules != rules:
            draft, self._rules = read_draft(*typed, now, rules, name), rules
            self._draft = draft
        return draft


def fires_told(words: str, verb: str, fires: Sequence[datetime], now: datetime) -> str:
    """A schedule in words, how long until the first of these fires, and when they are."""
    if not fires:
        return words
    span = span_text((fires[0].astimezone(UTC) - now).total_seconds())
    return f"{words} · {verb} in {span}: {fires_text(fires, now)}"


def _html(text: str) -> str:
    style = "white-space:normal;overflow-wrap:anywhere;font-variant-numeric:tabular-nums"
    return f'<div style="{style}">{html.escape(text)}</div>' if text else ""


def _error_html(error: str) -> str:
    sign, _, colour = LOOKS["failed"]
    return (
        f'<div role="alert" style="white-space:normal;overflow-wrap:anywhere">'
        f'<span style="color:{colour}" aria-hidden="true">{sign}</span> {html.escape(error)}</div>'
    )


FIRES = 5
"""So many of the next fires are told."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What was typed, and what it means; `error` says what is wrong, and then there are neither words nor fires."""

    expression: str
    zone: str
    words: str = ""
    error: str = ""
    fires: tuple[datetime, ...] = ()


def read_draft(expression: str, zone: str, now: datetime, rules: Rules | None = None, name: str = "") -> Draft:
    """What these two mean at the aware moment `now`, to a recurring task with these rules and this name.

    A zone left empty is the machine's own.
    """
    expression, zone = expression.strip(), zone.strip() or "local"
    try:
        found = find_zone(zone)
        schedule = parse_schedule(expression, found, hash_id=name)
        asked = schedule if rules is None else fires_of(schedule, rules, now.astimezone(found))
        fires = next_fire_times(asked, found, now, FIRES)
    except NbtasksError as error:
        return Draft(expression, zone, error=str(error))
    if rules is not None and rules.until is not None:
        fires = [fire for fire in fires if fire <= rules.until]
    return Draft(expression, zone, schedule.describe(), fires=tuple(fires))


def fires_text(fires: Sequence[datetime], now: datetime) -> str:
    """The times of these fires, each day named once: "14:05, 14:10; Mon 23 Nov 08:00"."""
    seconds = any(fire.second or fire.microsecond for fire in fires)
    days: dict[str, list[str]] = {}
    for fire in fires:
        there = now.astimezone(fire.tzinfo)
        year = "" if fire.year == there.year else " %Y"
        day = "" if fire.date() == there.date() else f"{fire:%a %d %b{year}} "
        days.setdefault(day, []).append(f"{fire:%H:%M:%S}" if seconds else f"{fire:%H:%M}")
    return "; ".join(day + ", ".join(times) for day, times in days.items())


@functools.cache
def preset_choices() -> tuple[tuple[str, str], ...]:
    """The expressions that most schedules are, each with its words."""
    return tuple((parse_schedule(preset, UTC).describe(), preset) for preset in PRESETS)


@functools.cache
def zone_names() -> tuple[str, ...]:
    """The zones to choose from, the machine's own first."""
    return "local", "UTC", *sorted(available_timezones() - {"UTC"})


CONFIRM_SECONDS = 6.0
"""So long a click on Remove waits for the second one."""
CHANGED_SECONDS = 0.3
"""So soon after the controls were given another recurring task, a click was meant for the one before."""
ERROR_CHARACTERS = 300
CONTROLS_STYLE = """<style>
.nbtasks-schedules { container-type: inline-size; }
.nbtasks-schedules .widget-html-content { min-width: 0; line-height: 1.5 !important; }
.nbtasks-schedules .jupyter-button { line-height: 24px; }
.nbtasks-schedules .jupyter-button:focus-visible, .nbtasks-schedules input:focus-visible,
.nbtasks-schedules select:focus-visible {
    outline: 2px solid var(--jp-brand-color1, #1976d2) !important; outline-offset: 1px;
}
.nbtasks-controls { border-top: 1px solid rgba(128,128,128,.25); padding: 4px 0 !important; }
.nbtasks-controls .widget-text, .nbtasks-controls .widget-dropdown { flex: 0 1 auto; }
@container (max-width: 480px) {
    .nbtasks-controls .nbtasks-head { flex-wrap: wrap; }
    .nbtasks-controls .nbtasks-head > :first-child { flex: 1 0 100% !important; }
    .nbtasks-controls .widget-text { width: 100% !important; }
}
</style>"""


class CronControls:
    """The controls of the recurring task that `show` is given."""

    def __init__(self, parts: Parts, wake: Callable[[], None]) -> None:
        self.task: RecurringTask | None = None
        self._since = float("-inf")
        self._wake = wake
        self._remove_until = float("-inf")
        self._message = ""
        self._label = parts.html(flex="1 1 auto", min_width="0", margin="0 10px 0 0")
        self._switch = parts.button(on_click=lambda: self._act(_switch))
        run = parts.button(
            "Run now", "Run it once, besides its schedule", lambda: self._act(self._run), margin="0 0 0 6px"
        )
        self._run_button = run
        self._remove = parts.button(
            on_click=lambda: self._act(self._ask_to_remove),
            tooltip="Forget this schedule; what runs goes on",
            margin="0 0 0 6px",
        )
        head = parts.row(self._label, self._switch, run, self._remove, align_items="center", width="100%")
        head.add_class("nbtasks-head")
        self._editor = ScheduleEditor(parts, "Apply", "Let it fire by this schedule from now on", self._change, wake)
        fields = parts.row(*self._editor.fields, flex_flow="wrap", align_items="center", margin="4px 0 0 0")
        self._facts = parts.html()
        self.widget = parts.column(head, fields, self._editor.note, self._facts, width="100%")
        self.widget.add_class("nbtasks-controls")

    @property
    def ticks(self) -> bool:
        """Whether time runs in it."""
        task = self.task
        return task is not None and (task.enabled or bool(task.instances) or self._remove_until > float("-inf"))

    def show(self, task: RecurringTask, now: datetime) -> int:
        """Show this recurring task as it is now; how many messages that took."""
        if self.task is not task:
            if self.task is not None:
                self._since = time.monotonic()
            self.task = task
            self._remove_until, self._message = float("-inf"), ""
        state = "running" if task.instances else state_of(task)
        shown = replace(RecurringShown.of(task, now), state=state, title=task.name)
        on, gone = task.enabled, task.removed
        if self._remove_until > float("-inf") and time.monotonic() >= self._remove_until:
            self._remove_until = float("-inf")
        asked = self._remove_until > float("-inf")
        sent = put(self._label, value=label_html(shown))
        sent += put(
            self._switch,
            description="Pause" if on else "Resume",
            tooltip="Let it fire no more; what runs goes on" if on else "Let it fire again",
            disabled=gone,
        )
        sent += put(self._run_button, disabled=gone)
        sent += put(
            self._remove,
            description="Really remove?" if asked else "Remove",
            button_style="danger" if asked else "",
            disabled=gone,
        )
        told = fires_told(task.describe(), "next", task.next_fires(FIRES), now)
        if not on:
            told += f" · {task.ended or ('removed' if gone else 'paused')}"
        sent += self._editor.refresh((str(task._parsed), task.timezone), now, told, task.rules, task.name)
        return sent + put(self._facts, value=_facts_html(task, self._message))

    # -- what the user asks for; on the front end's thread ----------------------------------------------------

    def _act(self, act: Callable[[RecurringTask], object]) -> None:
        task = self.task
        if task is not None and time.monotonic() - self._since >= CHANGED_SECONDS:
            self._message = ""
            try:
                act(task)
            except NbtasksError as error:
                self._message = str(error)
        self._wake()

    def _run(self, task: RecurringTask) -> None:
        if task.run_now() is None:
            self._message = f"not run now: it runs already ({task.max_concurrent} at once)"

    def _ask_to_remove(self, task: RecurringTask) -> None:
        """The first click asks, the second one does it."""
        if time.monotonic() >= self._remove_until:
            self._remove_until = time.monotonic() + CONFIRM_SECONDS
        else:
            self._remove_until = float("-inf")
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
    """The counters, what the last click could not do, and why the last instance that failed did so."""
    style = "opacity:.85;white-space:normal;overflow-wrap:anywhere;font-variant-numeric:tabular-nums"
    lines = [f'<div style="{style}">{html.escape(counters_text(task))}</div>']
    if message:
        lines.append(f'<div role="status">{html.escape(message)}</div>')
    if task.last_error is not None:
        sign, _, colour = LOOKS["failed"]
        error = html.escape(task.last_error[:ERROR_CHARACTERS])
        lines.append(
            '<div style="white-space:pre-wrap;overflow-wrap:anywhere;max-height:80px;overflow:auto">'
            f'<span style="color:{colour}" aria-hidden="true">{sign}</span> last error: {error}</div>'
        )
    return "".join(lines)
