"""Monkeypatches that can be reverted: `Patch`, its variants, and `PatchSet`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, Final

__all__ = ["ABSENT", "ItemPatch", "ListPatch", "Patch", "PatchSet", "core_patches"]


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
"""The value of an attribute or item that its owner does not have itself."""


class Patch:
    """Replaces the attribute `name` of `owner` by `make(original)`.

    `original` is the value that `getattr` returns: for a method of an instance, the bound method. Patches are not
    synchronized: code that shares one between threads holds a lock.
    """

    def __init__(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        self.owner = owner
        self.name = name
        self._make = make
        self._original: Any = ABSENT
        self._replacement: Any = ABSENT

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of {self.owner!r}>"

    @property
    def current(self) -> Any:
        """What the owner itself has under this name; ABSENT for what it only inherits from its class."""
        if self._is_data_descriptor():
            return getattr(self.owner, self.name, ABSENT)
        return getattr(self.owner, "__dict__", {}).get(self.name, ABSENT)

    @property
    def is_applied(self) -> bool:
        """Whether the replacement is in place now: applied, and replaced by nothing else since."""
        return self._replacement is not ABSENT and self.current is self._replacement

    def apply(self) -> None:
        """Put the replacement in place, unless it is there."""
        if self.is_applied:
            return
        original = self.current
        self._write(self._make(self._found()))
        self._original = original
        self._replacement = self.current  # a property may have converted it

    def revert(self) -> None:
        """Restore the original, unless something else has replaced the replacement since."""
        if self.is_applied:
            if self._original is ABSENT:
                self._delete()
            else:
                self._write(self._original)
        self._original = self._replacement = ABSENT

    def _is_data_descriptor(self) -> bool:
        """Whether the owner's class decides what is stored: a property, a slot, a trait, `__class__`."""
        found = (vars(cls)[self.name] for cls in type(self.owner).__mro__ if self.name in vars(cls))
        return hasattr(type(next(found, None)), "__set__")

    def _found(self) -> Any:
        return getattr(self.owner, self.name)

    def _write(self, value: Any) -> None:
        setattr(self.owner, self.name, value)

    def _delete(self) -> None:
        delattr(self.owner, self.name)


class ItemPatch(Patch):
    """Replaces the item `key` of a mapping by `make(original)`.

    The original of a missing item is ABSENT.
    """

    owner: MutableMapping[Any, Any]

    def __init__(self, owner: MutableMapping[Any, Any], key: Any, make: Callable[[Any], Any]) -> None:
        super().__init__(owner, key, make)

    @property
    def current(self) -> Any:
        """The value of the item."""
        return self.owner.get(self.name, ABSENT)

    def _found(self) -> Any:
        return self.current

    def _write(self, value: Any) -> None:
        self.owner[self.name] = value

    def _delete(self) -> None:
        del self.owner[self.name]


class ListPatch(Patch):
    """Keeps `item` in the list `owner.name`, at its beginning (`first`) or end."""

    def __init__(self, owner: Any, name: str, item: Any, *, first: bool = True) -> None:
        super().__init__(owner, name, lambda _: item)
        self._item = item
        self._first = first

    @property
    def current(self) -> Any:
        """The item, if it is in the list."""
        return self._item if any(other is self._item for other in self._found()) else ABSENT

    def _write(self, value: Any) -> None:
        items = self._found()
        items.insert(0 if self._first else len(items), value)

    def _delete(self) -> None:
        items = self._found()
        del items[next(index for index, other in enumerate(items) if other is self._item)]


class PatchSet:
    """Patches that are applied in order and reverted in reverse order.

    Iterating gives each single patch.
    """

    def __init__(self, patches: Iterable[Patch | PatchSet] = ()) -> None:
        self._patches: list[Patch | PatchSet] = list(patches)

    def __iter__(self) -> Iterator[Patch]:
        for patch in tuple(self._patches):
            if isinstance(patch, PatchSet):
                yield from patch
            else:
                yield patch

    def add(self, patch: Patch | PatchSet, *, apply: bool = False) -> None:
        """Append a patch, and `apply` it at once if asked to; one that cannot be applied is not kept."""
        if apply:
            patch.apply()
        self._patches.append(patch)

    def clear(self) -> None:
        """Revert all and keep none."""
        self.revert()
        self._patches.clear()

    def apply(self) -> None:
        """Apply every patch; if one fails, revert those before it."""
        try:
            for patch in tuple(self._patches):
                patch.apply()
        except BaseException:
            self.revert()
            raise

    def revert(self) -> None:
        """Revert every patch that is applied, the last one first."""
        for patch in reversed(tuple(self._patches)):
            patch.revert()


core_patches = PatchSet()
"""What the core patches, each when it is first needed. Reverted, it is applied again as soon as it is needed again."""
