"""Snapshots as HTML: panels, rows, tables and messages, with all text escaped.

Inline styles only, and no CSS variables where the HTML is saved: both survive in untrusted notebooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from nbtasks.formatting import align_columns, one_line
from nbtasks.manager import TaskManager
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task
from nbtasks.widgets.snapshot import FINAL_STATES, STATE_STYLES, Snapshot
from nbtasks.widgets.text import TASK_COLUMNS, panel_text, schedule_list, task_cells

__all__ = [
    "BAR_HEIGHT",
    "FIGURES_SHRINK",
    "TRACK_COLOUR",
    "VIEW_WIDTH",
    "copy_button_html",
    "error_html",
    "figures_html",
    "image_html",
    "label_html",
    "message_html",
    "note_html",
    "package_text",
    "panel_bundle",
    "panel_html",
    "row_html",
    "schedules_bundle",
    "style_html",
    "table_bundle",
    "wrapped_html",
]

BAR_HEIGHT = 6
"""Pixels, of live and of static bars: nothing moves when the static panel replaces the live one."""
VIEW_WIDTH = 900
"""Maximum width of panels, tables and lists in pixels: they have one right edge."""
TRACK_COLOUR = "rgba(128,128,128,.45)"
"""Background of bars, visible in every theme."""
TABLE_ROWS = 50
"""Maximum number of tasks in a static table, the newest."""

FIGURES_SHRINK = 999_999
"""How much sooner than names figures are cut: with less, a name would lose part of a pixel, and its last letters."""

_NUMBERS = "font-variant-numeric:tabular-nums"


@cache
def package_text(name: str) -> str:
    """A file of this package."""
    return files("nbtasks.widgets").joinpath(name).read_text("utf-8")


@cache
def style_html() -> str:
    """The style sheet of all live views, for what traits of ipywidgets cannot express."""
    return f"<style>{package_text('style.css')}</style>"


# -- panels ---------------------------------------------------------------------------------------------------


def panel_bundle(snapshot: Snapshot, *, run_again: bool = False, command: str = "") -> dict[str, Any]:
    """The mime bundle of a static panel; see `panel_html`."""
    markup = panel_html(snapshot, run_again=run_again, command=command)
    text = panel_text(snapshot)
    return {"text/html": markup, "text/plain": text if snapshot.finished else f"{text}  {_as_of()}"}


def panel_html(snapshot: Snapshot, *, run_again: bool = False, command: str = "") -> str:
    """The static panel, which saved notebooks show; of a finished task one line and its error.

    Of an unfinished one it tells the time at which it was true, since nothing may replace it.
    At the end, `run_again` adds a button that runs the cell around the panel; after a failure or a cancel `command` is
    the line that runs the task again where there is no such button.
    """
    offered = FINAL_STATES if run_again else ("failed", "cancelled")
    again = _run_again_html(run_again, command) if snapshot.state in offered else ""
    head = [label_html(snapshot), figures_html(snapshot)]
    if not snapshot.finished:
        as_of = f'<span style="margin:0 0 0 auto;white-space:nowrap;opacity:.75;{_NUMBERS}">{_as_of()}</span>'
        row, below = _row_html(*head, as_of), _bar_html(snapshot) + note_html(snapshot)
    elif snapshot.state == "completed" or not snapshot.error:
        row, below = _row_html(*head, _short_note_html(snapshot), again), ""
    else:
        row, below = _row_html(*head, again), _error_html(snapshot)
    return (
        f'<div class="nbtasks-panel" data-state="{snapshot.state}" style="max-width:{VIEW_WIDTH - 6}px;'
        f'padding:0 0 6px 6px;font-size:13px;line-height:1.5">{row}{below}'
        f"{image_html(snapshot.image, snapshot.title)}</div>"
    )


def label_html(snapshot: Snapshot, *, live: bool = False) -> str:
    """Sign, name and state; a long name is cut by the browser.

    A `live` one also has what it reads when its kernel has ended, which the style sheet hides until then.
    """
    title = escape(snapshot.title)
    status = escape(snapshot.status)
    if live and not snapshot.finished:
        status = _live_or_lost(status, STATE_STYLES["lost"].label)
    return (
        f'<span role="status" style="display:flex;min-width:0;white-space:nowrap">{_sign_html(snapshot, live=live)}'
        f'<b style="margin:0 6px;overflow:hidden;text-overflow:ellipsis" title="{title}"><bdi>{title}</bdi></b>'
        f'<span style="opacity:.75">{status}</span></span>'
    )


def _sign_html(snapshot: Snapshot, *, live: bool) -> str:
    states = [snapshot.state, "lost"] if live and not snapshot.finished else [snapshot.state]
    signs = [
        f'<span style="color:{STATE_STYLES[state].colour}" aria-hidden="true">{STATE_STYLES[state].sign}</span>'
        for state in states
    ]
    return _live_or_lost(*signs) if len(signs) == 2 else signs[0]


def figures_html(snapshot: Snapshot, *, live: bool = False) -> str:
    """Percent, times and rate; a `live` one has two versions, as `label_html` does.

    Where they do not fit, the browser wraps the last ones, which are then below the visible line: the rate first. The
    first item is empty, since one item at least stays on the line.
    """
    figures = '<span style="height:1.5em"></span>'
    figures += "".join(
        f"<span>{' · ' if number else ''}{escape(part)}</span>" for number, part in enumerate(snapshot.figure_parts)
    )
    if live and not snapshot.finished:
        figures = _live_or_lost(figures, f"<span>{escape(snapshot.last_figures)}</span>")
    shape = f"display:flex;flex:0 {FIGURES_SHRINK} auto;flex-wrap:wrap;min-width:0;height:1.5em;overflow:hidden"
    return f'<span style="{shape};margin:0 10px;white-space:pre;{_NUMBERS}">{figures}</span>'


def _live_or_lost(live: str, lost: str) -> str:
    """Two versions, of which the style sheet shows the second one when the kernel has ended."""
    return f'<span class="nbtasks-live">{live}</span><span class="nbtasks-lost" style="display:none">{lost}</span>'


def _as_of() -> str:
    """The time, for pictures that nothing may replace."""
    return f"as of {datetime.now(UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def note_html(snapshot: Snapshot) -> str:
    """The lines below the bar: details, note and the tail of long output; long text scrolls."""
    style = "margin-top:4px;max-height:156px;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.5"
    code = f"{style};font-family:monospace;font-size:12px;opacity:.8"
    lines = ((snapshot.details, style), (snapshot.note, style), (snapshot.output_tail, code))
    return "".join(f'<div style="{look}">{escape(text)}</div>' for text, look in lines if text)


def _error_html(snapshot: Snapshot) -> str:
    """The lines below a failed task, and a button that copies them."""
    text = f'<div class="nbtasks-copied" style="flex:1 1 auto;min-width:0">{note_html(snapshot)}</div>'
    # Untrusted notebooks have neither scripts nor style sheets: the button, which does nothing there, stays hidden.
    style = "<style>.nbtasks-copy[onclick]{display:block!important}</style>"
    button = copy_button_html("error", "display:none;flex:0 0 auto;margin-top:4px")
    row = "display:flex;align-items:flex-start;gap:8px"
    return f'<div class="nbtasks-section" style="{row}">{text}{style}{button}</div>'


def copy_button_html(what: str, style: str = "") -> str:
    """A button that copies the text beside it, of an element `pre` or of the class `nbtasks-copied`."""
    script = escape(package_text("copy.js").strip())
    look = (
        "padding:0 8px;border:1px solid rgba(128,128,128,.5);border-radius:2px;background:rgba(128,128,128,.15);"
        "color:inherit;font:inherit;font-size:12px;line-height:18px;cursor:pointer"
    )
    return (
        f'<button type="button" class="nbtasks-copy" title="Copy" aria-label="Copy {what}" onclick="{script}" '
        f'style="{look};{style}">Copy</button>'
    )


def image_html(source: str, title: str) -> str:
    """The image of a task; empty without one."""
    if not source:
        return ""
    style = "display:block;max-width:100%;max-height:240px;margin-top:4px"
    return f'<img src="{escape(source)}" alt="{escape(f"image of {title}"[:200])}" style="{style}">'


def _row_html(*parts: str) -> str:
    return f'<div style="display:flex;align-items:center;height:28px">{"".join(parts)}</div>'


def _bar_html(snapshot: Snapshot) -> str:
    """The progress bar; with unknown progress a pale one over the whole width."""
    colour, width, opacity = STATE_STYLES[snapshot.state].colour, snapshot.progress or 0.0, ""
    if snapshot.indeterminate:
        width, opacity = 100.0, ";opacity:.35"
    shape = f"height:{BAR_HEIGHT}px;border-radius:{BAR_HEIGHT // 2}px"
    return (
        f'<div style="{shape};background:{TRACK_COLOUR}">'
        f'<div style="{shape};width:{width:.1f}%;background:{colour}{opacity}"></div></div>'
    )


def _short_note_html(snapshot: Snapshot) -> str:
    """The note at the end of the first line, cut by the browser."""
    note = escape(snapshot.note)
    style = "flex:1 1 0;min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;opacity:.8"
    return f'<bdi style="{style}" title="{note}">{note}</bdi>' if note else ""


def _run_again_html(button: bool, command: str) -> str:
    """A button that runs the cell around it, or the command to type."""
    if not button:
        style = "flex:1 1 0;min-width:0;text-align:right;overflow:hidden;text-overflow:ellipsis"
        line = escape(command)
        label = f'again: <span style="font-family:monospace">{line}</span>'
        return f'<span title="{line}" style="{style};white-space:nowrap;opacity:.8">{label}</span>' if line else ""
    # A click selects the cell in JupyterLab and Notebook 7; the command runs the selected cell.
    style = (
        "flex:0 0 auto;margin:0 0 0 auto;padding:0 10px;height:24px;line-height:24px;border:none;"
        "background:rgba(128,128,128,.2);color:inherit;font-family:inherit;font-size:13px;cursor:pointer"
    )
    return (
        '<button type="button" data-commandlinker-command="notebook:run-cell" data-commandlinker-args="{}" '
        f'title="Run this cell again" style="{style}">Run again</button>'
    )


# -- tables ---------------------------------------------------------------------------------------------------


def row_html(task: Task, snapshot: Snapshot) -> str:
    """The cells of a row of the live table: name and note, state, lane, priority, progress, time."""
    style = STATE_STYLES[snapshot.state]
    title, note = escape(snapshot.title[:200]), escape(one_line(snapshot.note, 200))
    progress = "" if snapshot.progress is None and not snapshot.indeterminate else _small_bar_html(snapshot)
    number = f"text-align:right;{_NUMBERS}"
    label = style.label if snapshot.finished else _live_or_lost(style.label, "lost")
    sign = _sign_html(snapshot, live=True)
    return (
        f'<div class="nbtasks-cells"><span title="{title}">{sign} <bdi style="font-weight:bold">{title}</bdi>'
        f"{f' <bdi>{note}</bdi>' if note else ''}</span>"
        f"<span>{label}</span><span>{escape(task.lane[:80])}</span>"
        f'<span style="{number}">{task.priority}</span><span>{progress}</span>'
        f'<span style="{number}">{snapshot.elapsed_text}</span></div>'
    )


def _small_bar_html(snapshot: Snapshot) -> str:
    width, pale = (100.0, ";opacity:.35") if snapshot.indeterminate else (snapshot.progress or 0.0, "")
    bar = f"height:6px;border-radius:3px;flex:1 1 auto;overflow:hidden;background:{TRACK_COLOUR}"
    return (
        f'<span style="display:flex;align-items:center"><span style="{bar}"><span style="display:block;height:6px;'
        f'width:{width:.1f}%;background:{STATE_STYLES[snapshot.state].colour}{pale}"></span></span>'
        f'<span style="flex:0 0 42px;text-align:right;{_NUMBERS}">{snapshot.percent or "…"}</span></span>'
    )


def table_bundle(manager: TaskManager, *, lost: bool = False) -> dict[str, Any]:
    """The mime bundle of a static table of the manager's newest tasks; `lost` if the kernel ends."""
    stats = manager.get_stats()
    rows = [task_cells(task) for task in manager.list_tasks()[-TABLE_ROWS:]]
    if lost:
        rows = [(name, state if state in FINAL_STATES else "lost", *rest) for name, state, *rest in rows]
        stats["lost"] = stats.pop("running") + stats.pop("pending")
    left_out = stats["total"] - len(rows)
    counts = ", ".join(f"{count:,} {name}" for name, count in stats.items() if name != "total" and count)
    more = f"\n({left_out:,} older ones are not listed)" if left_out > 0 else ""
    if manager.active_tasks and not lost:
        more += f"\n{_as_of()}"
    text = "\n".join(align_columns([TASK_COLUMNS, *rows])) if rows else "no background tasks"
    return {"text/html": _table_html(rows, counts + more), "text/plain": text + more}


