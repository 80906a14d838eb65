"""The page of the docs on cells of the corpus that differ in a process, and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.fidelity.notebooks import REASONS, Notebook, Source

PAGE = Path(__file__).parents[2] / "docs" / "not-in-a-process.md"


_LIBRARIES = (
    "## Libraries",
    "",
    "Import hooks that are not in the process. [The cell's output](out-of-the-kernel.md#what-is-different) names what",
    "was imported without them:",
    "",
    "- `beartype.claw`: it keeps them in `sys.path_hooks`, as functions, and what they change in its own tables.",
    "- `with install_import_hook(...)` of typeguard: the hook is gone before the cell begins.",
    "",
    "Connections and modules:",
    "",
    "- Connections and cursors of `sqlite3` stay in the process that opened them; later cells that read their names",
    "  run there. Those that `%sql` of ipython-sql keeps itself, without a name, are gone without a message: the next",
    "  `%sql` reports that it has no connection.",
    "- A module is imported there from its file as it is now. If the file has changed since the notebook imported it,",
    "  the notebook has the old code until `importlib.reload`, and the process the new one.",
)


def page(notebooks: Sequence[Notebook]) -> str:
    """Its text."""
    return "\n".join(_lines(notebooks)) + "\n"


def _lines(notebooks: Sequence[Notebook]) -> Iterator[str]:
    cells = [source for notebook in notebooks for source in notebook.cells]
    left_out = [source for source in cells if source.not_apart]
    yield "# What is not the same in a process"
    yield ""
    yield f"The tests run {len(cells)} cells of {len(notebooks)} notebooks in the foreground and in the background, and"
    yield "compare what they show. In [a process of its own](out-of-the-kernel.md) every cell shows the"
    yield f"same, and leaves the same names to the cells after it, but for {len(left_out)}, listed here by reason."
    yield "This page is made from the notebooks by `python -m tests.fidelity --left-out`, and a test checks that"
    yield "each of them does differ."
    for reason, why in REASONS.items():
        found = [(notebook, [one for one in notebook.cells if one.not_apart == reason]) for notebook in notebooks]
        count = sum(len(sources) for _, sources in found)
        if count:
            yield from ("", f"## {count} cells: {reason}", "", why, "")
            for notebook, sources in found:
                if sources:
                    yield f"- `{notebook.name}`: {_titles(sources)}"
    yield from ("", *_LIBRARIES)


def _titles(sources: Sequence[Source]) -> str:
    return "; ".join(source.title for source in sources) + "."
