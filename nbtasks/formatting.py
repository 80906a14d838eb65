"""Text for durations, sizes, counted nouns and columns; plain and shortened text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

__all__ = [
    "align_columns",
    "clock",
    "duration",
    "error_text",
    "listed",
    "one_line",
    "plain_text",
    "plural",
    "short_duration",
    "shortened",
    "size",
    "took",
]

DAY_SECONDS = 86_400
TITLE_CHARACTERS = 500

# Escape sequences of terminals, and control characters other than newline and tab.
_CONTROL_CODES = (
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def clock(seconds: float) -> str:
    """Whole seconds, rounded up, as on a stopwatch: "0:12", "1:02:05"; from a day on "3 d 4 h"."""
    whole = max(0, math.ceil(seconds))
    if whole >= DAY_SECONDS:
        return f"{whole // DAY_SECONDS} d {whole % DAY_SECONDS // 3600} h"
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def duration(seconds: float) -> str:
    """How long something took, to three digits: "0.532 s", "12.5 s"; from a minute on as `clock`."""
    return f"{seconds:.3g} s" if seconds < 59.95 else clock(seconds)


def took(seconds: float) -> str:
    """How long finished work took, in its two largest units: "took 0.53 s", "took 6 min 29 s"."""
    if seconds < 9.95:
        return f"took {seconds:.2g} s" if seconds >= 0.01 else "took < 0.01 s"
    whole = round(seconds)
    if whole < 60:
        return f"took {whole} s"
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (whole, "s"))
    first = next(number for number, (count, _) in enumerate(parts) if count)
    return "took " + " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def short_duration(seconds: float) -> str:
    """The same in a narrow column: "0.04 ms", "8.11 ms", "0.532 s"."""
    if seconds <= 0 or seconds >= 0.1:
        return duration(max(0.0, seconds))
    return f"{1000 * seconds:.{3 if seconds >= 0.001 else 1}g} ms"


def error_text(error: BaseException) -> str:
    """The text of an exception; of one whose `__str__` raises, the same as in a traceback of Python."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - the user's code; whatever it raises, the error is another one
        return "<exception str() failed>"


def size(count: float) -> str:
    """A number of bytes: "512 B", "1.5 kB", "94.0 MB"."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.95 or unit == "TB":
            break
    return f"{count:,.1f} {unit}"


def plural(count: float, noun: str, nouns: str | None = None) -> str:
    """A count and its noun: "1 task", "1,200 tasks"; `nouns` is the plural where an "s" does not make it."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def listed(names: Sequence[str], limit: int) -> str:
    """The first names: "conn, g, lock and 2 more"."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def align_columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """One line for each row, each column as wide as its longest cell, two spaces between columns."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def plain_text(text: str) -> str:
    """Text without escape sequences and control characters."""
    return re.sub(_CONTROL_CODES, "", text)


def one_line(text: object, limit: int = TITLE_CHARACTERS) -> str:
    """Plain text on one line, cut after `limit` characters."""
    return shortened(" ".join(plain_text(str(text)[: 2 * limit]).split()), limit)


def shortened(text: str, limit: int) -> str:
    """Text cut after `limit` characters, with an ellipsis."""
    return text if len(text) <= limit else text[:limit].rstrip() + " …"
