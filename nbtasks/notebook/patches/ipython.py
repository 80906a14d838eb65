"""Sends what running code writes, displays or asks for to the task whose code it is, by a context variable.

The streams, the display publisher and the input functions of the kernel stay the objects that they are, so that what
holds them (logging handlers, libraries) is routed too. Knows nothing of the manager, nor of what a task is.
"""

from __future__ import annotations

import builtins
import contextvars
import functools
import getpass
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.thread import ThreadPoolExecutor
from types import ModuleType
from typing import Any, NoReturn

from IPython.core.interactiveshell import InteractiveShell

from nbtasks.exceptions import NoInputError
from nbtasks.notebook.kernel import Kernel
from nbtasks.notebook.output.sink import current_parent, current_sink
from nbtasks.notebook.patches.streams import route_streams
from nbtasks.post_import import after_import

__all__ = ["Router", "refuse"]


class Router:
    """Installs the routes into a shell's process, and takes them out again.

    Writes of code that runs in a context with a sink go there; everybody else's go where they always went. Used from
    the main thread only, apart from the routes themselves.
    """

    def __init__(self, shell: InteractiveShell, kernel: Kernel) -> None:
        self._shell = shell
        self._kernel = kernel
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Install the routes. In a terminal, where the streams are no kernel's, only input and threads are routed."""
        if self._kernel.exists:
            self._undo.append(route_streams())
            self._route_displays(self._shell.display_pub)
            self._route_kernel_input()
            self._replace(self._shell, "_showtraceback", _routed_traceback)
            self._replace(self._shell, "set_parent", _not_in_tasks)
            self._replace(self._shell, "get_parent", _parent_by_context)
            self._replace(self._shell.kernel, "get_parent", _parent_by_context)
            self._replace(self._shell.payload_manager, "write_payload", _payload_by_context)
            self._undo.append(after_import("ipywidgets.widgets.widget_output", self._sync_output_widgets))
        self._replace(builtins, "input", _refuse_in_tasks("input()"))
        self._replace(getpass, "getpass", _refuse_in_tasks("getpass()"))
        self._replace(sys, "breakpointhook", _refuse_in_tasks("breakpoint()"))
        self._replace(threading.Thread, "start", _start_in_context)
        self._replace(ThreadPoolExecutor, "submit", _submit_in_context)

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

    def _route_displays(self, publisher: Any, *, keep: bool = True) -> None:
        encode = self._kernel.encode

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
                sink = current_sink()
                if sink is None:
                    publish(data, metadata, *args, transient=transient, update=update, **kwargs)
                else:
                    sink.display(encode(data), metadata or {}, transient or {}, update=update)

            return route

        def routed_clear(clear_output: Callable[..., None]) -> Callable[..., None]:
            @functools.wraps(clear_output)
            def route(wait: bool = False) -> None:
                sink = current_sink()
                if sink is None:
                    clear_output(wait)
                else:
                    sink.clear(wait=wait)

            return route

        if keep:
            self._replace(publisher, "publish", routed_publish)
            self._replace(publisher, "clear_output", routed_clear)
        else:
            publisher.publish = routed_publish(publisher.publish)
            publisher.clear_output = routed_clear(publisher.clear_output)

    def route_captured(self, shell: InteractiveShell) -> None:
        """Keep tasks' displays out of what the foreground has just begun to capture by another publisher."""
        self._route_displays(shell.display_pub, keep=False)

    def _sync_output_widgets(self, module: ModuleType) -> None:
        """An Output widget tells the front end when to take over a cell's output: what came before goes first."""

        def routed_flush(flush: Callable[[Any], None]) -> Callable[[Any], None]:
            @functools.wraps(flush)
            def route(widget: Any) -> None:
                sink = current_sink()
                if sink is None:
                    flush(widget)
                else:
                    sink.sync()

            return route

        if hasattr(module.Output, "_flush"):
            self._replace(module.Output, "_flush", routed_flush)

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


def _routed_traceback(show: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(show)
    def route(kind: type[BaseException], error: BaseException, lines: list[str]) -> None:
        sink = current_sink()
        if sink is None:
            show(kind, error, lines)
        else:
            sink.error(kind.__name__, str(error), lines)

    return route


def _payload_by_context(write: Callable[..., None]) -> Callable[..., None]:
    """A payload goes to the front end with the reply to a cell: a task's would come with the reply to another one."""

    @functools.wraps(write)
    def route(data: dict[str, Any], single: bool = True) -> None:
        sink = current_sink()
        if sink is None:
            write(data, single)
        elif data.get("source") == "page":
            sink.page(data["data"])
        else:
            sink.page({"text/plain": f"nbtasks: a background cell cannot do this ({data.get('source')})"})

    return route


def _parent_by_context(get_parent: Callable[..., Any]) -> Callable[..., Any]:
    """What a task sends belongs to its cell. ipykernel 7 keeps the request per context itself; 6 has one for all."""

    @functools.wraps(get_parent)
    def route(*channel: Any) -> Any:
        return current_parent() or get_parent(*channel)

    return route


def _not_in_tasks(set_parent: Callable[[Any], None]) -> Callable[[Any], None]:
    """`shell.set_parent` sets the parent for all threads that have none: a task must not (ipywidgets' Output does)."""

    @functools.wraps(set_parent)
    def route(parent: Any) -> None:
        if current_sink() is None:
            set_parent(parent)

    return route


def refuse(asked: str, *_: Any, **__: Any) -> NoReturn:
    """Raise the error for code that has `asked` where nobody can answer."""
    raise NoInputError(
        f"{asked} was called in a background cell, which nobody can answer: "
        "ask in a foreground cell and use the answer here"
    )


def _refuse_in_tasks(asked: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(ask: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(ask)
        def route(*args: Any, **kwargs: Any) -> Any:
            if current_sink() is not None:
                refuse(asked)
            return ask(*args, **kwargs)

        return route

    return wrap


def _start_in_context(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """`Thread.start` that hands a task's context on to the threads its code starts (CPython does so from 3.14)."""

    @functools.wraps(start)
    def route(thread: threading.Thread) -> None:
        inside = current_sink() is not None and thread.ident is None and hasattr(thread, "_bootstrap")
        if inside:  # all of the thread's life, for its `excepthook` comes after `run`
            thread._bootstrap = functools.partial(contextvars.copy_context().run, thread._bootstrap)  # type: ignore[attr-defined]
        try:
            start(thread)
        finally:
            if inside:
                del thread._bootstrap  # type: ignore[attr-defined]

    return route


def _submit_in_context(submit: Callable[..., Future[Any]]) -> Callable[..., Future[Any]]:
    """A pool's thread belongs to the cell that happened to start it; what it is given, to the cell that gives it."""
    used_by_tasks: weakref.WeakSet[ThreadPoolExecutor] = weakref.WeakSet()

    @functools.wraps(submit)
    def route(pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if current_sink() is not None:
            used_by_tasks.add(pool)
            return submit(pool, contextvars.copy_context().run, function, *args, **kwargs)
        if pool in used_by_tasks:
            return submit(pool, _outside_tasks, function, *args, **kwargs)
        return submit(pool, function, *args, **kwargs)

    return route


def _outside_tasks(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    if current_sink() is None:
        return function(*args, **kwargs)
    return contextvars.Context().run(function, *args, **kwargs)
