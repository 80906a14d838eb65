"""`eval` and `exec` for code whose globals are a view on other names.

Evaluated code reads its globals without `__missing__`, and so would not find the names below a view. It reads its
locals by the mapping protocol, so the locals that are passed here include the globals.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import FrameType
from typing import Any

__all__ = ["EVALUATING"]


class _Locals(MutableMapping[str, Any]):
    """Locals in which missing names are looked up in the globals."""

    def __init__(self, own: MutableMapping[str, Any], names: Mapping[str, Any]) -> None:
        self._own = own
        self._names = names

    def __getitem__(self, name: str) -> Any:
        return self._own[name] if name in self._own else self._names[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._own[name] = value

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


def _eval(source: Any, names: Any = None, own: Any = None, /) -> Any:
    return builtins.eval(source, *_namespaces(sys._getframe(1), names, own))  # noqa: S307 - the user's own code


def _exec(source: Any, names: Any = None, own: Any = None, /, **options: Any) -> None:
    builtins.exec(source, *_namespaces(sys._getframe(1), names, own), **options)


def _namespaces(caller: FrameType, names: Any, own: Any) -> tuple[Any, Any]:
    """Return the globals and locals for `eval` and `exec`, by default those of the caller."""
    if names is None:
        names = caller.f_globals
        own = _locals_of(caller) if own is None else own
    if own is None or own is names or not hasattr(type(names), "__missing__"):
        return names, own
    return names, _Locals(own, names)


def _locals_of(frame: FrameType) -> Any:
    own = frame.f_locals
    # Of a function, Python 3.13 gives a view through which names could be rebound; `exec` takes a copy.
    return own if isinstance(own, dict) else dict(own)


EVALUATING: dict[str, Callable[..., Any]] = {"eval": _eval, "exec": _exec}
"""The replacements, by the name of the builtin."""
