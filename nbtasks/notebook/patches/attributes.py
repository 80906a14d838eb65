"""`AttributePatch`: an attribute of instances that each background cell has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbtasks.patch import ABSENT, Patch

__all__ = ["AttributePatch"]


class AttributePatch(Patch):
    """Makes the attribute `name` of instances a property of their class.

    The class may have a descriptor for it already.
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
        super().__init__(owner, name, self._property)
        self._get = get
        self._put = put

    def _found(self) -> Any:
        return next((vars(base)[self.name] for base in self.owner.__mro__ if self.name in vars(base)), ABSENT)

    def _property(self, below: Any) -> property:
        name, get_in_task, put_in_task = self.name, self._get, self._put
        has_descriptor = hasattr(type(below), "__set__")

        def get(instance: Any) -> Any:
            value = get_in_task(instance)
            if value is not ABSENT:
                return value
            if has_descriptor:
                return below.__get__(instance, type(instance))
            if name in vars(instance) or below is ABSENT:
                return vars(instance)[name]
            return below

        def put(instance: Any, value: Any) -> None:
            if put_in_task(instance, value):
                return
            if has_descriptor:
                below.__set__(instance, value)
            else:
                vars(instance)[name] = value

        return property(get, put)
