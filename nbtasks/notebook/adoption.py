"""`adopt`: send the running foreground cell to the background."""

from __future__ import annotations

import _thread
import functools
import signal
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from nbtasks import thread_state
from nbtasks.exceptions import AdoptionError
from nbtasks.first_use import FirstUse
from nbtasks.notebook.cells.context_variables import changes_since
from nbtasks.notebook.output.away_cells import AwayCell, away_cell, remove_away_cell
from nbtasks.notebook.parts import NotebookParts
from nbtasks.notebook.patches.away_cells import away_patches, begin_away
from nbtasks.notebook.patches.signals import Handler, interrupt_patch
from nbtasks.notebook.shell_channel.cell_thread import CellThread, awaits_in_code, current_cell_thread, is_in_code
from nbtasks.notebook.shell_channel.request import Request
from nbtasks.notebook.shell_channel.router import NotReadyError, Router
from nbtasks.patch import PatchSet
from nbtasks.task import Task

if TYPE_CHECKING:
    from nbtasks.notebook.cells.adopted_cell import AdoptedCell, RunningCell
    from nbtasks.notebook.session import NotebookSession

__all__ = ["Adoption", "ForegroundCell", "adopt"]

READY_SECONDS = 5.0
"""How long a cell may take to begin its code, when it is to be sent to the background."""
_RETRY_SECONDS = 0.005
"""Polled, since no event tells that the code begins: `pre_run_cell` comes before the source is transformed and
compiled, and cells in subshells set the displayhook's `exec_result` too. To wrap the code would cost every cell
something, for a wait of milliseconds that few adoptions have."""
_OLDEST = "7.0"
_INPUT_REQUEST = "_input_request"

_installed: Adoption | None = None
"""That of the kernel's notebook."""


def adopt(name: str | None = None) -> Task:
    """Send the running foreground cell to the background: it continues as a task, and later cells run.

    Any thread may call it, also while the kernel is busy, and the cell itself. Returns when the task is running and
    its panel is shown. Raises AdoptionError, with the reason, if there is no cell to send or it cannot be sent; the
    cell continues as before then.
    """
    adoption = _installed
    if adoption is None:
        raise AdoptionError("nbtasks is not loaded in a kernel: %load_ext nbtasks")
    return adoption.adopt(name)


class ForegroundCell(NamedTuple):
    """A cell that runs in the foreground."""

    request_id: str
    cell_id: str | None
    """The front end's id of the cell, if it sends one."""
    seconds: float
    """For how long it has run."""


class _Move:
    """A cell on its way to the background: its task, and what its contexts find."""

    def __init__(self, task: AdoptedCell, cell: AwayCell, thread: CellThread | None) -> None:
        self.task = task
        self.cell = cell
        self.thread = thread
        """The thread that it runs on; None for the main thread."""


