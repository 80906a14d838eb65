"""Monkeypatches of the shell's hooks: what a background cell adds is its own.

Hooks are the lists of transformers, and of callbacks of events. A function of a module that a cell registers as a
callback, as matplotlib does when its first plot is made, is there for the whole notebook at once.

`%%pyinstrument`, for example, adds a transformer of syntax trees for as long as its cell runs: in the foreground, every
other cell would be transformed too. What a cell leaves there is added to the notebook's lists with its names.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbtasks.notebook.patches.attributes import AttributePatch
from nbtasks.patch import ABSENT, Patch, PatchSet

__all__ = ["ShellHooks", "shell_hook_patches"]

_hooks: contextvars.ContextVar[ShellHooks | None] = contextvars.ContextVar("nbtasks_shell_hooks", default=None)


class ShellHooks:
    """The hooks of one attempt.

    Each list is copied from the notebook's when the cell asks for it first.
    """

    def __init__(self) -> None:
        self._lists: dict[tuple[int, str], tuple[Any, str, Any, Any]] = {}

    def enter(self) -> None:
        """Use these lists in this context, and in threads that are started from it."""
        _hooks.set(self)

    def get(self, owner: Any, name: str) -> Any:
        """The cell's list, or its dict of lists."""
        key = id(owner), name
        if key not in self._lists:
            notebooks = contextvars.Context().run(getattr, owner, name)
            self._lists[key] = owner, name, _copy(notebooks), _copy(notebooks)
        return self._lists[key][3]

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Replace the cell's list."""
        self.get(owner, name)
        self._lists[id(owner), name] = *self._lists[id(owner), name][:3], value

    def follow(self, events: Any, event: str, function: Any) -> None:
        """Repeat a change of the notebook's callbacks in the cell's copy, if there is one."""
        if (id(events), "callbacks") not in self._lists:
            return
        notebooks = contextvars.Context().run(getattr, events, "callbacks")
        is_there = _index(notebooks[event], function) is not None
        for callbacks in self._lists[id(events), "callbacks"][2:]:
            index = _index(callbacks[event], function)
            if is_there and index is None:
                callbacks[event].append(function)
            elif not is_there and index is not None:
                del callbacks[event][index]

    def commit(self) -> None:
        """Add to the notebook's lists what the cell has added to its own, and remove what it has removed."""
        lists, self._lists = self._lists, {}
        for owner, name, before, after in lists.values():
            notebooks = contextvars.Context().run(getattr, owner, name)
            if isinstance(notebooks, dict):
                for key in after:
                    _commit(notebooks.setdefault(key, []), before.get(key, []), after[key])
            else:
                _commit(notebooks, before, after)


def shell_hook_patches(shell: InteractiveShell) -> PatchSet:
    """Patches of the attributes that hold the lists."""
    manager = shell.input_transformer_manager
    places = [
        (type(shell), ("ast_transformers", "input_transformers_post")),
        (type(manager), ("cleanup_transforms", "line_transforms", "token_transformers")),
        (type(shell.events), ("callbacks",)),
    ]
    instances = (shell, manager, shell.events)
    return PatchSet(
        [
            *(_patch(owner, name, instances) for owner, names in places for name in names),
            *(Patch(type(shell.events), name, _for_notebook) for name in ("register", "unregister")),
        ]
    )


def _for_notebook(change: Callable[..., None]) -> Callable[..., None]:
    """Call `change` for the notebook's callbacks if the function is that of a module."""

    @functools.wraps(change)
    def change_callbacks(events: Any, event: str, function: Any) -> None:
        hooks = _hooks.get()
        if hooks is not None and inspect.isfunction(function) and function.__module__ != "__main__":
            contextvars.Context().run(change, events, event, function)
            hooks.follow(events, event, function)
        else:
            change(events, event, function)

    return change_callbacks


def _patch(owner: type, name: str, instances: tuple[Any, ...]) -> AttributePatch:
    def get(instance: Any) -> Any:
        hooks = _hooks.get()
        if hooks is None or not any(instance is one for one in instances):
            return ABSENT
        return hooks.get(instance, name)

    def put(instance: Any, value: Any) -> bool:
        hooks = _hooks.get()
        if hooks is None or not any(instance is one for one in instances):
            return False
        hooks.put(instance, name, value)
        return True

    return AttributePatch(owner, name, get, put)


def _copy(lists: Any) -> Any:
    return {key: list(value) for key, value in lists.items()} if isinstance(lists, dict) else list(lists)


def _commit(notebooks: list[Any], before: list[Any], after: list[Any]) -> None:
    added, removed = _without(after, before), _without(before, after)
    for item in removed:
        if _index(notebooks, item) is not None:
            del notebooks[_index(notebooks, item)]  # type: ignore[arg-type]
    notebooks.extend(item for item in added if _index(notebooks, item) is None)


def _without(items: list[Any], others: list[Any]) -> list[Any]:
    return [item for item in items if _index(others, item) is None]


def _index(items: list[Any], item: Any) -> int | None:
    """Where the item is; bound methods are equal, not identical."""
    return next((n for n, other in enumerate(items) if other is item or _is_same_method(other, item)), None)


def _is_same_method(one: Any, other: Any) -> bool:
    return (
        getattr(one, "__self__", None) is not None
        and getattr(one, "__self__", None) is getattr(other, "__self__", None)
        and getattr(one, "__func__", one) is getattr(other, "__func__", other)
    )
