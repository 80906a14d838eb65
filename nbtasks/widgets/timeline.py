"""Timeline: attempts and next fires in lanes over time, as SVG and as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from itertools import count

from nbtasks.exceptions import NbtasksError
from nbtasks.formatting import clock, one_line
from nbtasks.history.records import TaskRecord
from nbtasks.manager import TaskManager
from nbtasks.task import Task, id_prefix
from nbtasks.widgets.html import package_text
from nbtasks.widgets.snapshot import FINAL_STATES, STATE_STYLES

__all__ = ["SPAN", "Bar", "Fire", "Timeline", "timeline_of"]

SPAN = timedelta(hours=1)
SHORTEST = timedelta(seconds=1)
"""The shortest time span of a timeline that fits itself."""
FIT_MARGIN = 0.03
"""Share of that span that is left free before the first start."""
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
NAME_CHARACTERS = 32
WIDTH, CHARACTER = 370, 7
"""Pixels: the width of the drawing and of a character that names are placed by; a wider one has more space."""
ARROWS = 300
"""Maximum number of arrows from tasks to those that come after them."""
FOCUSABLE = 200
"""Maximum number of bars, the newest, that the Tab key reaches."""
SHORT_NAME_PERCENT = 6.0
"""Minimum width of a bar that has the beginning of its name on it."""
ELBOW_PERCENT = 1.5
"""Minimum distance of two bars that have an arrow with an elbow between them."""
_DARKER = {"#b26a00": "#9a5c00"}
TEXT_WIDTH = 60
TEXT_ROWS = 40

_STEPS = (1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)
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
    """More text for the details: the number of the attempt, the error."""
    task_id: str = ""
    attempt: int = 1
    after: tuple[str, ...] = ()
    """The ids of the tasks that the first attempt comes after."""

    @property
    def key(self) -> str:
        """What stands for it in the picture."""
        return f"{self.task_id}/{self.attempt}"


@dataclass(frozen=True, slots=True)
class Fire:
    """A next fire of a schedule."""

    name: str
    at: datetime


def timeline_of(
    manager: TaskManager,
    span: timedelta | None = None,
    now: datetime | None = None,
    until: datetime | None = None,
) -> Timeline:
    """The timeline of a time `span`, with the tasks of the manager and those in its history.

    It ends `until` then, by default now. Without a span it begins with the first start of this manager's tasks.
    """
    now = now or datetime.now(UTC)
    tasks = manager.list_tasks()
    bars = [bar for task in tasks for bar in _task_bars(manager, task)]
    known = {task.id for task in tasks}
    if span is None:
        records = _records(manager, None) if manager.pruned_tasks else []
        own = f"{id_prefix()}-"
        bars += [bar for record in records if record.id.startswith(own) for bar in _record_bars(record, known)]
        begins = [bar.started_at or bar.waits_from for bar in bars]
        shown = max(SHORTEST, (now - min(begins, default=now)) * (1 + FIT_MARGIN))
    else:
        shown = span
        bars += [
            bar for record in _records(manager, now - (until or now) + span) for bar in _record_bars(record, known)
        ]
    end = until or now
    bars = [bar for bar in bars if (bar.ended_at or now) >= end - shown and bar.waits_from <= end]
    bars.sort(key=lambda bar: bar.waits_from)
    started = [bar for bar in bars if bar.started_at is not None]
    waiting = [bar for bar in bars if bar.started_at is None]
    schedules = [recurring for recurring in manager.list_recurring_tasks() if recurring.enabled]
    fires = [Fire(recurring.name, at) for recurring in schedules for at in recurring.next_fires(FIRES)]
    return Timeline([*started[-BARS:], *waiting], fires, now, shown, fitted=span is None, until=until)


def _task_bars(manager: TaskManager, task: Task) -> list[Bar]:
    """One bar for each attempt, the last one last."""
    created = task.created_at
    if created is None:
        return []
    bars: list[Bar] = []
    waits_from = created
    for past in manager.past_attempts(task):
        note = f"attempt {past.number}: {past.error}"
        ids = (task.id, past.number, () if bars else _ids(task))
        bars.append(Bar(task.name, task.lane, "failed", waits_from, past.started_at, past.ended_at, note, *ids))
        waits_from = past.ended_at
    started = task.started_at if task.started_at is not None and task.started_at >= waits_from else None
    note = f"attempt {len(bars) + 1}" if bars else ""
    note = f"{note} {task.error or ''}".strip() if task.done else note
    state = "cancelling" if task.cancelling else task.state.value
    ids = (task.id, len(bars) + 1, () if bars else _ids(task))
    return [*bars, Bar(task.name, task.lane, state, waits_from, started, task.completed_at, note, *ids)]


def _ids(task: Task) -> tuple[str, ...]:
    """The ids of the tasks that it comes after."""
    after = [task.after] if isinstance(task.after, str | Task) else task.after
    return tuple(one.id if isinstance(one, Task) else one for one in after)


def _records(manager: TaskManager, span: timedelta | None) -> list[TaskRecord]:
    history = manager.history
    if history is None:
        return []
    try:
        return list(history.tasks(since=span, notebook=history.notebook, limit=BARS))
    except NbtasksError:  # the history itself has warned that it cannot be read; the timeline does without
        return []


def _record_bars(record: TaskRecord, known: Iterable[str]) -> list[Bar]:
    """The bar of a finished task that is not `known`; of earlier attempts there is no record."""
    if record.completed_at is None or record.id in known:
        return []
    times = (record.created_at, record.started_at, record.completed_at)
    return [Bar(record.name, record.lane, record.state.value, *times, record.error or "", record.id)]


# -- rendering ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Place:
    """Where a bar and its name are: percent of the width, and pixels."""

    bar: Bar
    left: float
    right: float
    begin: float
    """The left end of the bar with its name."""
    end: float
    """The right end of the bar with its name."""
    waits_from: float
    text: str
    name_at: str = ""
    """Where the name is; nowhere if empty.

    "on" the bar, on it and "cut" off at its end, to its "right" or "left", in front of its "line".
    """
    free_from: float = 0.0
    """Where the bar before it in its row, with its name, ends."""
    row: int = 0
    y: float = 0.0
    height: float = 0.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """The bars of the `span` until `now`, or until another time; next fires."""

    bars: Sequence[Bar]
    fires: Sequence[Fire]
    now: datetime
    span: timedelta

    fitted: bool = False
    """Whether the span begins with the first start."""
    until: datetime | None = None
    """The end of what is shown; None: now."""

    def html(self) -> str:
        """The timeline as SVG below a legend; below it are the details of the bar that has the focus."""
        bars = self._visible_bars()
        if not bars and not self.fires:
            return f'<div class="nbtasks-timeline">no tasks in {self._span_text()}</div>'
        legend = " ".join(_legend_html(state, bars) for state in ("running", "pending", *FINAL_STATES))
        script = escape(package_text("timeline.js").strip())
        return (
            f'<div class="nbtasks-timeline" onfocusin="{script}" onfocusout="{script}" onkeydown="{script}" '
            f'style="font-size:13px;line-height:1.5"><div>{self._span_text()}: {legend}</div>{self._svg(bars)}'
            '<div class="nbtasks-bar-details" role="status" style="white-space:pre-wrap;overflow-wrap:anywhere"></div>'
            "</div>"
        )

    def _span_text(self) -> str:
        """The span in words: "the last 1 h", "since 12:03:10", "12:03:10 to 12:13:10"."""
        if self.until is not None:
            return f"{_time_text(self._since)} to {_time_text(self.until)}"
        return f"since {_time_text(self._since)}" if self.fitted else f"the last {_span_text(self.span)}"

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
        head = self._span_text() + ("" if self.until else f", until {_time_text(self.now)}")
        return "\n".join([head, *(lines or ["no tasks"])])

    def _visible_bars(self) -> list[Bar]:
        end = self.until or self.now
        return [bar for bar in self.bars if (bar.ended_at or self.now) >= self._since and bar.waits_from <= end]

    # -- positions --------------------------------------------------------------------------------------------

    @property
    def _since(self) -> datetime:
        return (self.until or self.now) - self.span

    @property
    def _until(self) -> datetime:
        """The right edge: some time after `now` if a schedule fires then."""
        if self.until is not None:
            return self.until
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
        focusable = {bar.key for bar in bars[-FOCUSABLE:]}
        places: list[_Place] = []
        for lane in sorted({bar.lane for bar in bars}):
            of_lane, left_out = self._lane_bars([bar for bar in bars if bar.lane == lane])
            placed, step = self._placed(of_lane, top + LABEL)
            number = len(of_lane) + len(left_out)
            parts.append(_text_svg(0, top + 13, f"{one_line(lane, 60)}: {number:,}", "font-weight:bold"))
            parts += [self._bar_svg(place, prefix, place.bar.key in focusable) for place in placed]
            places += placed
            height = LABEL + round(max((place.row + 1 for place in placed), default=1) * step)
            if left_out:
                text = f"{_left_out_text(left_out)}\u00a0"
                parts.append(_text_svg(self._percent(self.now), top + height + 12, text, "text-anchor:end"))
                height += ROW
            top += height + LANE_GAP
        fires, height = self._fires_svg(top)
        bottom = top + height
        label = f"{len(bars)} tasks, {self._span_text()}"
        defs = _pattern_svg(prefix, "failed", "M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2")
        defs += _pattern_svg(prefix, "cancelled", "M3,0 v6") + _arrow_head_svg(prefix)
        drawing = f"{self._axis_svg(bottom)}{''.join(parts)}{_arrows_svg(places, prefix)}{fires}"
        return (
            f'<svg role="group" aria-label="{label}" width="100%" height="{bottom + AXIS}" style="display:block;'
            f'overflow:hidden;color:inherit"><defs>{defs}</defs>{drawing}</svg>'
        )

    def _lane_bars(self, bars: Sequence[Bar]) -> tuple[list[Bar], list[Bar]]:
        """The bars of a lane to draw, and those that are only counted: most of the tasks that wait."""
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
        return [*started, *visible], waiting[len(visible) :]

    def _placed(self, bars: Sequence[Bar], top: int) -> tuple[list[_Place], float]:
        """The bars in rows with their names beside them, or without if those are too many; a row's height."""
        places = self._pack(bars, named=True)
        rows = max((place.row + 1 for place in places), default=1)
        if rows * ROW > LANE_HEIGHT:
            places = self._pack(bars, named=False)
            rows = max((place.row + 1 for place in places), default=1)
        step = min(float(ROW), LANE_HEIGHT / rows)
        for place in places:
            place.y, place.height = top + place.row * step, max(1.0, step - 3)
        return places, step

    def _pack(self, bars: Sequence[Bar], *, named: bool) -> list[_Place]:
        """Each bar, with its name beside it if `named`, in the first row that is free."""
        ends: list[tuple[float, float]] = []
        places = []
        for bar in sorted(bars, key=lambda bar: (bar.started_at is None, bar.started_at or bar.waits_from)):
            place = self._place(bar, named=named)
            row = next((row for row, (_, end) in enumerate(ends) if end <= place.begin), len(ends))
            if row < len(ends):
                place.free_from = ends[row][1]
            place.row = row
            ends[row : row + 1] = [(place.right, max(place.right, place.end))]
            places.append(place)
        return places

    def _place(self, bar: Bar, *, named: bool) -> _Place:
        """The position of a bar and its name: on it, to its right, or to its left at the end of the drawing."""
        left, right = self._percent(bar.started_at or bar.waits_from), self._percent(bar.ended_at or self.now)
        text = one_line(f"{STATE_STYLES[bar.state].sign} {bar.name}", NAME_CHARACTERS)
        width = 100.0 * (CHARACTER * len(text) + 8) / WIDTH
        place = _Place(bar, left, right, begin=left, end=right, waits_from=self._percent(bar.waits_from), text=text)
        if bar.started_at is None:
            if named and right - left >= width:  # its line begins after its name
                place.name_at, place.waits_from = "line", left + width
        elif right - left >= width:
            place.name_at = "on"
        elif named and right + width <= 100.0:
            place.name_at, place.end = "right", right + width
        elif named and left >= width:
            place.name_at, place.begin = "left", left - width
        elif right - left >= SHORT_NAME_PERCENT:
            place.name_at = "cut"
        return place

    def _waiting_percent(self, bar: Bar) -> float:
        """The width of the line of a task that was never started."""
        return self._percent(bar.ended_at or self.now) - self._percent(bar.waits_from)

    def _bar_svg(self, place: _Place, prefix: str, focusable: bool) -> str:
        """A group of waiting line, bar and name, whose title has the details."""
        bar, y, height = place.bar, place.y, place.height
        parts = [f"<title>{escape(self.describe(bar))}</title>"]
        left = max(place.waits_from, place.free_from)
        right = place.right if bar.started_at is None else place.begin
        if right > left:
            dashes = "stroke-dasharray:2 2;" if bar.started_at is None else ""
            middle = f'y1="{y + height / 2:.1f}" y2="{y + height / 2:.1f}"'
            parts.append(_line_svg(left, right, middle, f"opacity:.55;{dashes}"))
        if bar.started_at is not None:
            patterned = bar.state in ("failed", "cancelled")
            fill = f"url(#{prefix}{bar.state})" if patterned else _bar_colour(bar.state)
            parts.append(
                f'<rect x="{place.left:.2f}%" y="{y:.1f}" width="{max(place.right - place.left, 0.1):.2f}%" '
                f'height="{height:.1f}" style="fill:{fill};stroke:rgba(255,255,255,.4);stroke-width:1"/>'
            )
        parts.append(_bar_name_svg(place))
        tab = 0 if focusable else -1
        return (
            f'<g data-state="{bar.state}" data-bar="{escape(bar.key)}" tabindex="{tab}" role="img" '
            f'style="cursor:pointer">{"".join(parts)}</g>'
        )

    def describe(self, bar: Bar) -> str:
        """Name, state, times and note of a bar, in lines."""
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
        step = next((step for step in _STEPS if seconds / step <= 6), _STEPS[-1])
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
        if self.until is not None:
            return "".join(parts)
        x = self._percent(self.now)
        return "".join([*parts, _line_svg(x, x, ends, "opacity:.6")])


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


