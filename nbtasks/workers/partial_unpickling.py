"""Unpickling that continues after an object that cannot be rebuilt.

One such object costs no other name of the same pickle.

Slow, since it is pickle's own unpickler written in Python: only for pickles that the fast one has refused.
"""

from __future__ import annotations

import gc
import pickle
import types
from collections.abc import Callable
from typing import Any

from nbtasks.workers.quiet_import import imported_quietly

__all__ = ["Lost", "NotRebuiltError", "PartialUnpickler", "lost_within"]

_FAR = 200_000
"""How many objects are looked at."""


class Lost:
    """Stands for an object that could not be rebuilt."""

    def __init__(self, kind: str, why: BaseException) -> None:
        self.kind, self.why = kind, why


class NotRebuiltError(TypeError):
    """An object that cannot be brought to the state that it had elsewhere.

    `in_both`: since it was used in both processes, and is used on here.
    """

    def __init__(self, kind: str, why: str, *, in_both: bool = False) -> None:
        super().__init__(why)
        self.kind = kind
        self.in_both = in_both


_Unpickler: Any = pickle._Unpickler  # its stack has no types


class PartialUnpickler(_Unpickler):  # type: ignore[misc]
    """Puts a `Lost` in the place of each object that cannot be rebuilt.

    `broken` are the objects whose state is not set.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.broken: dict[int, tuple[Any, Lost]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The class or function, or a `Lost`."""
        try:
            imported_quietly(module)
            return super().find_class(module, name)
        except Exception as error:  # noqa: BLE001 - it may import a module
            return Lost(f"{module}.{name}", error)

    def _made(self, function: Any, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        for one in (function, *args):
            if isinstance(one, Lost):
                return one
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - objects are rebuilt by code of their own
            module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", repr(function))
            lost = Lost(error.kind if isinstance(error, NotRebuiltError) else f"{module}.{name}", error)
            if args and name.endswith(("setstate", "set_class_state")):
                self.broken[id(args[0])] = args[0], lost
            return lost

    def load_reduce(self) -> None:
        """Call a function."""
        args, function = self.stack.pop(), self.stack.pop()
        self.append(self._made(function, lambda: function(*args), args))

    def load_newobj(self) -> None:
        """Make an object by `__new__`."""
        args, kind = self.stack.pop(), self.stack.pop()
        self.append(self._made(kind, lambda: kind.__new__(kind, *args), args))

    def load_newobj_ex(self) -> None:
        """The same, with keyword arguments."""
        kwargs, args, kind = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.append(self._made(kind, lambda: kind.__new__(kind, *args, **kwargs), args))

    def load_build(self) -> None:
        """Set the state of an object."""
        self._changed(-2, super().load_build, 1)

    def load_append(self) -> None:
        """Append to a list."""
        self._changed(-2, super().load_append, 1)

    def load_setitem(self) -> None:
        """Set an item of a dict."""
        self._changed(-3, super().load_setitem, 2)

    def load_appends(self) -> None:
        """Append several to a list."""
        self._changed_by_many(super().load_appends)

    def load_setitems(self) -> None:
        """Set several items of a dict."""
        self._changed_by_many(super().load_setitems)

    def load_additems(self) -> None:
        """Add several to a set."""
        self._changed_by_many(super().load_additems)

    def _changed(self, place: int, change: Callable[[], None], operands: int) -> None:
        changed = self.stack[place]
        if isinstance(changed, Lost):
            del self.stack[-operands:]
            return
        size = len(self.stack)
        try:
            change()
        except Exception as error:  # noqa: BLE001 - as above
            self.broken[id(changed)] = changed, Lost(_kind(changed), error)
            del self.stack[size - operands :]

    def _changed_by_many(self, change: Callable[[], None]) -> None:
        changed = self.metastack[-1][-1]
        if isinstance(changed, Lost):
            self.pop_mark()
            return
        depth = len(self.metastack)
        try:
            change()
        except Exception as error:  # noqa: BLE001 - as above
            self.broken[id(changed)] = changed, Lost(_kind(changed), error)
            if len(self.metastack) == depth:
                self.pop_mark()

    dispatch = {  # noqa: RUF012 - as in the class below
        **_Unpickler.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
        pickle.APPEND[0]: load_append,
        pickle.SETITEM[0]: load_setitem,
        pickle.APPENDS[0]: load_appends,
        pickle.SETITEMS[0]: load_setitems,
        pickle.ADDITEMS[0]: load_additems,
    }


def lost_within(value: Any, broken: dict[int, tuple[Any, Lost]], names: dict[str, Any]) -> Lost | None:
    """What is lost of a value; None if it is whole. `names` are the globals of its functions."""
    todo, seen = [value], {id(names)}
    while todo and len(seen) < _FAR:
        one = todo.pop()
        if id(one) in seen or isinstance(one, types.ModuleType):
            continue
        seen.add(id(one))
        if isinstance(one, Lost):
            return one
        if id(one) in broken:
            return broken[id(one)][1]
        if not isinstance(one, type) or one.__module__ == "__main__":
            todo += gc.get_referents(one)
    return None


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
