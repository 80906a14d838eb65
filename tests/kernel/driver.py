"""`KernelDriver`: a front end for a real ipykernel that works as JupyterLab does."""

from __future__ import annotations

import ast
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from tests.kernel.cell import OUTPUT_TYPES, Output, OutputArea, stream_text, texts
from tests.kernel.connection import TIME_LIMIT, Arrival, Connection, Content

HIDDEN_IDS = ("nbtasks-alive", "nbtasks-lab")
"""Display ids of updates that no output has: the kernel says with them that tasks live, and what their state is."""
QUIET_SECONDS = 3
"""How long no message comes from a kernel that has ended, before none is expected, also on a busy machine."""
STARTS = 3
"""How many times a kernel is started at most, if another process has taken one of its ports."""


class KernelEndedError(AssertionError):
    """The kernel process ended during a wait."""


class TimeLimitError(AssertionError):
    """A wait took too long."""


class Cell:
    """One run of a cell. It also takes output that arrives after the run is finished."""

    def __init__(self, kernel: KernelDriver, code: str, msg_id: str, cell_id: str) -> None:
        self.kernel = kernel
        self.code = code
        self.msg_id = msg_id
        self.cell_id = cell_id
        self.area = OutputArea()
        self.reply: Content | None = None
        self.idle = False
        # Whether the same cell has been run again: JupyterLab then drops output of the earlier run.
        self.replaced = False

    def __repr__(self) -> str:
        status = self.reply["status"] if self.reply else "running"
        return f"<Cell {self.code.strip().splitlines()[:1]} {status}\n{self.text}>"

    @property
    def done(self) -> bool:
        """Whether the reply and the idle status have arrived."""
        return self.idle and self.reply is not None

    @property
    def ok(self) -> bool:
        return self.reply is not None and self.reply["status"] == "ok"

    @property
    def outputs(self) -> list[Output]:
        """The outputs so far, as in a notebook file."""
        with self.kernel.changed:
            return self.area.as_notebook()

    @property
    def text(self) -> str:
        """All outputs as plain text: streams, `text/plain` of results and displays, tracebacks."""
        return "".join(texts(self.outputs))

    @property
    def stdout(self) -> str:
        return stream_text(self.outputs, "stdout")

    @property
    def stderr(self) -> str:
        return stream_text(self.outputs, "stderr")

    @property
    def errors(self) -> list[str]:
        """Each error output as `Name: message`."""
        return [f"{o['ename']}: {o['evalue']}" for o in self.outputs if o["output_type"] == "error"]

    def wait(self, timeout: float = TIME_LIMIT) -> Cell:
        """Wait until the run is finished."""
        self.kernel.wait_until(lambda: self.done, timeout, what=f"the cell being finished: {self!r}")
        return self

    def check(self) -> Cell:
        """Wait, and raise AssertionError with the traceback if the cell failed."""
        self.wait()
        if not self.ok:
            raise AssertionError(f"the cell failed:\n{self.code}\n{self.text}\n{self.reply}")
        return self

    def wait_output(self, wanted: str | Callable[[Cell], Any], timeout: float = TIME_LIMIT) -> Cell:
        """Wait until the text of the cell contains a string, or a predicate is true of the cell."""
        if isinstance(wanted, str):
            self.kernel.wait_until(lambda: wanted in self.text, timeout, what=lambda: f"{wanted!r} in {self!r}")
        else:
            self.kernel.wait_until(lambda: wanted(self), timeout, what=lambda: f"an output of {self!r}")
        return self


