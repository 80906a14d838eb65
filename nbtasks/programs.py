"""Child processes of tasks: the attempts that started them, their termination."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from nbtasks.interrupts import start_thread

if TYPE_CHECKING:
    import psutil

__all__ = ["GRACE_SECONDS", "Programs", "started_by", "system"]

GRACE_SECONDS = 5.0
"""How long a program may take to end after it was terminated, before it is killed."""
_FIRST_POLL_SECONDS = 0.005
_MAX_POLL_SECONDS = 0.1
_SERVERS = re.compile(r"\b(resource_tracker|forkserver) import main\b")
_CLOCK_SECONDS = 0.02
"""How much the system's start times of processes may differ from its clock."""
_SWEEP_AT = 32
"""Programs that have ended are forgotten whenever this number of others was started since."""


def system(command: str) -> int:
    """`os.system` by `subprocess`: C's `system` ignores interrupts until the program has ended."""
    with subprocess.Popen(command, shell=True) as process:
        code = process.wait()
    if sys.platform == "win32":
        return code
    return code << 8 if code >= 0 else -code


def started_by(pid: int, *, since: float = 0.0) -> list[int]:
    """The ids of the programs that a worker process has started: its descendants, and others of its group.

    Without those that multiprocessing starts for itself and that end with the worker, and without those that it has
    started before the moment `since` (Unix time).
    """
    processes = _Processes()
    found: dict[int, psutil.Process] = {process.pid: process for process in processes.of_group(pid)}
    todo = [pid, *found]
    while todo:
        children = [child for child in processes.children_of(todo.pop()) if child.pid not in found]
        found |= {child.pid: child for child in children}
        todo += [child.pid for child in children]
    return [
        one
        for one, process in found.items()
        if one != pid and not _is_server(process) and _started_at(process) > since - _CLOCK_SECONDS
    ]


def _started_at(process: psutil.Process) -> float:
    import psutil

    try:
        return float(process.create_time())
    except psutil.Error:  # as below
        return 0.0


