"""Timeline: attempts and next fires in lanes over time, as SVG and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from itertools import count

from nbtasks.exceptions import NbtasksError
from nbtasks.formatting import clock
from nbtasks.history.records import TaskRecord
from nbtasks.manager import TaskManager
from nbtasks.task import Task
from nbtasks.widgets.snapshot import FINAL_STATES, STATE_STYLES, one_line

__all__ = ["SPAN", "Bar", "Fire", "Timeline", "timeline_of"]

SPAN = timedelta(hours=1)
FUTURE = 0.2
"""Share of the span that is added for the next fires, if there are any."""

FIRES = 20
"""Maximum number of fires of each schedule."""
BARS = 3_000
"""Maximum number of attempts that were started, the newest."""
WAITING_BARS = 6
"""Maximum number of waiting tasks in a lane that are drawn; of the others there is the number."""

ROW, LANE_GAP, LABEL, AXIS = 18, 10, 18, 22
"""Pixels: height of a row at most, gap between lanes, height of a lane's name, height of the axis."""
LANE_HEIGHT = 480
"""Pixels: maximum height of the rows of a lane; if there are more, they become thinner."""
VISIBLE_PERCENT = 0.3
"""Minimum width of a line that is worth drawing."""
NAMED_PERCENT = 6.0
"""Minimum width of a bar that has its name on it."""
TEXT_WIDTH = 60
TEXT_ROWS = 40

_STEPS = (10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)
_svg_numbers = count(1)


# -- data -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt of a task. Times are aware; None: not yet."""

    name: str
    lane: str
    state: str
    waits_from: datetime
    started_at: datetime | None
    ended_at: datetime | None
    note: str = ""
    """More text for the tooltip: the number of the attempt, the error."""


@dataclass(frozen=True, slots=True)
class Fire:
    """A next fire of a schedule."""

    name: str
    at: datetime


def timeline_of(manager: TaskManager, span: timedelta = SPAN, now: datetime | None = None) -> Timeline:
    """The timeline of the last `span`, with the tasks of the manager and those in its history."""
    now = now or datetime.now(UTC)
    tasks = manager.list_tasks()
    bars = [bar for task in tasks for bar in _task_bars(manager, task) if (bar.ended_at or now) >= now - span]
    known = {task.id for task in tasks}
    bars += [bar for record in _records(manager, span) if record.id not in known and (bar := _record_bar(record))]
    bars.sort(key=lambda bar: bar.waits_from)
    started = [bar for bar in bars if bar.started_at is not None]
    waiting = [bar for bar in bars if bar.started_at is None]
    schedules = [recurring for recurring in manager.list_recurring_tasks() if recurring.enabled]
    fires = [Fire(recurring.name, at) for recurring in schedules for at in recurring.next_fires(FIRES)]
    return Timeline([*started[-BARS:], *waiting], fires, now, span)


def _task_bars(manager: TaskManager, task: Task) -> list[Bar]:
    """One bar for each attempt, the last one last."""
    created = task.created_at
    if created is None:
        return []
    bars, waits_from = [], created
    for past in manager.past_attempts(task):
        note = f"attempt {past.number}: {past.error}"
        bars.append(Bar(task.name, task.lane, "failed", waits_from, past.started_at, past.ended_at, note))
        waits_from = past.ended_at
    started = task.started_at if task.started_at is not None and task.started_at >= waits_from else None
    note = f"attempt {len(bars) + 1}" if bars else ""
    note = f"{note} {task.error or ''}".strip() if task.done else note
    state = "cancelling" if task.cancelling else task.state.value
    return [*bars, Bar(task.name, task.lane, state, waits_from, started, task.completed_at, note)]


def _records(manager: TaskManager, span: timedelta) -> list[TaskRecord]:
    history = manager.history
    if history is None:
        return []
    try:
        return list(history.tasks(since=span, notebook=history.notebook, limit=BARS))
    except NbtasksError:  # the history itself has warned that it cannot be read; the timeline does without
        return []


def _record_bar(record: TaskRecord) -> Bar | None:
    if record.completed_at is None:
        return None
    state = record.state.value
    return Bar(
        record.name, record.lane, state, record.created_at, record.started_at, record.completed_at, record.error or ""
    )


