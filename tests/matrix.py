"""Test matrix: tests on every Python, ipykernel, croniter and cloudpickle.

With the newest packages all tests run, once on each Python. With an older ipykernel or cloudpickle on the same Python
only those run that can differ there: kernels, notebooks, workers, backends and actions; with an older croniter those of
schedules too. The table at the end says for each environment which tests ran. The browser's and the long ones run in
none.

Uses the standard library only, since it runs before anything is installed. A Python that this machine lacks
is reported as absent and fails the run: it was asked for and not tested. Arguments that are not its own go to
pytest, in place of the environment's tests: `python tests/matrix.py --only ipykernel6 tests/kernel`. With `--bench`
rows of the benchmarks are measured in place of tests: `python tests/matrix.py --only ipykernel7.4 --bench names`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.pythons import ROOTS, Root, roots

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venvs"


NEWEST = {"ipykernel": "7.4", "croniter": "7", "cloudpickle": ""}
KERNELS = ("kernel", "fidelity", "runner", "notebook", "workers", "backends", "actions")
"""Folders of tests in which another ipykernel or cloudpickle can make a difference."""
SCHEDULES = ("schedules",)
"""Those in which another croniter can."""


@dataclass(frozen=True)
class Entry:
    """An environment: Python, ipykernel, croniter, cloudpickle (newest if empty)."""

    python: str
    ipykernel: str = NEWEST["ipykernel"]
    croniter: str = NEWEST["croniter"]
    cloudpickle: str = NEWEST["cloudpickle"]

    @property
    def name(self) -> str:
        cloudpickle = f"-cloudpickle{self.cloudpickle}" if self.cloudpickle else ""
        return f"py{self.python}-ipykernel{self.ipykernel}-croniter{self.croniter}{cloudpickle}"

    @property
    def pins(self) -> list[str]:
        cloudpickle = [f"cloudpickle=={self.cloudpickle}.*"] if self.cloudpickle else []
        return [f"ipykernel=={self.ipykernel}.*", f"croniter=={self.croniter}.*", *cloudpickle]

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of tests that can differ with these packages; none if they are the newest."""
        older = {name for name, newest in NEWEST.items() if getattr(self, name) != newest}
        kernels = KERNELS if older & {"ipykernel", "cloudpickle"} else ()
        return (*kernels, *(SCHEDULES if "croniter" in older else ()))


# Every Python, every kernel and every croniter at least once; the oldest together, the newest on each Python.
ENTRIES = (
    Entry("3.11", "6.29", "1.4", "3.0"),
    Entry("3.11", "7.1", "6.2"),
    Entry("3.11"),
    Entry("3.12", "6.30", "2.0"),
    Entry("3.12", "7.0"),
    Entry("3.12", "7.2"),
    Entry("3.12"),
    Entry("3.13", "7.1"),
    Entry("3.13"),
    Entry("3.14"),
    Entry("3.15"),
)


@dataclass(frozen=True)
class Interpreter:
    """A Python of this machine, or of a root folder made by `make pythons`."""

    path: str
    root: Root | None = None

    def command(self, arguments: list[str | Path]) -> list[str]:
        """The command, in the root if there is one."""
        command = [str(argument) for argument in arguments]
        return command if self.root is None else self.root.command(command)


