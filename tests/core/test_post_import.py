"""Hooks that wait for modules of others."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from nbtasks.post_import import after_import


@pytest.fixture
def module_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "waited_for.py").write_text("value = 1\n")
    yield tmp_path
    sys.modules.pop("waited_for", None)


def test_a_module_that_is_there_is_told_at_once() -> None:
    called: list[ModuleType] = []
    after_import("json", called.append)
    assert called == [sys.modules["json"]]


def test_a_module_that_comes_later_is_told_after_it_was_run(module_path: Path) -> None:
    called: list[int] = []
    after_import("waited_for", lambda module: called.append(module.value))
    assert called == []
    import waited_for

    assert called == [1] and waited_for.value == 1


def test_what_was_taken_back_is_not_told(module_path: Path) -> None:
    called: list[ModuleType] = []
    after_import("waited_for", called.append)()
    import waited_for  # noqa: F401

    assert called == []


def test_all_who_wait_are_told_once(module_path: Path) -> None:
    called: list[str] = []
    after_import("waited_for", lambda _: called.append("a"))
    after_import("waited_for", lambda _: called.append("b"))
    import waited_for  # noqa: F401

    __import__("waited_for")
    assert called == ["a", "b"]


def test_a_module_that_does_not_exist_fails_as_ever() -> None:
    after_import("no_such_module_at_all", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        __import__("no_such_module_at_all")