class Adoption:
    """Sends foreground cells of one notebook to the background.

    See `RouterEvents` for the calls of the router.
    `_moves`, the cells that are away by request, is replaced as a whole under the router's lock, and read without.
    All other fields are written under that lock, or on the main thread while nothing is away.
    """

    def __init__(self, parts: NotebookParts, session: FirstUse[NotebookSession]) -> None:
        self._parts = parts
        self._session = session
        self._shell: Any = parts.shell
        self._kernel: Any = getattr(parts.shell, "kernel", None)
        self._moves: Mapping[Request, _Move] = {}
        self._carried: dict[CellThread, thread_state.Carried] = {}
        self._while_away: PatchSet | None = None
        self._input_functions: tuple[Any, Any] | None = None
        self._idle_handler: Any = None
        self._router: Router | None = None
        self.patches = PatchSet()
        if parts.kernel.has_shell_thread:
            self._router = Router(self._kernel, self)
            self.patches = PatchSet([self._router.patches, interrupt_patch(self._kernel, self.decide_interrupt)])

    # -- loading --------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """The patches were applied. On the main thread."""
        global _installed
        _installed = self
        if self._router is not None:
            self._router.started()
            if _on_main_thread():  # for the cell that loads the extension
                signal.signal(signal.SIGINT, signal.getsignal(signal.SIGINT))

    def uninstall(self) -> None:
        """The patches are to be reverted. On the main thread."""
        global _installed
        if _installed is self:
            _installed = None
        self._settle()

    def check_unload(self) -> None:
        """Raise AdoptionError while a cell is away: its end needs the extension."""
        if self._router is not None and self._router.is_used:
            names = ", ".join(repr(move.task.name) for move in self._moves.values())
            what = f"{names} was sent to the background and still runs" if names else "another thread serves the cells"
            raise AdoptionError(f"nbtasks cannot be unloaded now: {what}; wait for its end, or cancel it")

    # -- adopting -------------------------------------------------------------------------------------------------

    def adopt(self, name: str | None = None, *, request_id: str | None = None) -> Task:
        """See the function `adopt`; with `request_id` only if the foreground cell is the one of that request."""
        router = self._checked_router()
        request = router.foreground
        if request is None or not request.runs_cell:
            raise AdoptionError("no cell is running that could be sent to the background")
        if request_id is not None and request.key != request_id:
            raise AdoptionError("the cell does not run in the foreground: it has ended, or is in the background")
        session = self._session.get()  # imports what a task needs, before the time that the cell may take
        deadline = time.monotonic() + READY_SECONDS
        task: AdoptedCell | None = None
        while True:
            try:
                self._check(request, router.server)
                task = task or self._make_task(session, request, name)
                router.send_away(request, functools.partial(self._go, request, task)).result()
                break
            except NotReadyError:
                if router.foreground is not request:
                    raise AdoptionError("the cell has just ended") from None
                if time.monotonic() > deadline:
                    raise AdoptionError("the cell has not begun to run its code, or has ended it") from None
            time.sleep(_RETRY_SECONDS)
        try:
            session.manager.add_task(task)
            session.bind(task.name, task)
        finally:
            router.serve_others(request).result()  # whose cells find the task and its name
        session.panels.show(task, task.cell)
        return task

    def _make_task(self, session: NotebookSession, request: Request, name: str | None) -> AdoptedCell:
        assert request.execution_count is not None
        return session.adopted_cell(request.parent(self._kernel.session), request.execution_count - 1, name)

    @property
    def refusal(self) -> str:
        """Why no cell can be sent to the background in this kernel; empty if cells can."""
        if self._router is not None:
            return ""
        what = "IPython's terminal has none" if self._kernel is None else f"this is ipykernel {_version()}"
        return f"a running cell can be sent to the background by ipykernel {_OLDEST} or later; {what}"

    def adopt_request(self, request_id: str) -> str:
        """Send the foreground cell of this request to the background; returns the id of its task.

        Raises AdoptionError as `adopt` does, also if the foreground runs another cell by now.
        """
        return self.adopt(request_id=request_id).id

    def foreground_cell(self) -> ForegroundCell | None:
        """The cell that runs in the foreground; None if none does, or if the kernel cannot send one away."""
        request = None if self._router is None else self._router.foreground
        if request is None or not request.runs_cell:
            return None
        parent = request.parent(self._kernel.session)
        if parent["content"].get("silent"):
            return None
        cell_id = self._parts.kernel.cell_of(parent, None).cell_id
        return ForegroundCell(request.key, cell_id, time.monotonic() - request.began_at)

    def is_in_foreground(self, request_id: str) -> bool:
        """Whether the request of that id, which runs a cell, does so in the foreground. Any thread."""
        if self._router is None:
            return True
        request = self._router.foreground
        return request is not None and request.key == request_id

    def _checked_router(self) -> Router:
        if self._router is None:
            raise AdoptionError(self.refusal)
        if not self._router.is_past_loading:
            raise AdoptionError("cells queued before nbtasks was loaded have not run yet; try again after them")
        manager = self._parts.manager
        limit = manager.max_concurrent_tasks
        if limit is not None and manager.get_stats()["running"] >= limit:
            raise AdoptionError(f"the limit of {limit} tasks at once is reached")
        return self._router

    def _check(self, request: Request, thread: CellThread | None) -> None:
        """Raise AdoptionError if the cell cannot be sent away, NotReadyError if not at this moment."""
        runs_on = self._main_thread if thread is None else thread.thread
        if request.execution_count is None or not (
            is_in_code(runs_on)
            or (request.task is not None and awaits_in_code(request.task))
            or self._has_result(request)
        ):
            raise NotReadyError
        if self._kernel.eventloop is not None:
            raise AdoptionError("the kernel runs the event loop of a GUI (%gui), which needs the main thread")
        if getattr(getattr(self._kernel, "debugger", None), "is_started", False):
            raise AdoptionError("the debugger is on; switch it off first")
        if request.streams != self._streams():
            raise AdoptionError("the cell has redirected its output (%%capture, redirect_stdout), for all cells")
        if _calls(runs_on, _INPUT_REQUEST):
            raise AdoptionError("the cell waits for user input; answer it first")

    def _has_result(self, request: Request) -> bool:
        """Whether the displayhook will put the cell's value into its result: the cell runs its code.

        Cells that others run in subshells use the same displayhook.
        """
        result = self._shell.displayhook.exec_result
        code = request.parent(self._kernel.session)["content"]["code"]
        return result is not None and result.info.raw_cell == code

    def _go(self, request: Request, task: AdoptedCell, thread: CellThread | None) -> None:
        """Make the running cell a background cell. On the shell channel's thread, under the router's lock."""
        self._check(request, thread)
        before = request.threads
        started = [one for one in threading.enumerate() if one not in before and not one.name.startswith("nbtasks")]
        assert task.cell.parent is not None
        cell = AwayCell(request.key, task.cell.parent, task.output, started)
        task.running_cell.interrupt = (
            functools.partial(self._interrupt_main, task.running_cell) if thread is None else thread.interrupt
        )
        take_plots = task.separate(cell)
        self._begin_away()
        self._moves = {**self._moves, request: _Move(task, cell, thread)}
        assert request.execution_count is not None
        begin_away(
            self._shell,
            cell,
            self._kernel._shell_parent,
            request.execution_count,
            has_result=self._has_result(request),
        )
        take_plots()
        self._parts.names.foreground_left()

    def _begin_away(self) -> None:
        """Prepare the shell for two cells at once."""
        if self._while_away is None:
            self._while_away = away_patches(self._shell)
            self._while_away.apply()
            # IPython counts the cells that use its displayhook, and that count is not thread-safe.
            self._shell.display_trap.__enter__()
            self._shell.display_trap.set()
            self._input_functions = self._kernel._sys_raw_input, self._kernel._save_getpass

    def _settle(self) -> None:
        """Undo `_begin_away`. On the main thread, in a cell, while nothing is away."""
        router = self._router
        if self._while_away is None or router is None or router.is_used:
            return
        with router.lock:
            self._while_away.revert()
            self._while_away = None
        self._shell.display_trap.__exit__(None, None, None)
        # Each of two cells that overlap has saved the functions that it found, and has put them back.
        self._kernel._sys_raw_input, self._kernel._save_getpass = cast("tuple[Any, Any]", self._input_functions)

    # -- cells begin and end --------------------------------------------------------------------------------------

    @property
    def is_foreground(self) -> bool:
        """Whether the calling thread is the one that serves the notebook."""
        router = self._router
        return _on_main_thread() if router is None else router.is_foreground_thread()

    def cell_began(self) -> bool:
        """A cell begins on this thread; whether it is a foreground cell."""
        thread = current_cell_thread()
        if thread is not None:
            thread.enter_cell()
        if away_cell() is not None:
            return False
        if self.is_foreground and self._router is not None:
            self._router.note_begin(self._shell.execution_count)
        if thread is None and _on_main_thread():
            self._settle()
        elif thread is not None:
            self._shell.display_trap.set()  # a cell that has ended at the same time may have reset it
        return True

    def cell_ended(self, result: Any) -> bool:
        """The code of a cell has ended on this thread; whether it was a foreground cell."""
        thread = current_cell_thread()
        if thread is not None:
            thread.leave_cell()
        cell = away_cell()
        if cell is None:
            return True
        for move in self._moves.values():
            if move.cell is cell:
                move.task.code_ended(result)
        return False

    def ended_away(self, request: Request) -> None:
        """See `RouterEvents`."""
        move = self._moves[request]
        move.task.end()
        remove_away_cell(move.cell)
        assert self._router is not None
        with self._router.lock:
            self._moves = {other: one for other, one in self._moves.items() if other is not request}
        move.task.running_cell.end()

    # -- other threads --------------------------------------------------------------------------------------------

    def began_serving(self, thread: CellThread) -> None:
        """See `RouterEvents`."""
        carried = self._carried[thread] = thread_state.Carried(self._parts.libraries.snapshot())
        carried.enter()

    def stopped_serving(self, thread: CellThread) -> None:
        """See `RouterEvents`."""
        self._parts.libraries.commit(self._carried.pop(thread).leave())
        if thread.keeps_context:
            self._parts.variables.commit(thread.context.run(changes_since, thread.before))

    # -- interrupts -----------------------------------------------------------------------------------------------

    def decide_interrupt(self, handler: Handler, number: int, frame: FrameType | None) -> None:
        """On the main thread: a SIGINT has come. It is meant for the foreground cell, wherever that runs.

        Or for a cell in the background on this thread, if that is being cancelled.
        """
        router = self._router
        server = None if router is None else router.server
        away = next((move.task.running_cell for move in self._moves.values() if move.thread is None), None)
        if away is not None and away.interrupt_due:
            away.interrupt_due = False
            if handler is not signal.default_int_handler or is_in_code(self._main_thread, frame):
                handler(number, frame)
            # The kernel's handler for a cell that awaits adds a callback to the loop, which that does not wake.
            if (loop := self._parts.kernel.loop) is not None:
                loop.call_soon_threadsafe(_awake)
        elif server is not None:
            server.interrupt()
        elif away is None:
            handler(number, frame)

    def _interrupt_main(self, running: RunningCell) -> None:
        running.interrupt_due = True
        if hasattr(signal, "pthread_kill"):  # it also ends a system call that waits
            signal.pthread_kill(self._main_thread.ident or 0, signal.SIGINT)
        else:
            _thread.interrupt_main(signal.SIGINT)

    def main_begins(self) -> None:
        """See `RouterEvents`."""
        if self._idle_handler is not None and _on_main_thread():
            signal.signal(signal.SIGINT, self._idle_handler)
            self._idle_handler = None

    def main_is_free(self) -> None:
        """See `RouterEvents`.

        The kernel ignores interrupts then, but one that is meant for the other thread has to be passed to it.
        """
        if self._idle_handler is None and _on_main_thread():
            self._idle_handler = signal.signal(signal.SIGINT, _ignore)

    # -- details --------------------------------------------------------------------------------------------------

    @property
    def _main_thread(self) -> threading.Thread:
        return threading.main_thread()

    def _streams(self) -> tuple[Any, ...]:
        assert self._router is not None
        return self._router.streams()


def _awake() -> None:
    """Called by an event loop that is to look for what is due."""


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """The handler of SIGINT while the main thread has nothing to do."""


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _calls(thread: threading.Thread, name: str) -> bool:
    """Whether the thread is in a call of the kernel's method of that name."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == name and frame.f_globals.get("__name__") == "ipykernel.kernelbase":
            return True
        frame = frame.f_back
    return False


def _version() -> str:
    return str(getattr(sys.modules.get("ipykernel"), "__version__", "of another version"))
