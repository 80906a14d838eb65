"""`has_records`: whether a history file has anything of a notebook."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

__all__ = ["has_records"]

_QUERY = """
    SELECT EXISTS (SELECT 1 FROM kernels WHERE notebook = ?1 OR substr(notebook, -length(?1) - 1) = '/' || ?1)
    OR EXISTS (SELECT 1 FROM schedules WHERE notebook = ?1)
"""


def has_records(path: Path, notebook: str) -> bool:
    """Whether the file has tasks or schedules of the notebook.

    True also if that cannot be read: the queries of `History` say why.
    """
    if not path.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            [(found,)] = connection.execute(_QUERY, (notebook,)).fetchall()
    except (sqlite3.Error, OSError):
        return True
    return bool(found)
