"""Monkeypatches of functions that start processes: groups of background work.

Each process that a task starts gets a group of its own, so that an interrupt of the kernel, which goes to the kernel's
group, does not reach it. It is also noted with the attempt that starts it, and terminated when that is stopped.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from nbtasks.backends.base import Attempt
from nbtasks.interrupts import protected
from nbtasks.notebook.watchdog import Watchdog
from nbtasks.patch import Patch, PatchSet
from nbtasks.post_import import ModulePatches
from nbtasks.programs import system as interruptible_system
from nbtasks.progress import current_task
from nbtasks.states import TaskState
from nbtasks.task import Task

__all__ = ["program_patches"]

_PID = os.getpid()
_SETSID, _GROUP, _PREEXEC = 15, 16, 21
"""Positions of arguments of `_posixsubprocess.fork_exec`, the same from CPython 3.11 on."""
_SERVERS = re.compile(rb"\b(resource_tracker|forkserver) import main\b")
"""Processes that multiprocessing and loky start for all work of the kernel, whichever needs them first."""

_STRETCH_SECONDS = 0.1

_is_noted: contextvars.ContextVar[bool] = contextvars.ContextVar("nbtasks_is_noted", default=False)
"""Whether the process that is being started is noted by the caller."""
_watchdog = Watchdog()


def program_patches() -> PatchSet:
    """Patches of all functions of the standard library that start processes."""
    patches: list[Patch | PatchSet] = [Patch(os, "system", _system)]
    if sys.platform == "win32":
        patches.append(Patch(subprocess.Popen, "_execute_child", _execute_child))
        return PatchSet(patches)
    import _posixsubprocess

    patches += [
        Patch(subprocess.Popen, "_execute_child", _execute_child_whole),
        Patch(subprocess, "_fork_exec", _fork_exec),
        Patch(_posixsubprocess, "fork_exec", _fork_exec),
        Patch(os, "fork", _fork),
        Patch(os, "forkpty", _forkpty),
        Patch(os, "posix_spawn", _posix_spawn),
        Patch(os, "posix_spawnp", _posix_spawn),
        ModulePatches("multiprocessing.process", lambda module: [Patch(module.BaseProcess, "start", _start_process)]),
        ModulePatches("multiprocessing.spawn", _preparation_patches),
        ModulePatches("multiprocessing.pool", _pool_patches),
    ]
    return PatchSet(patches)


def _background_task() -> Task | None:
    """Return the task whose work calls this; None in a forked child, whose children stay in its group."""
    return current_task() if os.getpid() == _PID else None


def _start(task: Task, start: Callable[[], int], *, own_group: bool = True, ends_with_work: bool = False) -> int:
    """Start a program of a task by `start`, which returns its process id."""
    if _is_noted.get():
        return start()

    def start_and_watch() -> int:
        pid = start()
        if own_group and pid:
            _watchdog.watch(pid)
        return pid

    attempt: Attempt | None = task.internals.attempt
    if attempt is not None:
        return protected(functools.partial(attempt.start_program, start_and_watch, ends_with_work=ends_with_work))
    pid = protected(start_and_watch)
    if task.state is TaskState.CANCELLED and pid:  # by a thread that the cell has left running
        with contextlib.suppress(OSError):
            os.kill(pid, 15)
    return pid


def _fork_exec(fork_exec: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(fork_exec)
    def apart(*args: Any) -> int:
        task = _background_task()
        if task is None or len(args) <= _PREEXEC:
            return fork_exec(*args)
        changed = list(args)
        if not args[_SETSID] and args[_GROUP] == -1:
            if args[_PREEXEC] is None:
                changed[_GROUP] = 0
            else:  # it may call `setsid`, which the leader of a group must not
                changed[_PREEXEC] = functools.partial(_call_in_own_group, args[_PREEXEC])
        if _SERVERS.search(b" ".join(map(os.fsencode, args[0]))):
            return protected(fork_exec, *changed)
        return _start(task, lambda: fork_exec(*changed), own_group=args[_GROUP] in (-1, 0))

    return apart


def _call_in_own_group(preexec: Callable[[], object]) -> None:
    """In the child: call the user's `preexec_fn`, and leave the kernel's process group unless that did."""
    group = os.getpgrp()
    preexec()
    if os.getpgrp() == group:
        os.setpgid(0, 0)


def _fork(fork: Callable[[], int]) -> Callable[[], int]:
    @functools.wraps(fork)
    def apart() -> int:
        task = _background_task()
        return fork() if task is None else _start(task, fork_into_own_group)

    def fork_into_own_group() -> int:
        pid = fork()
        with contextlib.suppress(OSError):  # the child has ended already, or has set its group itself
            os.setpgid(pid, pid)
        return pid

    return apart


def _forkpty(forkpty: Callable[[], tuple[int, int]]) -> Callable[[], tuple[int, int]]:
    """Note the child, which is in a session of its own already."""

    @functools.wraps(forkpty)
    def noted() -> tuple[int, int]:
        task = _background_task()
        if task is None:
            return forkpty()
        terminal = -1

        def fork() -> int:
            nonlocal terminal
            pid, terminal = forkpty()
            return pid

        return _start(task, fork), terminal

    return noted


def _posix_spawn(posix_spawn: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(posix_spawn)
    def apart(*args: Any, **kwargs: Any) -> int:
        task = _background_task()
        if task is None:
            return posix_spawn(*args, **kwargs)
        own = not kwargs.get("setsid") and "setpgroup" not in kwargs
        changed = {**kwargs, "setpgroup": 0} if own else kwargs
        return _start(task, lambda: posix_spawn(*args, **changed))

    return apart


def _system(system: Callable[[Any], int]) -> Callable[[Any], int]:
    """Run the command by `subprocess`, since the kernel ignores interrupts during C's `system`."""

    @functools.wraps(system)
    def apart(command: Any) -> int:
        if _background_task() is None:
            return system(command)
        return interruptible_system(command)

    return apart


