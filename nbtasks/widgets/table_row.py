"""One row of the task table: what is told of a task, and the buttons that steer it.

Written by the live writer's thread only. A row is used for one task after the other, as pages turn.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from nbtasks.task import Task
from nbtasks.widgets.output_view import kept_output
from nbtasks.widgets.parts import Parts, put
from nbtasks.widgets.shown import LOOKS, TRACK_COLOUR, Shown, one_line

__all__ = ["TABLE_STYLE", "Row", "RowActions", "cells_html", "may_run_again"]

CHANGED_SECONDS = 0.3
"""So soon after a row was given another task, a click was meant for the one before."""

BUTTONS = 5
"""Places for buttons in a row; Cancel and Retry share one."""
_BUTTON_WIDTH = 30
BUTTONS_WIDTH = BUTTONS * _BUTTON_WIDTH + 6

_COLUMNS = "minmax(120px,1fr) 92px 84px 66px 128px 68px"

TABLE_STYLE = f"""<style>
.nbtasks-table {{ container-type: inline-size; }}
.nbtasks-table .widget-html-content {{ min-width: 0; line-height: 1.5 !important; }}
.nbtasks-table .jupyter-button {{ line-height: 24px; }}
.nbtasks-table .jupyter-button:focus-visible, .nbtasks-table input:focus-visible, .nbtasks-table pre:focus-visible {{
    outline: 2px solid var(--jp-brand-color1, #1976d2) !important; outline-offset: 1px;
}}
.nbtasks-cells {{ display: grid; grid-template-columns: {_COLUMNS}; column-gap: 10px; align-items: center; }}
.nbtasks-cells > * {{ min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
.nbtasks-tr {{ border-top: 1px solid rgba(128,128,128,.25); }}
.nbtasks-tr:hover {{ background: rgba(128,128,128,.08); }}
.nbtasks-head > .jupyter-button {{
    background: none; box-shadow: none; padding: 0; text-align: left; font-size: 12px; opacity: .85;
    color: var(--jp-ui-font-color1, inherit); width: auto !important; justify-self: stretch;
}}
.nbtasks-head > .jupyter-button:nth-child(4), .nbtasks-head > .jupyter-button:nth-child(6) {{ text-align: right; }}
.nbtasks-tr .nbtasks-buttons > .jupyter-button {{
    display: inline-flex; align-items: center; justify-content: center; font-size: 0;
    background: none; box-shadow: none; padding: 0; color: var(--jp-ui-font-color1, inherit);
}}
.nbtasks-buttons > .jupyter-button > i {{ font-size: 14px; margin: 0 !important; }}
.nbtasks-tr .nbtasks-buttons > .jupyter-button:hover {{ background: rgba(128,128,128,.2); }}
.nbtasks-tr .nbtasks-buttons > .jupyter-button.nbtasks-on {{ background: rgba(128,128,128,.3); }}
.nbtasks-tr .nbtasks-priority, .nbtasks-tr .nbtasks-output {{ visibility: hidden; }}
.nbtasks-pending .nbtasks-priority, .nbtasks-writes .nbtasks-output {{ visibility: visible; }}
.nbtasks-over .nbtasks-cancel, .nbtasks-tr:not(.nbtasks-over) .nbtasks-retry {{ display: none !important; }}
.nbtasks-once .nbtasks-retry {{ visibility: hidden; }}
.nbtasks-more {{ border-left: 3px solid {TRACK_COLOUR}; }}
.nbtasks-table .nbtasks-chosen {{ font-weight: bold; box-shadow: inset 0 -2px var(--jp-brand-color1, #1976d2); }}
.nbtasks-table .nbtasks-bare {{ background: none; }}
@container (max-width: 800px) {{
    .nbtasks-cells {{ grid-template-columns: minmax(90px,1fr) 92px 110px 60px; }}
    .nbtasks-cells > :nth-child(3), .nbtasks-cells > :nth-child(4) {{ display: none; }}
}}
@container (max-width: 560px) {{
    .nbtasks-tr {{ height: auto !important; padding: 3px 0; }}
    .nbtasks-tr > .nbtasks-buttons {{ flex: 0 0 106px !important; }}
    .nbtasks-tr .nbtasks-buttons > .jupyter-button {{ width: 26px !important; }}
    .nbtasks-tr:not(.nbtasks-pending) .nbtasks-priority {{ display: none !important; }}
    .nbtasks-pending .nbtasks-output {{ display: none !important; }}
    .nbtasks-head-row > :last-child {{ display: none; }}
    .nbtasks-cells {{ grid-template-columns: minmax(0,1fr) 76px; column-gap: 8px; row-gap: 2px; }}
    .nbtasks-cells > :nth-child(6) {{ text-align: left !important; }}
    .nbtasks-head.nbtasks-cells {{ display: flex !important; }}
}}
</style>"""


class RowActions(Protocol):
    """What the buttons of a row do. Called on any thread."""

    def cancel(self, task: Task) -> None:
        """Ask it to stop."""

    def retry(self, task: Task) -> None:
        """Run it once more."""

    def move(self, task: Task, by: int) -> None:
        """Raise or lower its priority."""

    def open(self, task: Task, what: str) -> None:
        """Show its `details` or its `output` under the row, or no longer."""


class Row:
    """A row for one task at a time."""

    def __init__(self, parts: Parts, actions: RowActions) -> None:
        self.task: Task | None = None
        self._since = 0.0
        self._cells = parts.html(flex="1 1 auto", min_width="0")
        width = {"width": f"{_BUTTON_WIDTH}px"}

        def button(icon: str, css: str, act: Callable[[Task], None]) -> object:
            made = parts.button(icon=icon, on_click=lambda: self._act(act), **width)
            made.add_class(css)
            return made

        self._up = button("arrow-up", "nbtasks-priority", lambda task: actions.move(task, 1))
        self._down = button("arrow-down", "nbtasks-priority", lambda task: actions.move(task, -1))
        self._cancel = button("times", "nbtasks-cancel", actions.cancel)
        self._retry = button("repeat", "nbtasks-retry", actions.retry)
        self._output = button("terminal", "nbtasks-output", lambda task: actions.open(task, "output"))
        self._details = button("info-circle", "nbtasks-details", lambda task: actions.open(task, "details"))
        buttons = parts.row(
            *(self._up, self._down, self._cancel, self._retry, self._output, self._details),
            flex=f"0 0 {BUTTONS_WIDTH}px",
            justify_content="flex-end",
            margin="0 0 0 auto",
        )
        buttons.add_class("nbtasks-buttons")
        self.widget = parts.row(self._cells, buttons, align_items="center", height="32px", width="100%")

    def show(self, task: Task, now: datetime, opened: str | None) -> int:
        """Show `task`; of the parts under the row, `opened` is shown. How many messages that took."""
        shown = Shown.of(task, now, whole=False)
        name = shown.title[:80]
        sent = 0
        if task is not self.task:
            self._since = time.monotonic() if self.task is not None else 0.0
            self.task = task
            for button, words in (
                (self._up, f"Raise the priority of {name}"),
                (self._down, f"Lower the priority of {name}"),
                (self._cancel, f"Cancel {name}"),
                (self._retry, f"Run {name} again"),
                (self._output, f"Output of {name}"),
                (self._details, f"Details of {name}"),
            ):
                # The words name the button, though only its icon is seen (see TABLE_STYLE).
                sent += put(button, tooltip=words, description=words)
        classes = ["nbtasks-tr", f"nbtasks-{'over' if shown.over else shown.state}"]
        if kept_output(task) is not None:
            classes.append("nbtasks-writes")
        if shown.over and not may_run_again(task):
            classes.append("nbtasks-once")
        sent += put(self.widget, _dom_classes=tuple(classes))
        sent += put(self._output, _dom_classes=_classes("output", on=opened == "output"))
        sent += put(self._details, _dom_classes=_classes("details", on=opened == "details"))
        sent += put(self._cancel, disabled=shown.state == "cancelling")
        return sent + put(self._cells, value=cells_html(task, shown))

    def _act(self, act: Callable[[Task], None]) -> None:
        if self.task is not None and time.monotonic() - self._since >= CHANGED_SECONDS:
            act(self.task)


def may_run_again(task: Task) -> bool:
    """Whether there is something left to run: a function's task has let go of it once it has completed."""
    return type(task).run is not Task.run or callable(task._work)


def _classes(name: str, *, on: bool) -> tuple[str, ...]:
    return (f"nbtasks-{name}", "nbtasks-on") if on else (f"nbtasks-{name}",)


def cells_html(task: Task, shown: Shown) -> str:
    """What is told of a task in a row: name and note, state, lane, priority, progress, time."""
    sign, words, colour = LOOKS[shown.state]
    title, note = html.escape(shown.title[:200]), html.escape(one_line(shown.note, 200))
    progress = "" if shown.progress is None and not shown.indeterminate else _progress_html(shown)
    number = "text-align:right;font-variant-numeric:tabular-nums"
    return (
        f'<div class="nbtasks-cells"><span title="{title}"><span style="color:{colour}" aria-hidden="true">{sign}'
        f'</span> <bdi style="font-weight:bold">{title}</bdi>{f" <bdi>{note}</bdi>" if note else ""}</span>'
        f"<span>{words}</span><span>{html.escape(task.lane[:80])}</span>"
        f'<span style="{number}">{task.priority}</span><span>{progress}</span>'
        f'<span style="{number}">{shown.elapsed_text}</span></div>'
    )


def _progress_html(shown: Shown) -> str:
    width, pale = (100.0, ";opacity:.35") if shown.indeterminate else (shown.progress or 0.0, "")
    bar = f"height:6px;border-radius:3px;flex:1 1 auto;overflow:hidden;background:{TRACK_COLOUR}"
    return (
        f'<span style="display:flex;align-items:center"><span style="{bar}"><span style="display:block;height:6px;'
        f'width:{width:.1f}%;background:{LOOKS[shown.state][2]}{pale}"></span></span>'
        '<span style="flex:0 0 42px;text-align:right;font-variant-numeric:tabular-nums">'
        f"{shown.percent or '…'}</span></span>"
    )
