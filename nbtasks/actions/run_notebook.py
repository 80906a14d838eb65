"""`run_notebook`: run a whole notebook as a task, in a new kernel."""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from os import PathLike
from pathlib import Path
from typing import IO, Any

from nbtasks import validation
from nbtasks.actions.packages import require
from nbtasks.exceptions import ActionError, InvalidValueError
from nbtasks.interrupts import run_in_own_loop
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
    target = None if output is None else _checked_output(output)
    limit = None if cell_timeout is None else validation.seconds("cell_timeout", cell_timeout, zero=False)
    folder = source.parent if cwd is None else Path(cwd).expanduser().absolute()
    if not folder.is_dir():
        raise InvalidValueError(f"there is no folder {str(folder)!r} to run the notebook in")
    injected = _assignments(parameters or {})
    require("nbclient", "run_notebook")
    notebook = _read(source)
    name = kernel_name or notebook.metadata.get("kernelspec", {}).get("name") or "python3"
    if injected:
        _inject(notebook, injected, _checked_kernel(name))
    else:
        _checked_kernel(name)
    try:
        run_in_own_loop(_execute(task, notebook, name, limit, folder))
    finally:
        if target is not None:
            _save(notebook, target)
    return notebook


def _checked_output(output: str | PathLike[str]) -> Path:
    target = Path(output).expanduser().absolute()
    if target.is_dir() or not target.parent.is_dir():
        raise InvalidValueError(f"{str(target)!r} cannot be written: it must be a file in an existing folder")
    return target


def _read(source: Path) -> Any:
    nbformat = require("nbformat", "run_notebook")
    try:
        return nbformat.read(source, as_version=4)
    except (ValueError, KeyError, AttributeError, nbformat.ValidationError) as error:  # any other kind of file
        raise InvalidValueError(f"{str(source)!r} is not a notebook: {error}") from None


def _save(notebook: Any, target: Path) -> None:
    """Write the notebook completely or, on an error, leave the file as it was."""
    text = require("nbformat", "run_notebook").writes(notebook)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _checked_kernel(name: str) -> str:
    """The language of the kernel of that name."""
    specs = require("jupyter_client.kernelspec", "run_notebook")
    try:
        language: str = specs.get_kernel_spec(name).language
    except specs.NoSuchKernel:
        known = ", ".join(sorted(specs.find_kernel_specs())) or "none"
        raise InvalidValueError(f"there is no kernel {name!r}: there are {known}") from None
    return language


def _assignments(parameters: Mapping[str, Any]) -> str:
    for name, value in parameters.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise InvalidValueError(f"the name of a parameter must be an identifier, not {name!r}")
        if not _is_literal(value):
            raise InvalidValueError(
                f"the parameter {name!r} is not a literal (a number, a text, a list, ...): {value!r}"
            )
    return "\n".join(f"{name} = {_literal(value)}" for name, value in parameters.items())


def _is_literal(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_literal, (*value, *value.values())))
    if isinstance(value, list | tuple | set):
        return all(map(_is_literal, value))
    return value is None or type(value) in (bool, int, float, complex, str, bytes)


def _literal(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, tuple):
        return "(" + "".join(f"{_literal(item)}, " for item in value) + ")"
    if isinstance(value, set):
        return "{" + ", ".join(map(_literal, value)) + "}" if value else "set()"
    return repr(value)


def _inject(notebook: Any, assignments: str, language: str) -> None:
    if language.lower() != "python":
        raise InvalidValueError(f"parameters are set in Python, and the notebook's kernel speaks {language}")
    cell = require("nbformat", "run_notebook").v4.new_code_cell("# Parameters\n" + assignments)
    cell.metadata["tags"] = ["injected-parameters"]
    if notebook.nbformat_minor < 5:
        del cell["id"]
    tagged = [number for number, each in enumerate(notebook.cells) if "parameters" in each.metadata.get("tags", ())]
    notebook.cells.insert(tagged[0] + 1 if tagged else 0, cell)


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
