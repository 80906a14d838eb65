"""The timeline as a picture: lanes over time, each task a bar, waiting told from running, and what fires next.

Pure: knows nothing of widgets, and draws only the `Bar`s and `Fire`s that it is given.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from nbtasks.exceptions import NbtasksError
from nbtasks.history.records import TaskRecord
from nbtasks.manager import TaskManager
from nbtasks.task import Task
from nbtasks.widgets.snapshot import LOOKS, clock_text, one_line

__all__ = ["SPAN", "Bar", "Fire", "PictureTimeline", "Timeline", "timeline_of"]

SPAN = timedelta(hours=1)
DRAW_SECONDS = 2.0
BYTES_A_SECOND, DRAW_SHARE = 50_000, 50
"""How often the picture is drawn anew: every two seconds, larger ones and those that took long less often."""
FIRES = 20
MOST_BARS = 3_000
"""How many that were started are drawn, the newest."""


def timeline_of(manager: TaskManager, span: timedelta = SPAN, now: datetime | None = None) -> Timeline:
    """What there was in the last `span`: of the tasks that the manager has, and of those that its history has."""
    now = now or datetime.now(UTC)
    tasks = manager.list_tasks()
    bars = [bar for task in tasks for bar in _bars(manager, task) if (bar.ended_at or now) >= now - span]
    known = {task.id for task in tasks}
    bars += [bar for record in _records(manager, span) if record.id not in known and (bar := _past_bar(record))]
    bars.sort(key=lambda bar: bar.waits_from)
    begun = [bar for bar in bars if bar.started_at is not None]
    waiting = [bar for bar in bars if bar.started_at is None]
    schedules = [one for one in manager.list_recurring_tasks() if one.enabled]
    fires = [Fire(one.name, at) for one in schedules for at in one.next_fires(FIRES)]
    return Timeline([*begun[-MOST_BARS:], *waiting], fires, now, span)


def _bars(manager: TaskManager, task: Task) -> list[Bar]:
    """One for each attempt, the last one last."""
    state, created = task.state.value, task.created_at
    if created is None:
        return []
    bars, waits_from = [], created
    for past in manager.past_attempts(task):
        note = f"attempt {past.number}: {past.error}"
        bars.append(Bar(task.name, task.lane, "failed", waits_from, past.started_at, past.ended_at, note))
        waits_from = past.ended_at
    began = task.started_at if task.started_at is not None and task.started_at >= waits_from else None
    note = f"attempt {len(bars) + 1}" if bars else ""
    note = f"{note} {task.error or ''}".strip() if task.done else note
    shown = "cancelling" if task.cancelling else state
    return [*bars, Bar(task.name, task.lane, shown, waits_from, began, task.completed_at, note)]


def _records(manager: TaskManager, span: timedelta) -> list[TaskRecord]:
    history = manager.history
    if history is None:
        return []
    try:
        return list(history.tasks(since=span, notebook=history.notebook, limit=MOST_BARS))
    except NbtasksError:  # a history that cannot be read has said so itself; the picture goes without it
        return []


def _past_bar(record: TaskRecord) -> Bar | None:
    if record.completed_at is None:
        return None
    state = record.state.value
    return Bar(
        record.name, record.lane, state, record.created_at, record.started_at, record.completed_at, record.error or ""
    )


class PictureTimeline:
    """The timeline as a picture that is replaced in its document; a view for the live writer."""

    def __init__(self, manager: TaskManager, span: timedelta = SPAN) -> None:
        self.replace: Callable[[dict[str, Any]], None] | None = None
        """Puts a new bundle in the place of the last one."""
        self._manager = manager
        self._span = span
        self._due = float("-inf")
        self._bundle = self._draw()

    @property
    def ticks(self) -> bool:
        """Time goes on."""
        return True

    def refresh(self) -> int:
        """Draw it anew, unless that was done a moment ago."""
        if time.monotonic() < self._due:
            return 0
        bundle = self._draw()
        if bundle == self._bundle:
            return 0
        self._bundle = bundle
        return self._show()

    def bundle(self) -> dict[str, Any]:
        """The mime bundle as it was last drawn."""
        return self._bundle

    def close(self) -> None:
        """There is nothing to close: the picture stays."""
        self.replace = None

    def _draw(self) -> dict[str, Any]:
        start = time.thread_time()
        timeline = timeline_of(self._manager, self._span)
        bundle = {"text/html": timeline.html(), "text/plain": timeline.text()}
        took = time.thread_time() - start
        self._due = time.monotonic() + max(DRAW_SECONDS, len(bundle["text/html"]) / BYTES_A_SECOND, DRAW_SHARE * took)
        return bundle

    def _show(self) -> int:
        if self.replace is None:
            return 0
        self.replace(self._bundle)
        return 1


FUTURE = 0.2
"""How much of the width belongs to what is to come, where something is."""
ROW, LANE_GAP, LABEL, AXIS = 18, 10, 18, 22
"""Pixels: of a row at most, between lanes, of a lane's name, of the axis."""
MOST_HEIGHT = 480
"""Pixels that the rows of one lane take together: where there are more, they are thinner."""
MOST_WAITING = 6
"""Of one lane, what waits or was never started: the rest is told by its number, and leaves what ran its height."""
SEEN_PERCENT = 0.3
"""How wide that must be to be seen."""
NAMED_PERCENT = 6.0
"""How wide a bar must be to have its name written on it."""
TEXT_WIDTH = 60
TEXT_ROWS = 40
_STEPS = (10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt of a task: when it began to wait, started and ended. Times are aware; None: not yet."""

    name: str
    lane: str
    state: str
    waits_from: datetime
    started_at: datetime | None
    ended_at: datetime | None
    note: str = ""
    """What else hovering tells: which attempt, the error."""


@dataclass(frozen=True, slots=True)
class Fire:
    """When a schedule fires next."""

    name: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is drawn: what there was in the last `span`, until `now`, and what fires within a fifth of it from then."""

    bars: Sequence[Bar]
    fires: Sequence[Fire]
    now: datetime
    span: timedelta

    @property
    def _until(self) -> datetime:
        """Where the picture ends."""
        to_come = [fire.at for fire in self.fires if fire.at <= self.now + self.span * FUTURE]
        return self.now + self.span * FUTURE if to_come else self.now + self.span * 0.01

    def html(self) -> str:
        """SVG under a line that says what the looks mean."""
        shown = self._shown()
        legend = " ".join(
            f'<span style="margin-right:14px;white-space:nowrap"><span style="color:{LOOKS[state][2]}" '
            f'aria-hidden="true">{LOOKS[state][0]}</span> {sum(bar.state == state for bar in shown):,} {state}</span>'
            for state in ("running", "pending", "completed", "failed", "cancelled")
        )
        if not shown and not self.fires:
            return f'<div class="nbtasks-timeline">no tasks in the last {_span_text(self.span)}</div>'
        return (
            '<div class="nbtasks-timeline" style="font-size:13px;line-height:1.5">'
            f"<div>the last {_span_text(self.span)}: {legend}</div>{self._svg(shown)}</div>"
        )

    def text(self) -> str:
        """One line for each of the newest bars: `.` waiting, `#` running."""
        lines = []
        for bar in sorted(self._shown(), key=lambda bar: bar.waits_from)[-TEXT_ROWS:]:
            marks = [" "] * TEXT_WIDTH
            begun, started = self._column(bar.waits_from), self._column(bar.started_at or bar.ended_at or self.now)
            ended = self._column(bar.ended_at or self.now)
            marks[begun:started] = "." * (started - begun)
            if bar.started_at is not None:
                marks[started : max(ended, started + 1)] = "#" * max(ended - started, 1)
            lines.append(f"{one_line(bar.name, 24):24} |{''.join(marks[:TEXT_WIDTH])}| {bar.state} in {bar.lane}")
        lines += [f"{one_line(fire.name, 24):24} fires at {_clock(fire.at)}" for fire in self.fires]
        head = f"the last {_span_text(self.span)}, until {_clock(self.now)}"
        return "\n".join([head, *(lines or ["no tasks"])])

    def _shown(self) -> list[Bar]:
        since = self.now - self.span
        return [bar for bar in self.bars if (bar.ended_at or self.now) >= since]

    def _column(self, moment: datetime) -> int:
        share = (moment - (self.now - self.span)) / self.span
        return min(TEXT_WIDTH - 1, max(0, int(share * TEXT_WIDTH)))

    # -- the drawing --------------------------------------------------------------------------------------------

    def _at(self, moment: datetime) -> float:
        """Where a moment is, in percent of the width."""
        since = self.now - self.span
        return min(100.0, max(0.0, 100.0 * ((moment - since) / (self._until - since))))

    def _svg(self, shown: Sequence[Bar]) -> str:
        mark, parts, top = f"nbtasks{next(_numbers)}", [], 4
        for lane in sorted({bar.lane for bar in shown}):
            drawn, height = self._lane(lane, [bar for bar in shown if bar.lane == lane], top, mark)
            parts.append(drawn)
            top += height + LANE_GAP
        drawn, height = self._fires(top)
        bottom = top + height
        axis = self._axis(bottom)
        label = f"{len(shown)} tasks in the last {_span_text(self.span)}"
        return (
            f'<svg role="img" aria-label="{label}" width="100%" height="{bottom + AXIS}" style="display:block;'
            f'overflow:hidden;color:inherit"><defs>{_pattern(mark, "failed", "M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2")}'
            f"{_pattern(mark, 'cancelled', 'M3,0 v6')}</defs>{axis}{''.join(parts)}{drawn}</svg>"
        )

    def _lane(self, lane: str, bars: Sequence[Bar], top: int, mark: str) -> tuple[str, int]:
        begun = [bar for bar in bars if bar.started_at is not None]
        # Those first that still wait, then the longest: of one that waited but for a moment there is nothing to see.
        waiting = sorted((bar for bar in bars if bar.started_at is None), key=self._by_wait)
        visible = [bar for bar in waiting[:MOST_WAITING] if bar.state == "pending" or self._waited(bar) > SEEN_PERCENT]
        left_out = waiting[len(visible) :]
        rows = _packed([*begun, *visible], self.now)
        number = max((row for _, row, _ in rows), default=0) + 1
        step = min(float(ROW), MOST_HEIGHT / number)
        parts = [_text(0, top + 13, f"{one_line(lane, 60)}: {len(bars):,}", "font-weight:bold")]
        for bar, row, free_from in rows:
            parts.append(self._bar(bar, top + LABEL + row * step, step, free_from, mark))
        height = LABEL + round(number * step)
        if left_out:
            parts.append(
                _text(self._at(self.now), top + height + 12, f"{_left_out_text(left_out)}\u00a0", "text-anchor:end")
            )
            height += ROW
        return "".join(parts), height

    def _waited(self, bar: Bar) -> float:
        """How wide it is drawn that it waited, and was never started."""
        return self._at(bar.ended_at or self.now) - self._at(bar.waits_from)

    def _by_wait(self, bar: Bar) -> tuple[bool, float]:
        return bar.state != "pending", -self._waited(bar)

    def _bar(self, bar: Bar, y: float, step: float, free_from: datetime | None, mark: str) -> str:
        colour, end = LOOKS[bar.state][2], bar.ended_at or self.now
        height = max(1.0, step - 3)
        parts = [f"<title>{html.escape(self._hover(bar))}</title>"]
        waits_from = bar.waits_from if free_from is None else max(bar.waits_from, free_from)
        waits_until = bar.started_at or end
        if waits_until > waits_from:
            left, right = self._at(waits_from), self._at(waits_until)
            if right > left:
                line = "stroke-dasharray:2 2;" if bar.started_at is None else ""
                parts.append(
                    f'<line x1="{left:.2f}%" x2="{right:.2f}%" y1="{y + height / 2:.1f}" y2="{y + height / 2:.1f}" '
                    f'style="stroke:currentColor;opacity:.55;{line}"/>'
                )
        if bar.started_at is not None:
            left, right = self._at(bar.started_at), self._at(end)
            patterned = bar.state in ("failed", "cancelled")
            fill, edge = (f"url(#{mark}{bar.state})", colour) if patterned else (colour, "rgba(255,255,255,.4)")
            parts.append(
                f'<rect x="{left:.2f}%" y="{y:.1f}" width="{max(right - left, 0.1):.2f}%" height="{height:.1f}" '
                f'style="fill:{fill};stroke:{edge};stroke-width:1"/>'
            )
            parts.append(_name_on(bar, left, right, y, height))
        return f'<g data-state="{bar.state}">{"".join(parts)}</g>'

    def _hover(self, bar: Bar) -> str:
        end = bar.ended_at or self.now
        waited = _seconds(bar.waits_from, bar.started_at or end)
        ran = "" if bar.started_at is None else f"\nran {clock_text(_seconds(bar.started_at, end))}"
        times = f"{_clock(bar.started_at or bar.waits_from)} to {'now' if bar.ended_at is None else _clock(end)}"
        note = f"\n{one_line(bar.note, 300)}" if bar.note else ""
        return f"{one_line(bar.name, 100)}: {bar.state}\nwaited {clock_text(waited)}{ran}\n{times}{note}"

    def _fires(self, top: int) -> tuple[str, int]:
        until = self._until
        names = list(dict.fromkeys(fire.name for fire in self.fires if fire.at <= until))
        parts = []
        for row, name in enumerate(names):
            y = top + LABEL + row * ROW
            times = [fire.at for fire in self.fires if fire.name == name and fire.at <= until]
            parts.append(_text(self._at(self.now), y + 12, f"{one_line(name, 40)}\u00a0", "text-anchor:end"))
            hover = html.escape(one_line(name, 100))
            parts += [
                f'<g data-state="scheduled"><title>{hover} fires at {_clock(at)}</title>'
                f"{_text(self._at(at), y + 12, LOOKS['scheduled'][0], 'text-anchor:middle')}</g>"
                for at in times
            ]
        if not names:
            return "", 0
        return _text(0, top + 13, "next fires", "font-weight:bold") + "".join(parts), LABEL + len(names) * ROW

    def _axis(self, bottom: int) -> str:
        since, until = self.now - self.span, self._until
        seconds = (until - since).total_seconds()
        step = next((step for step in _STEPS if seconds / step <= 8), _STEPS[-1])
        first = since.astimezone().replace(microsecond=0)
        midnight = first.replace(hour=0, minute=0, second=0)
        moment = midnight + timedelta(seconds=step * -(-(first - midnight).total_seconds() // step))
        parts = []
        while moment < until:
            x, words = self._at(moment), f"{moment.astimezone():{'%H:%M:%S' if step < 60 else '%H:%M'}}"
            parts.append(
                f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{bottom}" style="stroke:currentColor;opacity:.15"/>'
            )
            if 3 < x < 97:
                parts.append(_text(x, bottom + 15, words, "text-anchor:middle"))
            moment += timedelta(seconds=step)
        x = self._at(self.now)
        now = f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{bottom}" style="stroke:currentColor;opacity:.6"/>'
        return "".join(parts) + now


def _packed(bars: Sequence[Bar], now: datetime) -> list[tuple[Bar, int, datetime | None]]:
    """Each with the first row that is free while it runs, and since when that row is; what waits comes last."""
    ends: list[datetime] = []
    rows = []
    for bar in sorted(bars, key=lambda bar: (bar.started_at is None, bar.started_at or bar.waits_from)):
        start, end = bar.started_at or bar.waits_from, bar.ended_at or now
        row = next((row for row, until in enumerate(ends) if until <= start), len(ends))
        free_from = ends[row] if row < len(ends) else None
        ends[row : row + 1] = [end]
        rows.append((bar, row, free_from))
    return rows


def _left_out_text(bars: Sequence[Bar]) -> str:
    """How many more there are: "1,203 more wait, 12 more never started"."""
    waiting = sum(bar.state == "pending" for bar in bars)
    told = ((waiting, "more wait"), (len(bars) - waiting, "more never started"))
    return ", ".join(f"{number:,} {words}" for number, words in told if number)


def _name_on(bar: Bar, left: float, right: float, y: float, height: float) -> str:
    if height < 11 or right - left < NAMED_PERCENT:
        return ""
    words = one_line(f"{LOOKS[bar.state][0]} {bar.name}", max(3, int((right - left) * 0.8)))
    # On a pattern there must be something behind the letters.
    style = "fill:#fff;font-size:11px;paint-order:stroke;stroke-width:3px;stroke-linejoin:round"
    return (
        f'<text x="{left:.2f}%" y="{y + height - 4:.1f}" dx="4" style="{style};stroke:{LOOKS[bar.state][2]}">'
        f"{html.escape(words)}</text>"
    )


def _pattern(mark: str, state: str, path: str) -> str:
    """What fills bars of that state, so that its colour is not the only sign."""
    colour = LOOKS[state][2]
    return (
        f'<pattern id="{mark}{state}" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" '
        f'style="fill:{colour};fill-opacity:.35"/><path d="{path}" style="stroke:{colour};stroke-width:2"/></pattern>'
    )


def _text(x: float, y: float, words: str, style: str) -> str:
    look = f"fill:currentColor;font-size:12px;{style}"
    return f'<text x="{x:.2f}%" y="{y:.1f}" style="{look}">{html.escape(words)}</text>'


def _seconds(start: datetime, end: datetime) -> int:
    return max(0, int((end - start).total_seconds()))


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"


def _span_text(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
