"""The worker kernel: an IPython kernel that runs one cell, or functions, for a notebook. `main` starts it.

Knows nothing of the notebook's side but the messages: `nbtasks_run` asks, `nbtasks_reply` answers, and what is printed
goes its usual way.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import linecache
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType, NoneType
from typing import Any

from IPython.core.interactiveshell import ExecutionResult

from nbtasks.notebook.cells.errors import ExitTask
from nbtasks.notebook.patches.tqdm import tqdm_patches
from nbtasks.notebook.patches.user_input import refuse_input
from nbtasks.notebook.remote import widget_transfer as widget_copies
from nbtasks.notebook.remote.plots import put_figures, take_figures
from nbtasks.notebook.remote.shell_state import changed_state, put_state, take_state
from nbtasks.progress import CURRENT
from nbtasks.workers.process_settings import changed_settings, put_settings, take_settings
from nbtasks.workers.serialization import Buffers, digest_of, kind_of, pack_names, raw, unpack
from nbtasks.workers.worker_side import (
    FIGURES,
    RESULT,
    SETTINGS,
    STATE,
    TaskHere,
    call,
    limit_memory,
    pack_error,
)

WATCH_SECONDS = 0.25
_LOOKED_AT = 2**20
"""Objects of up to so many bytes are looked at after the cell, whether or not its text tells of a change."""
_IPYTHONS_OWN = re.compile(r"_+|_i+|_i?\d+|In|Out|_[ido]h|exit|quit|get_ipython|open")


class WorkerKernel:
    """Puts the handler of `nbtasks_run` into an IPython kernel."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._shell = kernel.shell
        self._depth = 0
        self._value: Any = None
        self._failure: dict[str, Any] = {}
        self._memory: int | None = None
        self._say: Any = None
        self._source = self._filename = ""

    def install(self) -> None:
        """Take requests, and stand in for what a notebook's kernel does otherwise."""
        kernel, shell = self._kernel, self._shell
        kernel.shell_handlers["nbtasks_run"] = self.run
        kernel.shell_handlers["nbtasks_prepare"] = self.prepare
        kernel.raw_input = functools.partial(refuse_input, "input()")
        kernel.getpass = functools.partial(refuse_input, "getpass()")
        sys.breakpointhook = functools.partial(refuse_input, "breakpoint()")
        shell.run_cell_async = self._counted(shell.run_cell_async)
        shell.showtraceback = self._diverted(shell.showtraceback)
        shell.showsyntaxerror = self._diverted(shell.showsyntaxerror)
        shell.display_trap.hook = _Recorder(shell.displayhook, self)
        shell.compile.get_code_name = self._named(shell.compile.get_code_name)
        shell.user_ns["exit"] = shell.user_ns["quit"] = ExitTask()
        tqdm_patches().apply()
        widget_copies.install(worker=True)

    # -- requests ---------------------------------------------------------------------------------------------

    async def prepare(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Import modules, so that work which needs them starts sooner."""
        quiet = io.StringIO()
        # Libraries look for IPython among the builtins, where it is while a cell runs.
        with self._shell.builtin_trap, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            sys.path[:] = parent["content"]["path"]
            for name in parent["content"]["modules"]:
                with contextlib.suppress(BaseException):  # it is imported again where it is used, and says why
                    __import__(name)
        self._kernel.session.send(stream, "nbtasks_prepared", {}, parent, ident=ident)

    async def run(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Run a cell or call a function, and send back what came of it."""
        content, buffers = parent["content"], parent["buffers"]
        self._failure = {}
        self._say = functools.partial(self._publish, parent)
        here = TaskHere(self._say)
        self._say("nbtasks_begun", {}, [])  # from here on an interrupt strikes
        try:
            self._memory = content["memory"]
            limit_memory(self._memory)
            split = content["split"]
            with self._shell.builtin_trap:
                about = unpack(buffers[:split])
                put_settings(about["settings"])
                task = here.make(about["kind"], content["number"], content["prefix"], about["fields"])
                self._join_cluster(bytes(buffers[split]))
                work = unpack(buffers[split:], self._shell.user_ns, task)
            del parent["buffers"], buffers
            answer, parcel = await getattr(self, f"_{content['what']}")(work, task)
        except (KeyboardInterrupt, asyncio.CancelledError):
            answer, parcel = {"status": "cancelled"}, []
        except BaseException as error:  # noqa: BLE001 - whatever stands in its way; the notebook says it
            said, parcel = pack_error(error, self._is_main)
            answer = {"status": "error", **said}
        here.end()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        self._kernel.session.send(
            stream, "nbtasks_reply", answer, parent, ident=ident, buffers=[raw(buffer) for buffer in parcel]
        )

    async def _call(self, work: dict[str, Any], task: Any) -> tuple[dict[str, Any], Buffers]:
        before = take_settings()
        result = call(task, work["function"], work["args"])
        return self._packed({RESULT: result}, before, task)

    async def _cell(self, work: dict[str, Any], task: Any) -> tuple[dict[str, Any], Buffers]:
        shell = self._shell
        names = shell.user_ns
        self._take_names(work)
        self._source, self._filename = work["source"], work["filename"]
        put_state(shell, work["state"])
        put_figures(work["figures"])
        shell.CustomTB = self._told(shell.CustomTB)
        shell.last_execution_result = ExecutionResult(None)
        shell.execution_count = work["count"] or 1
        before, settings, state = dict(names), take_settings(), take_state(shell)
        digests = {
            name: self._digest(name, work["changed"])
            for name in before
            if not _IPYTHONS_OWN.fullmatch(name) and _may_change(before[name])
        }
        CURRENT.set(task)
        self._value = None
        reply = await self._kernel.do_execute(self._source, False, store_history=True, allow_stdin=False)
        bound = {
            name: value
            for name, value in names.items()
            if before.get(name, self) is not value and not _IPYTHONS_OWN.fullmatch(name)
        }
        bound |= {
            name: names[name]
            for name, digest in digests.items()
            if digest is not None and name in names and self._digest(name, work["changed"]) != digest
        }
        bound |= {RESULT: self._value, STATE: changed_state(shell, state), FIGURES: take_figures()}
        answer, parcel = self._packed(bound, settings, task)
        answer["deleted"] = [n for n in before if n not in names and not _IPYTHONS_OWN.fullmatch(n)]
        answer["payload"] = reply.get("payload", [])
        answer["status"] = "failed" if self._failure else "ok"
        return answer, parcel

    def _join_cluster(self, pickled: bytes) -> None:
        """A cell on a Dask cluster that uses Dask, or is given some of it, uses that cluster."""
        address = os.environ.get("NBTASKS_SCHEDULER")
        if address is not None and (b"dask" in pickled or b"distributed" in pickled):
            from distributed import Client

            Client(address)
            self._say("nbtasks_joined", {}, [])

    def _digest(self, name: str, changed: set[str]) -> bytes | None:
        """What tells the object of that name after a change; big ones are looked at only if the text changes them."""
        return digest_of(self._shell.user_ns[name], self._is_main, None if name in changed else _LOOKED_AT)

    def _packed(self, bound: dict[str, Any], settings: Mapping[str, Any], task: Any) -> tuple[dict[str, Any], Buffers]:
        changed = changed_settings(settings)
        parcel, refused = pack_names({**bound, SETTINGS: changed}, self._is_main, task)
        stayed = {name: [kind_of(bound[name]), str(why)] for name, why in refused.items()}
        return {"status": "ok", "stayed": stayed, "path": sys.path}, parcel

    def _take_names(self, work: Mapping[str, Any]) -> None:
        shell, names = self._shell, dict(work["names"])
        shell.user_ns["_oh"].update(names.pop("Out", {}))
        shell.user_ns["_ih"][:] = names.pop("In", [""] * (work["count"] or 1))
        shell.user_ns.update(names)
        for filename, (number, lines) in work["sources"].items():
            linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)
            if number is not None:
                shell.compile._filename_map[filename] = number

    def _is_main(self, names: Any) -> bool:
        return names is self._shell.user_ns

    def _publish(self, parent: dict[str, Any], kind: str, content: dict[str, Any], buffers: Buffers) -> None:
        session, socket = self._kernel.session, self._kernel.iopub_socket
        session.send(
            socket, kind, content, parent=parent, ident=kind.encode(), buffers=[raw(buffer) for buffer in buffers]
        )

    # -- how a cell ends --------------------------------------------------------------------------------------

    def _counted(self, run_cell_async: Callable[..., Any]) -> Callable[..., Any]:
        """Tells the cell itself from those that it runs by `shell.run_cell`."""

        @functools.wraps(run_cell_async)
        async def counted(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            try:
                return await run_cell_async(*args, **kwargs)
            finally:
                self._depth -= 1

        return counted

    def _diverted(self, show: Callable[..., None]) -> Callable[..., None]:
        """The error with which the cell ends is shown by the notebook, which knows whether it is tried again."""

        @functools.wraps(show)
        def diverted(exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
            if self._depth != 1 or self._say is None:
                show(exc_tuple, *args, **kwargs)
                return
            error = (exc_tuple if isinstance(exc_tuple, tuple) else sys.exc_info())[1]
            if isinstance(error, KeyboardInterrupt) and self._failure:
                return
            shown: list[list[Any]] = []

            def collect(kind: type[BaseException], value: BaseException, lines: list[str]) -> None:
                self._shell._last_traceback = lines
                shown.append(["error", {"ename": kind.__name__, "evalue": str(value), "traceback": lines}])

            said = io.StringIO()
            if isinstance(error, MemoryError) and self._memory is not None:
                said.write(f"nbtasks: this worker process was limited to {self._memory:,} bytes of memory\n")
                error.args = error.args or ("the limit of the worker process is reached",)
            own, self._shell._showtraceback = self._shell._showtraceback, collect
            try:
                with contextlib.redirect_stderr(said):
                    show(exc_tuple, *args, **kwargs)
            finally:
                self._shell._showtraceback = own
            if said.getvalue():
                shown.append(["stream", {"name": "stderr", "text": said.getvalue()}])
            self._tell_failure(error, shown)

        return diverted

    def _told(self, show: Callable[..., Any]) -> Callable[..., Any]:
        """An error that the notebook's own handler shows is the cell's end, too."""

        def told(kind: type[BaseException], error: BaseException, *args: Any, **kwargs: Any) -> Any:
            try:
                return show(kind, error, *args, **kwargs)
            finally:
                if self._depth == 1:
                    self._tell_failure(error, [])

        told.__func__ = show.__func__  # type: ignore[attr-defined]
        return told

    def _tell_failure(self, error: BaseException | None, shown: list[list[Any]]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        content, parcel = pack_error(error or RuntimeError("an error of no kind"), self._is_main)
        self._failure = {**content, "shown": shown}
        self._say("nbtasks_failed", self._failure, parcel)

    def shown(self, value: Any) -> None:
        """The value of an expression is displayed."""
        if self._depth <= 1:
            self._value = value

    def _named(self, get_code_name: Callable[..., str]) -> Callable[..., str]:
        """The cell's file has the name that it has in the notebook, so that its lines are found there, too."""

        def named(raw_code: str, transformed_code: str, number: int) -> str:
            if raw_code.removesuffix("\n") == self._source.removesuffix("\n"):
                return self._filename
            return get_code_name(raw_code, transformed_code, number)

        return named


def _may_change(value: Any) -> bool:
    return not isinstance(value, NoneType | ModuleType | FunctionType | str | bytes | int | float | complex)


class _Recorder:
    """The hook that displays values; it keeps the last one, which is the result of the cell."""

    def __init__(self, hook: Any, worker: WorkerKernel) -> None:
        self._hook = hook
        self._worker = worker

    def __call__(self, value: Any = None) -> None:
        self._worker.shown(value)
        self._hook(value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hook, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (sys, "displayhook")


def _watch(parent: int) -> None:
    """End this process, and those that it has started, when the notebook's kernel is gone."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    folder = os.environ.get("NBTASKS_FOLDER")
    if folder:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def main() -> None:
    """Start the kernel."""
    if hasattr(os, "killpg"):
        parent = int(os.environ["NBTASKS_PARENT"])
        threading.Thread(target=_watch, args=(parent,), name="nbtasks-parent", daemon=True).start()
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance()
    app.initialize()
    WorkerKernel(app.kernel).install()
    app.start()
