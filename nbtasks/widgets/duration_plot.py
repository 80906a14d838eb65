"""Plot of durations over time as SVG: a point for each run, the median as a line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from nbtasks.formatting import plural, short_duration
from nbtasks.history.records import Run
from nbtasks.widgets.snapshot import STATE_STYLES

__all__ = ["duration_plot"]

HEIGHT, TOP, AXIS = 104, 18, 18
"""Pixels: height of the plot, of that the label above it, height of the labels of the time axis."""
MARGIN_PERCENT = 1.5
"""Space at both ends of the time axis."""


def duration_plot(runs: Sequence[Run], median: float | None = None) -> str:
    """The durations of finished runs, oldest first; empty if there are fewer than two.

    The marks are those of the states. Where the SVG is not shown, its label has the figures.
    """
    timed = [(run, run.duration) for run in runs if run.duration is not None]
    if len(timed) < 2:
        return ""
    longest = max(took for _, took in timed) or 1e-6
    first, last = timed[0][0].began_at, max(run.began_at for run, _ in timed)
    span = (last - first).total_seconds() or 1.0
    width = 100 - 2 * MARGIN_PERCENT

    def x(moment: datetime) -> float:
        return MARGIN_PERCENT + width * (moment - first).total_seconds() / span

    def y(seconds: float) -> float:
        return TOP + (HEIGHT - TOP) * (1 - seconds / longest)

    parts = [_line_svg(y(0.0)), _line_svg(y(longest)), _label_svg(0, TOP - 5, short_duration(longest), "start")]
    if median is not None and median < longest:
        parts.append(
            _line_svg(y(median), "opacity:.6;stroke-dasharray:5 3", f"<title>median {short_duration(median)}</title>")
        )
    parts += [_mark_svg(run, took, x(run.began_at), y(took)) for run, took in timed]
    pattern = "%H:%M:%S" if span < 600 else "%H:%M" if span < 86_400 else "%Y-%m-%d"
    ends = [(0, first, "start"), (100, last, "end")]
    if f"{first.astimezone():{pattern}}" == f"{last.astimezone():{pattern}}":
        ends = ends[:1]
    parts += [_label_svg(at, HEIGHT + AXIS - 3, f"{when.astimezone():{pattern}}", anchor) for at, when, anchor in ends]
    shortest = min(took for _, took in timed)
    middle = "" if median is None else f", median {short_duration(median)}"
    label = f"durations of {plural(len(timed), 'run')}: {short_duration(shortest)} to {short_duration(longest)}{middle}"
    return (
        f'<svg role="img" aria-label="{escape(label)}" width="100%" height="{HEIGHT + AXIS}" '
        f'style="display:block;overflow:visible;color:inherit">{"".join(parts)}</svg>'
    )


def _line_svg(y: float, look: str = "opacity:.25", title: str = "") -> str:
    return f'<line x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}" style="stroke:currentColor;{look}">{title}</line>'


def _label_svg(x: float, y: float, text: str, anchor: str) -> str:
    look = f"fill:currentColor;font-size:11px;text-anchor:{anchor}"
    return f'<text x="{x:.2f}%" y="{y:.1f}" style="{look}">{escape(text)}</text>'


def _mark_svg(run: Run, took: float, x: float, y: float) -> str:
    """A dot for a completed run, the sign of the state for others."""
    sign, label, colour = STATE_STYLES[run.state.value]
    title = f"<title>{run.began_at.astimezone():%Y-%m-%d %H:%M:%S}: {label} after {short_duration(took)}</title>"
    if run.state.value == "completed":
        return f'<circle cx="{x:.2f}%" cy="{y:.1f}" r="3" style="fill:{colour};fill-opacity:.75">{title}</circle>'
    look = f"fill:{colour};font-size:12px;text-anchor:middle"
    return f'<text x="{x:.2f}%" y="{y + 4:.1f}" style="{look}">{sign}{title}</text>'
