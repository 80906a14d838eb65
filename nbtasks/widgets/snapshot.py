"""What a panel shows of a task at one moment, and that as static HTML and as text.

Knows nothing of widgets: this is what a terminal shows, and a saved notebook without a kernel.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nbtasks.states import TaskState
from nbtasks.task import Task
from nbtasks.widgets.images import image_html, image_source
from nbtasks.widgets.pace import Pace, attempt_text, children_text, process_text, reading

__all__ = ["PanelPicture", "PicturePanel", "Shown", "figures_html", "label_html", "note_html"]

# What steers a terminal: its sequences, and control characters other than the end of a line and the tab.
_CODES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
LOOKS = {
    # state: (sign, words, colour of the bar and of the sign)
    "pending": ("◌", "pending", "#757575"),
    "running": ("▶", "running", "#1976d2"),
    "cancelling": ("◼", "cancelling", "#b26a00"),
    "completed": ("✔", "completed", "#2e7d32"),
    "failed": ("✖", "failed", "#c62828"),
    "cancelled": ("◼", "cancelled", "#b26a00"),
    # of recurring tasks between two runs
    "scheduled": ("◷", "scheduled", "#1976d2"),
    "paused": ("‖", "paused", "#757575"),
    "ended": ("◼", "ended", "#757575"),
    "removed": ("◼", "removed", "#757575"),
}


BAR_HEIGHT = 6
"""Pixels, of live bars and pictures alike: nothing jumps when a picture takes a live panel's place."""

TRACK_COLOUR = "rgba(128,128,128,.25)"
"""What a bar runs on: visible in every theme, and a colour that untrusted notebooks may use, unlike a variable."""

BODY_CHARACTERS = 10_000
TITLE_CHARACTERS = 500
"""What a panel shows of a body, of a name or heading."""
ERROR_CHARACTERS = 300
"""What a panel shows of an error; the traceback under it, or `task.error`, has it all."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a panel shows of a task at one moment. Two equal ones look the same."""

    state: str
    """A task state, or "cancelling"."""
    title: str
    body: str
    error: str
    progress: float | None
    """0.0 to 100.0; None where it is unknown."""
    elapsed: int | None
    """Whole seconds since the start; None before it."""
    waited_to_stop: int | None
    """Whole seconds since the cancel was asked for, while the work has not stopped."""
    tail: str = ""
    """The last lines of a flood of output, which the cell does not show while it lasts."""
    rate: str = ""
    """How fast the outermost loop goes: "12 file/s"."""
    left: int | None = None
    """Whole seconds until it is over, if it goes on like this; None where one cannot tell."""
    loops: str = ""
    """Where nested loops are: "epoch 3/10 · batch 40/200"."""
    attempt: str = ""
    """"attempt 2 of 3", once there was a first that failed."""
    children: str = ""
    """Its children that are not over: "2 running, 1 pending"."""
    process: str = ""
    """What the process that it runs in uses, if it is not the notebook's."""
    image: str = ""
    """The `src` of its image."""
    described: str = ""
    """What stands for the words of the state, where there is more to say: "2 running, 3 completed"."""
    last_error: str = ""
    """Why the last attempt failed, while another is due."""

    @classmethod
    def of(cls, task: Task, now: datetime, *, whole: bool = True) -> Shown:
        """What to show of `task` at the aware moment `now`; `whole`: with its children and its image."""
        over = task.state not in (TaskState.PENDING, TaskState.RUNNING)
        cancelling = task.cancelling and not over
        end = task.completed_at if over and task.completed_at is not None else now
        elapsed = _seconds(task.started_at, end)
        pace = Pace.of(task) if task.state is TaskState.RUNNING else Pace()
        return cls(
            state="cancelling" if cancelling else str(task.state.value),
            title=one_line(task.heading or task.name),
            body=_shortened(plain_text(str(task.body or "")), BODY_CHARACTERS),
            error=_shortened(_why(task)) if over else "",
            last_error="" if over else _shortened(_why(task)),
            progress=task.progress if pace.progress is None else pace.progress,
            elapsed=elapsed,
            waited_to_stop=_seconds(task.cancel_requested_at, now) if cancelling else None,
            tail="" if over else _tail(task),
            rate=pace.rate,
            left=None if cancelling else pace.left,
            loops=pace.loops,
            attempt=attempt_text(task),
            children=children_text(task) if whole else "",
            process="" if over or not whole else process_text(task),
            image=image_source(task) if whole else "",
        )

    @property
    def over(self) -> bool:
        """Whether the task is in a final state."""
        return self.state in ("completed", "failed", "cancelled")

    @property
    def indeterminate(self) -> bool:
        """Whether the task runs and how far it is is unknown."""
        return self.state == "running" and self.progress is None

    @property
    def note(self) -> str:
        """The line under the bar: the error, else what a cancel waits for, else the body."""
        if self.error:
            return self.error
        if self.state == "pending" and self.last_error:
            return f"the last attempt failed: {self.last_error}"
        if self.waited_to_stop is not None and self.waited_to_stop >= 2:
            waited = f"cannot be stopped yet: asked {clock_text(self.waited_to_stop)} ago"
            return f"{self.body} ({waited})" if self.body else waited
        return self.body

    @property
    def percent(self) -> str:
        """The progress in words: "40%", or nothing where it is unknown."""
        return "" if self.progress is None else f"{self.progress:.0f}%"

    @property
    def figures(self) -> str:
        """Percent, rate, elapsed time and the time left: "40% · 12 it/s · 0:12 · 0:18 left"."""
        left = "" if self.left is None else f"{clock_text(self.left)} left"
        return " · ".join(part for part in (self.percent, self.rate, self.elapsed_text, left) if part)

    @property
    def words(self) -> str:
        """The state in words: "running", "running, attempt 2 of 3"."""
        words = self.described or LOOKS[self.state][1]
        return f"{words}, {self.attempt}" if self.attempt else words

    @property
    def where(self) -> str:
        """Where its loops are, what its children do, and what its process uses, in one line."""
        children = f"children: {self.children}" if self.children else ""
        return " · ".join(part for part in (self.loops, children, self.process) if part)

    @property
    def elapsed_text(self) -> str:
        """The elapsed time: "0:12", or nothing before the start."""
        return "" if self.elapsed is None else clock_text(self.elapsed)

    def text(self) -> str:
        """The panel as one line of plain text."""
        parts = (f"[{self.words}] {self.title}", self.figures, self.where, self.note)
        return "  ".join(part for part in parts if part)


