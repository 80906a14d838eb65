"""The fields of a task: defaults that a subclass says, fields that are more than slots, and values as JSON.

Must not know what the fields mean, nor what a manager is.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from nbtasks.exceptions import WorkError

__all__ = ["ClassDefault", "InitSignature", "adopt_class_defaults", "jsonable", "published", "settled"]

_IDENTITY = ("__eq__", "__hash__", "__repr__")


class ClassDefault:
    """A field of the base class as its subclasses see it: where an instance was given none, the class's default shows.

    (A plain class attribute would hide the slot in which instances keep the value.)
    """

    def __init__(self, name: str, slot: Any) -> None:
        self._name = name
        self._slot = slot

    def __get__(self, task: Any, owner: type[Any]) -> Any:
        if task is None:
            return owner._class_defaults.get(self._name)
        value = self._slot.__get__(task)
        return type(task)._class_defaults.get(self._name) if value is None else value

    def __set__(self, task: Any, value: Any) -> None:
        self._slot.__set__(task, value)


class InitSignature:
    """The `__signature__` of a class that has a `__new__` which takes anything: that of its `__init__`, for help."""

    def __get__(self, instance: Any, owner: type[Any]) -> inspect.Signature:
        signature = inspect.signature(owner.__init__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])


def adopt_class_defaults(cls: type[Any], base: type[Any], names: Collection[str], reserved: Collection[str]) -> None:
    """Turn what the class body says for fields in `names` into class defaults, before `@dataclass` looks at it.

    Raises WorkError for a field that has a `reserved` name.
    """
    own = cls.__dict__
    annotations: dict[str, Any] = own.get("__annotations__", {})
    for name in annotations:
        if name in reserved:
            raise WorkError(
                f"{cls.__name__}.{name}: every task has a {name!r} of its own; call the field something else"
            )
    said = {name: own[name] for name in names if name in own and not isinstance(own[name], ClassDefault)}
    for name, value in said.items():
        annotations.pop(name, None)
        said[name] = value.default if isinstance(value, Field) else value
    cls._class_defaults = {**cls._class_defaults, **said}
    if "name" not in said and cls._class_defaults.get("name") in {None, *(kind.__name__ for kind in cls.__mro__)}:
        cls._class_defaults["name"] = cls.__name__
    for name in names if base in cls.__bases__ else said:
        setattr(cls, name, ClassDefault(name, base.__dict__[name]))
    # In the subclass's own dict, where `@dataclass` leaves them alone: tasks are told apart by identity.
    for name in _IDENTITY:
        if own.get(name) is None:
            setattr(cls, name, getattr(base, name))


def published(slot: Any, tell: Callable[[Any], None]) -> property:
    """A slot of which every change is told; None until it is set."""
    read, store = slot.__get__, slot.__set__

    def value(task: Any) -> Any:
        try:
            return read(task)
        except AttributeError:
            return None

    def change(task: Any, value: Any) -> None:
        store(task, value)
        tell(task)

    return property(value, change)


def settled(slot: Any, change: Callable[[Any, Any], None]) -> property:
    """A slot that is free until the task is added to a manager, and then changed by `change`."""
    store = slot.__set__

    def set_value(task: Any, value: Any) -> None:
        if task._manager is None:
            store(task, value)
        else:
            change(task, value)

    return property(slot.__get__, set_value)


def jsonable(value: Any) -> Any:
    """The value, made of what JSON has: times as ISO strings, durations in seconds, other objects as their repr."""
    if isinstance(value, Enum):
        return jsonable(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    return repr(value)
