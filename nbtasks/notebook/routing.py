"""Sends what running code writes, displays or asks for to the task whose code it is, by a context variable.

The streams, the display publisher and the input functions of the kernel stay the objects that they are, so that what
holds them (logging handlers, libraries) is routed too. Knows nothing of the manager, nor of what a task is.
"""

from __future__ import annotations

import builtins
import contextvars
import functools
import getpass
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbtasks.exceptions import NoInputError
from nbtasks.notebook.kernel import Kernel
from nbtasks.notebook.output import Output

__all__ = ["Router", "current_output"]

_output: contextvars.ContextVar[Output | None] = contextvars.ContextVar("nbtasks_output", default=None)


def current_output() -> Output | None:
    """The output of the task in whose context this is called; None in the foreground."""
    return _output.get()


class Router:
    """Installs the routes into a shell's process, and takes them out again.

    Writes of code that runs in a context entered by `enter` go to the `Output` given there; everybody else's go where
    they always went. Used from the main thread only, apart from the routes themselves.
    """

    def __init__(self, shell: InteractiveShell, kernel: Kernel) -> None:
        self._shell = shell
        self._kernel = kernel
        self._undo: list[Callable[[], None]] = []

    def enter(self, output: Output) -> None:
        """Route what the current context, and the threads started in it, writes from now on to `output`."""
        _output.set(output)

    def install(self) -> None:
        """Install the routes. In a terminal, where the streams are no kernel's, only input and threads are routed."""
        if self._kernel.exists:
            self._route_streams()
            self._route_displays()
            self._route_kernel_input()
        self._replace(builtins, "input", _refuse_in_tasks("input()"))
        self._replace(getpass, "getpass", _refuse_in_tasks("getpass()"))
        self._replace(sys, "breakpointhook", _refuse_in_tasks("breakpoint()"))
        self._replace(threading.Thread, "start", _start_in_context)

    def uninstall(self) -> None:
        """Take the routes out again, the last one first."""
        while self._undo:
            self._undo.pop()()

    def _replace(self, owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        replacement = wrap(original)
        setattr(owner, name, replacement)

        def undo() -> None:
            if getattr(owner, name) is replacement:  # else somebody replaced it since, and it is theirs now
                setattr(owner, name, original)

        self._undo.append(undo)

    def _route_streams(self) -> None:
        for stream_class in {type(stream) for stream in (sys.stdout, sys.stderr) if hasattr(stream, "set_parent")}:
            for name, of_task in (("write", _task_write), ("flush", _task_flush)):
                route = _ByContext(name, getattr(stream_class, name), of_task)
                setattr(stream_class, name, route)
                self._undo.append(functools.partial(setattr, stream_class, name, route.original))

    def _route_displays(self) -> None:
        def routed_publish(publish: Callable[..., None]) -> Callable[..., None]:
            @functools.wraps(publish)
            def route(
                data: dict[str, Any],
                metadata: dict[str, Any] | None = None,
                *args: Any,
                transient: dict[str, Any] | None = None,
                update: bool = False,
                **kwargs: Any,
            ) -> None:
                output = _current()
                if output is None:
                    publish(data, metadata, *args, transient=transient, update=update, **kwargs)
                else:
                    output.display(self._kernel.encode(data), metadata or {}, transient or {}, update=update)

            return route

        def routed_clear(clear_output: Callable[..., None]) -> Callable[..., None]:
            @functools.wraps(clear_output)
            def route(wait: bool = False) -> None:
                output = _current()
                if output is None:
                    clear_output(wait)
                else:
                    output.clear(wait=wait)

            return route

        self._replace(self._shell.display_pub, "publish", routed_publish)
        self._replace(self._shell.display_pub, "clear_output", routed_clear)

    def _route_kernel_input(self) -> None:
        """The kernel puts its own input functions into builtins while a cell runs, and what was there back after it."""
        kernel = self._shell.kernel
        for name, asked in (
            ("raw_input", "input()"),
            ("getpass", "getpass()"),
            ("_sys_raw_input", "input()"),
            ("_save_getpass", "getpass()"),
        ):
            if getattr(kernel, name, None) is not None:
                self._replace(kernel, name, _refuse_in_tasks(asked))


class _ByContext:
    """A method of a stream class that is another one in a task's context.

    It is a descriptor on the class, because IPython sets `write` on the stream itself while a cell runs, and back.
    """

    def __init__(self, name: str, original: Any, of_task: Callable[[Output, Any], Callable[..., Any]]) -> None:
        self.original = original
        self._name = name
        self._of_task = of_task

    def __get__(self, stream: Any, owner: type | None = None) -> Any:
        if stream is None:
            return self.original
        output = _current()
        if output is not None:
            return self._of_task(output, stream)
        own = stream.__dict__.get(self._name)
        return self.original.__get__(stream, owner) if own is None else own

    def __set__(self, stream: Any, value: Any) -> None:
        stream.__dict__[self._name] = value

    def __delete__(self, stream: Any) -> None:
        del stream.__dict__[self._name]


_PID = os.getpid()


def _current() -> Output | None:
    """The task's output; None in a forked child too, where nobody publishes what it is given."""
    output = _output.get()
    return output if output is None or os.getpid() == _PID else None


def _task_write(output: Output, stream: Any) -> Callable[[str], int]:
    return output.stderr if stream.name == "stderr" else output.stdout


def _task_flush(_output: Output, _stream: Any) -> Callable[[], None]:
    return _flushed


def _flushed() -> None:
    """A task's output is published in order by one thread, within moments: there is nothing to wait for."""


def _refuse_in_tasks(asked: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(ask: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(ask)
        def route(*args: Any, **kwargs: Any) -> Any:
            if _output.get() is not None:
                raise NoInputError(
                    f"{asked} was called in a background cell, which nobody can answer: "
                    "ask in a foreground cell and use the answer here"
                )
            return ask(*args, **kwargs)

        return route

    return wrap


def _start_in_context(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """`Thread.start` that hands a task's context on to the threads its code starts (CPython does so from 3.14)."""

    @functools.wraps(start)
    def route(thread: threading.Thread) -> None:
        if _output.get() is not None and thread.ident is None:
            thread.run = functools.partial(contextvars.copy_context().run, thread.run)  # type: ignore[method-assign]
        start(thread)

    return route
