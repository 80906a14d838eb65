"""The controls of one recurring task: its schedule to look at and to change, and buttons that steer it.

Written by the live writer's thread only. Controls are used for one recurring task after the other, as pages turn.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from nbtasks.exceptions import NbtasksError
from nbtasks.recurring.task import RecurringTask
from nbtasks.widgets.parts import Parts, put
from nbtasks.widgets.recurring_shown import RecurringShown, counters_text, state_of
from nbtasks.widgets.schedule_draft import FIRES
from nbtasks.widgets.schedule_editor import ScheduleEditor, fires_told
from nbtasks.widgets.shown import LOOKS, label_html

__all__ = ["CONTROLS_STYLE", "CronControls"]

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
        sent += self._editor.refresh((str(task._parsed), task.timezone), now, told, task.rules)
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