def _bar_name_svg(place: _Place) -> str:
    if place.height < 11 or not place.name_at:
        return ""
    x = place.right if place.name_at == "right" else place.left
    shift, anchor = (-4, "end") if place.name_at == "left" else (4, "start")
    fill = "#fff" if place.name_at in ("on", "cut") else "currentColor"
    style = f"fill:{fill};font-size:11px;text-anchor:{anchor};pointer-events:none"
    if place.name_at == "cut":
        size = f'width="{place.right - place.left:.2f}%" height="{place.height:.1f}"'
        text = f'<text y="{place.height - 4:.1f}" dx="4" style="{style}">{escape(place.text)}</text>'
        return f'<svg x="{x:.2f}%" y="{place.y:.1f}" {size} style="overflow:hidden">{text}</svg>'
    y = f"{place.y + place.height - 4:.1f}"
    return f'<text x="{x:.2f}%" y="{y}" dx="{shift}" style="{style}">{escape(place.text)}</text>'


def _bar_colour(state: str) -> str:
    """The colour of a bar; white text on it has the contrast that WCAG AA requires."""
    return _DARKER.get(STATE_STYLES[state].colour, STATE_STYLES[state].colour)


def _pattern_svg(prefix: str, state: str, path: str) -> str:
    """The pattern of bars in a state: colour must not be the only sign. Text is readable on dark lines."""
    return (
        f'<pattern id="{prefix}{state}" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" '
        f'style="fill:{_bar_colour(state)}"/><path d="{path}" style="stroke:rgba(0,0,0,.4);stroke-width:2"/></pattern>'
    )


