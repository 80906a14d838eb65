"""`nbtasks run` of one notebook: its kernel, its cells, and the time after them.

The kernel is restarted when it dies, and the cells run again in it, since their names are gone; schedules continue with
the counters and times that the history has of them. The notebook file is replaced as a whole each time it is written.
"""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbtasks.exceptions import ActionError
from nbtasks.notebook_file import save_notebook
from nbtasks.packages import require
from nbtasks.runner.outputs import NotebookOutputs

__all__ = ["KernelDiedError", "NotebookRun", "Server"]

POLL_SECONDS = 1.0
"""How often the kernel is asked whether anything is active, and the notebook is written."""
QUIET_SECONDS = 0.5
"""Output that came within this time is not the last one."""
RESTARTS = 5
"""How many times in a row a kernel is restarted that did not live for `STEADY_SECONDS`."""
STEADY_SECONDS = 600.0
MOST_BACKOFF_SECONDS = 60.0
SHUTDOWN_SECONDS = 15.0

STATE = "__import__('nbtasks.runner.kernel_side', fromlist=['_']).state()"


class KernelDiedError(ActionError):
    """The kernel ended by itself."""


@dataclass(frozen=True)
class Server:
    """Settings of the web page of the tasks: port (0: any free one) and hosts."""

    port: int = 0
    hosts: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """The cell that starts it."""
        hosts = "".join(f" --host {host}" for host in self.hosts)
        return f"%bgtask serve --port {self.port}{hosts}"


class _Request:
    """A request to execute code: its reply, and whether its output is complete."""

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self.reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.idle = asyncio.Event()


