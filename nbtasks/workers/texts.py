"""Columns of texts on their way to another process: one run of bytes in place of an object for each text.

Must not know what is sent, nor how. pandas keeps texts as arrays of Python's strings, where pyarrow is not installed;
pickle takes them one by one, in three times the time.
"""

from __future__ import annotations

import pickle
from typing import Any

__all__ = ["texts_reduced"]

_FEWEST = 10_000
"""Below this pickle is quick enough."""
_MOST_OTHERS = 0.1
"""With more than this share of what is no text (None, NaN) it is no column of texts."""
_LEAST_DISTINCT = 0.9
"""Where fewer are objects of their own, pickle sends each but once, and they stay shared."""
_BLOCK, _STEP = 100, 1_000
_END = "\0"
_CODEC = ("utf-8", "surrogatepass")


def texts_reduced(array: Any) -> tuple[Any, ...] | None:
    """How to make this numpy array of objects anew, if nearly all of them are texts; else None."""
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
    looked_at = [id(one) for start in range(0, len(texts), _STEP) for one in texts[start : start + _BLOCK] if one]
    if len(set(looked_at)) < _LEAST_DISTINCT * len(looked_at):
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
