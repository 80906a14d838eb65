"""A cell that runs in a worker process: its request, and its messages and answer."""

from __future__ import annotations

import linecache
import logging
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpec

from nbtasks import thread_state
from nbtasks.backends.base import Attempt
from nbtasks.backends.remote_work import RemoteWork, Tell, error_from, outcome, request, take_progress
from nbtasks.exceptions import NotSendableError
from nbtasks.formatting import listed
from nbtasks.notebook.cells.cell_task import CellTask
from nbtasks.notebook.cells.errors import set_remote_messages
from nbtasks.notebook.cells.held_names import Held, Value
from nbtasks.notebook.kernel import Kernel, LaunchingCell
from nbtasks.notebook.output.output import Output
from nbtasks.notebook.remote import worker_kernel
from nbtasks.notebook.remote.cell_holder import CellHolder, Known
from nbtasks.notebook.remote.names_read import Reads, names_read
from nbtasks.notebook.remote.plots import put_figures, take_figures
from nbtasks.notebook.remote.remote_widgets import RemoteWidgets
from nbtasks.notebook.remote.shell_state import put_state, take_state
from nbtasks.states import TaskState
from nbtasks.task import Outcome
from nbtasks.workers.array_views import is_array, owner_of
from nbtasks.workers.import_hooks import hooked_modules
from nbtasks.workers.kept_worker import KeptWorker
from nbtasks.workers.kernel_process import python_kernel
from nbtasks.workers.messages import COMM_MESSAGES, FIGURES, RESULT, SETTINGS, STATE, THREAD_STATE, WIDGET, Message
from nbtasks.workers.serialization import (
    Buffers,
    NotPackedError,
    Shared,
    attribute_of_module,
    examine,
    kind_of,
    missing_names,
    pack,
)

if TYPE_CHECKING:
    from nbtasks.workers.kernel_process import Worker

__all__ = ["CellWork", "WorkerProcess"]

logger = logging.getLogger("nbtasks")

_LISTED = 5
"""How many modules a message names."""
_NAMES_OF_WORKER = frozenset({"get_ipython", "exit", "quit", "open", "_ih", "_oh", "_dh", "__builtins__", "__name__"})


@dataclass(frozen=True)
class WorkerProcess:
    """A worker process of its own for a cell (`--backend process` and `dask`)."""

    memory: int | None = None
    """Bytes that it may use (`--memory`)."""

    def work(self, task: CellTask, attempt: Attempt) -> RemoteWork:
        """What the worker does for this attempt."""
        return CellWork(task, attempt, self.memory)