class NotebookRun:
    """A run of a notebook, from its first cell to the end of its last schedule.

    `source_of` gives the code of a cell to run, or None for a cell that is left out. `say` prints a line for the user.
    """

    def __init__(
        self,
        notebook: Any,
        target: Path,
        *,
        name: Path,
        kernel_name: str,
        source_of: Callable[[Any], str | None] = lambda cell: str(cell.source),
        server: Server | None = None,
        say: Callable[[str], None],
    ) -> None:
        self._notebook = notebook
        self._target = target
        self._name = name
        self._kernel_name = kernel_name
        self._source_of = source_of
        self._server = server
        self._say = say
        self._outputs = NotebookOutputs()
        self._stopping = asyncio.Event()
        self._manager: Any = None
        self._client: Any = None
        self._requests: dict[str, _Request] = {}
        """Requests whose output is not complete."""
        self._came = asyncio.Event()
        self._current: Any = None
        self._failures: list[str] = []
        self._served = False

    async def run(self) -> bool:
        """Run all cells and stay while tasks or schedules are active; whether nothing failed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        died = 0
        try:
            while True:
                began = time.monotonic()
                try:
                    await self._run_in_kernel()
                    return not self._failures
                except KernelDiedError as error:
                    died = 1 if time.monotonic() - began > STEADY_SECONDS else died + 1
                    if not await self._recover(str(error), died):
                        return False
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            self._save()

    async def _recover(self, reason: str, died: int) -> bool:
        """Wait before the next kernel; False after too many deaths, or when the run is to stop."""
        pause = min(2.0 ** (died - 1), MOST_BACKOFF_SECONDS)
        more = died <= RESTARTS and not self._stopping.is_set()
        text = f"{reason}; restarting in {pause:g} s" if more else f"{reason}; not restarted"
        self._say(text)
        if self._current is not None:
            self._outputs.write(self._current, f"nbtasks run: {text}")
        self._save()
        if more:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
        return more and not self._stopping.is_set()

    # -- one kernel -------------------------------------------------------------------------------------------------

    async def _run_in_kernel(self) -> None:
        self._failures = []
        with tempfile.TemporaryFile() as log:
            await self._start(log)
            reading = [asyncio.create_task(self._read_output()), asyncio.create_task(self._read_replies())]
            try:
                self._served = self._server is None
                await self._run_cells()
                await self._stay()
            finally:
                await self._end()
                for task in reading:
                    task.cancel()
                await asyncio.gather(*reading, return_exceptions=True)
                self._client.stop_channels()

    async def _start(self, log: Any) -> None:
        manager_module = require("jupyter_client.manager", "nbtasks run")
        self._manager = manager_module.AsyncKernelManager(kernel_name=self._kernel_name)
        env = {
            **os.environ,
            "JPY_SESSION_NAME": str(self._name),
            "NBTASKS_WIDGETS": "0",
            "NBTASKS_CONTINUE_SCHEDULES": "1",
        }
        await self._manager.start_kernel(cwd=str(self._name.parent), env=env, stdout=log, stderr=log)
        self._client = self._manager.client()
        self._client.start_channels()
        try:
            await self._client.wait_for_ready(timeout=60)
        except RuntimeError:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-1:]
            raise KernelDiedError(f"the kernel did not start{': ' + last[0] if last else ''}") from None

    async def _end(self) -> None:
        """Shut the kernel down; what it sends meanwhile, such as last pictures of tasks, is written too."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._manager.shutdown_kernel(), SHUTDOWN_SECONDS)
        await self._quiet()

    async def _serve(self) -> None:
        """Serve the tasks, as soon as the notebook has loaded the extension."""
        if self._server is None or self._served or not (await self._state())["loaded"]:
            return
        self._served = True
        request = self._request(self._server.code, silent=False)
        reply = await self._alive(request.reply)
        await self._alive(request.idle.wait())
        if reply["content"]["status"] != "ok":
            self._say(f"the tasks are not served: {reply['content'].get('evalue', 'an error')}")

    async def _run_cells(self) -> None:
        cells = [cell for cell in self._notebook.cells if cell.cell_type == "code"]
        for number, cell in enumerate(cells, 1):
            if self._stopping.is_set():
                self._failures.append("stopped before all cells had run")
                return
            source = self._source_of(cell)
            if source is None or not source.strip():
                continue
            self._current = cell
            request = self._request(source, cell=cell)
            reply = await self._alive(request.reply, interruptible=True)
            await self._alive(request.idle.wait())
            self._save()
            await self._serve()
            if reply["content"]["status"] != "ok" and not _may_raise(cell):
                self._failures.append(f"cell {number} of {len(cells)} failed: {reply['content'].get('ename', '')}")
                self._say(self._failures[-1])
                return

    async def _stay(self) -> None:
        """Wait until no task and no schedule is active; then take down what failed."""
        while True:
            state = await self._state()
            self._save()
            active = state["active"] or state["schedules"]
            if self._stopping.is_set() or not active or self._failures:
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), POLL_SECONDS)
        for name in state["failed"]:
            self._failures.append(f"task {name!r} failed")
            self._say(self._failures[-1])
        if state["unfinished"]:
            self._say(f"cut off: {state['unfinished']} active task(s)")

    async def _state(self) -> dict[str, Any]:
        request = self._request("", expressions={"state": STATE})
        reply = await self._alive(request.reply)
        answer = reply["content"].get("user_expressions", {}).get("state", {})
        if answer.get("status") != "ok":  # a kernel without nbtasks, or of another language
            return {"loaded": False, "active": 0, "unfinished": 0, "schedules": 0, "failed": []}
        state: dict[str, Any] = ast.literal_eval(answer["data"]["text/plain"])
        return state

    # -- messages ---------------------------------------------------------------------------------------------------

    def _request(
        self, code: str, *, cell: Any = None, silent: bool = True, expressions: dict[str, str] | None = None
    ) -> _Request:
        """Ask the kernel to execute code, as a cell of the notebook or as a question."""
        content = {
            "code": code,
            "silent": silent and cell is None,
            "store_history": cell is not None,
            "user_expressions": expressions or {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        message = self._client.session.msg("execute_request", content)
        request = _Request(message["header"]["msg_id"])
        if cell is not None:
            message["metadata"]["cellId"] = cell.get("id", request.id)
            self._outputs.begin(cell, request.id)
        self._requests[request.id] = request
        self._client.shell_channel.send(message)
        return request

    async def _read_output(self) -> None:
        while True:
            message = await self._client.iopub_channel.get_msg()
            self._came.set()
            request = self._requests.get((message.get("parent_header") or {}).get("msg_id", ""))
            if message["msg_type"] == "status":
                if request is not None and message["content"]["execution_state"] == "idle":
                    request.idle.set()
                    self._forget(request)
            elif message["msg_type"] == "stream" and self._outputs.cell_of(message) is None:
                self._say(message["content"]["text"].rstrip("\n"))
            else:
                self._outputs.take(message)

    async def _read_replies(self) -> None:
        while True:
            message = await self._client.shell_channel.get_msg()
            request = self._requests.get((message.get("parent_header") or {}).get("msg_id", ""))
            if request is not None and not request.reply.done():
                request.reply.set_result(message)
                self._forget(request)

    def _forget(self, request: _Request) -> None:
        if request.idle.is_set() and request.reply.done():
            del self._requests[request.id]

    async def _alive(self, answer: Awaitable[Any], *, interruptible: bool = False) -> Any:
        """What is awaited; raises KernelDiedError if the kernel ends first. Stopping interrupts the cell."""
        waiting = asyncio.ensure_future(answer)
        stopping = asyncio.ensure_future(self._stopping.wait())
        interrupted = False
        try:
            while True:
                watched = {waiting} if interrupted or not interruptible else {waiting, stopping}
                await asyncio.wait(watched, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    return waiting.result()
                if not await self._manager.is_alive():
                    raise KernelDiedError("the kernel died")
                if interruptible and stopping.done() and not interrupted:
                    interrupted = True
                    await self._manager.interrupt_kernel()
                self._save()
        finally:
            for future in (waiting, stopping):
                future.cancel()

    async def _quiet(self) -> None:
        """Return when the kernel has sent nothing for a moment."""
        quiet = False
        while not quiet:
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), QUIET_SECONDS)
            except TimeoutError:
                quiet = True

    def _save(self) -> None:
        if self._outputs.changed:
            self._outputs.changed = False
            save_notebook(self._notebook, self._target)


def _may_raise(cell: Any) -> bool:
    return "raises-exception" in cell.metadata.get("tags", ())