def _execute_child_whole(execute: Callable[..., None]) -> Callable[..., None]:
    """Raise no interrupt before the object knows its process, which would stay a zombie otherwise."""

    @functools.wraps(execute)
    def whole(popen: Any, *args: Any, **kwargs: Any) -> None:
        if _background_task() is None:
            execute(popen, *args, **kwargs)
        else:
            protected(functools.partial(execute, popen, *args, **kwargs))

    return whole


def _execute_child(execute: Callable[..., None]) -> Callable[..., None]:
    """Windows: note the process. It need not leave a group, since interrupts go to the kernel alone there."""

    @functools.wraps(execute)
    def noted(popen: Any, *args: Any, **kwargs: Any) -> None:
        task = _background_task()
        if task is None:
            execute(popen, *args, **kwargs)
            return

        def start() -> int:
            execute(popen, *args, **kwargs)
            return int(popen.pid)

        _start(task, start, own_group=False)

    return noted


def _start_process(start: Callable[[Any], None]) -> Callable[[Any], None]:
    """Note a process of multiprocessing, also one that its fork server starts.

    Those of a pool are left to the pool, which is ended by the work: one that is terminated while it holds a lock of
    the pool would block the pool's own end. The thread that replaces processes of a pool ends with the task.
    """

    @functools.wraps(start)
    def noted(process: Any) -> None:
        task = _background_task()
        if task is None:
            start(process)
            return

        def start_and_find() -> int:
            token = _is_noted.set(True)
            try:
                start(process)
            finally:
                _is_noted.reset(token)
            return int(process.pid)

        pool = sys.modules.get("multiprocessing.pool")
        of_pool = pool is not None and process._target is pool.worker
        if of_pool and _has_stopped(task):
            raise SystemExit
        _start(task, start_and_find, ends_with_work=of_pool)

    return noted


def _has_stopped(task: Task) -> bool:
    """Whether the task was cancelled or timed out, and its work is over."""
    attempt: Attempt | None = task.internals.attempt
    if attempt is None:
        return task.state is TaskState.CANCELLED
    return attempt.programs is not None and attempt.programs.closed


def _pool_patches(module: ModuleType) -> list[Patch]:
    iterator = module.IMapIterator
    return [Patch(module.ApplyResult, "wait", _wait), *(Patch(iterator, name, _next) for name in ("next", "__next__"))]


def _wait(wait: Callable[..., None]) -> Callable[..., None]:
    """Wait for a result of a pool in short stretches; no interrupt reaches a thread that waits for a lock."""

    @functools.wraps(wait)
    def in_stretches(result: Any, timeout: float | None = None) -> None:
        if _background_task() is None:
            wait(result, timeout)
            return
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not result.ready() and (left := end - time.monotonic()) > 0:
            wait(result, min(_STRETCH_SECONDS, left))

    return in_stretches


def _next(next_result: Callable[..., Any]) -> Callable[..., Any]:
    """The same for the next of several results."""
    from multiprocessing import TimeoutError as NoResultYetError  # not at the top: `%load_ext` would import it

    @functools.wraps(next_result)
    def in_stretches(results: Any, timeout: float | None = None) -> Any:
        while timeout is None and _background_task() is not None:
            with contextlib.suppress(NoResultYetError):
                return next_result(results, _STRETCH_SECONDS)
        return next_result(results, timeout)

    return in_stretches


def _preparation_patches(module: ModuleType) -> list[Patch]:
    return [Patch(module, "get_preparation_data", _with_own_group)]


def _with_own_group(get_preparation_data: Callable[[str], dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    """Let a process of multiprocessing leave its fork server's group, which may be the foreground's."""

    @functools.wraps(get_preparation_data)
    def get(name: str) -> dict[str, Any]:
        data = get_preparation_data(name)
        return data if _background_task() is None else {**data, "nbtasks": _OwnGroup()}

    return get


class _OwnGroup:
    """Makes the process that unpickles it the leader of a process group.

    That process does not need nbtasks.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return os.setpgid, (0, 0)
