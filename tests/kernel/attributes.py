"""Snapshots of the attributes of modules, classes and objects of the shell.

Imported in the kernel under test. Values are compared by identity.
"""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

from IPython import get_ipython

__all__ = ["Snapshot"]

Place = tuple[int, Any]
"""An owner's id, and the name of its attribute, the key of its item, or the item of a list itself."""

CACHES = (
    *("__annotations__", "__annotations_cache__", "__annotate_func__", "_Unparser"),
    *("__slotnames__", "_gc", "_last_input_line"),
)
"""Attributes that Python (of classes, and of `ast` for `unparse`), copyreg, pyzmq and IPython set at first use."""

ABSENT: Any = types.SimpleNamespace()


class Snapshot:
    """The attributes of all owners, kept alive so that their ids stay unique."""

    def __init__(self) -> None:
        self.owners = {id(owner): owner for owner in owners()}
        self.values = {place: value for owner in self.owners.values() for place, value in contents(owner)}

    def changes(self) -> dict[Place, str]:
        """The places whose object is another one now, with descriptions."""
        now = {place: value for owner in self.owners.values() for place, value in contents(owner)}
        changes = {}
        for place in self.values.keys() | now.keys():
            old, new = self.values.get(place, ABSENT), now.get(place, ABSENT)
            if not are_same(old, new) and not isinstance(new, types.ModuleType):  # a submodule was imported
                owner = describe(self.owners[place[0]])
                changes[place] = f"{owner}: {place[1]!r}: {describe(old)} became {describe(new)}"
        return changes

    def missing(self, patches: Iterable[Any]) -> list[str]:
        """The patches whose owners have no snapshot."""
        return [repr(patch) for patch in patches if id(patch.owner) not in self.owners]


def owners() -> Iterator[Any]:
    """All modules and classes except our own; the shell, the kernel, and their parts and tables."""
    for candidate in gc.get_objects():
        # Not `isinstance`, which asks weak proxies for the class of an object that may be gone.
        if issubclass(type(candidate), type | types.ModuleType) and not is_ours(candidate):
            yield candidate
    shell: Any = get_ipython()
    if hasattr(shell, "kernel"):  # IPython's terminal has none
        yield from (shell.kernel, shell.kernel.control_handlers, shell.kernel.shell_handlers)
        if getattr(shell.kernel, "shell_channel_thread", None) is not None:  # from ipykernel 7.0
            yield shell.kernel.shell_channel_thread.manager
    yield from (shell, shell.display_pub, shell.displayhook, shell.payload_manager, shell.builtin_trap)
    yield from (shell.events, shell.magics_manager, shell.display_formatter, shell.Completer, shell.compile)
    yield from (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__, vars(sys), sys.modules["__main__"])
    yield from (shell.magics_manager.registry, *shell.magics_manager.magics.values())
    yield from (*shell.events.callbacks.values(), shell.configurables, sys.meta_path, sys.path_hooks)
    for formatter in (*shell.display_formatter.formatters.values(), shell.display_formatter.ipython_display_formatter):
        yield from (formatter, formatter.type_printers, formatter.deferred_printers, formatter.singleton_printers)
    for dispatcher in (*shell.strdispatchers.values(), shell.Completer.custom_completers):
        yield from (dispatcher.strs, dispatcher.regexs, *(chain.chain for chain in dispatcher.strs.values()))
    if "matplotlib" in sys.modules:
        yield sys.modules["matplotlib"].rcParams


def is_ours(owner: Any) -> bool:
    name = owner.__name__ if isinstance(owner, types.ModuleType) else owner.__module__
    return str(name).partition(".")[0] in ("nbtasks", "tests", "__main__")


def contents(owner: Any) -> Iterator[tuple[Place, Any]]:
    """The owner's own attributes and traits, the items of a mapping, or the identities in a list."""
    yield (id(owner), "__class__"), type(owner)
    if owner is sys.modules["__main__"]:  # the notebook's names
        return
    if isinstance(owner, list):
        yield (id(owner), "order"), tuple(map(id, owner))
        return
    found = dict(attributes(owner))
    for name, value in (found | found.pop("_trait_values", {})).items():
        if name not in CACHES:
            yield (id(owner), name), value


def attributes(owner: Any) -> Any:
    if issubclass(type(owner), dict):
        return dict.items(owner)  # not those that a subclass shows
    return vars(owner) if isinstance(owner, type) else object.__getattribute__(owner, "__dict__")


def are_same(old: Any, new: Any) -> bool:
    """Whether they are one object, bound methods of one object, or equal and immutable."""
    if isinstance(old, types.MethodType) and isinstance(new, types.MethodType):  # each access makes another one
        return old.__self__ is new.__self__ and old.__func__ is new.__func__
    return old is new or (type(old) is type(new) and isinstance(old, int | float | str | bytes | tuple) and old == new)


def describe(value: Any) -> str:
    if value is ABSENT:
        return "nothing"
    if isinstance(value, type | types.ModuleType | types.FunctionType):
        return repr(value)
    return object.__repr__(value)
