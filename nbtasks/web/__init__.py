"""Web interface: an ASGI app for the tasks of a manager, and server-sent events.

Needs the extra `nbtasks[web]` (starlette and uvicorn). `create_app` makes the app, to mount in an application of your
own; `serve` runs it on a thread of this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbtasks.exceptions import MissingPackageError

if TYPE_CHECKING:
    from nbtasks.web.app import create_app
    from nbtasks.web.server import Server, serve

__all__ = ["Server", "create_app", "serve"]

_MODULES = {"Server": "server", "create_app": "app", "serve": "server"}


def __getattr__(name: str) -> Any:
    """Import the app or the server on first use, or say what to install."""
    import importlib

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in {"starlette", "uvicorn"}:
            raise
        raise MissingPackageError(
            f"nbtasks.web needs {error.name}: install the extra 'web' (pip install '.[web]' in a clone), "
            "or starlette and uvicorn"
        ) from None
