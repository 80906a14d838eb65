"""`FirstUse`: an object that is made, and its modules imported, at its first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["FirstUse"]

T = TypeVar("T")


class FirstUse(Generic[T]):
    """An object that `make` makes at its first use, once, on any thread.

    `_lock` guards the making; `make` may use other objects of this kind, and must not be used by them. If it fails, the
    next use tries again.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: T | None = None

    @property
    def made(self) -> T | None:
        """The object; None if it was not used yet."""
        return self._made

    def get(self) -> T:
        """The object, which is made now if this is its first use."""
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = self._make()
        return self._made
