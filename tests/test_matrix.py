"""The test matrix and what the package says it supports are the same."""

from __future__ import annotations

import subprocess
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


def test_all_tests_run_once_on_each_python_and_elsewhere_those_that_can_differ() -> None:
    pythons = [entry.python for entry in matrix.ENTRIES]
    assert [entry.python for entry in matrix.ENTRIES if not entry.folders] == list(dict.fromkeys(pythons))
    assert matrix.Entry("3.11", ipykernel="6.29").folders == matrix.KERNELS
    assert matrix.Entry("3.11", cloudpickle="3.0").folders == matrix.KERNELS
    assert matrix.Entry("3.11", croniter="6.2").folders == matrix.SCHEDULES
    assert matrix.Entry("3.11", "7.1", "6.2").folders == (*matrix.KERNELS, *matrix.SCHEDULES)
    assert all((ROOT / "tests" / folder).is_dir() for folder in (*matrix.KERNELS, *matrix.SCHEDULES))


def test_a_python_that_is_nowhere_is_absent() -> None:
    assert matrix.find_python("3.2") is None
    result = matrix.outcome(matrix.Entry("3.2"), bench=None, pytest_arguments=[], workers=2)
    assert result.verdict.startswith("ABSENT: no CPython 3.2 on PATH")


@pytest.mark.long
def test_the_table_counts_the_tests_of_an_environment(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): pass\ndef test_c(): pytest.skip()\n"
        "def test_d(): raise ValueError\n@pytest.fixture\ndef e(): raise ValueError\ndef test_e(e): pass\n"
    )
    report = tmp_path / "report.xml"
    assert matrix.counts(report) == ("", "", "")
    command = matrix.pytest_command(matrix.Entry("3.11", "7.1"), [str(tmp_path), "-p", "no:cacheprovider"], 2, report)
    subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=False, capture_output=True)
    assert matrix.counts(report) == (2, 2, 1)
    row = matrix.Outcome("passed", 5.97, "kernel runner", 2, 2, 1).row("py3.11")
    assert row.split() == ["py3.11", "2", "2", "1", "6.0", "passed;", "kernel", "runner"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tests/core", "-x"], ["-m", "pytest", "-m", "not browser and not long", "--ignore=tests/browser"]),
        ([], ["-m", "pytest", "-m", "not browser and not long", "--ignore=tests/browser"]),
        (["--bench", "names", "core"], ["-m", "benchmarks", "names", "core"]),
    ],
    ids=["chosen tests", "all tests", "benchmarks"],
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
    assert [command[1 : len(expected) + 1] for command in ran] == [expected] * 5
    if expected[1] == "pytest":
        own = arguments or ["tests"]
        assert [command[-len(own) :] for command in ran] == [own] * 5
    assert [command[0].partition("-")[0] for command in ran] == [f"py3.{minor}" for minor in range(11, 16)]
    rows = capsys.readouterr().out.partition("The matrix:\n")[2].splitlines()[1:]
    verdicts = ["passed", f"FAILED: -m {expected[1]} exited with 3", *["passed"] * 3]
    assert [verdict in row for row, verdict in zip(rows, verdicts, strict=True)] == [True] * 5


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
