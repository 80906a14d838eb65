"""Monkeypatches of `sys.stdout`, `sys.stderr` and `sys.displayhook`.

Output of a background cell goes to its sink. Code that replaces one of the three (`redirect_stdout`, doctest) replaces
it in the background cell only, or in the foreground only. The kernel's streams stay the same objects, so that logging
handlers and libraries that hold them are covered too.

`print` and the interpreter read the dict of `sys`, code reads attributes. So the dict has guards, which write to the
replacement, and the attributes are the streams themselves: what a library has saved before a replacement writes to the
cell, as it does in the foreground.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nbtasks.notebook.output.away_cells import away_cell
from nbtasks.notebook.output.sink import Sink, current_sink, value_here
from nbtasks.patch import ItemPatch, Patch, PatchSet

__all__ = ["TaskStreams", "current_streams", "stream_patches", "swapped_streams"]

_NAMES = ("stdout", "stderr", "displayhook")

_streams: contextvars.ContextVar[TaskStreams | None] = contextvars.ContextVar("nbtasks_streams", default=None)


class TaskStreams:
    """The replacements of the three in an attempt; `display` is its `sys.displayhook`.

    It starts with those that the foreground had when the task was launched: `swapped`.
    """

    def __init__(self, display: Callable[[Any], None], swapped: Mapping[str, Any]) -> None:
        self.display = display
        self._before = dict(swapped)
        self._swapped = dict(swapped)
        self._restored: dict[str, Any] = {}

    def enter(self) -> None:
        """Use these replacements in this context, and in threads that are started from it."""
        _streams.set(self)

    def commit(self) -> None:
        """Replace streams in the notebook, where the attempt left them replaced. (IPython resets the hook.)"""
        swapped, self._swapped = self._swapped, {}
        for name in ("stdout", "stderr"):
            now = swapped.get(name)
            if now is not self._before.get(name):
                contextvars.Context().run(setattr, sys, name, self._restored[name] if now is None else now)

    @contextmanager
    def replaced(self, **streams: Any) -> Iterator[None]:
        """Use these replacements within this context, where they are not None."""
        before = dict(self._swapped)
        self._swapped |= {name: stream for name, stream in streams.items() if stream is not None}
        try:
            yield
        finally:
            self._swapped = before

    def get(self, name: str) -> Any:
        """The replacement of `name`; None if there is none."""
        return self._swapped.get(name)

    def put(self, name: str, value: Any) -> None:
        """Replace `name` by `value`; the original ends the replacement."""
        if isinstance(value, _GuardedHook) or (_is_routed(value) and getattr(value, "name", None) == name):
            self._swapped.pop(name, None)
            self._restored[name] = value
        else:
            self._swapped[name] = value


def swapped_streams() -> dict[str, Any]:
    """The replacements of the kernel's streams in the foreground, by name."""
    present = {name: sys.__dict__[name] for name in ("stdout", "stderr")}
    return {
        name: stream.bare
        for name, stream in present.items()
        if isinstance(stream, _GuardedStream) and not _is_routed(stream.bare)
    }


def current_streams() -> TaskStreams | None:
    """The replacements in the task in whose context this is called; None in the foreground."""
    return None if current_sink() is None else _streams_here()


def _streams_here() -> TaskStreams | None:
    streams = value_here(_streams)
    if streams is None and (cell := away_cell()) is not None:
        streams = cell.streams
    return streams


def stream_patches() -> PatchSet:
    """Patches of the methods of the kernel's streams, and of the three attributes of `sys`."""
    classes = {type(stream) for stream in (sys.stdout, sys.stderr) if hasattr(stream, "set_parent")}
    methods = [
        Patch(stream_class, method, functools.partial(_ByContext, method))
        for stream_class in classes
        for method in ("write", "flush")
    ]
    return PatchSet([*methods, *map(_SwapPatch, _NAMES), Patch(sys, "__class__", lambda _: _SysByContext)])


class _SwapPatch(ItemPatch):
    """Guards an item of `vars(sys)`, also after the foreground has replaced it."""

    def __init__(self, name: str) -> None:
        super().__init__(vars(sys), name, functools.partial(_guarded, name))

    @property
    def is_applied(self) -> bool:
        """Whether output of background cells is kept out of the current object."""
        return self.current is _guarded(self.name, self.current)

    def revert(self) -> None:
        """Remove the guard from the current object."""
        self._write(_bare(self.current))