def _is_server(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(_SERVERS.search(" ".join(process.cmdline())))
    except psutil.Error:  # it has just ended, or is another user's
        return False


class Programs:
    """The programs started by one attempt of a task, with all their processes.

    Any thread may call any method, a worker thread only where no interrupt is raised.
    """

    def __init__(self, grace: float = GRACE_SECONDS) -> None:
        self.grace = grace
        self._lock = threading.Lock()  # guards all of it
        self._started: list[_Program] = []
        self._ending: list[_Program] = []
        self._sweep_at = _SWEEP_AT
        self._interrupts = 0
        self._closed = False
        self._has_thread = False
        self._on_gone: Callable[[], object] | None = None

    @property
    def interrupted(self) -> bool:
        """Whether programs were terminated, or would have been if there were any."""
        return self._interrupts > 0

    @property
    def closed(self) -> bool:
        """Whether the attempt was stopped, and no program of it may be left."""
        return self._closed

    def start(self, call: Callable[[], int], *, cleans_up: bool = False, ends_with_work: bool = False) -> int:
        """Start a program by `call`, which returns its process id; returns that.

        The program is terminated if the attempt is interrupted meanwhile. After an interrupt only code that `cleans_up`
        may start programs; those of other code, which the interrupt has not reached, are terminated. A program that
        `ends_with_work` is ended by the work itself, and terminated only if it is left over.
        """
        with self._lock:
            interrupts = self._interrupts
            unwanted = interrupts > 0 and not cleans_up
        pid = call()
        program = _Program.of(pid) if pid else None  # 0: this is the child, after a fork
        if program is not None:
            with self._lock:
                self._started.append(program)
                program.ends_with_work = ends_with_work
                is_late = not ends_with_work and (unwanted or self._interrupts != interrupts)
                if is_late or self._closed:
                    self._end([program])
            self._sweep()
        return pid

    def interrupt(self) -> None:
        """Terminate the programs without waiting; after the grace time they are killed."""
        with self._lock:
            self._interrupts += 1
            self._end([program for program in self._started if not program.ends_with_work])

    def close(self, on_gone: Callable[[], object]) -> bool:
        """Terminate all programs, and those that are started from now on; call `on_gone` when they have ended.

        False if there are none: then `on_gone` is not called.
        """
        with self._lock:
            self._interrupts += 1
            self._closed = True
            self._end(self._started)
            if not self._ending:
                return False
            self._on_gone = on_gone
            return True

    def _end(self, programs: Iterable[_Program]) -> None:
        """Under the lock: terminate programs, on a thread of their own."""
        kill_at = time.monotonic() + self.grace
        for program in programs:
            program.kill_at = kill_at
        self._ending += programs
        self._started = [program for program in self._started if program.kill_at is None]
        if self._ending and not self._has_thread:
            self._has_thread = True
            start_thread(self._wait_for_end, "nbtasks-programs")

    def _wait_for_end(self) -> None:
        """Own thread: signal the programs until all have ended."""
        pause = _FIRST_POLL_SECONDS
        while True:
            with self._lock:
                ending = list(self._ending)
            processes = _Processes()
            left = [program for program in ending if not program.end(processes)]
            with self._lock:
                newer = [program for program in self._ending if program not in ending]
                self._ending = left + newer
                if not self._ending:
                    self._has_thread = False
                    on_gone, self._on_gone = self._on_gone, None
                    break
            time.sleep(0 if newer else pause)
            pause = min(2 * pause, _MAX_POLL_SECONDS)
        if on_gone is not None:
            on_gone()

    def _sweep(self) -> None:
        """Forget programs that have ended, now and then."""
        with self._lock:
            if len(self._started) < self._sweep_at:
                return
            started = list(self._started)
        processes = _Processes()
        ended = [program for program in started if not program.members(processes)]
        with self._lock:
            self._started = [program for program in self._started if program not in ended]
            self._sweep_at = len(self._started) + _SWEEP_AT


class _Program:
    """A process that a task has started, its process group, and their descendants."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._known: set[psutil.Process] = {process}
        self._terminated: set[psutil.Process] = set()
        self.kill_at: float | None = None
        self.ends_with_work = False

    @classmethod
    def of(cls, pid: int) -> _Program | None:
        """The program of a process that was just started; None if that has ended and is gone."""
        import psutil

        try:
            return cls(psutil.Process(pid))
        except psutil.NoSuchProcess:
            return None

    def members(self, processes: _Processes) -> list[psutil.Process]:
        """Its processes that are running."""
        pid = self._process.pid
        # Another process has this id now: then its group was empty. An id is not reused while it is that of a group.
        found = set() if processes.has_other(self._process) else set(processes.of_group(pid))
        todo = [*found, *(process for process in self._known if processes.is_running(process))]
        found.update(todo)
        while todo:
            children = [child for child in processes.children_of(todo.pop().pid) if child not in found]
            found.update(children)
            todo += children
        self._known = found
        return list(found)

    def end(self, processes: _Processes) -> bool:
        """Terminate or kill its processes; True if there are none left."""
        members = self.members(processes)
        kills = self.kill_at is not None and time.monotonic() >= self.kill_at
        if kills:
            _signal(members, kill=True)
        else:
            _signal([member for member in members if member not in self._terminated], kill=False)
            self._terminated.update(members)
        return not members


def _signal(processes: list[psutil.Process], *, kill: bool) -> None:
    import psutil

    for process in processes:
        try:
            if kill:
                process.kill()
            else:
                process.terminate()
                if hasattr(signal, "SIGCONT"):  # a stopped process would not notice
                    process.send_signal(signal.SIGCONT)
        except psutil.Error:  # it has just ended, or it is another user's
            continue


class _Processes:
    """The running processes of the machine at one moment; zombies have ended."""

    def __init__(self) -> None:
        import psutil

        self._by_pid: dict[int, psutil.Process] = {}
        self._children: dict[int, list[psutil.Process]] = {}
        for pid in psutil.pids():
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    parent, ended = process.ppid(), process.status() == psutil.STATUS_ZOMBIE
            except psutil.Error:  # it has just ended
                continue
            if not ended:
                self._by_pid[pid] = process
                self._children.setdefault(parent, []).append(process)

    def is_running(self, process: psutil.Process) -> bool:
        """Whether that very process is running."""
        return process.pid in self._by_pid and bool(self._by_pid[process.pid] == process)

    def has_other(self, process: psutil.Process) -> bool:
        """Whether another process has its id now."""
        return process.pid in self._by_pid and not self.is_running(process)

    def children_of(self, pid: int) -> list[psutil.Process]:
        """The processes that it has started and that are running."""
        return self._children.get(pid, [])

    def of_group(self, group: int) -> Iterator[psutil.Process]:
        """The processes of a process group; none on Windows, which has no groups."""
        if not hasattr(os, "getpgid"):
            return
        for pid, process in self._by_pid.items():
            try:
                if os.getpgid(pid) == group:
                    yield process
            except OSError:  # it has just ended
                continue
