"""The test matrix and what the package says it supports are the same."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks.__main__ import measures
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
    assert matrix.verdict(matrix.Entry("3.2", "7.4", "7"), []).startswith("ABSENT: no CPython 3.2 on PATH")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tests/core", "-x"], ["-m", "pytest", "-m", "not browser and not long", "--ignore=tests/browser"]),
        (["--bench", "names", "core"], ["-m", "benchmarks", "names", "core"]),
    ],
    ids=["tests", "benchmarks"],
)
def test_each_environment_runs_the_tests_or_the_benchmarks_that_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: list[str]
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str]) -> int:
        ran.append(command)
        return 3 if len(ran) == 2 else 0

    monkeypatch.setattr(matrix, "find_python", lambda version: matrix.Interpreter(f"python{version}"))
    monkeypatch.setattr(matrix, "set_up", lambda entry, interpreter: f"{entry.name}/python")
    monkeypatch.setattr(matrix, "run", run)
    monkeypatch.setattr(sys, "argv", ["matrix.py", "--only", "ipykernel7.4", *arguments])
    assert matrix.main() == 1
    own = arguments if expected[1] == "pytest" else []
    assert [command[1:] for command in ran] == [[*expected, *own]] * 5
    assert [command[0].partition("-")[0] for command in ran] == [f"py3.{minor}" for minor in range(11, 16)]
    printed = capsys.readouterr().out
    assert printed.count("passed") == 4 and printed.count(f"FAILED: -m {expected[1]} exited with 3") == 1


def test_roots_are_found_and_commands_run_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pythons, "ROOTS", tmp_path)
    (tmp_path / "sid" / "usr" / "bin").mkdir(parents=True)
    (tmp_path / "no root").mkdir()
    [root] = pythons.roots()
    command = matrix.Interpreter("/usr/bin/python3.15", root).command(["/usr/bin/python3.15", "-V"])
    assert command[:2] == ["chroot", str(tmp_path / "sid")] and command[-2:] == ["/usr/bin/python3.15", "-V"]
    assert root.mounts() == []


def test_benchmarks_whose_package_is_missing_cost_only_their_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx_sse", None)
    monkeypatch.delitem(sys.modules, "benchmarks.web", raising=False)
    found = dict(measures())
    assert "names.start_and_end" in found
    [web] = [measure for name, measure in found.items() if name.startswith("web")]
    with pytest.raises(ModuleNotFoundError, match="httpx_sse"):
        web()
