"""What a worker does for the notebook: the task that its code sees there, and calls of functions.

Runs in the worker only. Must not know of kernels: it is handed a `say` function that sends a message to the notebook.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from nbtasks import task as tasks
from nbtasks.exceptions import NbtasksError
from nbtasks.interrupts import run_in_own_loop
from nbtasks.progress import CURRENT, meters_of
from nbtasks.states import TaskState
from nbtasks.task import Task, fresh
from nbtasks.workers.serialization import Buffers, IsMain, pack

__all__ = [
    "FIGURES",
    "LOOPS",
    "RESULT",
    "SETTINGS",
    "STATE",
    "Say",
    "TaskHere",
    "call",
    "limit_memory",
    "pack_error",
    "task_fields",
]

RESULT, SETTINGS, STATE, FIGURES = "", "\0settings", "\0state", "\0figures"
"""The keys of the result, of changed settings, of what changed in the shell, and of the figures that stand open, among
the names that go back."""

Say = Callable[[str, dict[str, Any], Buffers], None]
"""Sends a message: its kind, content and buffers."""

LOOPS = "\0loops"
"""The key of the loops that run, among what is told of a task: (id, total, unit, description, count) of each."""
LOOP_SECONDS = 0.1
SAY_SECONDS = 0.05
"""Progress is told no more often than this."""
_SHOWN = ("progress", "heading", "body", "img")
_SENT = ("name", "_priority", "_lane", "_backend", "_attempts", "parent_id", "parameters", "tags", "heading", "body")


def task_fields(task: Task, kind: type[Task]) -> dict[str, Any]:
    """What the other side is to know of the task, as one of that kind: what a subclass adds is sent along."""
    own = {} if kind is Task else dict(getattr(task, "__dict__", {}))
    if kind is not Task and is_dataclass(kind):
        added = {one.name for one in fields(kind)} - {one.name for one in fields(Task)}
        own |= {name: getattr(task, name) for name in added if hasattr(task, name)}
    return {name: getattr(task, name) for name in _SENT} | own


class TaskHere:
    """Makes the task that code in the worker sees as its own, and tells the notebook of its progress.

    `_lock` guards what was told last.
    """

    watches_progress = True
    watches_output = False

    def __init__(self, say: Say) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._told: dict[str, Any] = {}
        self._told_at = 0.0
        self._loops: list[Any] = []
        self._timer: threading.Timer | None = None
        self.bus = self
        self.task: Task | None = None

    def make(self, kind: type[Task], number: int, prefix: str, given: Mapping[str, Any]) -> Task:
        """The task, running, with these fields."""
        tasks._PREFIX = prefix  # its id is the one that it has in the notebook
        task = fresh(kind)
        for name, value in given.items():
            setattr(task, name, value)
        task._number = number
        task._state = TaskState.RUNNING
        task._started_at = time.time()
        task._manager = self  # type: ignore[assignment]
        self.task = task
        self._told = {name: getattr(task, name) for name in _SHOWN}
        return task

    def progressed(self, task: Task) -> None:  # noqa: ARG002 - a bus's signature
        """Its progress, heading, body or img changed: tell, now or soon."""
        with self._lock:
            wait = self._told_at + SAY_SECONDS - time.monotonic()
            if wait > 0:
                if self._timer is None:
                    self._tell_after(wait)
                return
        self.tell()

    def follow(self, task: Task, changed: Callable[[], bool | None]) -> None:  # noqa: ARG002 - a bus's signature
        """A loop has begun: `tell` compares the counts of all loops."""
        self.progressed(task)

    def _tell_after(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self.tell)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """Its work is over: nothing is told any more."""
        self.tell()
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()

    def tell(self) -> None:
        """Tell what has changed since it was told last."""
        with self._lock:
            self._timer = None
            self._told_at = time.monotonic()
            now = {name: getattr(self.task, name) for name in _SHOWN}
            changed = {name: value for name, value in now.items() if _differs(value, self._told[name])}
            self._told = now
            loops = (
                [(id(m), m.total, m.unit, m.description, m.count) for m in meters_of(self.task)] if self.task else []
            )
            if loops != self._loops:
                changed[LOOPS] = self._loops = loops
            if loops and self._timer is None:  # inner loops go on between two steps of the outer one
                self._tell_after(LOOP_SECONDS)
            if changed:
                try:
                    parcel = pack(changed)
                except Exception:  # noqa: BLE001 - an `img` that cannot be sent; the rest can
                    changed.pop("img", None)
                    parcel = pack(changed)
                self._say("nbtasks_progress", {}, parcel)

    def wrote(self, task: Task) -> None:
        """Its output goes another way."""

    def cancel_task(self, task: Task | str, *, children: bool = True) -> bool:  # noqa: ARG002 - an owner's signature
        """Ask the notebook to cancel the task."""
        self._say("nbtasks_cancel", {}, [])
        return True

    def set_priority(self, task: Task | str, priority: int) -> bool:  # noqa: ARG002 - as above
        """It runs: priorities mean nothing any more."""
        return False

    def create_child(self, parent: Task, name: str, work: Any, priority: int = 0, **options: Any) -> Task:  # noqa: ARG002
        """Children are made in the notebook."""
        raise NbtasksError(f"{parent.name!r} runs in a worker process: create {name!r} in the notebook")

    def _wait_in_loop(self, task: Task) -> Any:
        raise NbtasksError(f"{task.name!r} waits for itself")

    def _wait_in_thread(self, task: Task, timeout: float | None) -> Any:  # noqa: ARG002 - as above
        raise NbtasksError(f"{task.name!r} waits for itself")


def _differs(value: Any, other: Any) -> bool:
    """Whether a field was set since; progress may be computed whenever it is read, as a new float."""
    return value is not other and not (isinstance(value, float) and value == other)


def call(task: Task, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call plain or async work, as a thread of the notebook would: with no loop that runs around it."""
    token = CURRENT.set(task)
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)  # the kernel's own, on whose thread this is, so that interrupts reach it
    try:
        result = function(*args)
        if inspect.isawaitable(result):
            result = run_in_own_loop(_awaited(result))
        return result
    finally:
        asyncio._set_running_loop(loop)
        CURRENT.reset(token)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def pack_error(error: BaseException, is_main: IsMain | None = None) -> tuple[dict[str, Any], Buffers]:
    """An error as it can be sent: what it says, and the object itself, if it can be pickled."""
    content = {
        "ename": type(error).__name__,
        "evalue": str(error),
        "text": "".join(traceback.format_exception(error)),
    }
    try:
        return content, pack(error, is_main)
    except Exception:  # noqa: BLE001 - errors are pickled by code of their own
        return content, []


def limit_memory(size: int | None) -> None:
    """Let this process have `size` bytes of memory at most; None: as much as there is."""
    if size is None:
        return
    import resource

    # What Linux counts here is what the process has taken for itself; elsewhere all that it has mapped.
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    resource.setrlimit(kind, (size, resource.getrlimit(kind)[1]))