class CellWork(RemoteWork):
    """One attempt of a cell in a worker of its own."""

    fresh = True

    def __init__(self, task: CellTask, attempt: Attempt, memory: int | None = None) -> None:
        self._task = task
        self._attempt = attempt
        self._failure: BaseException | None = None
        self._names: dict[str, Any] = {}
        self._libraries: thread_state.State = {}
        self._widgets = RemoteWidgets(task.notebook.kernel, task.cell, task.output)
        self._holder: CellHolder | None = None
        self._not_sendable: NotSendableError | None = None
        self._values: dict[str, Known] = {}
        self._known: Collection[str] = ()
        self._returned: Collection[str] = ()
        self._to_hold: dict[str, tuple[str, str, Value | None]] | None = None
        """The names whose objects stay in the worker, with the fields of `Held`; None if names are not committed."""
        self.memory = memory

    @property
    def kernel(self) -> KernelSpec | None:
        """A worker that runs cells."""
        return python_kernel(worker_kernel.__name__)

    @cached_property
    def _reads(self) -> Reads:
        return names_read(self._task.code.tree, self._task.notebook.shell.transform_cell)

    # -- the worker that has the objects of names -------------------------------------------------------------

    def place(self) -> KeptWorker | None:
        """The worker that holds names which the cell reads; if there are two, `request` raises that."""
        self._holder = None
        try:
            self._holder = self._found_holder() if self._task.backend == "process" else None
        except NotSendableError as error:
            self._not_sendable = error
        return self._holder

    def _found_holder(self) -> Any:
        names = self._task.notebook.names
        if not names.held:
            return None
        live, reads = names.upcoming(), self._reads
        held = names.held.within(live)
        direct = [name for name in reads.sure if name in held and name not in reads.branches]
        holders = {held[name].holder: name for name in reversed(direct)}
        if len(holders) > 1:
            one, other, *_ = sorted(holders.values())
            raise NotSendableError(
                f"{one} and {other} live in two worker processes, those of the cells {held[one].cell!r} and "
                f"{held[other].cell!r}, and no cell has both: make them in one cell, or have the cell that makes "
                f"{other} read {one}, so that it runs in the same process"
            )
        if holders:
            return next(iter(holders))
        perhaps = held.keys() if reads.everything else held.keys() & {*reads.maybe, *reads.branches}
        perhaps |= held.keys() & missing_names([*reads.sure, *reads.maybe], live, self._is_main)
        return max((held[name].holder for name in perhaps), key=lambda holder: holder.used_at, default=None)

    def keep(self, worker: Worker, request: str) -> KeptWorker | None:
        """Keep the worker if there are objects in it that cannot be sent, or were there before."""
        holder, task = self._holder, self._task
        if holder is None:
            if not self._to_hold:
                return None
            holder = CellHolder(worker, task.name, task.notebook.names.held)
        holder.output = None
        holder.add_cell(request, partial(_show_late, task.output, task.notebook.kernel, task.cell))
        if self._to_hold is None:
            holder.trusted = False
            return holder
        values = self._values | {name: self._examined(name)[0] for name in self._returned if name in self._names}
        holder.values = {name: values[name] for name in self._known if name in values}
        holder.known, holder.trusted = self._known, True
        task.notebook.names.held.hold(holder, {n: Held(holder, *rest) for n, rest in self._to_hold.items()})
        return holder

    def _examined(self, name: str) -> tuple[Known, set[str]]:
        value = self._names[name]
        found = examine(value, self._is_main)
        return Known(found.digest, found.size, Value(value)), found.reads

    def _own(self, holder: CellHolder, wanted: Iterable[str]) -> set[str]:
        """The names that the worker has as the notebook has them; sets `_values` of all that it is to have."""
        names, known = self._names, holder.values if holder.trusted else {}
        unread = {n for n in holder.known if n in known and n in names and known[n].is_big_and_bound(names[n])}
        todo = {*wanted, *(name for name in holder.known if name not in unread)} & names.keys() - _NAMES_OF_WORKER
        self._values = {}
        while todo:
            name = todo.pop()
            self._values[name], read = self._examined(name)
            todo |= read & names.keys() - self._values.keys() - _NAMES_OF_WORKER
        own = {name for name, one in self._values.items() if one.digest and name in known and known[name][0] == one[0]}
        unread -= self._values.keys()
        self._values |= {name: known[name] for name in unread}
        return own | unread

    # -- the request ------------------------------------------------------------------------------------------

    def request(self) -> tuple[str, dict[str, Any], Buffers]:
        """The cell and the names that it reads. Raises NotSendableError with those that cannot be sent."""
        task = self._task
        self._names = task.enter()
        if self._not_sendable is not None:
            raise self._not_sendable
        code, shell = task.code, task.notebook.shell
        self._libraries = task.notebook.libraries.snapshot() | thread_state.capture(per_thread=False)
        work = {
            "source": code.source,
            "filename": code.filename,
            "awaits": code.awaits,
            "count": task.cell.execution_count,
            "state": take_state(shell),
            "figures": take_figures(),
            "sources": _sources(shell),
            "hooked": hooked_modules(),
            "libraries": thread_state.pack(self._libraries),
        }
        if self._holder is not None:
            self._holder.output = task.output
        kind, content, buffers = request("cell", task, self._packed(work), memory=self.memory)
        return kind, {**content, "worker_module": worker_kernel.__name__}, buffers

    def _packed(self, work: dict[str, Any]) -> Buffers:
        names, reads, holder = self._names, self._reads, self._holder
        work["changed"] = reads.changed
        held = frozenset() if holder is None else frozenset(holder.names)
        explained = self._task.notebook.names.held.explained
        work["stayed"] = {n: why for n, why in explained.items() if n not in names and n not in held}
        work["modules"] = [name for name in reads.modules if name in sys.modules]
        sure = {name: names[name] for name in reads.sure if name in names and name not in _NAMES_OF_WORKER}
        others: Iterable[str] = names.keys() if reads.everything else reads.maybe
        maybe = {n: names[n] for n in list(others) if n in names and n not in _NAMES_OF_WORKER and n not in sure}
        if reads.everything:
            maybe = {name: value for name, value in maybe.items() if not name.startswith("_")}
        if reads.starts_pool:  # its processes are copies of the worker as it is now
            maybe |= {name: value for name, value in names.items() if name not in sure and _is_code(value)}
        maybe |= self._sharing({**sure, **maybe})
        own: set[str] = set()
        if holder is not None:
            own = self._own(holder, [*sure, *maybe])
            maybe |= {name: names[name] for name in self._values if name not in sure}
            sure, maybe = ({n: v for n, v in some.items() if n not in own} for some in (sure, maybe))
        work["kept"] = None if holder is None else {"own": own, "held": set(held), "trusted": holder.trusted}
        work["optional"] = [*maybe, *reads.branches]
        try:
            return self._pack(work, {**sure, **maybe})
        except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
            logger.debug("not all could be sent: %s", error)
        refused = self._refused(sure)
        by_module = {name: attribute_of_module(name, sure[name]) for name in refused}
        sure |= {name: attribute for name, attribute in by_module.items() if attribute is not None}
        reasons = [
            _reason(name, sure[name], reads.sure[name], why) for name, why in refused.items() if by_module[name] is None
        ]
        if reasons:
            raise NotSendableError(f"not sent to a worker process: {'; '.join(reasons)}") from None
        for name in self._refused(maybe):  # the cell may not need them
            attribute = attribute_of_module(name, maybe.pop(name))
            if attribute is not None:
                maybe[name] = attribute
            else:
                self._values.pop(name, None)
        try:
            return self._pack(work, {**sure, **maybe})
        except Exception:  # noqa: BLE001 - the shell's state cannot be sent: the cell runs without it
            return self._pack({**work, "state": {}, "figures": []}, {**sure, **maybe})

    def _pack(self, work: dict[str, Any], names: Mapping[str, Any]) -> Buffers:
        own = frozenset() if work["kept"] is None else work["kept"]["own"]
        sent = frozenset(names) | _NAMES_OF_WORKER | own
        shared = Shared.among(names.values(), {})
        return pack({**work, "names": names}, self._is_main, self._task, reach=self._names, sent=sent, shared=shared)

    def _sharing(self, sent: Mapping[str, Any]) -> dict[str, Any]:
        """The other names of objects that are sent, and those of arrays in whose memory the cell may write."""
        objects = {id(value) for value in sent.values() if worker_kernel.may_change(value)}
        owners = {id(owner_of(value)): name in self._reads.changed for name, value in sent.items() if is_array(value)}
        found = {}
        for name, value in list(self._names.items()):
            if name in sent or name in _NAMES_OF_WORKER or name.startswith("_"):
                continue
            if id(value) in objects or (
                owners
                and is_array(value)
                and (is_changed := owners.get(id(owner_of(value)))) is not None
                and (is_changed or value.nbytes <= worker_kernel.COMPARED)
            ):
                found[name] = value
        return found

    def _refused(self, names: Mapping[str, Any]) -> dict[str, BaseException]:
        refused: dict[str, BaseException] = {}
        for name, value in names.items():
            try:
                pack(value, self._is_main, self._task, reach=self._names, sent=_NAMES_OF_WORKER | names.keys())
            except Exception as error:  # noqa: BLE001 - as above
                refused[name] = error
        return refused

    def _is_main(self, names: Any) -> bool:
        return self._task.notebook.names.is_globals(names)

    def begun(self, tell: Tell) -> None:
        """Messages to widgets reach the cell from now on."""
        self._widgets.begun(tell)

    def ended(self) -> None:
        """They reach it no more."""
        self._widgets.ended()

    def receive(self, message: Message) -> None:
        """Progress goes to the task, output to its cell."""
        if self._widgets.take(message) or _show(self._task.output, message):
            return
        if message.kind == "nbtasks_failed":
            self._failed(message.content, message.buffers)
        else:
            take_progress(self._attempt, message)

    def _failed(self, content: dict[str, Any], buffers: Buffers) -> None:
        """The cell has raised: show the error before the plots, as the foreground does."""
        if self._attempt.interrupted:
            return
        error = error_from(content, buffers, self._names)
        self._failure = error
        set_remote_messages(error, content["shown"])
        self._task.show_failure(error)

    def restarted(self, why: str) -> None:
        """Say it in the cell."""
        self._failure = None
        self._task.output.write("stderr", f"nbtasks: {why}\n")

    def answered(self, message: Message) -> Outcome:
        """Put the names that the cell bound into its namespace, to be committed; its value is the result."""
        content = message.content
        ended, found = outcome(self._attempt, message, self._names)
        for payload in content.get("payload", ()):
            if payload.get("source") == "page":
                self._task.output.page(payload["data"])
        for name in content.get("deleted", ()):
            self._names.pop(name, None)
        changed, state = found.pop(SETTINGS, {}), found.pop(STATE, {})
        libraries = thread_state.unpack_changes(found.pop(THREAD_STATE, {}), self._libraries)
        put_figures(found.pop(FIGURES, []))
        bound = {name: value for name, value in found.items() if not name.startswith(WIDGET)}
        self._names.update(bound)
        answer_arrived = ended.state is TaskState.COMPLETED  # the cell itself may have failed
        if self._attempt.interrupted and (self._failure is not None or content["status"] == "failed"):
            ended = Outcome(TaskState.CANCELLED)
        elif self._failure is not None:
            ended = Outcome(TaskState.FAILED, None, self._failure)
        if answer_arrived:
            self._task.bring_back(changed, partial(put_state, self._task.notebook.shell, state), libraries)
            self._returned, self._known = bound.keys(), content.get("names", ())
            self._hold_stayed(content, ended)
            self._say_unhooked(content["unhooked"])
        return ended

    def _hold_stayed(self, content: Mapping[str, Any], ended: Outcome) -> None:
        """Have the worker hold the names whose objects stay there, if the cell's names are committed."""
        stayed, task = content["stayed"], self._task
        if task.backend == "process" and task.keeps_names(ended):
            self._to_hold = {
                name: (kind, task.name, Value(self._names.pop(name)) if name in self._names else None)
                for name, (kind, _) in stayed.items()
                if name.isidentifier() and name not in content["in_both"]
            }
            task.names_in_process = tuple(sorted(self._to_hold))
            left = self._to_hold.keys() | ({RESULT} if self._to_hold else set())
            stayed = {name: why for name, why in stayed.items() if name not in left}
        self._say_stayed(stayed)

    def _say_stayed(self, stayed: Mapping[str, list[str]]) -> None:
        for name, (kind, why) in stayed.items():
            if name.isidentifier():
                self._task.notebook.names.note_stayed(name, kind, why)
            other = f"a widget ({kind})" if name.startswith(WIDGET) else f"{name} ({kind})"
            what = {
                RESULT: f"the result ({kind})",
                STATE: "what it set in the shell",
                FIGURES: "a figure that it left open",
            }.get(name, other)
            self._task.output.write("stderr", f"nbtasks: {what} stayed behind in the worker process: {why}\n")

    def _say_unhooked(self, modules: Mapping[str, list[str]]) -> None:
        for library, names in modules.items():
            left = listed(names, _LISTED)
            self._task.output.write(
                "stderr", f"nbtasks: imported without the import hook of {library} in the worker process: {left}\n"
            )


