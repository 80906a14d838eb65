"""What stands in the way of a function's going to another process: which names that it uses, and where it uses them.

Must not know how things are sent: it tries each for itself, once it is known that the whole cannot be.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import types
from collections.abc import Iterator
from typing import Any

from nbtasks.task import Task
from nbtasks.workers.parcels import global_names, pack
from nbtasks.workers.serving import kind_of

__all__ = ["refused_fields", "refused_names"]

_FUNCTIONS = (functools.partial, types.MethodType, types.FunctionType)


def refused_names(function: Any, task: Task) -> list[str]:
    """One line for each object that the function uses and that cannot be sent, all the way down."""
    told: dict[str, None] = {}
    seen: set[int] = set()
    found = [function]
    while found:
        one = found.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        for value, where in _used(one):
            why = _refusal(value, task)
            if why is not None and isinstance(value, _FUNCTIONS):
                found.append(value)
            elif why is not None:
                told[f"{where.format(kind_of(value))}: {why}"] = None
    return list(told)


def refused_fields(values: dict[str, Any], task: Task) -> list[str]:
    """The same for the fields of a task class."""
    found = {name: (value, _refusal(value, task)) for name, value in values.items()}
    kind = type(task).__qualname__
    return [f"{name} ({kind_of(value)}), a field of {kind}: {why}" for name, (value, why) in found.items() if why]


def _refusal(value: Any, task: Task) -> str | None:
    try:
        pack(value, task=task)
    except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
        return str(error) or type(error).__name__
    return None


def _used(function: Any) -> Iterator[tuple[Any, str]]:
    """What it uses, each with where: a text with a place for the kind."""
    if isinstance(function, functools.partial):
        yield function.func, ""
        for number, value in enumerate(function.args, 1):
            yield value, f"argument {number} of {_name(function.func)} ({{}})"
        for name, value in function.keywords.items():
            yield value, f"argument {name} of {_name(function.func)} ({{}})"
    elif isinstance(function, types.MethodType):
        yield function.__func__, ""
        yield function.__self__, f"the object of {_name(function)}() ({{}})"
    elif isinstance(function, types.FunctionType):
        names = function.__globals__
        read = {name: names[name] for name in sorted(global_names(function.__code__)) if name in names}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # it is not bound yet
                read[name] = cell.cell_contents
        for name, value in read.items():
            yield value, f"{name} ({{}}), which {_name(function)}() reads{_line(function.__code__, name)}"
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            yield value, f"a default of {_name(function)}() ({{}})"


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))


def _line(code: types.CodeType, name: str) -> str:
    """Where the name is read first."""
    for step in dis.get_instructions(code):
        if step.argval == name and step.opname.startswith("LOAD") and step.positions and step.positions.lineno:
            return f" in line {step.positions.lineno}"
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType) and (line := _line(constant, name)):
            return line
    return ""