def is_python(interpreter: Interpreter, version: str) -> bool:
    """Whether it runs and is that version. A pyenv shim may exist on PATH and still refuse to run."""
    try:
        done = subprocess.run(
            interpreter.command([interpreter.path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]),
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def find_python(version: str) -> Interpreter | None:
    """A CPython of that version: this one, on PATH, of pyenv, or in a root under NBTASKS_PYTHONS."""
    candidates = [sys.executable, shutil.which(f"python{version}")]
    pyenv_root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates += sorted(map(str, pyenv_root.glob(f"versions/{version}.*/bin/python")))
    found = [Interpreter(path) for path in candidates if path]
    for root in roots():
        if (root.folder / "usr" / "bin" / f"python{version}").exists():
            root.mount(ROOT)
            found.append(Interpreter(f"/usr/bin/python{version}", root))
    return next((one for one in found if is_python(one, version)), None)


def run(command: list[str]) -> int:
    print("$", " ".join(command), flush=True)
    return subprocess.run(command, check=False, cwd=ROOT).returncode


def set_up(entry: Entry, interpreter: Interpreter) -> Path | None:
    """The environment's Python, made again when pyproject.toml changed; None if it could not be made."""
    venv = VENVS / entry.name
    python, stamp = venv / "bin" / "python", venv / "set-up"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps: list[list[str | Path]] = [
        [interpreter.path, "-m", "venv", "--clear", venv],
        [*install, "--editable", ".[test-core]", *entry.pins],
    ]
    if any(run(interpreter.command(step)) for step in steps):
        return None
    stamp.write_text(wanted)
    return python


@dataclass(frozen=True)
class Outcome:
    """What became of an environment; the counts of its tests, if it ran any."""

    verdict: str
    minutes: float = 0.0
    tests: str = ""
    passed: int | str = ""
    failed: int | str = ""
    skipped: int | str = ""

    def row(self, name: str) -> str:
        """Its line in the table."""
        counts = f"{self.passed:>7} {self.failed:>7} {self.skipped:>8} {self.minutes:>8.1f}"
        return f"  {name:<48} {counts}  {self.verdict}{self.tests and f'; {self.tests}'}"


HEAD = f"  {'environment':<48} {'passed':>7} {'failed':>7} {'skipped':>8} {'minutes':>8}  result; tests"


def outcome(entry: Entry, *, bench: list[str] | None, pytest_arguments: list[str], workers: int) -> Outcome:
    """Run the tests or benchmarks in the environment."""
    interpreter = find_python(entry.python)
    if interpreter is None:
        return Outcome(f"ABSENT: no CPython {entry.python} on PATH, under pyenv or in {ROOTS} (make pythons)")
    start = time.monotonic()
    python = set_up(entry, interpreter)
    if python is None:
        return Outcome("FAILED: the environment could not be made")
    report = VENVS / f"{entry.name}.xml"
    report.unlink(missing_ok=True)
    arguments: list[str | Path] = ["-m", "benchmarks", *(bench or [])]
    if bench is None:
        arguments = pytest_command(entry, pytest_arguments, workers, report)
    code = run(interpreter.command([python, *arguments]))
    minutes = (time.monotonic() - start) / 60
    verdict = "passed" if code == 0 else f"FAILED: {' '.join(map(str, arguments[:2]))} exited with {code}"
    if bench is not None:
        return Outcome(verdict, minutes)
    return Outcome(verdict, minutes, chosen_tests(entry, pytest_arguments), *counts(report))


def chosen_tests(entry: Entry, pytest_arguments: list[str]) -> str:
    """Which tests run in the environment, in words."""
    return " ".join(pytest_arguments or entry.folders) or "all"


def pytest_command(entry: Entry, pytest_arguments: list[str], workers: int, report: Path) -> list[str | Path]:
    """The arguments that run tests, without those in the browser: they need what is not installed here."""
    options = ["-m", "not browser and not long", "--ignore=tests/browser", f"--junitxml={report}"]
    shared = [f"--numprocesses={workers}", "--dist=loadfile", "--no-loadscope-reorder"]
    paths = [f"tests/{folder}" for folder in entry.folders] or ["tests"]
    return ["-m", "pytest", *options, *shared, *(pytest_arguments or paths)]


def counts(report: Path) -> tuple[int | str, int | str, int | str]:
    """How many tests passed, failed and were skipped; empty if pytest did not come to write that."""
    if not report.exists():
        return "", "", ""
    suite = ET.parse(report).getroot()[0].attrib
    failed = int(suite["failures"]) + int(suite["errors"])
    skipped = int(suite["skipped"])
    return int(suite["tests"]) - failed - skipped, failed, skipped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="run the environments whose name contains this")
    parser.add_argument("--bench", nargs="+", metavar="WORD", help="run `python -m benchmarks WORD ...`")
    parser.add_argument("--workers", type=int, default=2, help="how many processes share the tests; 0: none")
    parser.add_argument("--list", action="store_true", help="print the environments and their tests, and stop")
    arguments, pytest_arguments = parser.parse_known_args()
    chosen = [entry for entry in ENTRIES if arguments.only in entry.name]
    if arguments.list:
        print("\n".join(f"{entry.name:<48} {chosen_tests(entry, pytest_arguments)}" for entry in chosen))
        return 0
    if not chosen:
        parser.error(f"no environment's name contains {arguments.only!r}")
    outcomes: dict[str, Outcome] = {}
    for entry in chosen:
        outcomes[entry.name] = outcome(
            entry, bench=arguments.bench, pytest_arguments=pytest_arguments, workers=arguments.workers
        )
        print(outcomes[entry.name].row(entry.name), flush=True)
    print(f"\nThe matrix:\n{HEAD}")
    for name, result in outcomes.items():
        print(result.row(name))
    return 0 if all(result.verdict == "passed" for result in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
