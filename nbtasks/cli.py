"""Command line: `nbtasks run NOTEBOOK`."""

from __future__ import annotations

import argparse
import ast
import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from nbtasks.exceptions import InvalidValueError, NbtasksError
from nbtasks.history.process_lock import ProcessLock
from nbtasks.notebook_file import assignments, checked_output, inject, kernel_language, read_notebook
from nbtasks.runner.only import only
from nbtasks.runner.run import NotebookRun, Server

__all__ = ["main"]

LOCK_SECONDS = 10.0
"""How long a run waits for the end of an earlier one whose kernel has not ended yet."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if nothing failed, 1 if a cell or task failed, 2 if it could not run."""
    options = _parser().parse_args(arguments)
    try:
        return 0 if _run(options) else 1
    except NbtasksError as error:
        _say(f"nbtasks run: {error}")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("nbtasks", description="Background tasks and schedules of Jupyter notebooks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run a notebook, and stay as long as its tasks and schedules are active",
        description="Run a notebook in a kernel of its own, and stay as long as its tasks and schedules are active. "
        "Output is written into the notebook as it comes. SIGTERM ends the run. Exit code 0: nothing failed; 1: a cell "
        "or a task failed; 2: the notebook could not be run.",
    )
    run.add_argument("notebook", type=Path)
    run.add_argument("--output", type=Path, metavar="FILE", help="the notebook to write; default: the notebook itself")
    run.add_argument(
        "--parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a name after the cell that is tagged 'parameters'; a value that is no Python literal is a text",
    )
    run.add_argument("--only", metavar="NAME", help="run the background cell of this name once, after the cells before")
    run.add_argument("--kernel", metavar="NAME", help="the kernel; default: the notebook's")
    run.add_argument("--serve", action="store_true", help="serve the tasks as a web page")
    run.add_argument("--port", type=int, default=0, help="with --serve: the port; default: a free one")
    run.add_argument("--host", action="append", default=[], help="with --serve: a name that a proxy is reached by")
    return parser


def _run(options: argparse.Namespace) -> bool:
    source: Path = options.notebook.expanduser().absolute()
    if not source.is_file():
        raise InvalidValueError(f"there is no notebook {str(source)!r}")
    if (options.port or options.host) and not options.serve:
        raise InvalidValueError("--port and --host belong to --serve")
    target = source if options.output is None else checked_output(options.output)
    notebook = read_notebook(source)
    kernel = options.kernel or notebook.metadata.get("kernelspec", {}).get("name") or "python3"
    language = kernel_language(kernel)
    code = assignments(dict(map(_parameter, options.parameters)))
    if code:
        inject(notebook, code, language)
    run = NotebookRun(
        notebook,
        target,
        name=source,
        kernel_name=kernel,
        say=_say,
        server=Server(options.port, tuple(options.host)) if options.serve else None,
        **({"source_of": only(notebook, options.only)} if options.only else {}),
    )
    lock = _lock(source)
    try:
        _check_not_open(source, may_write=target != source)
        return asyncio.run(run.run())
    finally:
        lock.release()


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise InvalidValueError(f"a parameter is given as NAME=VALUE, not {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _lock(source: Path) -> ProcessLock:
    """The lock of the runs of one notebook; raises NbtasksError while another run holds it."""
    digest = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:16]
    from jupyter_core.paths import jupyter_runtime_dir

    path = Path(jupyter_runtime_dir()) / f"nbtasks-run-{digest}.lock"
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return ProcessLock(path)
        except OSError:
            if time.monotonic() > until:
                _refuse(f"another nbtasks run of {str(source)!r} is active")
            time.sleep(0.2)


def _check_not_open(source: Path, *, may_write: bool) -> None:
    """Warn if the notebook is open in a kernel with a history; refuse to write the file it has open."""
    from nbtasks.history.history import History
    from nbtasks.notebook.settings import history_path

    path = history_path()
    if path is None or not path.exists():
        return
    until = time.monotonic() + LOCK_SECONDS
    history = History(path)
    try:
        while history.has_live_kernel(str(source)):
            if may_write:
                _say("the notebook is open in another kernel: schedules that run there are left to it")
                return
            if time.monotonic() > until:
                _refuse(f"{str(source)!r} is open in another kernel: shut that down, or use --output FILE")
            time.sleep(0.2)
    finally:
        history.close()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _refuse(reason: str) -> NoReturn:
    raise NbtasksError(reason)


if __name__ == "__main__":
    sys.exit(main())
