"""The test matrix and what the package says it supports are the same."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests import matrix, pythons

ROOT = Path(__file__).parent.parent


def test_every_supported_python_is_in_the_matrix() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    classified = {one.removeprefix(prefix) for one in project["classifiers"] if one.startswith(f"{prefix}3.")}
    assert classified == {entry.python for entry in matrix.ENTRIES}
    first, last = min(classified, key=_number), max(classified, key=_number)
    assert f"Python {first} to {last}, ipykernel" in (ROOT / "README.md").read_text()


def _number(version: str) -> int:
    return int(version.partition(".")[2])


def test_a_python_that_is_nowhere_is_absent() -> None:
    assert matrix.find_python("3.2") is None
    assert matrix.test(matrix.Entry("3.2", "7.4", "7"), []).startswith("ABSENT: no CPython 3.2 on PATH")


def test_roots_are_found_and_commands_run_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pythons, "ROOTS", tmp_path)
    (tmp_path / "sid" / "usr" / "bin").mkdir(parents=True)
    (tmp_path / "no root").mkdir()
    [root] = pythons.roots()
    command = matrix.Interpreter("/usr/bin/python3.15", root).command(["/usr/bin/python3.15", "-V"])
    assert command[:2] == ["chroot", str(tmp_path / "sid")] and command[-2:] == ["/usr/bin/python3.15", "-V"]
    assert root.mounts() == []