def _arrow_head_svg(prefix: str) -> str:
    return (
        f'<marker id="{prefix}arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0 L8,4 L0,8 z" style="fill:currentColor"/></marker>'
    )


def _arrows_svg(places: Sequence[_Place], prefix: str) -> str:
    """Arrows from the end of tasks to the start of those that come after them."""
    last = {place.bar.task_id: place for place in places}  # the last attempt of each
    pairs = [(last[other], place) for place in places for other in place.bar.after if other in last]
    return "".join(_arrow_svg(start, end, prefix) for start, end in pairs[-ARROWS:])


def _arrow_svg(start: _Place, end: _Place, prefix: str) -> str:
    """Down or up from the end of one bar, then right to the start of the other."""
    x, y = f"{start.right:.2f}%", start.y + start.height / 2
    begin = end.right if end.bar.started_at is None else end.left  # what still waits begins at `now` at the earliest
    head, target = f"marker-end:url(#{prefix}arrow)", end.y + end.height / 2
    title = f"<title>{escape(one_line(end.bar.name, 100))} comes after {escape(one_line(start.bar.name, 100))}</title>"
    if begin - start.right > ELBOW_PERCENT or y == target:
        lines = f'<line x1="{x}" x2="{x}" y1="{y:.1f}" y2="{target:.1f}"/>' if y != target else ""
        lines += f'<line x1="{x}" x2="{begin:.2f}%" y1="{target:.1f}" y2="{target:.1f}" style="{head}"/>'
    else:
        edge = end.y if target > y else end.y + end.height
        lines = f'<line x1="{x}" x2="{begin:.2f}%" y1="{y:.1f}" y2="{edge:.1f}" style="{head}"/>'
    look = "stroke:currentColor;stroke-width:1.5;pointer-events:none"
    return f'<g class="nbtasks-arrow" style="{look}">{title}{lines}</g>'


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
