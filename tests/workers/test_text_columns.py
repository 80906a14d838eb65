"""Serialization of string columns: the same values, sent as one buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbtasks.workers.serialization import pack, unpack

MANY = 20_000


def texts(*special: Any) -> np.ndarray[Any, Any]:
    array = np.empty(MANY, object)
    array[:] = [f"text {n}" for n in range(MANY)]
    array[: len(special)] = special
    return array


def there(value: Any) -> Any:
    return unpack([bytes(buffer) for buffer in pack(value)])


def is_apart(value: Any) -> bool:
    """Whether it does not travel in the pickle itself."""
    head, *apart = pack(value)
    return len(head) < 10_000 and len(apart) == 1


@pytest.mark.parametrize(
    "array",
    [
        texts(),
        texts("", "", "ends", "\ud800", "ß\U0001f600", "two\nlines"),
        texts(None, 1, b"bytes", ("t",)),
        texts().reshape(4, 50, 100),
        texts(None).reshape(20, 1_000).T,
        texts()[::-1],
        texts().reshape(20, 1_000)[:, ::2],
    ],
    ids=["plain", "odd texts", "others among them", "three axes", "columns first", "backwards", "every other"],
)
def test_a_column_of_texts_is_the_same_on_the_other_side(array: Any) -> None:
    assert is_apart(array)
    found = there(array)
    assert (found.shape, found.dtype, found.flags.writeable) == (array.shape, array.dtype, True)
    assert found.tolist() == array.tolist()
    assert found.strides == array.copy(order="A").strides


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA], ids=str)
def test_frames_keep_their_missing_texts(missing: Any) -> None:
    frame = pd.DataFrame(
        {"n": range(MANY), "o": texts("a", missing), "s": pd.Series(texts("b", missing), dtype="string")}
    )
    pd.testing.assert_frame_equal(there(frame), frame)


@pytest.mark.parametrize(
    "array",
    [
        texts("has \0 inside"),
        texts(*range(MANY // 2)),
        np.array([1, *range(MANY)], object),
        texts()[:100],
    ],
    ids=["a zero among the letters", "half of them numbers", "no texts", "few texts"],
)
def test_other_arrays_are_left_to_pickle(array: Any) -> None:
    assert len(pack(array)) == 1
    assert there(array).tolist() == array.tolist()


@pytest.mark.parametrize(
    "shared", [np.repeat(texts()[:2_000], 10), np.tile(texts()[:2_000], 10)], ids=["runs", "rounds"]
)
def test_shared_strings_stay_shared(shared: Any) -> None:
    found = there(shared)
    assert found.tolist() == shared.tolist()
    assert len(set(map(id, found))) == 2_000