def _table_html(rows: Sequence[Sequence[str]], counts: str) -> str:
    if not rows:
        return '<div class="nbtasks-table">no background tasks</div>'
    padding = "text-align:left;padding:2px 10px 2px 0"
    head = "".join(f'<th style="{padding}">{name}</th>' for name in TASK_COLUMNS)
    body = []
    for name, state, *others in reversed(rows):
        style = STATE_STYLES[state]
        label = f'<span style="color:{style.colour}" aria-hidden="true">{style.sign}</span>'
        cells = [f"{label} <bdi><b>{escape(name)}</b></bdi>", state, *map(escape, others)]
        body.append("".join(f'<td style="{padding}">{cell}</td>' for cell in cells))
    return (
        f'<div class="nbtasks-table" style="font-size:13px"><div>{escape(counts)}</div><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table></div>"
    )


def schedules_bundle(recurring_tasks: Iterable[RecurringTask], now: datetime) -> dict[str, Any]:
    """The mime bundle of a static list of schedules."""
    schedules = list(recurring_tasks)
    text = schedule_list(schedules, now) + (f"\n{_as_of()}" if schedules else "")
    return {"text/html": f'<pre class="nbtasks-schedules">{escape(text)}</pre>', "text/plain": text}


# -- messages -------------------------------------------------------------------------------------------------


def message_html(message: str, style: str = "") -> str:
    """A message that screen readers announce; empty without one."""
    look = f' style="{style}"' if style else ""
    return f'<div role="status"{look}>{escape(message)}</div>' if message else ""


def error_html(error: str, style: str = "white-space:normal;overflow-wrap:anywhere", role: str = "alert") -> str:
    """An error after the sign of failed tasks."""
    sign, _, colour = STATE_STYLES["failed"]
    announced = f'role="{role}" ' if role else ""
    label = f'<span style="color:{colour}" aria-hidden="true">{sign}</span>'
    return f'<div {announced}style="{style}">{label} {escape(error)}</div>'


def wrapped_html(text: str, style: str = "") -> str:
    """Text that wraps anywhere; empty without any."""
    look = f"{style}white-space:normal;overflow-wrap:anywhere;{_NUMBERS}"
    return f'<div style="{look}">{escape(text)}</div>' if text else ""
