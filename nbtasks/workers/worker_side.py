"""The worker's side: its kernel, the task that work sees, and calls of functions.

`main` starts the kernel, an IPython kernel that runs functions for a notebook; that of cells is a subclass of it.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import functools
import getpass
import inspect
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, NoReturn

from nbtasks.exceptions import NbtasksError, NoInputError, NotSendableError
from nbtasks.formatting import error_text
from nbtasks.interrupts import run_in_own_loop, start_thread
from nbtasks.patch import ItemPatch, Patch, PatchSet
from nbtasks.programs import system
from nbtasks.progress import CURRENT, meters_of
from nbtasks.states import TaskState
from nbtasks.task import Task, use_id_prefix
from nbtasks.tqdm_progress import tqdm_patches
from nbtasks.workers.messages import LOOPS, RESULT, SETTINGS, TASK_FIELDS, Say
from nbtasks.workers.partial_unpickling import Lost
from nbtasks.workers.process_settings import changed_settings, put_settings, take_settings
from nbtasks.workers.quiet_import import imported_quietly, imports_reported
from nbtasks.workers.serialization import Buffers, IsMain, kind_of, pack, pack_names, raw, unpack, unpack_names

__all__ = [
    "Answer",
    "WorkerKernel",
    "WorkerTaskOwner",
    "call",
    "import_quietly",
    "limit_memory",
    "main",
    "pack_error",
    "serve",
]

Answer = tuple[dict[str, Any], Buffers]
"""The content of the answer to a request, and its buffers."""
WATCH_SECONDS = 0.25
"""Time between two checks whether the notebook's kernel is still running."""
LOOP_SECONDS = 0.1
"""Time between two reports of running loops."""
SAY_SECONDS = 0.05
"""The least time between two reports of progress."""
_SHOWN = ("progress", "heading", "body", "img")


class WorkerTaskOwner:
    """Makes the task that work in the worker sees, and reports its progress.

    It stands for the manager of that task and for its bus. `_lock` guards what was reported last.
    """

    watches_progress = True
    watches_output = False

    def __init__(self, say: Say) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._reported: dict[str, Any] = {}
        self._reported_at = 0.0
        self._loops: list[Any] = []
        self._timer: threading.Timer | None = None
        self.bus = self
        self.task: Task | None = None

    def make(self, kind: type[Task], number: int, prefix: str, given: Mapping[str, Any]) -> Task:
        """The task, running, with these fields."""
        use_id_prefix(prefix)
        task = Task.__new__(kind)
        internals = task.internals
        for name, value in given.items():
            setattr(internals if name in TASK_FIELDS else task, name, value)
        internals.number = number
        internals.state = TaskState.RUNNING
        internals.started_at = time.time()
        internals.manager = self
        self.task = task
        self._reported = {name: getattr(task, name) for name in _SHOWN}
        return task

    def report_failure(self, task: Task) -> None:
        """Do nothing: the manager that has sent the work reports it."""

    def progressed(self, task: Task) -> None:  # noqa: ARG002 - a bus's signature
        """Report a change of progress, heading, body or img, now or soon."""
        with self._lock:
            wait = self._reported_at + SAY_SECONDS - time.monotonic()
            if wait > 0:
                if self._timer is None:
                    self._report_after(wait)
                return
        self.report()

    def follow(self, task: Task, changed: Callable[[], bool | None]) -> None:  # noqa: ARG002 - a bus's signature
        """A loop has begun: `report` compares the counts of all loops."""
        self.progressed(task)

    def _report_after(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self.report)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """Report for the last time: the work has ended."""
        self.report()
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()

    def report(self) -> None:
        """Report what has changed since the last report."""
        with self._lock:
            self._timer = None
            self._reported_at = time.monotonic()
            now = {name: getattr(self.task, name) for name in _SHOWN}
            changed = {name: value for name, value in now.items() if _differs(value, self._reported[name])}
            self._reported = now
            loops = (
                [(id(m), m.total, m.unit, m.description, m.count) for m in meters_of(self.task)] if self.task else []
            )
            if loops != self._loops:
                changed[LOOPS] = self._loops = loops
            if loops and self._timer is None:  # inner loops advance between two steps of the outer one
                self._report_after(LOOP_SECONDS)
            if changed:
                try:
                    parcel = pack(changed)
                except Exception:  # noqa: BLE001 - an `img` that cannot be sent; the rest can
                    changed.pop("img", None)
                    parcel = pack(changed)
                self._say("nbtasks_progress", {}, parcel)

    def wrote(self, task: Task) -> None:
        """Nothing: output is sent by the kernel itself."""

    def cancel_task(self, task: Task | str, *, children: bool = True) -> bool:  # noqa: ARG002 - an owner's signature
        """Ask the notebook to cancel the task."""
        self._say("nbtasks_cancel", {}, [])
        return True

    def set_priority(self, task: Task | str, priority: int) -> bool:  # noqa: ARG002 - as above
        """Refuse: the task is running already."""
        return False

    def create_child(self, parent: Task, name: str, work: Any, priority: int = 0, **options: Any) -> Task:  # noqa: ARG002
        """Children are made in the notebook."""
        raise NbtasksError(f"{parent.name!r} runs in a worker process: create {name!r} in the notebook")

    def await_result(self, task: Task) -> Any:
        """Refuse: the task cannot wait for itself."""
        raise NbtasksError(f"{task.name!r} waits for itself")

    def wait_for_result(self, task: Task, timeout: Any) -> Any:  # noqa: ARG002 - as above
        """Refuse, too."""
        raise NbtasksError(f"{task.name!r} waits for itself")