class PanelPicture:
    """A panel as static HTML and text: what a saved notebook shows without a kernel.

    Of one that failed or was cancelled: `again` is whether it offers to run the cell that it is in once more, and
    `command` what else runs it again, told where there is no such offer.
    """

    def __init__(self, shown: Shown, *, again: bool = False, command: str = "") -> None:
        self.shown = shown
        self.again = again
        self.command = command

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the picture."""
        return {"text/html": self.html(), "text/plain": self.shown.text()}

    def html(self) -> str:
        """HTML with inline styles only, which survives in untrusted notebooks; everything of the user is escaped.

        Of a task that is over it is one line, with the error under it where there is one.
        """
        shown = self.shown
        if shown.state == "completed" or (shown.over and not shown.error):
            row, below = _row_html(label_html(shown), figures_html(shown), brief_html(shown), self._again_html()), ""
        elif shown.over:
            row, below = _row_html(label_html(shown), figures_html(shown), self._again_html()), note_html(shown)
        else:
            row, below = _row_html(label_html(shown), figures_html(shown)), _bar_html(shown) + note_html(shown)
        return (
            f'<div class="nbtasks-panel" data-state="{shown.state}" style="max-width:754px;padding:0 0 6px 6px;'
            f'font-size:13px;line-height:1.5">{row}{below}{image_html(shown.image, shown.title)}</div>'
        )

    def _again_html(self) -> str:
        """What runs the cell again, in JupyterLab and Notebook 7; a click makes the cell around it the active one."""
        if self.shown.state not in ("failed", "cancelled"):
            return ""
        if not self.again:
            style = "flex:1 1 0;min-width:0;text-align:right;overflow:hidden;text-overflow:ellipsis"
            line = html.escape(self.command)
            told = f'again: <span style="font-family:monospace">{line}</span>'
            return f'<span title="{line}" style="{style};white-space:nowrap;opacity:.8">{told}</span>' if line else ""
        style = (
            "flex:0 0 auto;margin:0 0 0 auto;padding:2px 10px;border:1px solid rgba(128,128,128,.5);border-radius:2px;"
            "background:rgba(128,128,128,.15);color:inherit;font:inherit;font-size:12px;cursor:pointer"
        )
        return (
            '<button type="button" data-commandlinker-command="notebook:run-cell" data-commandlinker-args="{}" '
            f'title="Run this cell again" style="{style}">Run again</button>'
        )


class PicturePanel:
    """A panel where widgets cannot show: a picture that is replaced in its document; a view for the live writer."""

    def __init__(self, task: Any, look: Callable[[Any, datetime], Shown] = Shown.of) -> None:
        self.task = task
        self.replace: Callable[[PanelPicture], None] | None = None
        """Puts a new picture in the place of the last one."""
        self._look = look
        self._shown = look(task, datetime.now(UTC))

    @property
    def ticks(self) -> bool:
        """The elapsed time runs while the task does."""
        return not self._shown.over

    def reading(self) -> object:
        """What the work says of itself."""
        return reading(self.task) if isinstance(self.task, Task) else [reading(run) for run in self.task.instances]

    def refresh(self) -> None:
        """Replace the picture if it differs."""
        shown = self._look(self.task, datetime.now(UTC))
        if shown != self._shown and self.replace is not None:
            self._shown = shown
            self.replace(PanelPicture(shown))

    def bundle(self) -> dict[str, Any]:
        """The mime bundle of the picture as it is now."""
        return PanelPicture(self._shown).bundle()

    def close(self) -> None:
        """There is nothing to close: the picture stays."""
        self.replace = None


def label_html(shown: Shown) -> str:
    """Sign, name and state as HTML; of a long name as much as there is room for."""
    sign, _, colour = LOOKS[shown.state]
    title = html.escape(shown.title)
    return (
        '<span role="status" style="display:flex;min-width:0;white-space:nowrap">'
        f'<span style="color:{colour}" aria-hidden="true">{sign}</span>'
        f'<b style="margin:0 6px;overflow:hidden;text-overflow:ellipsis" title="{title}"><bdi>{title}</bdi></b>'
        f'<span style="opacity:.75">{html.escape(shown.words)}</span></span>'
    )


def figures_html(shown: Shown) -> str:
    """Percent and elapsed time as HTML."""
    style = "margin:0 10px;white-space:nowrap;font-variant-numeric:tabular-nums"
    return f'<span style="{style}">{html.escape(shown.figures)}</span>'


def brief_html(shown: Shown) -> str:
    """What was said last, beside the rest, as much of it as there is room for."""
    said = html.escape(shown.note)
    style = "min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;opacity:.8"
    return f'<bdi style="{style}" title="{said}">{said}</bdi>' if said else ""


def note_html(shown: Shown) -> str:
    """The line under the bar as HTML, and the tail of a flood; a long text scrolls. Empty where there is none."""
    style = "margin-top:4px;max-height:156px;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.5"
    where = f'<div style="{style}">{html.escape(shown.where)}</div>' if shown.where else ""
    note = where + (f'<div style="{style}">{html.escape(shown.note)}</div>' if shown.note else "")
    code = f"{style};font-family:monospace;font-size:12px;opacity:.8"
    return note + (f'<div style="{code}">{html.escape(shown.tail)}</div>' if shown.tail else "")


def _row_html(*parts: str) -> str:
    return f'<div style="display:flex;align-items:center;height:28px">{"".join(parts)}</div>'


def _bar_html(shown: Shown) -> str:
    """The bar; where a task runs and cannot tell how far it is, a pale one over the whole width."""
    colour, width, opacity = LOOKS[shown.state][2], shown.progress or 0.0, ""
    if shown.indeterminate:
        width, opacity = 100.0, ";opacity:.35"
    shape = f"height:{BAR_HEIGHT}px;border-radius:{BAR_HEIGHT // 2}px"
    return (
        f'<div style="{shape};background:{TRACK_COLOUR}">'
        f'<div style="{shape};width:{width:.1f}%;background:{colour}{opacity}"></div></div>'
    )


def _why(task: Task) -> str:
    """Why the task ended as it did, where there is more to say than its state does."""
    return "" if task.error is None or task.error == task.state.value else plain_text(task.error)


def _shortened(text: str, most: int = ERROR_CHARACTERS) -> str:
    return text if len(text) <= most else text[:most].rstrip() + " …"


def one_line(text: object, most: int = TITLE_CHARACTERS) -> str:
    """Text without codes and ends of lines, as much of it as a line may have."""
    return _shortened(" ".join(plain_text(str(text)[: 2 * most]).split()), most)


def _tail(task: Task) -> str:
    """The last lines of a flood of the task's output, without what colours them."""
    return plain_text(getattr(getattr(task, "output", None), "tail", ""))


def plain_text(text: str) -> str:
    """Text without the codes that steer a terminal."""
    return _CODES.sub("", text)


def _seconds(start: datetime | None, end: datetime) -> int | None:
    return None if start is None else max(0, int((end - start).total_seconds()))


def clock_text(seconds: int) -> str:
    """12 -> "0:12", 3725 -> "1:02:05"."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