def _by_context(name: str) -> property:
    def get(module: types.ModuleType) -> Any:
        streams, present = current_streams(), module.__dict__[name]
        swapped = None if streams is None else streams.get(name)
        if swapped is not None:
            return swapped
        # A background cell calls the guard, which knows its hook.
        return present if streams is not None and name == "displayhook" else _bare(present)

    def put(module: types.ModuleType, value: Any) -> None:
        streams = current_streams()
        if streams is None:
            module.__dict__[name] = _guarded(name, value)
        else:
            streams.put(name, value)

    return property(get, put)


class _SysByContext(types.ModuleType):
    """The module `sys`. `print` and the interpreter use the guards in its dict."""

    stdout = _by_context("stdout")
    stderr = _by_context("stderr")
    displayhook = _by_context("displayhook")

    if sys.version_info >= (3, 14):

        def __getattribute__(self, name: str) -> Any:
            """Without it, code that is warm reads the dict, past the properties (CPython gh-156399)."""
            return super().__getattribute__(name)


class _ByContext:
    """A method of a stream class, which writes to the sink in a background cell.

    It is a data descriptor of the class, because IPython sets `write` on the stream while a cell runs.
    """

    def __init__(self, name: str, original: Any) -> None:
        self.original = original
        self._name = name

    def __get__(self, stream: Any, owner: type | None = None) -> Any:
        if stream is None:
            return self.original
        sink = current_sink()
        if sink is not None:
            return _of_sink(sink, stream.name, self._name)
        own = stream.__dict__.get(self._name)
        return self.original.__get__(stream, owner) if own is None else own

    def __set__(self, stream: Any, value: Any) -> None:
        stream.__dict__[self._name] = value

    def __delete__(self, stream: Any) -> None:
        del stream.__dict__[self._name]


class _GuardedStream:
    """What `print` writes to.

    It is a stream of the foreground without the output of background cells.
    """

    def __init__(self, stream: Any, name: str) -> None:
        self.bare = stream
        self.name = name

    def write(self, text: str) -> Any:
        sink = current_sink()
        return self.bare.write(text) if sink is None else _of_task(sink, self.name, "write")(text)

    def flush(self) -> None:
        sink = current_sink()
        if sink is None:
            self.bare.flush()
        else:
            _of_task(sink, self.name, "flush")()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (sys, self.name)


class _GuardedHook:
    """A displayhook of the foreground without the values of background cells."""

    def __init__(self, hook: Any) -> None:
        self.bare = hook

    def __call__(self, value: Any) -> None:
        streams = current_streams()
        if streams is None:
            self.bare(value)
        else:
            (streams.get("displayhook") or streams.display)(value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (sys, "displayhook")


def _of_task(sink: Sink, name: str, method: str) -> Callable[..., Any]:
    """The method with which `print` writes to the stream `name` in a background cell, or flushes it."""
    streams = _streams_here()
    swapped = None if streams is None else streams.get(name)
    return _of_sink(sink, name, method) if swapped is None else getattr(swapped, method)


def _of_sink(sink: Sink, name: str, method: str) -> Callable[..., Any]:
    if method == "flush":
        return sink.flush
    return sink.stderr if name == "stderr" else sink.stdout


def _before_fork() -> None:
    """Send what the foreground has written to the kernel's streams.

    A child would send its copy of that, too.
    """
    if current_sink() is None:
        return
    for name in ("stdout", "stderr"):
        stream = _bare(vars(sys)[name])
        if _is_routed(stream):
            type(stream).flush(stream)  # the class has the original


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)


def _is_routed(stream: Any) -> bool:
    return isinstance(inspect.getattr_static(type(stream), "write", None), _ByContext)


def _guarded(name: str, value: Any) -> Any:
    if value is None or isinstance(value, _GuardedStream | _GuardedHook):
        return value
    return _GuardedHook(value) if name == "displayhook" else _GuardedStream(value, name)


def _bare(value: Any) -> Any:
    return value.bare if isinstance(value, _GuardedStream | _GuardedHook) else value
