"""Monkeypatches of `input()`, `getpass()` and `breakpoint()` for background cells."""

from __future__ import annotations

import builtins
import functools
import getpass
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from nbtasks.exceptions import NoInputError
from nbtasks.notebook.output.sink import current_sink
from nbtasks.patch import Patch, PatchSet

__all__ = ["refuse_input", "user_input_patches"]


def user_input_patches(shell: Any) -> PatchSet:
    """Patches of the input functions of the process and of the shell's kernel, if it has one.

    While a cell runs, the kernel has its own functions in `builtins` and `getpass`; it restores those that it saved.
    """
    patches = [
        _MovedPatch(builtins, "input", "input()"),
        _MovedPatch(getpass, "getpass", "getpass()"),
        Patch(sys, "breakpointhook", functools.partial(_Refused, "breakpoint()")),
    ]
    kernel = getattr(shell, "kernel", None)  # IPython's terminal has none
    if kernel is not None:
        patches += [
            Patch(kernel, "raw_input", functools.partial(_Refused, "input()")),
            Patch(kernel, "getpass", functools.partial(_Refused, "getpass()")),
        ]
        saved = (("_sys_raw_input", "input()"), ("_save_getpass", "getpass()"))
        patches += [_MovedPatch(kernel, name, call) for name, call in saved if hasattr(kernel, name)]
    return PatchSet(patches)


def refuse_input(call: str, *_: Any, **__: Any) -> NoReturn:
    """Raise the error for `call` in code to which no user can reply."""
    raise NoInputError(
        f"{call} was called in a background cell, which gets no user input: "
        "ask in a foreground cell and use the answer here"
    )


class _Refused:
    """An input function that raises an error in a background cell."""

    def __init__(self, call: str, original: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original)
        self.original = original
        self._call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current_sink() is not None:
            refuse_input(self._call)
        return self.original(*args, **kwargs)


class _MovedPatch(Patch):
    """A patch of a function that the kernel saves, replaces and restores.

    It counts as applied with any replacement of ours, which may be the one that was made for another patch.
    """

    def __init__(self, owner: Any, name: str, call: str) -> None:
        super().__init__(owner, name, functools.partial(_Refused, call))

    @property
    def is_applied(self) -> bool:
        """Whether the function that is there now raises an error in a background cell."""
        return isinstance(self.current, _Refused)

    def revert(self) -> None:
        """Restore the original of the function that is there now."""
        found = self.current
        if isinstance(found, _Refused):
            self._write(found.original)
