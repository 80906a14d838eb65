"""Notebook files: read, saved whole, and given parameters (nbformat).

Shared by the action `run_notebook` and the command `nbtasks run`.
"""

from __future__ import annotations

import math
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nbtasks.exceptions import InvalidValueError
from nbtasks.packages import require

__all__ = ["assignments", "checked_output", "inject", "kernel_language", "read_notebook", "save_notebook"]


def checked_output(output: str | os.PathLike[str]) -> Path:
    """The path of a file that can be written; raises InvalidValueError."""
    target = Path(output).expanduser().absolute()
    if target.is_dir() or not target.parent.is_dir():
        raise InvalidValueError(f"{str(target)!r} cannot be written: it must be a file in an existing folder")
    return target


def read_notebook(source: Path) -> Any:
    """The notebook of a file, as nbformat 4; raises InvalidValueError for any other file."""
    nbformat = require("nbformat", "reading a notebook")
    try:
        return nbformat.read(source, as_version=4)
    except (ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError) as error:  # any other file
        raise InvalidValueError(f"{str(source)!r} is not a notebook: {error}") from None


def save_notebook(notebook: Any, target: Path) -> None:
    """Write the notebook completely or, on an error, leave the file as it was."""
    text = require("nbformat", "reading a notebook").writes(notebook)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        os.chmod(temporary, _mode(target))
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def kernel_language(name: str) -> str:
    """The language of the kernel of that name."""
    specs = require("jupyter_client.kernelspec", "reading a notebook")
    try:
        language: str = specs.get_kernel_spec(name).language
    except specs.NoSuchKernel:
        known = ", ".join(sorted(specs.find_kernel_specs())) or "none"
        raise InvalidValueError(f"there is no kernel {name!r}: there are {known}") from None
    return language


def assignments(parameters: Mapping[str, Any]) -> str:
    """Return code that assigns the parameters; raises InvalidValueError for what has no literal."""
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


def inject(notebook: Any, code: str, language: str) -> None:
    """Insert a cell with the code after the cell that is tagged `parameters`, or before the first one."""
    if language.lower() != "python":
        raise InvalidValueError(f"parameters are set in Python, and the notebook's kernel speaks {language}")
    cell = require("nbformat", "reading a notebook").v4.new_code_cell("# Parameters\n" + code)
    cell.metadata["tags"] = ["injected-parameters"]
    if notebook.nbformat_minor < 5:
        del cell["id"]
    tagged = [number for number, each in enumerate(notebook.cells) if "parameters" in each.metadata.get("tags", ())]
    notebook.cells.insert(tagged[0] + 1 if tagged else 0, cell)


def _mode(target: Path) -> int:
    """The permissions of the file, or those of a new one."""
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except OSError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
