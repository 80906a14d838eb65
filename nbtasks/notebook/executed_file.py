"""The notebook file that a program runs: is a cell its last one?

The protocol does not say which notebook a kernel runs, nor which cell is the last. But the program that runs it is an
ancestor of the kernel with the file on its command line, or the kernel runs in the file's folder. The file is
recognized by its cells: it has those that were run, one after another.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["is_last_cell"]

_SUFFIX = ".ipynb"
_JUPYTEXT_SUFFIXES = (".py", ".md", ".Rmd", ".qmd", ".myst")
_ANCESTORS = 3
"""How many processes above this one may have the file on their command lines."""
_MOST_FILES = 100
_MOST_BYTES = 50_000_000
"""Larger files are not read."""
_SKIPPED = "skip-execution"
"""The tag of cells that nbclient skips."""
_PARAMETERS = "# Parameters"
"""Begins the cell that papermill adds."""


def is_last_cell(sources: Sequence[str], name: str | None = None) -> bool:
    """Whether the last of `sources`, which were run in a row, is the last cell of its notebook file.

    `name` is the path of that file, if it is known. False if no file is found that has these cells.
    """
    run = [source.strip() for source in sources if source.strip()]
    runs = [run, [source for source in run if not source.startswith(_PARAMETERS)]]
    for files in (_named_files(name), _files_here()):
        found = [is_end for file in files for is_end in _places(_sources_of(file), runs)]
        if found:
            return all(found)
    return False


def _places(cells: Sequence[str], runs: Iterable[list[str]]) -> Iterator[bool]:
    """Yield for each place where the cells contain a run whether that ends with the last cell."""
    for run in runs:
        places = [place for place in range(len(cells) - len(run) + 1) if run and list(cells[place:][: len(run)]) == run]
        if places:
            yield from (place + len(run) == len(cells) for place in places)
            return


def _named_files(name: str | None) -> list[Path]:
    return [path for path in ([] if name is None else [Path(name)]) if path.is_file()] + list(_files_of_ancestors())


@functools.cache
def _files_of_ancestors() -> tuple[Path, ...]:
    """The notebook files on the command lines of this process and those above it."""
    import psutil

    found: list[Path] = []
    process: psutil.Process | None = psutil.Process()
    for _ in range(_ANCESTORS + 1):
        if process is None:
            break
        try:
            folder, words = Path(process.cwd()), process.cmdline()
            is_jupytext = any("jupytext" in word for word in words)
            suffixes = (_SUFFIX, *_JUPYTEXT_SUFFIXES) if is_jupytext else (_SUFFIX,)
            found += [folder / word for word in words if word.endswith(suffixes)]
            process = process.parent()
        except psutil.Error:  # it has ended, or is another user's
            break
    return tuple(path for path in found if path.is_file())


def _files_here() -> list[Path]:
    """The notebook files in the working folder, the newest first."""
    written: dict[Path, float] = {}
    try:
        for path in Path().absolute().glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):  # a link that leads nowhere
                written[path] = path.stat().st_mtime
    except OSError:  # the folder is gone
        return []
    return sorted(written, key=written.__getitem__, reverse=True)[:_MOST_FILES]


def _sources_of(path: Path) -> tuple[str, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return () if status.st_size > _MOST_BYTES else _read(path, status.st_mtime_ns)


@functools.lru_cache(maxsize=_MOST_FILES)
def _read(path: Path, _written: int) -> tuple[str, ...]:
    """The sources of the code cells that a program runs; empty for what is no notebook."""
    try:
        cells = _cells(path)
        run = [cell for cell in cells if cell["cell_type"] == "code" and _SKIPPED not in _tags(cell)]
        sources = ["".join(cell["source"]).strip() for cell in run]
    except (OSError, ValueError, KeyError, TypeError, ImportError):
        return ()
    return tuple(source for source in sources if source)


def _cells(path: Path) -> Any:
    if path.suffix == _SUFFIX:
        return json.loads(path.read_text(encoding="utf-8"))["cells"]
    import jupytext

    return jupytext.read(path).cells


def _tags(cell: dict[str, dict[str, list[str]]]) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])
