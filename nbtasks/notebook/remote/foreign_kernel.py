"""A cell that runs in another installed kernel, of any environment or language.

A Python kernel gets the names that the cell reads, as far as it can unpickle them. The other side needs nothing but
what every kernel has.
"""

from __future__ import annotations

import ast
import base64
import importlib
import pickle
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle

from nbtasks.backends.base import Attempt
from nbtasks.backends.remote_work import RemoteWork
from nbtasks.exceptions import InvalidValueError, RemoteError
from nbtasks.notebook.cells.cell_task import CellTask
from nbtasks.notebook.cells.errors import set_remote_messages
from nbtasks.notebook.remote.cell_work import CellWork
from nbtasks.notebook.remote.names_read import names_read
from nbtasks.states import TaskState
from nbtasks.task import Outcome
from nbtasks.workers.messages import RESULT, Message
from nbtasks.workers.serialization import Buffers

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpec

__all__ = ["ForeignWork", "OtherKernel", "find_kernel"]

# Runs in the other kernel, which has neither nbtasks nor, perhaps, cloudpickle. What it leaves there begins with `_`.
_THERE = """
def _nbtasks_take(text, count):
    import base64, pickle, sys
    version, names = pickle.loads(base64.b64decode(text))
    refused = {}
    for name, (portable, data) in names.items():
        if not portable and version != sys.version_info[:2]:
            refused[name] = "it is made of the code of another version of Python"
            continue
        try:
            globals()[name] = pickle.loads(data)
        except BaseException as error:
            refused[name] = type(error).__name__ + ": " + str(error)
    get_ipython().execution_count = globals()["_nbtasks_count"] = count
    globals()["_nbtasks_before"] = {name: id(value) for name, value in globals().items()}
    return refused

def _nbtasks_give():
    import base64, pickle, types
    given, stayed, before = {}, {}, _nbtasks_before
    for name, value in list(globals().items()):
        if name.startswith("_") or before.get(name) == id(value) or name in ("In", "Out"):
            continue
        try:
            if isinstance(value, types.ModuleType):
                given[name] = value.__name__
            else:
                given[name] = pickle.dumps(value, 4)
        except BaseException as error:
            stayed[name] = [type(value).__name__, str(error)]
    if _nbtasks_count in Out:
        try:
            given[""] = pickle.dumps(Out[_nbtasks_count], 4)
        except BaseException as error:
            stayed[""] = [type(Out[_nbtasks_count]).__name__, str(error)]
    return base64.b64encode(pickle.dumps((given, stayed), 4)).decode()
"""


@dataclass(frozen=True)
class OtherKernel:
    """Another installed kernel, started for the cell (`--kernel`)."""

    spec: KernelSpec
    name: str

    @property
    def language(self) -> str:
        """The language of its cells, in lower case."""
        return str(self.spec.language).lower()

    def work(self, task: CellTask, attempt: Attempt) -> RemoteWork:
        """What the kernel does for this attempt."""
        return ForeignWork(task, attempt, self)


