"""Test matrix: tests on every Python, ipykernel, croniter and cloudpickle.

Uses the standard library only, since it runs before anything is installed. A Python that this machine lacks
is reported as absent and fails the run: it was asked for and not tested. Arguments that are not its own go to
pytest, in place of all tests: `python tests/matrix.py --only ipykernel6 tests/kernel`. With `--bench` rows of the
benchmarks are measured in place of tests: `python tests/matrix.py --only ipykernel7.4 --bench names`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.pythons import ROOTS, Root, roots

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venvs"


@dataclass(frozen=True)
class Entry:
    """An environment: Python, ipykernel, croniter, cloudpickle (newest if empty)."""

    python: str
    ipykernel: str
    croniter: str
    cloudpickle: str = ""

    @property
    def name(self) -> str:
        cloudpickle = f"-cloudpickle{self.cloudpickle}" if self.cloudpickle else ""
        return f"py{self.python}-ipykernel{self.ipykernel}-croniter{self.croniter}{cloudpickle}"

    @property
    def pins(self) -> list[str]:
        cloudpickle = [f"cloudpickle=={self.cloudpickle}.*"] if self.cloudpickle else []
        return [f"ipykernel=={self.ipykernel}.*", f"croniter=={self.croniter}.*", *cloudpickle]


# Every Python, every kernel and every croniter at least once; the oldest together, the newest on each Python.
ENTRIES = (
    Entry("3.11", "6.29", "1.4", "3.0"),
    Entry("3.11", "7.1", "6.2"),
    Entry("3.11", "7.4", "7"),
    Entry("3.12", "6.30", "2.0"),
    Entry("3.12", "7.0", "7"),
    Entry("3.12", "7.2", "7"),
    Entry("3.12", "7.4", "7"),
    Entry("3.13", "7.1", "7"),
    Entry("3.13", "7.4", "7"),
    Entry("3.14", "7.4", "7"),
    Entry("3.15", "7.4", "7"),
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


def verdict(entry: Entry, arguments: list[str | Path]) -> str:
    """Run Python with these arguments in the environment; what became of it."""
    interpreter = find_python(entry.python)
    if interpreter is None:
        return f"ABSENT: no CPython {entry.python} on PATH, under pyenv or in {ROOTS} (make pythons)"
    python = set_up(entry, interpreter)
    if python is None:
        return "FAILED: the environment could not be made"
    code = run(interpreter.command([python, *arguments]))
    return "passed" if code == 0 else f"FAILED: {' '.join(map(str, arguments[:2]))} exited with {code}"


def pytest_command(pytest_arguments: list[str]) -> list[str | Path]:
    """The arguments that run tests, without those in the browser: they need what is not installed here."""
    selection = ["-m", "not browser and not long", "--ignore=tests/browser"]
    return ["-m", "pytest", *selection, *(pytest_arguments or ["tests"])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="run the environments whose name contains this")
    parser.add_argument("--bench", nargs="+", metavar="WORD", help="run `python -m benchmarks WORD ...`")
    parser.add_argument("--list", action="store_true", help="print the environments and stop")
    arguments, pytest_arguments = parser.parse_known_args()
    chosen = [entry for entry in ENTRIES if arguments.only in entry.name]
    if arguments.list:
        print("\n".join(entry.name for entry in chosen))
        return 0
    if not chosen:
        parser.error(f"no environment's name contains {arguments.only!r}")
    module = ["-m", "benchmarks", *arguments.bench] if arguments.bench else pytest_command(pytest_arguments)
    verdicts = {entry.name: verdict(entry, module) for entry in chosen}
    print("\nThe matrix:")
    for name, result in verdicts.items():
        print(f"  {name:<36} {result}")
    return 0 if set(verdicts.values()) == {"passed"} else 1


if __name__ == "__main__":
    sys.exit(main())
