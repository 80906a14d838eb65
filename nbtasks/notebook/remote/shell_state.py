"""IPython shell state and loggers that cells set, for a cell in another process.

The state is taken in the notebook and put into the worker's shell; what the cell changed there is put back.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import InteractiveShell

from nbtasks.notebook.cells.source import FUTURES
from nbtasks.notebook.remote.plots import put_drawing, take_drawing
from nbtasks.workers.serialization import pack, unpack

__all__ = ["State", "changed_state", "put_state", "take_state"]

State = dict[str, Any]
_LOGGER_FIELDS = ("level", "propagate", "disabled")


@dataclass(frozen=True)
class _Part:
    take: Callable[[InteractiveShell], Any]
    put: Callable[[InteractiveShell, Any], None]


def take_state(shell: InteractiveShell) -> State:
    """The state as it is now."""
    return {name: part.take(shell) for name, part in _PARTS.items()}


def put_state(shell: InteractiveShell, state: State) -> None:
    """Set these parts of the state."""
    for name, value in state.items():
        with contextlib.suppress(Exception):  # an extension that is not there, or a setting of another version
            _PARTS[name].put(shell, value)


def changed_state(shell: InteractiveShell, before: State) -> State:
    """The parts of the state that differ from `before`."""
    return {name: value for name, value in take_state(shell).items() if value != before.get(name)}


def _attribute(name: str, of: Callable[[InteractiveShell], Any] = lambda shell: shell) -> _Part:
    return _Part(lambda shell: getattr(of(shell), name), lambda shell, value: setattr(of(shell), name, value))


def _text(shell: InteractiveShell) -> Any:
    return shell.display_formatter.formatters["text/plain"]


def _take_extensions(shell: InteractiveShell) -> list[str]:
    return sorted(shell.extension_manager.loaded - {"nbtasks"})


def _put_extensions(shell: InteractiveShell, names: list[str]) -> None:
    for name in names:
        if name not in shell.extension_manager.loaded:
            shell.extension_manager.load_extension(name)


def _take_aliases(shell: InteractiveShell) -> list[tuple[str, str]]:
    return sorted(shell.alias_manager.aliases)


def _put_aliases(shell: InteractiveShell, aliases: list[tuple[str, str]]) -> None:
    for name, command in aliases:
        if not shell.alias_manager.is_alias(name):
            shell.alias_manager.define_alias(name, command)


def _take_futures(shell: InteractiveShell) -> int:
    return int(shell.compile.flags & FUTURES)


def _put_futures(shell: InteractiveShell, flags: int) -> None:
    shell.compile.flags |= flags


def _take_nesting(_: InteractiveShell) -> str | None:
    """The module by which the notebook has made loops run inside of one another, if it has."""
    if not hasattr(asyncio, "_nest_patched"):  # the mark of both
        return None
    return next((name for name in ("nest_asyncio", "nest_asyncio2") if name in sys.modules), None)


def _put_nesting(shell: InteractiveShell, module: str | None) -> None:
    if module is not None and _take_nesting(shell) is None:
        importlib.import_module(module).apply()


def _take_custom(shell: InteractiveShell) -> tuple[tuple[type[BaseException], ...], Any]:
    """The exceptions of `set_custom_exc`, and their handler, which IPython keeps in a closure."""
    if not shell.custom_exceptions:
        return (), None
    return shell.custom_exceptions, inspect.getclosurevars(shell.CustomTB.__func__).nonlocals["handler"]


def _put_custom(shell: InteractiveShell, custom: tuple[tuple[type[BaseException], ...], Any]) -> None:
    if _take_custom(shell) != custom:
        shell.set_custom_exc(*custom)


def _is_own(function: Any) -> bool:
    return getattr(function, "__module__", None) == "__main__"


def _take_magics(shell: InteractiveShell) -> dict[str, dict[str, Any]]:
    magics = shell.magics_manager.magics
    return {kind: {name: one for name, one in magics[kind].items() if _is_own(one)} for kind in ("line", "cell")}


def _put_magics(shell: InteractiveShell, magics: dict[str, dict[str, Any]]) -> None:
    for kind, functions in magics.items():
        shell.magics_manager.magics[kind].update(functions)


def _take_printers(shell: InteractiveShell) -> dict[str, dict[type | str, Any]]:
    formatters = shell.display_formatter.formatters
    own = {
        mime: {kind: one for kind, one in _printers(formatter) if _is_own(one) or _is_own(kind)}
        for mime, formatter in formatters.items()
    }
    return {mime: printers for mime, printers in own.items() if printers}


def _printers(formatter: Any) -> Iterator[tuple[type | str, Any]]:
    """The classes, or their names, and the functions that show their objects."""
    yield from formatter.type_printers.items()
    yield from ((".".join(name), function) for name, function in formatter.deferred_printers.items())


def _put_printers(shell: InteractiveShell, printers: dict[str, dict[type | str, Any]]) -> None:
    for mime, functions in printers.items():
        for kind, function in functions.items():
            shell.display_formatter.formatters[mime].for_type(kind, function)


class _Printers:
    """What libraries, such as sympy, have registered with the formatters.

    The rows are (MIME type, class or its name, function). Most functions are closures; those are sent that can be.
    """

    def __init__(self, rows: list[tuple[str, Any, Any]]) -> None:
        self.rows = rows

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Printers) or len(self.rows) != len(other.rows):
            return False
        return all(a is b and f is g for (_, a, f), (_, b, g) in zip(self.rows, other.rows, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            return _unpacked_printers, (pack(self.rows),)
        except Exception:  # noqa: BLE001 - pickling runs the objects' own code
            return _unpacked_printers, (pack([row for row in self.rows if _can_be_packed(row)]),)


def _can_be_packed(value: Any) -> bool:
    try:
        pack(value)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def _unpacked_printers(parcel: Any) -> _Printers:
    try:
        return _Printers(unpack(parcel))
    except Exception:  # noqa: BLE001 - a library that is not installed on this side
        return _Printers([])


@functools.cache
def _default_printers() -> list[Any]:
    """The functions that IPython itself registers."""
    formatters = DisplayFormatter().formatters.values()
    return [one for f in formatters for one in (*f.type_printers.values(), *f.deferred_printers.values())]


def _take_library_printers(shell: InteractiveShell) -> _Printers:
    defaults = {id(one) for one in _default_printers()}
    rows = []
    for mime, formatter in shell.display_formatter.formatters.items():
        for kind, function in _printers(formatter):
            of_plots = (kind if isinstance(kind, str) else kind.__module__ or "").startswith("matplotlib.")
            if id(function) not in defaults and not of_plots and not _is_own(function) and not _is_own(kind):
                rows.append((mime, kind, function))
    return _Printers(rows)


def _put_library_printers(shell: InteractiveShell, printers: _Printers) -> None:
    for mime, kind, function in printers.rows:
        shell.display_formatter.formatters[mime].for_type(kind, function)


def _can_be_sent(handler: logging.Handler) -> bool:
    """Whether the handler writes to cells or files, or is of a class of the notebook that allows it."""
    kind = type(handler)
    if isinstance(handler, logging.StreamHandler) and kind is logging.StreamHandler:
        return handler.stream in (sys.stdout, sys.stderr)
    if isinstance(handler, logging.FileHandler) or (kind.__module__, kind.__name__) == ("rich.logging", "RichHandler"):
        return True
    return _is_own(kind) and _can_be_packed(handler)


def _take_loggers(_: InteractiveShell) -> dict[str, tuple[dict[str, Any], list[Any]]]:
    found = {}
    named = {name: one for name, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger)}
    for name, logger in {"": logging.root, **named}.items():
        fields = {field: getattr(logger, field) for field in _LOGGER_FIELDS}
        handlers = [(one, one.level, one.formatter) for one in logger.handlers if _can_be_sent(one)]
        if handlers or fields != {"level": 30 if logger is logging.root else 0, "propagate": True, "disabled": False}:
            found[name] = (fields, handlers)
    return found


def _put_loggers(_: InteractiveShell, loggers: dict[str, tuple[dict[str, Any], list[Any]]]) -> None:
    for name, (fields, handlers) in loggers.items():
        logger = logging.getLogger(name or None)
        for field, value in fields.items():
            setattr(logger, field, value)
        kinds = {type(one) for one, _, _ in handlers}
        others = [one for one in logger.handlers if type(one) not in kinds and not _can_be_sent(one)]
        logger.handlers[:] = [*others, *(one for one, _, _ in handlers)]
    logging.root.manager._clear_cache()  # type: ignore[attr-defined]


_PARTS = {
    "interactivity": _attribute("ast_node_interactivity"),
    "automagic": _attribute("automagic"),
    "pprint": _attribute("pprint", _text),
    "precision": _attribute("float_precision", _text),
    "tracebacks": _Part(lambda shell: shell.InteractiveTB.mode, lambda shell, mode: shell.InteractiveTB.set_mode(mode)),
    "futures": _Part(_take_futures, _put_futures),
    "nesting": _Part(_take_nesting, _put_nesting),
    "custom": _Part(_take_custom, _put_custom),
    "drawing": _Part(lambda _: take_drawing(), put_drawing),
    "extensions": _Part(_take_extensions, _put_extensions),
    "aliases": _Part(_take_aliases, _put_aliases),
    "magics": _Part(_take_magics, _put_magics),
    "printers": _Part(_take_printers, _put_printers),
    "library printers": _Part(_take_library_printers, _put_library_printers),
    "loggers": _Part(_take_loggers, _put_loggers),
}
