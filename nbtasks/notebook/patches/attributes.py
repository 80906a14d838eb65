"""`AttributePatch`: an attribute of instances that each background cell has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbtasks.patch import ABSENT, Patch

__all__ = ["AttributePatch"]


class AttributePatch(Patch):
    """Makes the attribute `name` of instances depend on the context.

    The class may have a descriptor or a value for it already, or nothing.
    `get(instance)` returns the value of the background cell in whose context it is called, or ABSENT for the instance's
    own. `put(instance, value)` keeps a value for that cell, and returns False where the instance itself is to have it.
    """

    def __init__(
        self,
        owner: type,
        name: str,
        get: Callable[[Any], Any],
        put: Callable[[Any, Any], bool] = lambda *_: False,
    ) -> None:
        super().__init__(owner, name, lambda below: _Attribute(name, below, get, put))

    def _found(self) -> Any:
        return next((vars(base)[self.name] for base in self.owner.__mro__ if self.name in vars(base)), ABSENT)


class _Attribute:
    """The descriptor; `below` is what the class has had under that name."""

    def __init__(
        self, name: str, below: Any, get: Callable[[Any], Any], put: Callable[[Any, Any], bool]
    ) -> None:
        self._name, self._below, self._get, self._put = name, below, get, put
        self._has_descriptor = hasattr(type(below), "__set__")

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:  # traitlets reads its descriptors from the class
            if self._below is ABSENT:
                raise AttributeError(self._name)
            return self._below
        value = self._get(instance)
        if value is not ABSENT:
            return value
        if self._has_descriptor:
            return self._below.__get__(instance, owner)
        if self._name in vars(instance):
            return vars(instance)[self._name]
        if self._below is ABSENT:
            raise AttributeError(self._name)
        return self._below

    def __set__(self, instance: Any, value: Any) -> None:
        if self._put(instance, value):
            return
        if self._has_descriptor:
            self._below.__set__(instance, value)
        else:
            vars(instance)[self._name] = value
