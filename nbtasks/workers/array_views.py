"""Views of numpy arrays that share memory in another process as they do here.

pickle copies the elements of each view: what is written to one would not show in the other.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["SharedArrays", "is_array", "owner_of"]

_MOST_UNUSED = 2
"""An owner of more than this number of times the bytes of its largest named view is not sent for its views."""


def is_array(value: Any) -> bool:
    """Whether it is a numpy array, of no subclass, whose elements are no references to objects."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject


def owner_of(array: Any) -> Any:
    """The array whose memory it uses, possibly itself."""
    while is_array(array.base):
        array = array.base
    return array


class SharedArrays:
    """Arrays of a parcel that share memory with others in it, or on the other side.

    `sent` are named arrays of the parcel. `there` are arrays of the other side which are the same as here, each with
    an object that is pickled as a reference to it.
    """

    def __init__(self, sent: Iterable[Any], there: Iterable[tuple[Any, Any]]) -> None:
        by_size = sorted(there, key=lambda one: int(one[1].nbytes))  # the largest one counts
        contiguous = [one for one in by_size if _is_contiguous(one[1]) and one[1].nbytes]
        self._there = {id(owner_of(array)): (reference, array) for reference, array in contiguous}
        self._together: dict[int, Any] = {}
        views = {id(array): array for array in sent if is_array(array)}
        counts = Counter(id(owner_of(array)) for array in views.values())
        for array in views.values():
            owner = owner_of(array)
            if counts[id(owner)] > 1 and id(owner) not in self._there and _can_be_sent_for(owner, views):
                self._together[id(owner)] = owner

    def reduced(self, array: Any) -> tuple[Any, ...] | None:
        """How to make this array as a view there; None: by its elements."""
        if not (self._there or self._together) or not is_array(array):
            return None
        owner = owner_of(array)
        if owner is not array and id(owner) in self._together:
            return _view, (owner, *_place(array, owner))
        reference, other = self._there.get(id(owner), (None, None))
        if other is None or not _is_within(array, other):
            return None
        return _view, (reference, *_place(array, other))


def _can_be_sent_for(owner: Any, views: Mapping[int, Any]) -> bool:
    largest = max(view.nbytes for view in views.values() if owner_of(view) is owner)
    return bool(_is_contiguous(owner) and 0 < owner.nbytes <= _MOST_UNUSED * largest)


def _is_contiguous(array: Any) -> bool:
    return bool(array.flags.c_contiguous or array.flags.f_contiguous)


def _place(array: Any, of: Any) -> tuple[Any, ...]:
    """Where the elements of an array are in the memory of another one."""
    offset = _address(array) - _address(of)
    layout = of.shape, of.strides, of.dtype
    return layout, offset, array.shape, array.strides, array.dtype, array.flags.writeable


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _is_within(array: Any, other: Any) -> bool:
    """Whether all of its elements are in the memory of the other one, which is contiguous."""
    steps = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    first = _address(array) + sum(step for step in steps if step < 0)
    end = _address(array) + sum(step for step in steps if step > 0) + array.itemsize
    return bool(array.size and _address(other) <= first and end <= _address(other) + other.nbytes)


def _view(
    of: Any, layout: tuple[Any, ...], offset: int, shape: Any, strides: Any, dtype: Any, is_writeable: bool
) -> Any:
    """The view; a copy of the elements if the array there is laid out otherwise."""
    import numpy as np

    if (of.shape, of.strides, of.dtype) != layout:
        of = np.array(of, order="C" if layout[1][0] >= layout[1][-1] else "F")
    view: Any = np.ndarray(shape, dtype, of if of.flags.c_contiguous else of.T, offset, strides)
    if not is_writeable:
        view.flags.writeable = False
    return view
