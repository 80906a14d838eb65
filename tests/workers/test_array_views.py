"""Arrays that share memory, sent to another process and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nbtasks.workers.serialization import Shared, pack, pack_names, unpack, unpack_names

np = pytest.importorskip("numpy")
VIEWS: dict[str, Callable[[Any], Any]] = {
    "slice": lambda array: array[1:3],
    "steps": lambda array: array[::2, 1::2],
    "backwards": lambda array: array[::-1, ::-1],
    "transposed": lambda array: array.T,
    "one row": lambda array: array[2],
    "one element": lambda array: array[1, 1:2],
    "other shape": lambda array: array.reshape(-1),
    "other type": lambda array: array.view("u8"),
    "whole": lambda array: array[:],
    "repeated": lambda array: np.broadcast_to(array[0], (5, 6)),
}


def array_of(order: str) -> Any:
    return np.array(np.arange(24).reshape(4, 6), order=order)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_views_in_a_parcel_share_memory_there(order: str, view: str) -> None:
    array = array_of(order)
    names = {"array": array, "view": VIEWS[view](array)}
    sent = unpack(pack(names, shared=Shared.among(names.values(), {})), {})
    assert np.array_equal(sent["view"], names["view"]) and sent["view"].dtype == names["view"].dtype
    assert np.shares_memory(sent["array"], sent["view"]) == np.shares_memory(array, names["view"])
    assert sent["view"].flags.writeable == names["view"].flags.writeable
    sent["array"][:] = 0
    assert not sent["view"].any() or not np.shares_memory(array, names["view"])


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_view_of_an_array_that_is_there_is_made_there(order: str, layout: str, view: str) -> None:
    here, there = array_of(order), array_of(layout)
    made = {"view": VIEWS[view](here), "nested": [here]}
    parcel, refused = pack_names(made, there={"array": here})
    assert not refused
    found, _ = unpack_names(parcel, {"array": there})
    assert np.array_equal(found["view"], made["view"])
    assert found["nested"][0] is there
    if layout == order and np.shares_memory(made["view"], here):
        assert np.shares_memory(found["view"], there)


def test_an_array_is_not_sent_for_a_small_part_of_it() -> None:
    big = np.zeros(100_000)
    names = {"one": big[:10], "other": big[5:15]}
    parcel = pack(names, shared=Shared.among(names.values(), {}))
    assert sum(len(bytes(part)) for part in parcel) < 10_000


def test_arrays_of_objects_and_subclasses_are_sent_as_pickle_does() -> None:
    objects, matrix = np.array([None, "a"]), np.ma.array([1, 2], mask=[0, 1])
    names = {"objects": objects, "part": objects[:1], "matrix": matrix, "row": matrix[:1]}
    sent = unpack(pack(names, shared=Shared.among(names.values(), {})), {})
    assert sent["objects"].tolist() == [None, "a"] and sent["matrix"].tolist() == [1, None]


def test_an_object_that_is_there_is_sent_by_its_name() -> None:
    there = {"values": [1, 2], "holder": Holder([3])}
    parcel, refused = pack_names({"again": there["values"], "outer": Holder(there["holder"])}, there=there)
    assert not refused
    other = {"values": [1, 2], "holder": Holder([3])}
    found, _ = unpack_names(parcel, other)
    assert found["again"] is other["values"]
    assert found["outer"].held is other["holder"]


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held
