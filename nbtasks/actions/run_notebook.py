"""`run_notebook`: run a whole notebook as a task, in a new kernel."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from os import PathLike
from pathlib import Path
from typing import IO, Any

from nbtasks import validation
from nbtasks.exceptions import ActionError, InvalidValueError
from nbtasks.interrupts import run_in_own_loop
from nbtasks.notebook_file import assignments, checked_output, inject, kernel_language, read_notebook, save_notebook
from nbtasks.packages import require
from nbtasks.task import Task

__all__ = ["run_notebook"]


def run_notebook(
    task: Task,
    path: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    kernel_name: str | None = None,
    cell_timeout: float | timedelta | None = None,
    cwd: str | PathLike[str] | None = None,
) -> Any:
    """Run the notebook at `path` in a new kernel, and return it as it is then, as a notebook of nbformat.

    `parameters` are names and values, of what a Python literal can be, set right after the cell that is tagged
    `parameters`, or before the first one, as papermill does. `output` is where the notebook is saved, also if a cell
    fails, or the task is cancelled. `cell_timeout` is for each cell; the kernel's working directory is `cwd`, by
    default the notebook's folder. Runs in a thread, so that a busy notebook does not keep it waiting. Raises
    ActionError, which names the cell, if one fails.
    """
    source = Path(path).expanduser().absolute()
    if not source.is_file():
        raise InvalidValueError(f"there is no notebook {str(source)!r}")
    target = None if output is None else checked_output(output)
    limit = None if cell_timeout is None else validation.seconds("cell_timeout", cell_timeout, zero=False)
    folder = source.parent if cwd is None else Path(cwd).expanduser().absolute()
    if not folder.is_dir():
        raise InvalidValueError(f"there is no folder {str(folder)!r} to run the notebook in")
    injected = assignments(parameters or {})
    require("nbclient", "run_notebook")
    notebook = read_notebook(source)
    name = kernel_name or notebook.metadata.get("kernelspec", {}).get("name") or "python3"
    if injected:
        inject(notebook, injected, kernel_language(name))
    else:
        kernel_language(name)
    try:
        run_in_own_loop(_execute(task, notebook, name, limit, folder))
    finally:
        if target is not None:
            save_notebook(notebook, target)
    return notebook


async def _execute(task: Task, notebook: Any, kernel_name: str, limit: float | None, cwd: Path) -> None:
    nbclient = require("nbclient", "run_notebook")
    client = nbclient.NotebookClient(
        notebook, kernel_name=kernel_name, timeout=None, resources={"metadata": {"path": os.fspath(cwd)}}
    )
    client.reset_execution_trackers()
    cells = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    for _, cell in cells:  # cells that do not run show no output
        cell.outputs, cell.execution_count = [], None
    # Output of the kernel itself, not of its cells, must not appear in the notebook that started the task.
    with tempfile.TemporaryFile() as log:
        async with client.async_setup_kernel(stderr=log):
            await _execute_cells(task, client, cells, limit, log)
    task.body = f"{len(cells)} cells"


async def _execute_cells(
    task: Task, client: Any, cells: list[tuple[int, Any]], limit: float | None, log: IO[bytes]
) -> None:
    errors = require("nbclient.exceptions", "run_notebook")
    for done, (index, cell) in enumerate(cells):
        which = f"cell {done + 1} of {len(cells)}"
        task.progress = 100.0 * done / len(cells)
        task.body = f"{which}: {_first_line(cell.source)}"
        try:
            await _execute_cell(client, cell, index, limit)
        except errors.CellExecutionError as error:
            raise ActionError(f"{which} failed: {error.ename}: {error.evalue}") from None
        except errors.DeadKernelError:
            raise ActionError(f"the kernel died in {which}{_last_lines(log)}") from None
        except TimeoutError:
            raise ActionError(f"{which} took longer than {limit:g} s") from None


def _last_lines(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return "; its last output: " + " | ".join(lines[-3:]) if lines else ""


async def _execute_cell(client: Any, cell: Any, index: int, limit: float | None) -> None:
    """Run one cell; raises TimeoutError. A cancel is kept from nbclient, which takes it for a dead kernel."""
    running = asyncio.ensure_future(client.async_execute_cell(cell, index))
    try:
        over, _ = await asyncio.wait([running], timeout=limit)
        if not over:
            raise TimeoutError
        running.result()
    finally:
        if not running.done():  # end its kernel without waiting for it
            client.shutdown_kernel = "immediate"
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _first_line(source: str) -> str:
    return next((line for line in source.splitlines() if line.strip()), "")[:80]