# -- rendering ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Timeline:
    """The bars of the last `span` until `now`, and the next fires."""

    bars: Sequence[Bar]
    fires: Sequence[Fire]
    now: datetime
    span: timedelta

    def html(self) -> str:
        """The timeline as SVG below a legend."""
        bars = self._visible_bars()
        if not bars and not self.fires:
            return f'<div class="nbtasks-timeline">no tasks in the last {_span_text(self.span)}</div>'
        legend = " ".join(_legend_html(state, bars) for state in ("running", "pending", *FINAL_STATES))
        return (
            '<div class="nbtasks-timeline" style="font-size:13px;line-height:1.5">'
            f"<div>the last {_span_text(self.span)}: {legend}</div>{self._svg(bars)}</div>"
        )

    def text(self) -> str:
        """One line for each of the newest bars: `.` waiting, `#` running."""
        lines = []
        for bar in sorted(self._visible_bars(), key=lambda bar: bar.waits_from)[-TEXT_ROWS:]:
            marks = [" "] * TEXT_WIDTH
            waits_from = self._column(bar.waits_from)
            started = self._column(bar.started_at or bar.ended_at or self.now)
            ended = self._column(bar.ended_at or self.now)
            marks[waits_from:started] = "." * (started - waits_from)
            if bar.started_at is not None:
                marks[started : max(ended, started + 1)] = "#" * max(ended - started, 1)
            lines.append(f"{one_line(bar.name, 24):24} |{''.join(marks[:TEXT_WIDTH])}| {bar.state} in {bar.lane}")
        lines += [f"{one_line(fire.name, 24):24} fires at {_time_text(fire.at)}" for fire in self.fires]
        head = f"the last {_span_text(self.span)}, until {_time_text(self.now)}"
        return "\n".join([head, *(lines or ["no tasks"])])

    def _visible_bars(self) -> list[Bar]:
        return [bar for bar in self.bars if (bar.ended_at or self.now) >= self._since]

    # -- positions --------------------------------------------------------------------------------------------

    @property
    def _since(self) -> datetime:
        return self.now - self.span

    @property
    def _until(self) -> datetime:
        """The right edge: some time after `now` if a schedule fires then."""
        future = self.now + self.span * FUTURE
        return future if any(fire.at <= future for fire in self.fires) else self.now + self.span * 0.01

    def _percent(self, moment: datetime) -> float:
        """The position of a moment in percent of the width."""
        return min(100.0, max(0.0, 100.0 * ((moment - self._since) / (self._until - self._since))))

    def _column(self, moment: datetime) -> int:
        """The position of a moment in a line of text."""
        return min(TEXT_WIDTH - 1, max(0, int((moment - self._since) / self.span * TEXT_WIDTH)))

    # -- the SVG ----------------------------------------------------------------------------------------------

    def _svg(self, bars: Sequence[Bar]) -> str:
        prefix, parts, top = f"nbtasks{next(_svg_numbers)}", [], 4
        for lane in sorted({bar.lane for bar in bars}):
            drawing, height = self._lane_svg(lane, [bar for bar in bars if bar.lane == lane], top, prefix)
            parts.append(drawing)
            top += height + LANE_GAP
        fires, height = self._fires_svg(top)
        bottom = top + height
        label = f"{len(bars)} tasks in the last {_span_text(self.span)}"
        stripes = _pattern_svg(prefix, "failed", "M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2")
        stripes += _pattern_svg(prefix, "cancelled", "M3,0 v6")
        return (
            f'<svg role="img" aria-label="{label}" width="100%" height="{bottom + AXIS}" style="display:block;'
            f'overflow:hidden;color:inherit"><defs>{stripes}</defs>{self._axis_svg(bottom)}{"".join(parts)}{fires}</svg>'
        )

    def _lane_svg(self, lane: str, bars: Sequence[Bar], top: int, prefix: str) -> tuple[str, int]:
        """A lane and its height."""
        started = [bar for bar in bars if bar.started_at is not None]
        # Pending ones first, then those that waited longest before they were cancelled.
        waiting = sorted(
            (bar for bar in bars if bar.started_at is None),
            key=lambda bar: (bar.state != "pending", -self._waiting_percent(bar)),
        )
        visible = [
            bar
            for bar in waiting[:WAITING_BARS]
            if bar.state == "pending" or self._waiting_percent(bar) > VISIBLE_PERCENT
        ]
        rows = _pack([*started, *visible], self.now)
        number = max((row for _, row, _ in rows), default=0) + 1
        step = min(float(ROW), LANE_HEIGHT / number)
        parts = [_text_svg(0, top + 13, f"{one_line(lane, 60)}: {len(bars):,}", "font-weight:bold")]
        parts += [self._bar_svg(bar, top + LABEL + row * step, step, free_from, prefix) for bar, row, free_from in rows]
        height = LABEL + round(number * step)
        if left_out := waiting[len(visible) :]:
            text = f"{_left_out_text(left_out)}\u00a0"
            parts.append(_text_svg(self._percent(self.now), top + height + 12, text, "text-anchor:end"))
            height += ROW
        return "".join(parts), height

    def _waiting_percent(self, bar: Bar) -> float:
        """The width of the line of a task that was never started."""
        return self._percent(bar.ended_at or self.now) - self._percent(bar.waits_from)

    def _bar_svg(self, bar: Bar, y: float, step: float, free_from: datetime | None, prefix: str) -> str:
        """A line while the task waits, from `free_from` on, and a bar while it runs."""
        height = max(1.0, step - 3)
        end = bar.ended_at or self.now
        parts = [f"<title>{escape(self._tooltip(bar))}</title>"]
        left = self._percent(bar.waits_from if free_from is None else max(bar.waits_from, free_from))
        right = self._percent(bar.started_at or end)
        if right > left:
            dashes = "stroke-dasharray:2 2;" if bar.started_at is None else ""
            middle = f'y1="{y + height / 2:.1f}" y2="{y + height / 2:.1f}"'
            parts.append(_line_svg(left, right, middle, f"opacity:.55;{dashes}"))
        if bar.started_at is not None:
            left, right = self._percent(bar.started_at), self._percent(end)
            colour, patterned = STATE_STYLES[bar.state].colour, bar.state in ("failed", "cancelled")
            fill, edge = (f"url(#{prefix}{bar.state})", colour) if patterned else (colour, "rgba(255,255,255,.4)")
            parts.append(
                f'<rect x="{left:.2f}%" y="{y:.1f}" width="{max(right - left, 0.1):.2f}%" height="{height:.1f}" '
                f'style="fill:{fill};stroke:{edge};stroke-width:1"/>'
            )
            parts.append(_bar_name_svg(bar, left, right, y, height))
        return f'<g data-state="{bar.state}">{"".join(parts)}</g>'

    def _tooltip(self, bar: Bar) -> str:
        end = bar.ended_at or self.now
        waited = _whole_seconds(bar.waits_from, bar.started_at or end)
        ran = "" if bar.started_at is None else f"\nran {clock(_whole_seconds(bar.started_at, end))}"
        start, stop = _time_text(bar.started_at or bar.waits_from), "now" if bar.ended_at is None else _time_text(end)
        note = f"\n{one_line(bar.note, 300)}" if bar.note else ""
        return f"{one_line(bar.name, 100)}: {bar.state}\nwaited {clock(waited)}{ran}\n{start} to {stop}{note}"

    def _fires_svg(self, top: int) -> tuple[str, int]:
        """A row for each schedule that fires soon, and their height."""
        fires = [fire for fire in self.fires if fire.at <= self._until]
        names = list(dict.fromkeys(fire.name for fire in fires))
        if not names:
            return "", 0
        parts = [_text_svg(0, top + 13, "next fires", "font-weight:bold")]
        for row, name in enumerate(names):
            y = top + LABEL + row * ROW + 12
            parts.append(_text_svg(self._percent(self.now), y, f"{one_line(name, 40)}\u00a0", "text-anchor:end"))
            tooltip = escape(one_line(name, 100))
            parts += [
                f'<g data-state="scheduled"><title>{tooltip} fires at {_time_text(fire.at)}</title>'
                f"{_text_svg(self._percent(fire.at), y, STATE_STYLES['scheduled'].sign, 'text-anchor:middle')}</g>"
                for fire in fires
                if fire.name == name
            ]
        return "".join(parts), LABEL + len(names) * ROW

    def _axis_svg(self, bottom: int) -> str:
        """Vertical lines at round times, and one at `now`."""
        seconds = (self._until - self._since).total_seconds()
        step = next((step for step in _STEPS if seconds / step <= 8), _STEPS[-1])
        first = self._since.astimezone().replace(microsecond=0)
        midnight = first.replace(hour=0, minute=0, second=0)
        moment = midnight + timedelta(seconds=step * -(-(first - midnight).total_seconds() // step))
        parts, ends = [], f'y1="0" y2="{bottom}"'
        while moment < self._until:
            x, label = self._percent(moment), f"{moment.astimezone():{'%H:%M:%S' if step < 60 else '%H:%M'}}"
            parts.append(_line_svg(x, x, ends, "opacity:.15"))
            if 3 < x < 97:
                parts.append(_text_svg(x, bottom + 15, label, "text-anchor:middle"))
            moment += timedelta(seconds=step)
        x = self._percent(self.now)
        return "".join([*parts, _line_svg(x, x, ends, "opacity:.6")])


def _pack(bars: Sequence[Bar], now: datetime) -> list[tuple[Bar, int, datetime | None]]:
    """Each bar with the first row that is free while it runs, and the time since when it is free."""
    ends: list[datetime] = []
    rows = []
    for bar in sorted(bars, key=lambda bar: (bar.started_at is None, bar.started_at or bar.waits_from)):
        start, end = bar.started_at or bar.waits_from, bar.ended_at or now
        row = next((row for row, until in enumerate(ends) if until <= start), len(ends))
        free_from = ends[row] if row < len(ends) else None
        ends[row : row + 1] = [end]
        rows.append((bar, row, free_from))
    return rows


def _legend_html(state: str, bars: Sequence[Bar]) -> str:
    sign, _, colour = STATE_STYLES[state]
    return (
        f'<span style="margin-right:14px;white-space:nowrap"><span style="color:{colour}" '
        f'aria-hidden="true">{sign}</span> {sum(bar.state == state for bar in bars):,} {state}</span>'
    )


def _left_out_text(bars: Sequence[Bar]) -> str:
    """The numbers of bars that are not drawn: "1,203 more waiting, 12 more never started"."""
    waiting = sum(bar.state == "pending" for bar in bars)
    counts = ((waiting, "more waiting"), (len(bars) - waiting, "more never started"))
    return ", ".join(f"{number:,} {label}" for number, label in counts if number)


def _bar_name_svg(bar: Bar, left: float, right: float, y: float, height: float) -> str:
    if height < 11 or right - left < NAMED_PERCENT:
        return ""
    sign, _, colour = STATE_STYLES[bar.state]
    name = one_line(f"{sign} {bar.name}", max(3, int((right - left) * 0.8)))
    # The stroke makes the letters readable on a pattern.
    style = "fill:#fff;font-size:11px;paint-order:stroke;stroke-width:3px;stroke-linejoin:round"
    return (
        f'<text x="{left:.2f}%" y="{y + height - 4:.1f}" dx="4" style="{style};stroke:{colour}">{escape(name)}</text>'
    )


def _pattern_svg(prefix: str, state: str, path: str) -> str:
    """The pattern of bars in a state, whose colour must not be the only sign."""
    colour = STATE_STYLES[state].colour
    return (
        f'<pattern id="{prefix}{state}" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" '
        f'style="fill:{colour};fill-opacity:.35"/><path d="{path}" style="stroke:{colour};stroke-width:2"/></pattern>'
    )


def _line_svg(left: float, right: float, ends: str, style: str) -> str:
    return f'<line x1="{left:.2f}%" x2="{right:.2f}%" {ends} style="stroke:currentColor;{style}"/>'


def _text_svg(x: float, y: float, text: str, style: str) -> str:
    look = f"fill:currentColor;font-size:12px;{style}"
    return f'<text x="{x:.2f}%" y="{y:.1f}" style="{look}">{escape(text)}</text>'


def _whole_seconds(start: datetime, end: datetime) -> int:
    return max(0, int((end - start).total_seconds()))


def _time_text(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"


def _span_text(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
