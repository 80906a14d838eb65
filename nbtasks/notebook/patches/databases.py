"""Monkeypatches of SQLAlchemy and peewee: warnings about in-memory databases.

A background cell in a thread would write to a database that nothing else sees, and `to_sql` would report success.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any

from nbtasks.notebook.output.sink import current_sink
from nbtasks.patch import Patch, PatchSet
from nbtasks.post_import import ModulePatches
from nbtasks.progress import current_task
from nbtasks.task import Task

__all__ = ["database_patches"]

_warned: weakref.WeakKeyDictionary[Task, set[str]] = weakref.WeakKeyDictionary()


def database_patches() -> PatchSet:
    """Patches of the modules' engines, each applied once the module is imported."""
    return PatchSet(
        [
            ModulePatches(
                "sqlalchemy.engine.base",
                lambda module: [Patch(module.Engine, "raw_connection", functools.partial(_warning, _of_sqlalchemy))],
            ),
            ModulePatches(
                "peewee",
                lambda module: [Patch(module.SqliteDatabase, "execute_sql", functools.partial(_warning, _of_peewee))],
            ),
        ]
    )


def _of_sqlalchemy(engine: Any) -> tuple[str, str] | None:
    """The engine and what to do, if it has a database for each thread."""
    if type(engine.pool).__name__ != "SingletonThreadPool":
        return None
    return repr(engine), 'create_engine(..., poolclass=StaticPool, connect_args={"check_same_thread": False})'


def _of_peewee(database: Any) -> tuple[str, str] | None:
    if database.database != ":memory:":
        return None
    return f"SqliteDatabase({database.database!r})", 'SqliteDatabase("file:name?mode=memory&cache=shared", uri=True)'


def _warning(remedy_of: Callable[[Any], tuple[str, str] | None], original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def warning(engine: Any, *args: Any, **kwargs: Any) -> Any:
        sink = current_sink()
        if sink is not None and threading.current_thread() is not threading.main_thread():
            found = remedy_of(engine)
            task = current_task()
            if found is not None and (task is None or found[0] not in _warned.setdefault(task, set())):
                if task is not None:
                    _warned[task].add(found[0])
                sink.stderr(_message(*found))
        return original(engine, *args, **kwargs)

    return warning


def _message(engine: str, remedy: str) -> str:
    return (
        f"nbtasks: {engine} is an in-memory database of which each thread has its own: this cell does not see what the "
        "notebook has written, and what it writes is lost to the notebook. Run the cell with --backend loop, or use a "
        f"file, or {remedy}\n"
    )