def _show(output: Output, message: Message) -> bool:
    """Show a message of the worker in the cell, if it is one of those that any kernel sends."""
    content = message.content
    if message.kind == "stream":
        output.write(content["name"], content["text"])
    elif message.kind in ("display_data", "update_display_data"):
        update = message.kind == "update_display_data"
        output.display(content["data"], content["metadata"], content.get("transient", {}), update=update)
    elif message.kind == "execute_result":
        output.result(content["data"], content["metadata"], content["execution_count"])
    elif message.kind == "clear_output":
        output.clear(wait=content["wait"])
    elif message.kind == "error":
        output.error(content["ename"], content["evalue"], content["traceback"])
    else:
        return False
    return True


def _show_late(output: Output, kernel: Kernel, cell: LaunchingCell, message: Message) -> None:
    """Show what threads of a cell write, display, or send to widgets after its end."""
    if not _show(output, message) and message.kind in COMM_MESSAGES:
        kernel.forward(cell.parent, message.kind, message.content, message.buffers, message.metadata)


def _is_code(value: Any) -> bool:
    """Whether it is a function or class that the notebook's code has defined."""
    return isinstance(value, FunctionType | type) and value.__module__ == "__main__"


def _sources(shell: Any) -> dict[str, tuple[int | None, list[str]]]:
    """The source lines of earlier cells, by file name, for tracebacks of their functions."""
    numbers = getattr(shell.compile, "_filename_map", {})
    return {
        filename: (number, linecache.cache[filename][2])  # type: ignore[misc]
        for filename, number in list(numbers.items())
        if len(linecache.cache.get(filename, ())) == 4
    }


def _reason(name: str, value: Any, line: int, why: BaseException) -> str:
    if isinstance(why, NotPackedError):
        return f"{why.name} ({kind_of(why.value)}), which {why.user.__qualname__}() reads, used in line {line}: {why}"
    return f"{name} ({kind_of(value)}), used in line {line}: {why}"