def _differs(value: Any, other: Any) -> bool:
    """Whether a field was set since; progress may be computed whenever it is read, as a new float."""
    return value is not other and not (isinstance(value, float) and value == other)


def call(task: Task, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call plain or async work as a thread of the notebook would: without a running event loop around it."""
    token = CURRENT.set(task)
    loop = asyncio._get_running_loop()  # the kernel's own, on whose thread this is, so that interrupts reach it
    aio_task = None if loop is None else asyncio.current_task(loop)
    if loop is not None and aio_task is not None:  # from Python 3.14 a thread has one current task for all its loops
        asyncio._leave_task(loop, aio_task)
    asyncio._set_running_loop(None)
    try:
        result = function(*args)
        if inspect.isawaitable(result):
            result = run_in_own_loop(_awaited(result))
        return result
    finally:
        asyncio._set_running_loop(loop)
        if loop is not None and aio_task is not None:
            asyncio._enter_task(loop, aio_task)
        CURRENT.reset(token)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def pack_error(error: BaseException, is_main: IsMain | None = None) -> tuple[dict[str, Any], Buffers]:
    """An error to be sent: its name, text and traceback, and the object itself if it can be pickled."""
    content = {
        "ename": type(error).__name__,
        "evalue": error_text(error),
        "text": "".join(traceback.format_exception(error)),
    }
    try:
        return content, pack(error, is_main)
    except Exception:  # noqa: BLE001 - errors are pickled by code of their own
        return content, []


def _check_lost(lost: Mapping[str, Lost], optional: Collection[str]) -> None:
    """Raise NotSendableError for names that could not be rebuilt here and that the work needs."""
    lines = [_line_of(name, one) for name, one in lost.items() if name not in optional]
    if lines:
        raise NotSendableError(f"not sent to a worker process: {'; '.join(lines)}")


def _line_of(name: str, lost: Lost) -> str:
    return f"{name} ({lost.kind}): {lost.why}"


def import_quietly(modules: Iterable[str]) -> None:
    """Import modules that the notebook has imported: what they print has been seen there."""
    for name in modules:
        # It is imported again where it is used, and says why. An interrupt, of a cell that has begun, goes through.
        with contextlib.suppress(Exception, SystemExit):
            imported_quietly(name)


def limit_memory(size: int | None, before: int | None = None) -> None:
    """Limit the memory of this process to `size` bytes, in place of `before`; None: no limit."""
    if size == before:
        return
    import resource

    # On Linux RLIMIT_DATA counts the private memory of a process; elsewhere only all mapped memory can be limited.
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (hard if size is None else size, hard))


# -- the kernel -------------------------------------------------------------------------------------------------------


class WorkerKernel:
    """Handles `nbtasks_run` and `nbtasks_prepare` requests in an IPython kernel."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.shell = kernel.shell
        self.say: Any = None
        """Sends a message about the work of the request."""
        self.memory: int | None = None
        """How many bytes this process may use."""
        self.lost: Mapping[str, Lost] = {}
        """Names that could not be rebuilt here, and that the work may not need."""
        self.names_before: dict[str, Any] = {}
        """The names of this process before those of the request arrived."""
        self.handlers: dict[str, Callable[[dict[str, Any], Task], Awaitable[Answer]]] = {"call": self._call}
        """What is done for each kind of request."""
        self.patches = PatchSet(
            [
                ItemPatch(kernel.shell_handlers, "nbtasks_run", lambda _: self.run),
                ItemPatch(kernel.shell_handlers, "nbtasks_prepare", lambda _: self.prepare),
                Patch(kernel, "raw_input", lambda _: functools.partial(self.refuse, "input()")),
                Patch(kernel, "getpass", lambda _: functools.partial(self.refuse, "getpass()")),
                # While a cell runs, the kernel's own are there; libraries such as click keep what they find at import.
                Patch(builtins, "input", lambda _: functools.partial(self.refuse, "input()")),
                Patch(getpass, "getpass", lambda _: functools.partial(self.refuse, "getpass()")),
                Patch(sys, "breakpointhook", lambda _: functools.partial(self.refuse, "breakpoint()")),
                Patch(os, "system", lambda _: system),
                tqdm_patches(),
            ]
        )
        """Monkeypatches of the kernel, which last as long as its process."""

    def install(self) -> None:
        """Handle requests, and refuse to read from the keyboard."""
        self.patches.apply()

    @staticmethod  # so that what refers to it, such as the dict of builtins, can be pickled
    def refuse(what: str, *_: Any, **__: Any) -> NoReturn:
        """Raise the error for code that reads from the keyboard."""
        raise NoInputError(f"{what} cannot be answered in a worker process: pass the answer to the function")

    async def prepare(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Import modules, so that work which needs them starts sooner."""
        # Libraries look for IPython among the builtins, where it is while a cell runs.
        with self.shell.builtin_trap:
            sys.path[:] = parent["content"]["path"]
            import_quietly(parent["content"]["modules"])
        self.kernel.session.send(stream, "nbtasks_prepared", {}, parent, ident=ident)

    async def run(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Run a cell or call a function, and send back what came of it."""
        content, buffers = parent["content"], parent["buffers"]
        self.say = functools.partial(self._publish, parent)
        owner = WorkerTaskOwner(self.say)
        self.say("nbtasks_begun", {}, [])  # from here on it can be interrupted
        try:
            limit_memory(content["memory"], self.memory)
            self.memory = content["memory"]
            split = content["split"]
            with self.shell.builtin_trap, imports_reported(self._importing):
                about = unpack(buffers[:split])
                put_settings(about["settings"])
                task = owner.make(about["kind"], content["number"], content["prefix"], about["fields"])
                self._join_cluster(bytes(buffers[split]))
                self.names_before = dict(self.shell.user_ns)
                work, lost = unpack_names(buffers[split:], self.shell.user_ns, task, of=lambda work: work["names"])
                _check_lost(lost, work.get("optional", ()))
                self.lost = lost
            del parent["buffers"], buffers
            with imports_reported(self._importing):
                answer, parcel = await self.handlers[content["what"]](work, task)
        except (KeyboardInterrupt, asyncio.CancelledError):
            answer, parcel = {"status": "cancelled"}, []
        except BaseException as error:  # noqa: BLE001 - any failure is the answer, which the notebook shows
            described, parcel = pack_error(error, self.is_main)
            answer = {"status": "error", **described}
        owner.end()
        self.names_before = {}
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        self.kernel.session.send(
            stream, "nbtasks_reply", answer, parent, ident=ident, buffers=[raw(buffer) for buffer in parcel]
        )

    def _importing(self, package: str) -> None:
        """Report the package whose import the work waits for; "": it is there."""
        self.say("nbtasks_importing", {"package": package}, [])

    async def _call(self, work: dict[str, Any], task: Task) -> Answer:
        before = take_settings()
        result = call(task, work["function"], work["args"])
        return self.pack_answer({RESULT: result}, before, task)

    def pack_answer(
        self, values: dict[str, Any], settings: Mapping[str, Any], task: Task, there: Mapping[str, Any] | None = None
    ) -> Answer:
        """The answer: those of the values that can be sent, and the settings that differ from `settings`.

        `there` are names whose objects the notebook has as they are here.
        """
        changed = changed_settings(settings)
        parcel, refused = pack_names({**values, SETTINGS: changed}, self.is_main, task, there)
        stayed = {name: [kind_of(values[name]), str(why)] for name, why in refused.items()}
        return {"status": "ok", "stayed": stayed, "path": sys.path}, parcel

    def explain(self, error: BaseException | None) -> None:
        """Add a note to the error of a name that could not be rebuilt here."""
        lost = self.lost.get(error.name or "") if isinstance(error, NameError) else None
        if error is not None and lost is not None and not hasattr(error, "__notes__"):
            error.add_note(f"nbtasks: not sent to a worker process: {_line_of(error.name, lost)}")  # type: ignore[attr-defined]

    def is_main(self, names: Any) -> bool:
        """Whether a dict is the globals of the notebook's own code."""
        return names is self.shell.user_ns

    def _join_cluster(self, pickled: bytes) -> None:
        """Connect work that uses Dask, or is given objects of it, to the cluster that it runs on, if it does."""
        address = os.environ.get("NBTASKS_SCHEDULER")
        if address is not None and (b"dask" in pickled or b"distributed" in pickled):
            from distributed import Client

            Client(address)
            self.say("nbtasks_joined", {}, [])

    def _publish(self, parent: dict[str, Any], kind: str, content: dict[str, Any], buffers: Buffers) -> None:
        self.kernel.session.send(
            self.kernel.iopub_socket,
            kind,
            content,
            parent=parent,
            ident=kind.encode(),
            buffers=[raw(buffer) for buffer in buffers],
        )


def main() -> None:
    """Start the kernel of a worker of functions."""
    serve(WorkerKernel)


def serve(kind: type[WorkerKernel]) -> None:
    """Start a kernel that takes the requests of that kind; returns when it shuts down."""
    options = {}
    if hasattr(os, "killpg"):  # else the kernel itself ends with its parent, whose handle it has in the environment
        parent = int(os.environ.pop("JPY_PARENT_PID"))
        start_thread(functools.partial(_end_with, parent), "nbtasks-parent")
        options["parent_handle"] = 0
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance(**options)
    app.initialize()
    kind(app.kernel).install()
    app.start()


def _end_with(parent: int) -> None:
    """End this process, and those that it has started, when the notebook's kernel is gone."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    folder = os.environ.get("NBTASKS_FOLDER")
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgid(0), signal.SIGKILL)