class KernelDriver:
    """A real kernel with a front end; as a context manager, it starts and ends it.

    A `stock` kernel is started by its command line, others are forked (tests/kernel/forking.py).

    The condition `changed` guards all state and is notified of every message. Requests of the driver itself (`value`,
    `complete`) belong to no cell: their output is `stray`, as in a front end.
    """

    def __init__(self, env: Mapping[str, str], cwd: Path, *, stock: bool = False) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.messages: list[Arrival] = []
        self.stray: list[Arrival] = []
        self.dropped: list[Arrival] = []
        self.input_requests: list[Arrival] = []
        self.cells: dict[str, Cell] = {}
        self.models: dict[str, Content] = {}
        self.targets: dict[str, str] = {}
        self._current: dict[str, Cell] = {}
        self._shown_in: dict[str, list[str]] = {}
        self._replies: dict[str, Arrival] = {}
        self._subshells: dict[str, str] = {}
        self.cwd = cwd
        self._env = env
        self._stock = stock
        self._connection = self._connect()
        self.info: Content = {}

    # ------------------------------------------------------------------------------------ life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()

    def start(self) -> None:
        """Start the kernel and wait until it answers on every channel.

        If another process takes one of its ports before the kernel opens it, the kernel exits, and a new one is
        started.
        """
        for starts_left in reversed(range(STARTS)):
            try:
                self._begin()
                return
            except KernelEndedError:
                self._connection.close(now=True)
                if not starts_left:
                    raise
                self._connection = self._connect()

    def _connect(self) -> Connection:
        return Connection(self._env, self.cwd, self._arrived, stock=self._stock)

    def _begin(self) -> None:
        self._connection.open()
        deadline = time.monotonic() + TIME_LIMIT
        # Messages on iopub are lost until the subscription has arrived: request again.
        while not self._greet():
            if time.monotonic() > deadline:
                raise TimeLimitError(f"the kernel was not ready after {TIME_LIMIT} s")
        if not self._connection.wait_connected():
            raise TimeLimitError(f"the kernel's stdin was not connected after {TIME_LIMIT} s")

    def _greet(self) -> bool:
        msg_id = self._connection.send("shell", "kernel_info_request", {})
        try:
            self.info = self._reply_to(msg_id, timeout=TIME_LIMIT if not self.messages else 2)
            self.wait_until(lambda: self.went_idle(msg_id), 1, what="iopub")
        except TimeLimitError:
            return False
        return True

    def went_idle(self, msg_id: str) -> bool:
        """Whether the kernel has published that it has handled this message."""
        return any(
            a.type == "status" and a.parent_id == msg_id and a.content["execution_state"] == "idle"
            for a in self.messages
        )

    def shutdown(self) -> None:
        """Shut the kernel down; kill it after five seconds."""
        self._connection.close()

    def kill(self) -> None:
        """Send SIGKILL, as the out-of-memory killer does."""
        self._connection.close(now=True)

    @property
    def alive(self) -> bool:
        return self._connection.alive

    @property
    def pid(self) -> int:
        return self._connection.pid

    def interrupt(self) -> None:
        """Interrupt the kernel with SIGINT, as the menu does."""
        self._connection.interrupt()

    # ----------------------------------------------------------------------------------- cells

    def start_cell(
        self, code: str, *, cell_id: str | None = None, store_history: bool = True, silent: bool = False
    ) -> Cell:
        """Run a cell without waiting; with the id of an earlier cell, as a re-run of that cell."""
        cell_id = cell_id or str(uuid.uuid4())
        content = {
            "code": code,
            "silent": silent,
            "store_history": store_history,
            "user_expressions": {},
            "allow_stdin": True,
            "stop_on_error": True,
        }
        metadata = {"deletedCells": [], "recordTiming": False, "cellId": cell_id, "trusted": True}
        message = self._connection.message("execute_request", content, metadata)
        cell = Cell(self, code, message["header"]["msg_id"], cell_id)
        with self.changed:
            if cell_id in self._current:
                self._current[cell_id].replaced = True
            self._current[cell_id] = self.cells[cell.msg_id] = cell
        self._connection.post("shell", message)
        return cell

    def run(self, code: str, *, cell_id: str | None = None, timeout: float = TIME_LIMIT) -> Cell:
        """Run a cell and wait until it is finished; it may have failed: see `Cell.ok` and `Cell.check`."""
        return self.start_cell(code, cell_id=cell_id).wait(timeout)

    def rerun(self, cell: Cell, code: str | None = None) -> Cell:
        """Run a cell again, with new code if given, and wait."""
        return self.run(cell.code if code is None else code, cell_id=cell.cell_id)

    def answer_input(self, text: str) -> None:
        """Answer the `input()` of a foreground cell."""
        self._connection.send("stdin", "input_reply", {"value": text})

    # -------------------------------------------------------------------------------- requests

    def request(self, msg_type: str, content: Content, channel: str = "shell", subshell: str | None = None) -> Content:
        """Send a request; returns the content of the reply."""
        return self._reply_to(self._connection.send(channel, msg_type, content, subshell))

    def value(self, expression: str) -> Any:
        """Evaluate an expression in the notebook without running a cell; returns a literal, or the repr."""
        content = {
            "code": "",
            "silent": True,
            "store_history": False,
            "user_expressions": {"it": f"repr({expression})"},
        }
        answer = self.request("execute_request", content)["user_expressions"]["it"]
        if answer["status"] != "ok":
            raise AssertionError(f"{expression}: {answer['ename']}: {answer['evalue']}")
        text = ast.literal_eval(answer["data"]["text/plain"])
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            return text

    def complete(self, code: str, cursor_pos: int | None = None) -> list[str]:
        """The completions at a position, by default at the end."""
        position = len(code) if cursor_pos is None else cursor_pos
        reply = self.request("complete_request", {"code": code, "cursor_pos": position})
        return list(reply["matches"])

    # ----------------------------------------------------------------------------------- comms

    @property
    def supports_subshells(self) -> bool:
        return "kernel subshells" in self.info.get("supported_features", [])

    @property
    def comm_messages(self) -> list[Arrival]:
        """Messages about comms: opened, message, closed."""
        with self.changed:
            return [arrival for arrival in self.messages if arrival.type.startswith("comm_")]

    def create_subshell(self) -> str:
        """Create a subshell (ipykernel 7); returns its id."""
        reply = self.request("create_subshell_request", {}, channel="control")
        if reply["status"] != "ok":
            raise AssertionError(f"no subshell: {reply}")
        return str(reply["subshell_id"])

    def comm_subshell(self, comm_id: str) -> str | None:
        """The subshell that JupyterLab uses for the comm, one for each target; None without subshells."""
        if not self.supports_subshells:
            return None
        target = self.targets.get(comm_id, "")
        if target not in self._subshells:
            self._subshells[target] = self.create_subshell()
        return self._subshells[target]

    def comm_send(self, comm_id: str, data: Content, subshell_id: str | None = None) -> str:
        """Send a comm message from the front end, without waiting; returns its id."""
        return self._connection.send("shell", "comm_msg", {"comm_id": comm_id, "data": data}, subshell_id)

    def set_state(self, comm_id: str, **state: Any) -> str:
        """Change the state of a widget from the front end, as JupyterLab does."""
        data = {"method": "update", "state": state, "buffer_paths": []}
        return self.comm_send(comm_id, data, self.comm_subshell(comm_id))

    def click(self, comm_id: str) -> str:
        """Click a button widget, as JupyterLab does."""
        data = {"method": "custom", "content": {"event": "click"}}
        return self.comm_send(comm_id, data, self.comm_subshell(comm_id))

    def find_models(self, model_name: str, **state: Any) -> list[str]:
        """The ids of the open widget models with this name and these values, oldest first."""
        with self.changed:
            return [
                comm_id
                for comm_id, model in self.models.items()
                if model.get("_model_name") == model_name and state.items() <= model.items()
            ]

    # --------------------------------------------------------------------------------- waiting

    def wait_until(
        self,
        predicate: Callable[[], Any],
        timeout: float = TIME_LIMIT,
        what: str | Callable[[], str] = "the condition",
    ) -> Any:
        """Wait for messages until the predicate is true; returns its value. Fails after `timeout` seconds.

        When the kernel has ended, what it has sent may still be on its way.
        """
        deadline, quiet = time.monotonic() + timeout, 0
        with self.changed:
            while not (value := predicate()):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeLimitError(f"{timeout} s passed without {_description(what)}")
                quiet = 0 if self.changed.wait(min(left, 1.0)) or self.alive else quiet + 1
                if quiet == QUIET_SECONDS:
                    raise KernelEndedError(f"the kernel ended without {_description(what)}")
        return value

    def _reply_to(self, msg_id: str, timeout: float = TIME_LIMIT) -> Content:
        self.wait_until(lambda: msg_id in self._replies, timeout, what="a reply")
        return self._replies[msg_id].content

    # ---------------------------------------------------------------------------------- filing

    def _arrived(self, arrival: Arrival) -> None:
        with self.changed:
            self._file(arrival)
            self.changed.notify_all()

    def _file(self, arrival: Arrival) -> None:
        self.messages.append(arrival)
        cell = self.cells.get(arrival.parent_id or "")
        if arrival.channel in ("shell", "control"):
            self._replies[arrival.parent_id or ""] = arrival
            if cell is not None:
                cell.reply = arrival.content
        elif arrival.channel == "stdin":
            self.input_requests.append(arrival)
        elif arrival.channel == "iopub":
            if arrival.type in OUTPUT_TYPES:
                self._file_output(arrival, cell)
            elif arrival.type.startswith("comm_"):
                self._file_comm(arrival)
            elif arrival.type == "status" and cell is not None:
                cell.idle = arrival.content["execution_state"] == "idle"

    def _file_output(self, arrival: Arrival, cell: Cell | None) -> None:
        display_id = arrival.content.get("transient", {}).get("display_id")
        # An update goes to every cell that shows the id, and so does a new display under a known one.
        for msg_id in self._shown_in.get(display_id, []) if display_id else []:
            if not self.cells[msg_id].replaced:
                self.cells[msg_id].area.update(display_id, arrival.content)
        if cell is None:
            if not (arrival.type == "update_display_data" and display_id in {*HIDDEN_IDS, *self._shown_in}):
                self.stray.append(arrival)
        elif cell.replaced:
            self.dropped.append(arrival)
        elif arrival.type != "update_display_data":
            cell.area.add(arrival.type, arrival.content)
            if display_id and cell.msg_id not in self._shown_in.setdefault(display_id, []):
                self._shown_in[display_id].append(cell.msg_id)

    def _file_comm(self, arrival: Arrival) -> None:
        comm_id = arrival.content["comm_id"]
        if arrival.type == "comm_close":
            self.models.pop(comm_id, None)
            return
        if arrival.type == "comm_open":
            self.targets[comm_id] = arrival.content["target_name"]
            self.models[comm_id] = {}
        elif comm_id in self.targets and comm_id not in self.models:
            return  # the comm was closed
        data = arrival.content["data"]
        if isinstance(data, dict):  # bokeh's is text
            self.models.setdefault(comm_id, {}).update(data.get("state") or {})


def _description(what: str | Callable[[], str]) -> str:
    return what if isinstance(what, str) else what()
