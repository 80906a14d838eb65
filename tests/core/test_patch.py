"""Monkeypatches and their reversal."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nbtasks.patch import ABSENT, ItemPatch, ListPatch, Patch, PatchSet, core_patches
from nbtasks.post_import import ModulePatches


class Owner:
    __slots__ = ("__dict__", "slot")

    def __init__(self) -> None:
        self.own = "own"
        self._text = "text"

    def method(self) -> str:
        return "method"

    @staticmethod
    def static() -> str:
        return "static"

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    @property
    def text(self) -> str:
        return self._text

    @text.setter
    def text(self, value: str) -> None:
        self._text = value.lower()


class Derived(Owner):
    pass


def loud(original: Callable[..., str]) -> Callable[..., str]:
    return lambda *args: original(*args).upper()


def test_an_inherited_method_is_replaced_on_the_instance_and_deleted_again() -> None:
    owner = Owner()
    patch = Patch(owner, "method", loud)
    patch.apply()
    assert owner.method() == "METHOD" and patch.is_applied and "method" in vars(owner)
    patch.revert()
    assert owner.method() == "method" and not patch.is_applied and "method" not in vars(owner)


def test_an_attribute_of_the_instance_is_restored() -> None:
    owner = Owner()
    original = owner.own
    patch = Patch(owner, "own", str.upper)
    patch.apply()
    assert owner.own == "OWN"
    patch.revert()
    assert vars(owner)["own"] is original


@pytest.mark.parametrize("name", ["method", "static", "of_class"])
@pytest.mark.parametrize("owner", [Owner, Derived])
def test_what_a_class_holds_is_restored_as_it_was_defined(owner: type[Owner], name: str) -> None:
    before = vars(owner).get(name, ABSENT)
    patch = Patch(owner, name, loud)
    patch.apply()
    called = getattr(owner() if name == "method" else owner, name)()
    assert called == called.upper() and patch.current is not before
    patch.revert()
    assert vars(owner).get(name, ABSENT) is before


def test_properties_and_slots_are_set_and_set_back() -> None:
    owner = Owner()
    owner.slot = "slot"
    patches = PatchSet([Patch(owner, "text", lambda _: "OTHER"), Patch(owner, "slot", lambda _: "other")])
    patches.apply()
    assert (owner.text, owner.slot) == ("other", "other") and all(patch.is_applied for patch in patches)
    patches.revert()
    assert (owner.text, owner.slot) == ("text", "slot")


def test_the_class_of_a_module_is_replaced_and_restored() -> None:
    class Other(ModuleType):
        pass

    module = ModuleType("module")
    patch = Patch(module, "__class__", lambda _: Other)
    patch.apply()
    assert type(module) is Other
    patch.revert()
    assert type(module) is ModuleType and "__class__" not in vars(module)


def test_what_other_code_has_replaced_since_is_left_alone() -> None:
    owner = Owner()
    patch = Patch(owner, "method", loud)
    patch.apply()
    theirs: Any = lambda: "theirs"  # noqa: E731
    owner.method = theirs  # type: ignore[method-assign]
    assert not patch.is_applied
    patch.revert()
    assert owner.method is theirs


def test_applied_twice_it_replaces_once() -> None:
    owner = Owner()
    made: list[Any] = []
    patch = Patch(owner, "own", lambda original: (made.append(original), object())[1])
    patch.apply()
    patch.apply()
    assert made == ["own"]
    owner.own = "theirs"
    patch.apply()
    assert made == ["own", "theirs"]
    patch.revert()
    assert owner.own == "theirs"


def test_an_attribute_that_does_not_exist_is_an_error_and_changes_nothing() -> None:
    owner = Owner()
    patches = PatchSet([Patch(owner, "own", str.upper), Patch(owner, "missing", str.upper)])
    with pytest.raises(AttributeError, match="missing"):
        patches.apply()
    assert owner.own == "own" and "missing" not in vars(owner)


def test_items_of_a_mapping() -> None:
    mapping = {"a": "a"}
    patches = PatchSet([ItemPatch(mapping, "a", str.upper), ItemPatch(mapping, "b", lambda original: [original])])
    patches.apply()
    assert mapping == {"a": "A", "b": [ABSENT]}
    patches.revert()
    assert mapping == {"a": "a"}


def test_an_item_of_a_list() -> None:
    item, owner = [1], types.SimpleNamespace(items=[[1], [2]])
    patch = ListPatch(owner, "items", item)
    patch.apply()
    patch.apply()
    assert owner.items == [[1], [1], [2]] and owner.items[0] is item and patch.current is item
    owner.items.insert(0, [0])
    patch.revert()
    assert owner.items == [[0], [1], [2]] and owner.items[1] is not item and patch.current is ABSENT


def test_a_set_reverts_in_reverse_order() -> None:
    owner = Owner()
    inner, outer = Patch(owner, "own", lambda text: f"({text})"), Patch(owner, "own", lambda text: f"[{text}]")
    patches = PatchSet([PatchSet([inner])])
    patches.apply()
    patches.add(outer, apply=True)
    assert owner.own == "[(own)]" and list(patches) == [inner, outer]
    patches.revert()
    assert owner.own == "own"
    patches.apply()
    assert owner.own == "[(own)]"
    patches.clear()
    assert owner.own == "own" and list(patches) == []


def test_patches_of_a_module_wait_for_its_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "patched_later.py").write_text("value = 'value'\n")
    before = list(sys.meta_path)
    patches = ModulePatches("patched_later", lambda module: [Patch(module, "value", str.upper)])
    patches.apply()
    patches.apply()
    try:
        assert list(patches) == []
        import patched_later

        assert patched_later.value == "VALUE" and "exec_module" not in vars(patched_later.__loader__)
        patches.revert()
        assert patched_later.value == "value" and sys.meta_path == before
        patches.apply()
        assert patched_later.value == "VALUE" and len(list(patches)) == 1
        patches.revert()
        assert patched_later.value == "value" and sys.meta_path == before
    finally:
        sys.modules.pop("patched_later", None)


def test_patches_of_a_module_that_were_reverted_before_its_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "patched_never.py").write_text("value = 'value'\n")
    before = list(sys.meta_path)
    patches = ModulePatches("patched_never", lambda module: [Patch(module, "value", str.upper)])
    patches.apply()
    patches.revert()
    assert sys.meta_path == before
    try:
        import patched_never

        assert patched_never.value == "value"
    finally:
        sys.modules.pop("patched_never", None)


def test_the_core_patches_nothing_until_it_needs_to_and_is_reverted_as_a_whole() -> None:
    from nbtasks.interrupts import Gate, here

    core_patches.revert()
    before = {patch: patch.current for patch in core_patches}
    assert {patch.name for patch in before} == {"meta_path", "unraisablehook"}
    waiting = ModulePatches("no_such_module", lambda _: [])
    waiting.apply()
    try:
        gate = Gate()
        gate.enter(None)
        gate.leave()
        assert all(patch.is_applied for patch in core_patches)
        core_patches.revert()
        assert {patch: patch.current for patch in core_patches} == before
        gate.enter(None)
        assert sys.unraisablehook is not before[next(p for p in core_patches if p.name == "unraisablehook")]
        gate.leave()
    finally:
        here.gate = None
        waiting.revert()
        core_patches.revert()
