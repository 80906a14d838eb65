"""How to call the work of a task: with the task or without, async or plain."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from nbtasks.exceptions import WorkError
from nbtasks.task import Task, signature_of

__all__ = ["Once", "describe", "is_async"]


_UNUSUAL = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_ASYNC_GENERATOR
    | inspect.CO_ITERABLE_COROUTINE
)
"""Flags of functions whose number of parameters does not tell how to call them."""


class Once:
    """A coroutine object given as work: a function that can be called a single time."""

    __slots__ = ("awaitable",)

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.awaitable = awaitable

    def __call__(self) -> Awaitable[Any]:
        """The coroutine, to be awaited."""
        return self.awaitable

    def close(self) -> None:
        """Close a coroutine that will not be awaited, so that Python does not warn about it."""
        close = getattr(self.awaitable, "close", None)
        if close is not None:
            close()


def describe(work: Any) -> tuple[Any, bool, bool]:
    """Return the function to call, whether it takes the task, and whether it is async; raises WorkError.

    It takes the task if it has one positional parameter without a default, one called `task`, or `*args`.
    """
    if type(work) is FunctionType and not work.__defaults__ and not work.__dict__:
        code = work.__code__
        if not (code.co_flags & _UNUSUAL or code.co_kwonlyargcount or code.co_argcount > 1):
            return work, code.co_argcount == 1, bool(code.co_flags & inspect.CO_COROUTINE)
    if isinstance(work, Task):
        raise WorkError(f"{work!r} is a task already: manager.add_task(task)")
    if not callable(work):
        if inspect.isawaitable(work):
            return Once(work), False, True
        raise WorkError(f"work must be a function, a coroutine function or a coroutine object, not {work!r}")
    if inspect.isasyncgenfunction(work) or inspect.isgeneratorfunction(work):
        raise WorkError(f"{_name(work)} is a generator function: wrap it in a function that iterates over it")
    if isinstance(work, type) and issubclass(work, Task):
        raise WorkError(f"{work.__name__} is a Task class: manager.add_task({work.__name__}(...))")
    return work, _takes_task(work), is_async(work)


def is_async(work: Any) -> bool:
    """Whether calling `work` gives a coroutine, as far as one can tell beforehand."""
    while isinstance(work, partial):
        work = work.func
    if type(work) is FunctionType and not work.__dict__:  # without a mark of `inspect.markcoroutinefunction`
        return bool(work.__code__.co_flags & inspect.CO_COROUTINE)
    if isinstance(work, Once) or inspect.iscoroutinefunction(work):
        return True
    if isinstance(work, FunctionType | MethodType | type):
        return False
    return inspect.iscoroutinefunction(getattr(work, "__call__", None))  # noqa: B004 - inspected, not called


def _takes_task(work: Any) -> bool:
    try:
        parameters = list(signature_of(work).parameters.values())
    except ValueError:  # some built-in functions have no signature
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    missing = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if len(needed) > 1 or missing:
        names = ", ".join([p.name for p in needed] + missing)
        raise WorkError(f"{_name(work)} needs {names}: work takes the task, or nothing; bind the rest with a partial")
    first = next((p for p in parameters if p.kind is not p.KEYWORD_ONLY), None)
    if needed or first is None:
        return bool(needed)
    return first.kind is first.VAR_POSITIONAL or (first.name == "task" and first.kind is not first.VAR_KEYWORD)


def _name(work: Any) -> str:
    return getattr(work, "__qualname__", None) or repr(work)
