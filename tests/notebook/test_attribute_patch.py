"""`AttributePatch`: what instances and their class have under the name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from traitlets import HasTraits, Integer

from nbtasks.notebook.patches.attributes import AttributePatch
from nbtasks.patch import ABSENT


class Thing(HasTraits):
    trait = Integer(1)
    plain = 1


class Cell:
    """Stands for the cell in whose context code runs."""

    def __init__(self) -> None:
        self.values: dict[str, Any] | None = None

    def patch(self, name: str) -> AttributePatch:
        def get(_instance: Thing) -> Any:
            return ABSENT if self.values is None else self.values.get(name, ABSENT)

        def put(_instance: Thing, value: Any) -> bool:
            if self.values is None:
                return False
            self.values[name] = value
            return True

        return AttributePatch(Thing, name, get, put)


@pytest.fixture
def cell() -> Iterator[Cell]:
    cell = Cell()
    patches = [cell.patch(name) for name in ("trait", "plain", "own")]
    for patch in patches:
        patch.apply()
    yield cell
    for patch in patches:
        patch.revert()
    assert not any(patch.is_applied for patch in patches)


@pytest.mark.parametrize("name", ["trait", "plain", "own"])
def test_a_cell_has_a_value_of_its_own(cell: Cell, name: str) -> None:
    thing = Thing()
    setattr(thing, name, 2)
    cell.values = {}
    assert getattr(thing, name) == 2
    setattr(thing, name, 3)
    assert getattr(thing, name) == 3
    cell.values = None
    assert getattr(thing, name) == 2


def test_without_a_value_it_is_as_before(cell: Cell) -> None:
    assert (Thing().trait, Thing().plain) == (1, 1)
    assert not hasattr(Thing(), "own") and not hasattr(Thing, "own")
    assert Thing.plain == 1


def test_traitlets_finds_its_own_descriptor_in_the_class(cell: Cell) -> None:
    thing, changes = Thing(), []
    thing.observe(changes.append, names=["trait"])
    with thing.hold_trait_notifications():
        thing.trait = 2
    assert thing.trait == 2 and [change["new"] for change in changes] == [2]
