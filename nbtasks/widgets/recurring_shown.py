"""What is shown of a recurring task at one moment: for its panel, for the controls, and as a table of plain text.

Knows nothing of widgets.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task
from nbtasks.widgets.snapshot import Shown, clock_text

__all__ = [
    "RecurringShown",
    "board_bundle",
    "counters_text",
    "schedule_list",
    "shown_of",
    "span_text",
    "state_of",
    "until_text",
]

DAY = 86_400
_COLUMNS = ("name", "schedule", "zone", "state", "next", "runs", "failures", "skipped", "last error")


@dataclass(frozen=True, slots=True)
class RecurringShown(Shown):
    """What a panel shows of a recurring task: its run if there is one, else when the next comes."""

    extra: str = ""

    @classmethod
    def of(cls, recurring: RecurringTask, now: datetime) -> RecurringShown:  # type: ignore[override]
        """What to show of it at the aware moment `now`."""
        extra = f"{recurring.total_runs} run{'' if recurring.total_runs == 1 else 's'}"
        if (until := until_text(recurring, now)) and not recurring.removed:
            extra += f" · next in {until}"
        live = recurring.instances
        if live:
            return cls(**_values(Shown.of(live[-1], now)), extra=extra)
        return cls(
            state=state_of(recurring),
            title=recurring.name,
            body=recurring.ended or recurring.describe(),
            error=recurring.last_error or "" if recurring.consecutive_failures else "",
            progress=None,
            elapsed=None,
            waited_to_stop=None,
            extra=extra,
        )

    @property
    def over(self) -> bool:
        """Whether it will never run again."""
        return self.state == "removed"

    @property
    def figures(self) -> str:
        """Of the run, then of all."""
        return " · ".join(part for part in (self.percent, self.elapsed_text, self.extra) if part)


def state_of(recurring: RecurringTask) -> str:
    """One of LOOKS: `removed`, `scheduled`, `ended` where it was switched off by itself, or `paused`."""
    if recurring.removed:
        return "removed"
    if recurring.enabled:
        return "scheduled"
    return "paused" if recurring.ended is None else "ended"


def until_text(recurring: RecurringTask, now: datetime) -> str:
    """How long until the next fire: "0:42", "1:02:05", "3 d 4 h"; nothing where none is planned."""
    fire = recurring.next_run
    return "" if fire is None else span_text((fire.astimezone(UTC) - now).total_seconds())


def span_text(seconds: float) -> str:
    """A length of time, rounded up to whole seconds; of days and more in days and hours."""
    whole = max(0, math.ceil(seconds))
    return clock_text(whole) if whole < DAY else f"{whole // DAY} d {whole % DAY // 3600} h"


def counters_text(recurring: RecurringTask) -> str:
    """Runs, failures, skipped fires and the last duration, in one line."""
    said = [
        f"{recurring.total_runs} run{'' if recurring.total_runs == 1 else 's'}",
        f"{recurring.total_failures} failed"
        + (f" ({recurring.consecutive_failures} in a row)" if recurring.consecutive_failures else ""),
        f"{recurring.total_skipped} skipped",
    ]
    if recurring.last_duration is not None:
        said.append(f"last took {recurring.last_duration:.3g} s")
    return " · ".join(said)


def schedule_list(recurring_tasks: Iterable[RecurringTask], now: datetime) -> str:
    """One line for each, under a line of headings."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for one in recurring_tasks:
        until = until_text(one, now)
        rows.append(
            (
                one.name,
                str(one._parsed),
                one.timezone,
                "running" if one.instances else state_of(one),
                f"in {until}" if until else "-",
                *map(str, (one.total_runs, one.total_failures, one.total_skipped)),
                (one.last_error or "-").splitlines()[0][:80],
            )
        )
    if len(rows) == 1:
        return "no schedules"
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def board_bundle(recurring_tasks: Iterable[RecurringTask], now: datetime) -> dict[str, Any]:
    """The list as a mime bundle, for viewers that show no widgets."""
    text = schedule_list(recurring_tasks, now)
    return {"text/html": f'<pre class="nbtasks-schedules">{html.escape(text)}</pre>', "text/plain": text}


def shown_of(subject: Task | RecurringTask, now: datetime) -> Shown:
    """What a panel shows of either."""
    return RecurringShown.of(subject, now) if isinstance(subject, RecurringTask) else Shown.of(subject, now)


def _values(shown: Shown) -> dict[str, Any]:
    return {field.name: getattr(shown, field.name) for field in fields(shown)}
