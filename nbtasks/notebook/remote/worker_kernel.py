"""The kernel of a worker process that runs cells. `main` starts it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import io
import linecache
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType, NoneType
from typing import Any, NoReturn

from IPython.core.interactiveshell import ExecutionResult

from nbtasks import thread_state
from nbtasks.formatting import error_text
from nbtasks.library_state import register_libraries
from nbtasks.notebook.cells.errors import ExitTask
from nbtasks.notebook.patches.matplotlib import matplotlib_patches
from nbtasks.notebook.patches.user_input import refuse_input
from nbtasks.notebook.remote import widget_transfer
from nbtasks.notebook.remote.plots import put_figures, take_figures
from nbtasks.notebook.remote.shell_state import changed_state, put_state, take_state
from nbtasks.notebook.remote.widget_receiver import WidgetReceiver
from nbtasks.patch import ItemPatch, Patch, PatchSet
from nbtasks.progress import CURRENT
from nbtasks.task import Task
from nbtasks.workers.array_views import is_array, owner_of
from nbtasks.workers.import_hooks import differing_modules
from nbtasks.workers.messages import FIGURES, RESULT, STATE, THREAD_STATE, WIDGET
from nbtasks.workers.open_files import leave_loop
from nbtasks.workers.partial_unpickling import Lost
from nbtasks.workers.process_settings import take_settings
from nbtasks.workers.serialization import digest_of, examine
from nbtasks.workers.worker_side import Answer, WorkerKernel, import_quietly, pack_error, serve

__all__ = ["COMPARED", "CellKernel", "main", "may_change"]

COMPARED = 2**20
"""Objects of up to this number of bytes are compared after the cell, even if its source does not change them."""
_STEPS = 100
"""Steps that asyncio tasks may take after their cell has ended."""
_NAMES_OF_IPYTHON = re.compile(r"_+|_i+|_i?\d+|In|Out|_[ido]h|exit|quit|get_ipython|open")

_depth: contextvars.ContextVar[int] = contextvars.ContextVar("nbtasks_depth", default=0)
"""1 in the code of the cell, more in cells that it runs by `shell.run_cell` and in callbacks, 0 in threads."""

_result: contextvars.ContextVar[ExecutionResult | None] = contextvars.ContextVar("nbtasks_result", default=None)
"""Where IPython puts the error of the code that it runs in this context, before it shows that."""


class _NamesBefore:
    """The names before a cell, without those that are returned in any case.

    An object whose changes show by its digest is not held, so that the cell can free it.
    """

    def __init__(self, names: dict[str, Any], digests: dict[str, bytes | None], gone: set[str]) -> None:
        self.digests = digests
        self.gone = gone
        """Those that threads of an earlier cell have deleted."""
        self._ids = {name: id(value) for name, value in names.items() if digests.get(name) is not None}
        self._objects = {name: value for name, value in names.items() if name not in self._ids}

    def __iter__(self) -> Iterator[str]:
        yield from self._ids
        yield from self._objects
        yield from self.gone

    def has(self, name: str, value: Any) -> bool:
        """Whether the name had this value."""
        return self._ids[name] == id(value) if name in self._ids else self._objects.get(name, self) is value


class CellKernel(WorkerKernel):
    """Runs cells, besides functions, and sends back what they have bound and set.

    It runs one cell, or several if the first one leaves live objects, for which this process is kept.
    """

    def __init__(self, kernel: Any) -> None:
        super().__init__(kernel)
        self.handlers["cell"] = self._cell
        self._widgets = WidgetReceiver(kernel)
        self._value: Any = None
        self._failure: dict[str, Any] = {}
        self._source = self._filename = ""
        self._agreed: dict[str, bytes | None] = {}
        """In a worker that is kept: digests of objects as the notebook had them at the end of the last cell."""
        self._known: dict[str, int] = {}
        """The ids of the objects that the names had then."""
        shell = self.shell
        patches: list[Patch | PatchSet] = [
            Patch(shell, "run_cell_async", self._counted),
            Patch(shell, "run_code", self._noting),
            Patch(shell, "showtraceback", self._diverted),
            Patch(shell, "showsyntaxerror", self._diverted),
            Patch(shell.display_trap, "hook", lambda _: _Recorder(shell.displayhook, self)),
            Patch(shell.compile, "get_code_name", self._named),
            ItemPatch(shell.user_ns, "exit", lambda _: ExitTask()),
            ItemPatch(shell.user_ns, "quit", lambda _: ExitTask()),
            ItemPatch(kernel.control_handlers, "nbtasks_widget", lambda _: self._widgets.take),
            self._widgets.patches(),
            matplotlib_patches(),
        ]
        self.patches.add(PatchSet(patches))
        self._own_names = frozenset(shell.user_ns)

    def install(self) -> None:
        """Handle requests, and change what a notebook's kernel does otherwise."""
        super().install()
        widget_transfer.install(worker=True)

    @staticmethod  # so that what refers to it, such as the dict of builtins, can be pickled
    def refuse(what: str, *_: Any, **__: Any) -> NoReturn:
        """Raise the error for code that reads from the keyboard."""
        refuse_input(what)

    async def _cell(self, work: dict[str, Any], task: Task) -> Answer:
        shell = self.shell
        self._failure = {}
        names = shell.user_ns
        self._take_names(work)
        self._source, self._filename = work["source"], work["filename"]
        stayed = {name: Lost(kind, TypeError(why)) for name, (kind, why) in work["stayed"].items()}
        self.lost = {**stayed, **self.lost}
        put_state(shell, work["state"])
        put_figures(work["figures"])
        import_quietly(work["modules"])
        shell.last_execution_result = ExecutionResult(None)
        shell.execution_count = work["count"] or 1
        libraries = thread_state.Process(work["libraries"])
        settings, state = take_settings(), take_state(shell)
        names_before = self._names_now(work)
        CURRENT.set(task)
        self._value = None
        reply = await self._execute(work["awaits"])
        bound = self._bound(names_before, work)
        for value in bound.values():
            leave_loop(value)
        named = set(map(id, bound.values()))
        made = widget_transfer.made_widgets()
        bound |= {WIDGET + model: widget for model, widget in made.items() if id(widget) not in named}
        bound |= {RESULT: self._value, STATE: changed_state(shell, state), FIGURES: take_figures()}
        bound[THREAD_STATE] = libraries.changed()
        answer, parcel = self._pack_answer(bound, names_before, settings, task, kept=work["kept"] is not None)
        answer["deleted"] = [n for n in names_before if n not in names and not _NAMES_OF_IPYTHON.fullmatch(n)]
        answer["unhooked"] = differing_modules(work["hooked"])
        answer["payload"] = reply.get("payload", [])
        # IPython and ipykernel end a cell without showing an error where an interrupt comes outside of its code.
        answer["status"] = "failed" if self._failure or reply["status"] != "ok" else "ok"
        return answer, parcel

    async def _execute(self, awaits: bool) -> dict[str, Any]:
        custom_traceback = Patch(self.shell, "CustomTB", self._reporting)
        custom_traceback.apply()
        self._widgets.open(self._context_of_callbacks(), awaits=awaits)
        try:
            self.say("nbtasks_widgets", {"models": widget_transfer.arrived_models()}, [])
            others = asyncio.all_tasks()
            reply: dict[str, Any] = await self.kernel.do_execute(
                self._source, False, store_history=True, allow_stdin=False
            )
            await _take_steps(others)
        finally:
            self._widgets.close()
            custom_traceback.revert()
        return reply

    # -- what the cell has changed ----------------------------------------------------------------------------

    def _take_names(self, work: dict[str, Any]) -> None:
        shell, arrived = self.shell, dict(work["names"])
        shell.user_ns["_oh"].update(arrived.pop("Out", {}))
        shell.user_ns["_ih"][:] = arrived.pop("In", [""] * (work["count"] or 1))
        if work["kept"] is None:
            shell.user_ns.update(arrived)
        else:
            self._merge(arrived, work["kept"])
        work["names"] = self.names_before = {}  # the cell may delete them
        for filename, (number, lines) in work["sources"].items():
            linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)
            if number is not None:
                shell.compile._filename_map[filename] = number

    def _merge(self, arrived: dict[str, Any], kept: Mapping[str, Any]) -> None:
        """In a worker that has run cells: take names that the notebook has changed, and keep other objects.

        The notebook knows of some names, those in `own`, that it has not changed them. Of others, which arrive once
        more, that shows by their digest.
        """
        names, mine = self.shell.user_ns, self.names_before
        if not kept["trusted"]:
            self._agreed, self._known = {}, {}
        agreed, since = self._agreed, self._changed_since()
        arrived |= {name: value for name, value in names.items() if mine.get(name, self) is not value}
        for name, value in arrived.items():
            digest = agreed.get(name)
            if digest is not None and name in mine and examine(value, self.is_main, COMPARED).digest == digest:
                names[name] = mine[name]
            else:
                names[name] = value
                agreed.pop(name, None)
                self._known[name] = id(value)
        stays = arrived.keys() | kept["own"] | kept["held"] | since
        for name in self._names_of_cells().keys() - stays:
            del names[name]

    def _changed_since(self) -> set[str]:
        """The names that threads of earlier cells have bound since the last cell."""
        if not self._known:
            return set()
        return {name for name, value in self._names_of_cells().items() if self._known.get(name) != id(value)}

    def _names_of_cells(self) -> dict[str, Any]:
        names = self.shell.user_ns
        return {
            name: value
            for name, value in names.items()
            if name not in self._own_names and not _NAMES_OF_IPYTHON.fullmatch(name)
        }

    def _names_now(self, work: Mapping[str, Any]) -> _NamesBefore:
        """The names before the cell, to be compared with those after it."""
        names, kept = self.shell.user_ns, work["kept"]
        if kept is None:
            held, since, gone, agreed = set(), set(), set(), {}
        else:
            held, since, gone, agreed = kept["held"], self._changed_since(), kept["own"] - names.keys(), self._agreed
        objects = {name: value for name, value in names.items() if name not in held and name not in since}
        digests = {
            name: agreed.get(name) or self._digest(name, work["changed"])
            for name, value in objects.items()
            if not _NAMES_OF_IPYTHON.fullmatch(name) and may_change(value)
        }
        return _NamesBefore(objects, digests, gone)

    def _bound(self, before: _NamesBefore, work: Mapping[str, Any]) -> dict[str, Any]:
        """The names that the cell has bound, or whose objects it has changed."""
        names = self.shell.user_ns
        bound = {
            name: value
            for name, value in names.items()
            if not before.has(name, value) and not _NAMES_OF_IPYTHON.fullmatch(name)
        }
        changed = {
            name: names[name]
            for name, digest in before.digests.items()
            if digest is not None and name in names and self._digest(name, work["changed"]) != digest
        }
        # All views of changed memory, which share it with each other in the notebook, too.
        owners = {id(owner_of(value)) for value in changed.values() if is_array(value)}
        views = {name: value for name, value in names.items() if owners and is_array(value)}
        return bound | changed | {name: value for name, value in views.items() if id(owner_of(value)) in owners}

    def _pack_answer(
        self, bound: dict[str, Any], before: _NamesBefore, settings: Mapping[str, Any], task: Task, *, kept: bool
    ) -> Answer:
        """The answer. If names cannot be sent, this worker is kept: note what the notebook has of the others."""
        there = {
            name: value
            for name, value in self._names_of_cells().items()
            if name not in bound and before.has(name, value)
            if before.digests.get(name) or isinstance(value, FunctionType)
        }
        if not kept:
            answer, parcel = self.pack_answer(bound, settings, task, there)
            if not any(name.isidentifier() for name in answer["stayed"]):
                return answer, parcel
        # Before they are packed: a thread may change them meanwhile, and then they are returned by the next cell.
        names = self._names_of_cells()
        self._known = {name: id(value) for name, value in names.items()}
        unchanged = {name: digest for name, digest in before.digests.items() if name not in bound}
        self._agreed = {
            name: unchanged.get(name) or examine(value, self.is_main, COMPARED).digest
            for name, value in names.items()
        }
        answer, parcel = self.pack_answer(bound, settings, task, there)
        answer["names"] = list(names)
        widget_transfer.note_returned()
        return answer, parcel

    def _context_of_callbacks(self) -> contextvars.Context:
        context = contextvars.copy_context()
        context.run(_depth.set, 2)
        return context

    def _digest(self, name: str, changed: set[str]) -> bytes | None:
        """A hash of the object of that name; None for big ones, unless the cell's source changes them."""
        return digest_of(self.shell.user_ns[name], self.is_main, None if name in changed else COMPARED)

    # -- how a cell ends --------------------------------------------------------------------------------------

    def _counted(self, run_cell_async: Callable[..., Any]) -> Callable[..., Any]:
        """Count nested cells, to tell the cell itself from those that it runs by `shell.run_cell`."""

        @functools.wraps(run_cell_async)
        async def counted(*args: Any, **kwargs: Any) -> Any:
            token = _depth.set(_depth.get() + 1)
            try:
                return await run_cell_async(*args, **kwargs)
            finally:
                _depth.reset(token)

        return counted

    def _noting(self, run_code: Callable[..., Any]) -> Callable[..., Any]:
        """Report an error that other code has shown; a cell can replace the function that shows errors."""

        @functools.wraps(run_code)
        async def noting(code: Any, result: Any = None, **kwargs: Any) -> Any:
            token = _result.set(result)
            try:
                return await run_code(code, result, **kwargs)
            finally:
                _result.reset(token)
                error = None if result is None else result.error_in_exec
                if error is not None and _depth.get() == 1 and not self._failure:
                    self._report_failure(error, [])

        return noting

    def _diverted(self, show: Callable[..., None]) -> Callable[..., None]:
        """Send the error that ends the cell to the notebook, which shows it, or tries the cell again.

        Other errors are shown by code of the cell itself, as an Output widget does.
        """

        @functools.wraps(show)
        def diverted(exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
            result = _result.get()
            continues = result is not None and result.error_in_exec is None
            if _depth.get() != 1 or continues or self.say is None:
                show(exc_tuple, *args, **kwargs)
                return
            error = (exc_tuple if isinstance(exc_tuple, tuple) else sys.exc_info())[1]
            self.explain(error)
            if isinstance(error, KeyboardInterrupt) and self._failure:
                return
            shown: list[list[Any]] = []

            def collect(kind: type[BaseException], value: BaseException, lines: list[str]) -> None:
                self.shell._last_traceback = lines
                shown.append(["error", {"ename": kind.__name__, "evalue": error_text(value), "traceback": lines}])

            stderr = io.StringIO()
            if isinstance(error, MemoryError) and self.memory is not None:
                stderr.write(f"nbtasks: this worker process was limited to {self.memory:,} bytes of memory\n")
                error.args = error.args or ("the limit of the worker process is reached",)
            collecting = PatchSet(
                [
                    Patch(self.shell, "_showtraceback", lambda _: collect),
                    Patch(self.shell, "_call_pdb", lambda _: False),  # of `%pdb on`: no user can reply to it
                ]
            )
            collecting.apply()
            try:
                with contextlib.redirect_stderr(stderr):
                    show(exc_tuple, *args, **kwargs)
            except BaseException as another:  # noqa: BLE001 - the user's code; the cell has failed by `error`
                shown[:] = shown or [_as_text(error)]
                stderr.write(f"nbtasks: {type(another).__name__} while this error was shown: {error_text(another)}\n")
            finally:
                collecting.revert()
            if stderr.getvalue():
                shown.append(["stream", {"name": "stderr", "text": stderr.getvalue()}])
            self._report_failure(error, shown)

        return diverted

    def _reporting(self, show: Callable[..., Any]) -> Callable[..., Any]:
        """Report an error that a handler set by `set_custom_exc` shows: it ends the cell too."""

        def reporting(kind: type[BaseException], error: BaseException, *args: Any, **kwargs: Any) -> Any:
            try:
                return show(kind, error, *args, **kwargs)
            finally:
                if _depth.get() == 1:
                    self._report_failure(error, [])

        reporting.__func__ = show.__func__  # type: ignore[attr-defined]
        return reporting

    def _report_failure(self, error: BaseException | None, shown: list[list[Any]]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        content, parcel = pack_error(error or RuntimeError("unknown error"), self.is_main)
        self._failure = {**content, "shown": shown}
        self.say("nbtasks_failed", self._failure, parcel)

    def shown(self, value: Any) -> None:
        """Keep the displayed value of an expression."""
        if _depth.get() == 1:
            self._value = value

    def _named(self, get_code_name: Callable[..., str]) -> Callable[..., str]:
        """Name the cell's file as in the notebook, so that its source lines are found there."""

        def named(raw_code: str, transformed_code: str, number: int) -> str:
            if raw_code.removesuffix("\n") == self._source.removesuffix("\n"):
                return self._filename
            return get_code_name(raw_code, transformed_code, number)

        return named


def _as_text(error: BaseException | None) -> list[Any]:
    """The message that shows an error as Python itself does."""
    lines = traceback.format_exception(error)
    text = "" if error is None else error_text(error)
    return ["error", {"ename": type(error).__name__, "evalue": text, "traceback": [line.rstrip() for line in lines]}]


async def _take_steps(others: set[asyncio.Task[Any]]) -> None:
    """Let the tasks of asyncio that the cell has left begin, and end if nothing keeps them waiting."""
    for _ in range(_STEPS):
        if asyncio.all_tasks() <= others:
            return
        await asyncio.sleep(0)


def may_change(value: Any) -> bool:
    """Whether the object may be changed in place, by its kind."""
    return not isinstance(value, NoneType | ModuleType | FunctionType | str | bytes | int | float | complex)


class _Recorder:
    """A display hook that keeps the last value, which is the result of the cell."""

    def __init__(self, hook: Any, worker: CellKernel) -> None:
        self._hook = hook
        self._worker = worker

    def __call__(self, value: Any = None) -> None:
        self._worker.shown(value)
        self._hook(value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hook, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (sys, "displayhook")


def main() -> None:
    """Start the kernel."""
    register_libraries()
    serve(CellKernel)
