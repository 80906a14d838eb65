"""Set-up of the process and dask backends in a notebook, and the list of workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import publish_display_data

from nbtasks.backends.base import Backend
from nbtasks.backends.dask import DaskBackend
from nbtasks.backends.process import ProcessBackend
from nbtasks.backends.remote_work import show_streams
from nbtasks.manager import TaskManager
from nbtasks.notebook.remote import widget_transfer, worker_kernel
from nbtasks.workers import worker_side
from nbtasks.workers.import_hooks import hooked_modules
from nbtasks.workers.messages import Message
from nbtasks.workers.usage import usage_of

__all__ = ["Workers"]


class Workers:
    """Connects the `process` and `dask` backends of a manager to the notebook."""

    def __init__(self, manager: TaskManager, shell: InteractiveShell) -> None:
        self._manager = manager
        self._shell = shell

    def connect(self, backend: Backend) -> None:
        """Start workers that run cells and import the notebook's modules; show what functions display there."""
        if isinstance(backend, ProcessBackend):
            backend.on_display = _show
            backend.modules = self._modules
            backend.worker_module = worker_kernel.__name__
        if isinstance(backend, DaskBackend):
            backend.on_display = _show
        widget_transfer.install()

    def disconnect(self, backend: Backend) -> None:
        """Undo `connect`."""
        if isinstance(backend, ProcessBackend):
            backend.on_display = show_streams
            backend.modules = list
            backend.worker_module = worker_side.__name__
        if isinstance(backend, DaskBackend):
            backend.on_display = show_streams

    def _modules(self) -> list[str]:
        """The modules among the notebook's names, and those that define them; none with import hooks."""
        if hooked_modules():  # the hooks come with the work
            return []
        return sorted(set(_modules_of(self._shell.user_ns)))

    def listing(self) -> str:
        """A text with one line for each worker."""
        backend = self._manager.backends.get("process")
        rows = backend.workers() if isinstance(backend, ProcessBackend) else []
        if not rows:
            return "no worker processes"
        lines = [f"{'pid':>8}  {'memory':>9}  {'cpu':>7}  {'age':>7}  task"]
        for row in rows:
            usage = usage_of(row["pid"])
            if usage is not None:  # else it has just ended
                memory, cpu = usage.memory / 2**20, usage.cpu
                lines.append(
                    f"{row['pid']:>8}  {memory:>6,.0f} MB  {cpu:>5.1f} s  {row['seconds']:>5.0f} s  {row['task']}"
                )
        return "\n".join(lines)


def _modules_of(names: dict[str, Any]) -> Iterator[str]:
    for name, value in list(names.items()):
        module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if name.startswith("_") or not isinstance(module, str) or module not in sys.modules:
            continue
        if not module.startswith(("IPython", "ipykernel", "nbtasks", "builtins", "__main__")):
            yield module


def _show(message: Message) -> None:
    content = message.content
    if message.kind in ("display_data", "update_display_data"):
        publish_display_data(
            content["data"],
            content["metadata"],
            transient=content.get("transient"),
            update=message.kind == "update_display_data",
        )
    else:
        show_streams(message)
