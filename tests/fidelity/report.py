"""The scores as a table, and each differing cell with its two outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.fidelity.compare import Comparison


@dataclass
class Score:
    """Number of cells with output, with the same output, and with identical output."""

    same: int = 0
    in_detail: int = 0
    cells: int = 0
    strays: list[str] = field(default_factory=list)

    def add(self, comparisons: Iterable[Comparison], strays: Iterable[str] = ()) -> Score:
        counted = [comparison for comparison in comparisons if comparison.counts or comparison.timed_out]
        self.same += sum(comparison.same for comparison in counted)
        self.in_detail += sum(comparison.same_in_detail for comparison in counted)
        self.cells += len(counted)
        self.strays += strays
        return self

    def __str__(self) -> str:
        percent = 100 * self.same / self.cells if self.cells else 100.0
        strays = f" +{len(self.strays)} stray" if self.strays else ""
        return f"{percent:.1f}% {self.same}/{self.cells} ({self.in_detail}){strays}"


def table(scores: dict[tuple[str, str], Score]) -> Iterator[str]:
    """A table of scores: a line for each notebook, a column for each mode, and the totals."""
    modes = list(dict.fromkeys(mode for _, mode in scores))
    names = list(dict.fromkeys(name for name, _ in scores))
    width = max(map(len, [*names, "all"]))
    yield "same cells / cells with output (same to the letter)"
    yield " ".join([" " * width, *(f"{mode:<26}" for mode in modes)]).rstrip()
    for name in names:
        yield _row(name, [str(scores.get((name, mode), "-")) for mode in modes], width)
    totals = []
    for mode in modes:
        total = Score()
        for (_, of_mode), score in scores.items():
            if of_mode == mode:
                total.same += score.same
                total.in_detail += score.in_detail
                total.cells += score.cells
                total.strays += score.strays
        totals.append(str(total))
    yield _row("all", totals, width)


def _row(name: str, cells: list[str], width: int) -> str:
    return " ".join([name.ljust(width), *(f"{cell:<26}" for cell in cells)]).rstrip()


def differences(comparisons: Iterable[Comparison], strays: Iterable[str], *, in_detail: bool = False) -> str:
    """Each cell that differs, and what showed up in a wrong place; empty if there is none."""
    found = [c.difference() for c in comparisons if not (c.same_in_detail if in_detail else c.same)]
    found += [f"--- stray: {stray[:500]}" for stray in strays]
    return "\n\n".join(found)
