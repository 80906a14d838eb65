"""Tests with the newest release of every package, compared with the lock.

Uses the standard library only. The environment is made from scratch each time; Chromium is the one of `make test`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venvs" / "latest"
LOCK = ROOT / "locks" / "test.txt"


def locked_versions() -> dict[str, set[str]]:
    """The versions in the lock by package; several where Pythons or platforms need different ones."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", LOCK.read_text(), re.MULTILINE):
        versions.setdefault(_normal(name), set()).add(version)
    return versions


def installed_versions(python: Path) -> dict[str, str]:
    """The versions in an environment, by package."""
    listing = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze", "--exclude-editable"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pairs = (line.split("==", 1) for line in listing.splitlines() if "==" in line)
    return {_normal(name): version for name, version in pairs}


def differences(locked: dict[str, set[str]], installed: dict[str, str]) -> list[str]:
    """One line for each package whose version differs from the lock, or that the lock does not have."""
    lines = []
    for name, version in sorted(installed.items()):
        if name in {"pip", "setuptools", "nbtasks"} or version in locked.get(name, ()):
            continue
        lines.append(f"{name:<28} {' or '.join(sorted(locked.get(name, {'not locked'}))):<18} -> {version}")
    return lines


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    python = VENV / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        [str(python), "-m", "pip", "install", "--progress-bar", "off", "--editable", ".[lab,test,dev]"],
    ):
        print("$", " ".join(command), flush=True)
        if subprocess.run(command, check=False, cwd=ROOT).returncode:
            print("FAILED: the environment could not be made")
            return 1
    changed = differences(locked_versions(), installed_versions(python))
    tests = [python, "-m", "pytest", "--nbval-lax", "--nbval-current-env", *sys.argv[1:]]
    code = subprocess.run(tests, check=False, cwd=ROOT).returncode
    print(f"\n{len(changed)} packages differ from the lock" + (":" if changed else ""))
    print("\n".join(f"  {line}" for line in changed))
    print("passed" if code == 0 else f"FAILED: pytest exited with {code}")
    return code


if __name__ == "__main__":
    sys.exit(main())
