"""Fast serialization of arrays of strings, such as text columns of data frames.

Pickle stores each string on its own. Nearly all strings of such a column are joined into one buffer instead, which also
travels outside of the pickle.
"""

from __future__ import annotations

import pickle
from typing import Any

__all__ = ["reduced_texts"]

_FEWEST = 10_000
"""Below this number of elements pickle is fast enough."""
_MOST_OTHERS = 0.1
"""An array with a larger share of other objects (None, NaN) is left to pickle."""
_LEAST_DISTINCT = 0.9
"""Where fewer elements are different objects, pickle stores each string once, and they stay shared."""
_BLOCK, _STEP = 100, 1_000
_END = "\0"
_CODEC = ("utf-8", "surrogatepass")


def reduced_texts(array: Any) -> tuple[Any, ...] | None:
    """How to rebuild this numpy array of objects, if nearly all of them are strings; else None."""
    if array.size < _FEWEST:
        return None
    order = "C" if array.flags.c_contiguous or not array.flags.f_contiguous else "F"
    texts = array.ravel(order).tolist()
    if set(map(type, texts[:_BLOCK])).isdisjoint({str}):
        return None
    others = {}
    if set(map(type, texts)) != {str}:
        others = {place: one for place, one in enumerate(texts) if type(one) is not str}
        if len(others) > _MOST_OTHERS * len(texts):
            return None
        for place in others:
            texts[place] = ""
    sample = [id(one) for start in range(0, len(texts), _STEP) for one in texts[start : start + _BLOCK] if one]
    if len(set(sample)) < _LEAST_DISTINCT * len(sample):
        return None
    joined = _END.join(texts)
    if joined.count(_END) != len(texts) - 1:  # one of them has it inside
        return None
    return _texts, (pickle.PickleBuffer(joined.encode(*_CODEC)), array.shape, order, others)


def _texts(joined: Any, shape: tuple[int, ...], order: Any, others: dict[int, Any]) -> Any:
    import numpy as np

    array = np.empty(shape, object, order)
    flat = array.reshape(-1, order=order)  # a view: it is contiguous in this order
    flat[:] = str(joined, *_CODEC).split(_END)
    for place, one in others.items():
        flat[place] = one
    return array
