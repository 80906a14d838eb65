"""Names that kept workers hold, and the reasons why other names have no value."""

from __future__ import annotations

from typing import Any

from nbtasks.notebook.cells.held_names import Held, HeldNames, Value
from nbtasks.workers.kept_worker import KeptWorker


class Holder(KeptWorker):
    """One without a process."""

    def __init__(self) -> None:
        worker: Any = None
        super().__init__(worker, "")

    @property
    def is_needed(self) -> bool:
        return self.needed


def held(holder: Holder, outdated: Value | None = None) -> Held:
    return Held(holder, "generator", "make", outdated)


def test_a_worker_is_needed_until_its_last_name_is_bound_otherwise() -> None:
    names, holder = HeldNames(), Holder()
    names.hold(holder, {"g": held(holder), "h": held(holder)})
    names.sweep({"g": 1, "other": 2})
    assert (names.names_of(holder), holder.is_needed) == (["h"], True)
    names.sweep({"h": None})
    assert (names.names_of(holder), holder.is_needed, bool(names)) == ([], False, False)


def test_a_cell_that_ends_in_a_worker_decides_what_it_holds() -> None:
    names, holder = HeldNames(), Holder()
    names.hold(holder, {"g": held(holder), "h": held(holder)})
    names.hold(holder, {"h": held(holder), "i": held(holder)})
    assert sorted(names.names_of(holder)) == ["h", "i"]
    names.hold(holder, {})
    assert (names.names_of(holder), holder.is_needed) == ([], False)


def test_a_name_moves_to_the_worker_that_has_bound_it_last() -> None:
    names, former, later = HeldNames(), Holder(), Holder()
    names.hold(former, {"g": held(former)})
    names.hold(later, {"g": held(later)})
    assert (names.within({})["g"].holder, former.is_needed, later.is_needed) == (later, False, True)


def test_the_value_that_the_notebook_had_does_not_count_until_it_is_committed() -> None:
    names, holder = HeldNames(), Holder()
    before, same_place = [1], [2]
    names.hold(holder, {"g": held(holder, Value(before))})
    names.sweep({"g": before})
    assert list(names.within({"g": before})) == ["g"]
    assert list(names.within({"g": same_place})) == []
    names.sweep({})  # the commit has deleted it
    assert list(names.within({"g": before})) == []
    names.sweep({"g": before})
    assert not names


def test_the_names_of_a_worker_that_is_gone_are_explained_until_they_are_bound() -> None:
    names, holder = HeldNames(), Holder()
    names.hold(holder, {"g": held(holder)})
    assert "lives in the worker process of the cell 'make'" in names.explained["g"][1]
    assert names.lose(holder, "it crashed") == ["g"]
    assert names.within({}) == {}
    assert names.explained["g"] == (
        "generator",
        "it was lost with the worker process of the cell 'make' (it crashed): run that cell again",
    )
    names.sweep({"g": 1})
    assert names.explained == {}


def test_clear_ends_all_workers() -> None:
    names, one, other = HeldNames(), Holder(), Holder()
    names.hold(one, {"g": held(one)})
    names.hold(other, {"h": held(other)})
    names.explain("i", "lock", "why")
    names.clear()
    assert (one.is_needed, other.is_needed, names.explained) == (False, False, {})
