"""Runs of a notebook in the foreground or background, with what each cell shows.
"""

from __future__ import annotations

import enum
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fidelity.frontend import FrontEnd
from tests.fidelity.notebooks import Notebook, Source
from tests.kernel.conftest import kernel_env
from tests.kernel.driver import Cell, KernelEndedError, TimeLimitError


class Mode(enum.Enum):
    """How the cells are run."""

    FOREGROUND = "foreground"  # as they are
    CONTROL = "control"  # as they are, once more
    LOADED = "loaded"  # as they are, with the extension loaded
    ADOPTED = "adopted"  # as they are, after a cell was sent to the background and has ended there
    BESIDE = "beside"  # as they are, while such a cell is still running on the main thread
    THREAD = "thread"  # in the background
    LOOP = "loop"
    PROCESS = "process"
    DEFAULT = "default"  # in the background, on the backend that the cell itself calls for

    @property
    def in_background(self) -> bool:
        return self in (Mode.THREAD, Mode.LOOP, Mode.PROCESS, Mode.DEFAULT)

    @property
    def magic(self) -> str:
        """The line that puts a cell into the background."""
        backend = "" if self is Mode.DEFAULT else f" --backend {self.value}"
        return f"%%bgtask --quiet{backend}\n"


@dataclass
class Run:
    """Outputs of the cells in one run; `strays` are outputs in a wrong place.

    A cell that does not end in time ends the run: it and those after it are in `timed_out`. Those that cannot be the
    same on the backend, and so ran in the foreground, are in `left_out`.
    """

    notebook: Notebook
    mode: Mode
    home: Path
    cells: list[list[dict[str, Any]]] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    timed_out: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)


Between = Callable[[FrontEnd, int], None]


def run_notebook(
    notebook: Notebook,
    mode: Mode,
    home: Path,
    *,
    timeout: float = 60.0,
    between: Between | None = None,
    only: int | None = None,
) -> Run:
    """Run the notebook in a fresh kernel, in a folder of its own under `home`.

    `between` is called with the front end and the cell's index after each cell was started, while it may still run.
    With `only`, no other cell than that one is put into the background; else all are that can be.
    """
    work = home / "work"
    if notebook.folder is None:
        work.mkdir(parents=True)
    else:
        shutil.copytree(notebook.folder, work, ignore=shutil.ignore_patterns(".git"))
    # The order of sets is the same in every run.
    env = {**kernel_env(home), "PYTHONHASHSEED": "0"}
    run = Run(notebook, mode, home)
    cells: list[Cell] = []
    with FrontEnd(env, work) as frontend:
        if mode not in (Mode.FOREGROUND, Mode.CONTROL):
            _silently(frontend, "%load_ext nbtasks")
        if mode in (Mode.ADOPTED, Mode.BESIDE):
            _send_away(frontend, comes_home=mode is Mode.ADOPTED)
        for index, source in enumerate(notebook.cells):
            if frontend.alive:
                if only is None and mode is Mode.PROCESS and source.not_apart:
                    run.left_out.append(index)
                chosen = only is None or index == only
                background = mode.in_background and chosen and not source.foreground and index not in run.left_out
                cells.append(_run_cell(frontend, run, index, source, timeout, between, background=background))
            else:
                run.timed_out.append(index)
        run.cells = [frontend.outputs_with_widgets(cell) for cell in cells]
        run.cells += [[] for _ in notebook.cells[len(cells) :]]
        run.strays += [f"{a.type} {a.content}" for a in frontend.stray]
    return run


def _run_cell(
    frontend: FrontEnd,
    run: Run,
    index: int,
    source: Source,
    timeout: float,
    between: Between | None,
    *,
    background: bool,
) -> Cell:
    # The blank line keeps the lines' numbers: IPython takes the magic's line away.
    cell = frontend.start_cell(run.mode.magic + source.text if background else source.text)
    try:
        if between is not None:
            between(frontend, index)
        cell.wait(timeout)
        if background:
            _wait_for_tasks(frontend, run, index, timeout)
    except (TimeLimitError, KernelEndedError):
        run.timed_out.append(index)
        frontend.kill()
    return cell


def _wait_for_tasks(frontend: FrontEnd, run: Run, index: int, timeout: float) -> None:
    """Wait as a user does, in the next cell, which may show nothing but how the task ended."""
    wait = frontend.start_cell("%bgtask wait --no-raise", store_history=False).wait(timeout)
    for output in wait.outputs:
        if output.get("name") != "stdout":
            run.strays.append(f"in the cell that waits for cell {index}: {output}")


def _send_away(frontend: FrontEnd, *, comes_home: bool) -> None:
    """Send a cell to the background, and run another one beside it; leave neither names nor tasks behind."""
    seconds = 0.3 if comes_home else 3600
    away = frontend.start_cell(f"%bgtask adopt away\n__import__('time').sleep({seconds})", store_history=False)
    away.wait_output("away")
    _silently(frontend, "del away")
    if comes_home:
        away.check()
        _silently(frontend, "__import__('nbtasks').get_manager().prune()")


def _silently(frontend: FrontEnd, code: str) -> None:
    """Run code of our own; the notebook's cells keep their numbers."""
    frontend.start_cell(code, store_history=False).check()
