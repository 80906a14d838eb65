"""Notebooks to compare: the corpus in percent format, and any `.ipynb` file."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

CORPUS = Path(__file__).parent / "corpus"

_SEPARATOR = re.compile(r"^# %%(?!%)[ \t]*(.*)\n", re.MULTILINE)
_TITLE = re.compile(r"(?:\[(.*?)\] *)?(.*)")
_REQUIRES = re.compile(r"^# requires: *(.*)$", re.MULTILINE)


REASONS = {
    "identity": "It checks whether an object is the same one, or how it was made.",
    "library": "It uses what an earlier cell has registered in a library.",
}
"""Why a cell cannot be the same in a process of its own."""


@dataclass(frozen=True)
class Source:
    """Source of a code cell; a `foreground` one is run there in every run.

    One with `threads` prints from threads that it starts: in the foreground, ipykernel 6 shows that in the cell that
    had a thread of the same identifier before. `not_apart` is why it cannot be the same in a process of its own, a key
    of `REASONS`, if it cannot.
    """

    text: str
    title: str = ""
    foreground: bool = False
    threads: bool = False
    not_apart: str = ""


@dataclass(frozen=True)
class Notebook:
    """The code cells of a notebook, and the packages and files that it needs."""

    name: str
    cells: tuple[Source, ...]
    requires: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that it needs and that are not installed here."""
        return tuple(name for name in self.requires if importlib.util.find_spec(name) is None)


def read_percent(path: Path) -> Notebook:
    """A notebook of the corpus: IPython's syntax, a line `# %% title` before each cell.

    What comes before the first cell is about the notebook: a line `# requires: a, b` names packages that it needs.
    Titles begin with what is special about a cell: `[foreground]`, `[threads]`, or `[not apart: REASON]`, or two of
    them, separated by a comma; see `Source`.
    """
    head, *rest = _SEPARATOR.split(path.read_text(encoding="utf-8"))
    requires = _REQUIRES.search(head)
    cells = tuple(_source(title, text) for title, text in zip(rest[::2], rest[1::2], strict=True))
    return Notebook(path.stem, cells, tuple(re.split(r"[ ,]+", requires[1].strip())) if requires else ())


def _source(title: str, text: str) -> Source:
    marked, title = _TITLE.fullmatch(title).groups()  # type: ignore[union-attr] - it matches any line
    marks = dict(one.strip().partition(": ")[::2] for one in (marked or "").split(",") if one)
    reason = marks.pop("not apart", "")
    if marks.keys() - {"foreground", "threads"} or (reason and reason not in REASONS):
        raise ValueError(f"no cell can be marked [{marked}]")
    return Source(
        text.strip("\n"), title, foreground="foreground" in marks, threads="threads" in marks, not_apart=reason
    )


def read_ipynb(path: Path) -> Notebook:
    """A notebook file of any version; it is run in a copy of its folder."""
    notebook = nbformat.read(path, as_version=4)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    return Notebook(path.stem, tuple(Source(text) for text in texts), folder=path.resolve().parent)


def corpus() -> list[Notebook]:
    """Our own notebooks, by name."""
    return [read_percent(path) for path in sorted(CORPUS.glob("*.ipy"))]