def find_kernel(name: str) -> OtherKernel:
    """The installed kernel of that name. Raises InvalidValueError."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    manager = KernelSpecManager()
    try:
        spec = manager.get_kernel_spec(name)
    except NoSuchKernel:
        there = ", ".join(sorted(manager.find_kernel_specs())) or "none"
        raise InvalidValueError(f"there is no kernel {name!r}; there are {there}") from None
    return OtherKernel(spec, name)


class ForeignWork(CellWork):
    """One attempt of a cell in another installed kernel."""

    begins_when_busy = True

    def __init__(self, task: CellTask, attempt: Attempt, kernel: OtherKernel) -> None:
        super().__init__(task, attempt)
        self._kernel = kernel
        self._names_sent = False

    @property
    def kernel(self) -> KernelSpec:
        """That kernel."""
        return self._kernel.spec

    def place(self) -> None:
        """It runs in no worker of ours."""

    def request(self) -> tuple[str, dict[str, Any], Buffers]:
        """Send the names first to a Python kernel; send the cell to others."""
        self._names = self._task.enter()
        if self._kernel.language != "python":
            self._names_sent = True
            return self._cell({})
        code = (
            f"{_THERE}\n_nbtasks_refused = _nbtasks_take({self._packed_names()!r}, {self._task.cell.execution_count})"
        )
        return _execute(code, silent=True, expressions={"refused": "_nbtasks_refused"})

    def following(self, message: Message) -> tuple[str, dict[str, Any], Buffers] | None:
        """Send the cell after the names."""
        if self._names_sent:
            return None
        self._names_sent = True
        refused = _literal(message.content, "refused")
        for name, why in (refused or {}).items():
            self._say(f"{name} could not be taken to the kernel {self._kernel.name}: {why}")
        return self._cell({"given": "_nbtasks_give()"})

    def _cell(self, expressions: dict[str, str]) -> tuple[str, dict[str, Any], Buffers]:
        return _execute(self._task.source, silent=False, expressions=expressions)

    def _packed_names(self) -> str:
        names = self._names
        reads = names_read(self._task.code.tree, self._task.notebook.shell.transform_cell)
        wanted: Iterable[str] = {*reads.sure, *reads.maybe} & names.keys() - {"get_ipython", "exit", "quit", "open"}
        packed = {}
        for name in wanted:
            try:
                packed[name] = _portable(names[name])
            except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
                self._say(f"{name} cannot be sent to the kernel {self._kernel.name}: {error}")
        return base64.b64encode(pickle.dumps((sys.version_info[:2], packed), 4)).decode()

    def _say(self, text: str) -> None:
        self._task.output.write("stderr", f"nbtasks: {text}\n")

    def answered(self, message: Message) -> Outcome:
        """Take the names that a Python kernel has bound, and its result; or the error."""
        content = message.content
        if self._attempt.interrupted and content["status"] != "ok":
            return Outcome(TaskState.CANCELLED)
        if content["status"] != "ok":
            reason = content.get("ename", content["status"]), content.get("evalue", "")
            error = RemoteError(": ".join(part for part in reason if part))
            set_remote_messages(error, [])  # the kernel has shown it
            return Outcome(TaskState.FAILED, None, error)
        given = _literal(content, "given")
        found = {} if given is None else self._taken(*pickle.loads(base64.b64decode(given)))
        result = found.pop(RESULT, None)
        self._names.update(found)
        return Outcome(TaskState.COMPLETED, result)

    def _taken(self, given: dict[str, bytes | str], stayed: dict[str, list[str]]) -> dict[str, Any]:
        found = {}
        for name, data in given.items():
            try:
                found[name] = importlib.import_module(data) if isinstance(data, str) else pickle.loads(data)
            except Exception as error:  # noqa: BLE001 - what is not installed here, for one
                stayed[name] = ["of that environment", str(error)]
        self._say_stayed(stayed)
        return found


def _execute(code: str, *, silent: bool, expressions: dict[str, str]) -> tuple[str, dict[str, Any], Buffers]:
    content = {
        "code": code,
        "silent": silent,
        "store_history": not silent,
        "user_expressions": expressions,
        "allow_stdin": False,
        "stop_on_error": True,
    }
    return "execute_request", content, []


def _literal(content: dict[str, Any], name: str) -> Any:
    """The value of a user expression; None where there is none."""
    answer = content.get("user_expressions", {}).get(name, {})
    return ast.literal_eval(answer["data"]["text/plain"]) if answer.get("status") == "ok" else None


def _portable(value: Any) -> tuple[bool, bytes]:
    """The value pickled, and whether any version of Python can read that."""
    try:
        data = pickle.dumps(value, 4)
        if b"__main__" not in data:
            return True, data
    except Exception:  # noqa: BLE001 - pickling runs the object's own code; cloudpickle may do it
        return False, cloudpickle.dumps(value, 4)
    return False, cloudpickle.dumps(value, 4)
