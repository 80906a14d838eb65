"""Command line: `python -m benchmarks [WORD ...]` measures and prints rows.

Without words all rows are measured, else those whose theme or function has one of the words in its name. Each theme is
a module with its functions in `ROWS`.
"""

from __future__ import annotations

import importlib
import os
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.rows import Row

THEMES = (
    "imports",
    "core",
    "scale",
    "notebook",
    "names",
    "library_state",
    "reports",
    "views",
    "page",
    "cron",
    "recurring",
    "history",
    "executor",
    "downloads",
    "processes",
    "cluster",
    "web",
)
HEADINGS = ("row", "ours", "peer", "ratio (min to max)", "target", "met")

Measure = Callable[[], Iterable[Row]]


def main(words: list[str]) -> int:
    """Print the table; 1 if a row could not be measured or no row has such a name."""
    chosen = [measure for name, measure in measures() if not words or any(word in name for word in words)]
    if not chosen:
        print(f"no row is called {' or '.join(words)}; there are:\n  " + "\n  ".join(n for n, _ in measures()))
        return 1
    print(machine())
    start, failures = time.monotonic(), 0
    rows: list[Row] = []
    for measure in chosen:
        try:
            rows += measure()
        except Exception:  # noqa: BLE001 - one row that cannot be measured is not to cost the others
            traceback.print_exc()
            failures += 1
    print(table(rows))
    missed = [row.name for row in rows if row.reached is False]
    aims = sum(row.reached is not None for row in rows)
    print(f"\n{aims - len(missed)} of {aims} targets met, {failures} not measured, {time.monotonic() - start:.0f} s")
    return 1 if failures else 0


def measures() -> Iterator[tuple[str, Measure]]:
    """All that can be measured, by `theme.function`."""
    for theme in THEMES:
        if (Path(__file__).parent / f"{theme}.py").exists():
            try:
                module = importlib.import_module(f"benchmarks.{theme}")
            except ModuleNotFoundError as error:  # costs only those rows, and only a run that wants them
                yield f"{theme}: {error}", partial(_fail, error)
            else:
                yield from ((f"{theme}.{measure.__name__}", measure) for measure in module.ROWS)


def _fail(error: Exception) -> Iterable[Row]:
    raise error


def machine() -> str:
    """What it was measured on, and how busy that was: other work shows in the ratios' spread."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:  # not Linux
        pass
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count()} cores{load}, {model}, Python {platform.python_version()} on {platform.system()}"


def table(rows: list[Row]) -> str:
    """The rows, in columns as wide as they need."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    printed = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    printed.insert(1, "  ".join("-" * width for width in widths))
    notes = [f"{row.name}: {row.note}" for row in rows if row.note]
    return "\n".join(["", *printed, "", *notes] if notes else ["", *printed])


def _cells(row: Row) -> tuple[str, ...]:
    peer = f"{_number(statistics.median(row.peer))} {row.unit} {row.beside}" if row.peer else "-"
    ratios = row.ratios
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "-"
    target = "-" if row.at_most is None else f"<= {row.at_most:g}" + ("x" if ratios else f" {row.unit}")
    reached = {True: "yes", False: "NO", None: "-"}[row.reached]
    return row.name, f"{_number(statistics.median(row.ours))} {row.unit}", peer, ratio, target, reached


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
