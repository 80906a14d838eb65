"""The history as a list of names with their last runs, as HTML.

Inline styles only, as in all that is saved with a notebook; the live list adds its style sheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nbtasks.formatting import one_line, plural, short_duration
from nbtasks.history.records import NamedRuns, NamePage, Run, Statistics, TaskRecord
from nbtasks.states import TaskState
from nbtasks.widgets.details import section_html
from nbtasks.widgets.duration_plot import duration_plot
from nbtasks.widgets.snapshot import STATE_STYLES

__all__ = [
    "BARS",
    "MARKS",
    "name_cells",
    "record_cells",
    "record_html",
    "run_list_html",
    "statistics_html",
    "statistics_line",
]

MARKS = 10
"""Maximum number of last runs whose states are shown."""
BARS = 30
"""Maximum number of last runs whose durations are shown."""
BAR_PIXELS, HEIGHT_PIXELS = 4, 20
"""Width of a bar with the gap beside it, and height of the longest."""
SAVED_CHARACTERS = 1_000
"""Longer texts are cut in the static list, which is saved with the notebook."""

_NUMBERS = "font-variant-numeric:tabular-nums"


# -- lines ----------------------------------------------------------------------------------------------------


def name_cells(named: NamedRuns, error: str | None = None) -> tuple[str, ...]:
    """The cells of a line: name with error, last states, durations, runs, last start, last duration."""
    last = named.last[-1]
    sign, _, colour = STATE_STYLES[last.state.value]
    title = escape(one_line(named.name, 200))
    note = f' <bdi style="opacity:.85">{escape(one_line(error, 200))}</bdi>' if error else ""
    return (
        f'<span style="color:{colour}" aria-hidden="true">{sign}</span> '
        f'<bdi style="font-weight:bold">{title}</bdi>{note}',
        _marks_html(named.last[-MARKS:]),
        _sparkline_html(named.last[-BARS:]),
        plural(named.runs, "run"),
        f"{last.began_at.astimezone():%Y-%m-%d %H:%M}",
        "" if last.duration is None else short_duration(last.duration),
    )


def record_cells(record: TaskRecord) -> tuple[str, ...]:
    """The cells of one run: state, start, duration, lane, first line of the error."""
    sign, label, colour = STATE_STYLES[record.state.value]
    return (
        f'<span style="color:{colour}" aria-hidden="true">{sign}</span> {label}',
        f"{(record.started_at or record.created_at).astimezone():%Y-%m-%d %H:%M:%S}",
        "" if record.duration is None else short_duration(record.duration),
        escape(record.lane[:80]),
        escape(one_line(record.error or "", 200)),
    )


def _marks_html(runs: Sequence[Run]) -> str:
    """The signs of the last states; the newest is on the right."""
    counts = {state.value: sum(run.state is state for run in runs) for state in TaskState}
    text = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    signs = "".join(
        f'<span style="color:{style.colour};flex:0 0 13px;text-align:center" aria-hidden="true">{style.sign}</span>'
        for style in (STATE_STYLES[run.state.value] for run in runs)
    )
    look = "display:inline-flex;justify-content:flex-end;max-width:100%;overflow:hidden"
    label = f"{runs[-1].state.value}; last {plural(len(runs), 'run')}: {text}"
    return f'<span role="img" aria-label="{label}" style="{look}">{signs}</span>'


def _sparkline_html(runs: Sequence[Run]) -> str:
    """A bar for each of the last runs, as high as it took long; one that has not ended is a low pale bar."""
    times = [run.duration for run in runs if run.duration is not None]
    if not times:
        return ""
    longest = max(times) or 1e-6
    bars = "".join(
        f'<span style="flex:0 0 {BAR_PIXELS - 1}px;margin-right:1px;'
        f"height:{2 if run.duration is None else max(2, round(HEIGHT_PIXELS * run.duration / longest))}px;"
        f'background:{STATE_STYLES[run.state.value].colour}{";opacity:.5" if run.duration is None else ""}"></span>'
        for run in runs
    )
    ends = f"{short_duration(min(times))} to {short_duration(max(times))}"
    label = f"durations of the last {plural(len(times), 'run')}: {ends}"
    look = f"display:inline-flex;align-items:flex-end;height:{HEIGHT_PIXELS}px;vertical-align:middle"
    return f'<span role="img" aria-label="{label}" style="{look}">{bars}</span>'


# -- details --------------------------------------------------------------------------------------------------


def statistics_line(statistics: Statistics) -> str:
    """Figures of one name: "12 runs, 1 failure, median 3.2 s, p95 4.1 s"."""
    figures = [plural(statistics.runs, "run"), plural(statistics.failures, "failure")]
    if statistics.median is not None and statistics.percentile_95 is not None:
        figures += [f"median {short_duration(statistics.median)}", f"p95 {short_duration(statistics.percentile_95)}"]
    return ", ".join(figures)


def record_html(record: TaskRecord, *, copy: bool = True, limit: int | None = None) -> str:
    """Facts, error, output and source of one run, with Copy buttons; texts are cut after `limit`."""
    facts = {
        "id": record.id,
        "kind": record.kind,
        "lane": record.lane,
        "created": f"{record.created_at.astimezone():%Y-%m-%d %H:%M:%S}",
        "attempts": str(record.attempts),
        "parent": record.parent_id or "",
        "notebook": record.notebook or "",
    }
    items = "".join(
        f'<span style="overflow-wrap:anywhere"><span style="opacity:.75">{name}</span> '
        f"{escape(one_line(value, 200))}</span>"
        for name, value in facts.items()
        if value
    )
    texts: dict[str, str | None] = {"Error": record.error, "Output": record.tail, "Source": record.source}
    sections = "".join(
        section_html(title, _end(text, limit) if title == "Output" else _start(text, limit), copy=copy)
        for title, text in texts.items()
        if text and text.strip()
    )
    return (
        '<div style="font-size:13px;line-height:1.5"><div style="display:flex;flex-wrap:wrap;gap:0 16px;'
        f'margin-bottom:6px">{items}</div>{sections}</div>'
    )


def _start(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else f"{text[:limit]} …"


def _end(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else f"… {text[-limit:]}"


# -- static views ---------------------------------------------------------------------------------------------


def run_list_html(page: NamePage, newest: Mapping[str, TaskRecord], note: str) -> str:
    """The static list; a click on a line opens its `newest` run, also in a saved or exported notebook."""
    if not page.names:
        return f'<div class="nbtasks-history">nothing is recorded{escape(note)}</div>'
    counts = ", ".join(f"{number:,} {state}" for state, number in page.states.items() if number)
    lines = []
    for named in page.names:
        record = newest.get(named.name)
        name, marks, sparkline, runs, began, took = name_cells(named, None if record is None else record.error)
        cut = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
        right = f"text-align:right;white-space:nowrap;{_NUMBERS}"
        cells = (
            f'<span style="flex:1 1 110px;min-width:0;{cut}">{name}</span>'
            f'<span style="flex:0 0 {13 * MARKS}px;text-align:right">{marks}</span>'
            f'<span style="flex:0 0 {BAR_PIXELS * BARS}px;text-align:right">{sparkline}</span>'
            f'<span style="flex:0 0 64px;{right}">{runs}</span>'
            f'<span style="flex:0 0 112px;{right}">{began}</span><span style="flex:0 0 60px;{right}">{took}</span>'
        )
        line = f'<span style="display:inline-flex;flex-wrap:wrap;gap:0 10px;width:calc(100% - 20px)">{cells}</span>'
        border = "border-top:1px solid rgba(128,128,128,.25);padding:3px 0"
        if record is None:
            lines.append(f'<div style="{border}">{line}</div>')
            continue
        body = record_html(record, copy=False, limit=SAVED_CHARACTERS)
        lines.append(
            f'<details style="{border}"><summary style="cursor:pointer">{line}</summary>'
            f'<div style="padding:4px 0 4px 14px">{body}</div></details>'
        )
    return (
        '<div class="nbtasks-history" style="font-size:13px;line-height:1.7;max-width:1100px">'
        f"<div>{escape(counts + note)}</div>{''.join(lines)}</div>"
    )


def statistics_html(statistics: Sequence[Statistics], runs: Mapping[str, Sequence[Run]]) -> str:
    """For each name its figures, and a plot of the durations of its last runs."""
    if not statistics:
        return '<div class="nbtasks-history">nothing is recorded</div>'
    parts: list[Any] = []
    for one in statistics:
        plot = duration_plot(runs.get(one.name, ()), one.median)
        parts.append(
            '<div style="border-top:1px solid rgba(128,128,128,.25);padding:4px 0">'
            f'<b><bdi>{escape(one_line(one.name, 200))}</bdi></b> <span style="{_NUMBERS}">'
            f"{statistics_line(one)}</span>{plot}</div>"
        )
    return (
        f'<div class="nbtasks-history" style="font-size:13px;line-height:1.5;max-width:1100px">{"".join(parts)}</div>'
    )
