"""The locked versions cover every dependency, and name no index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement

from tests.latest import differences, locked_versions

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
EXTRAS = {"lab": ["lab"], "test": ["lab", "test", "dev"]}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(extras: list[str]) -> list[Requirement]:
    """The requirements of the package with these extras, extras of its own spelled out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    todo, found = [*project["dependencies"]], []
    for extra in extras:
        todo += project["optional-dependencies"][extra]
    while todo:
        requirement = Requirement(todo.pop())
        if requirement.name == "nbtasks":
            for extra in requirement.extras:
                todo += project["optional-dependencies"][extra]
        else:
            found.append(requirement)
    return found


def pinned(lock: str, python: str) -> dict[str, str]:
    """The version of each package that the lock installs on Linux with that Python."""
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    environment |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    lines = re.findall(
        r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)(?: ; ([^\\]+))?", (ROOT / "locks" / lock).read_text(), re.M
    )
    return {normal(name): version for name, version, only in lines if not only or Marker(only).evaluate(environment)}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_has_an_allowed_version_of_every_dependency(lock, python):
    versions = pinned(f"{lock}.txt", python)
    for requirement in wanted(EXTRAS[lock]):
        if requirement.marker and not requirement.marker.evaluate({"python_version": python, "sys_platform": "linux"}):
            continue
        name = normal(requirement.name)
        assert name in versions, f"{name} is not in locks/{lock}.txt: run make lock"
        assert requirement.specifier.contains(versions[name], prereleases=True), (name, versions[name])


@pytest.mark.parametrize("lock", EXTRAS)
def test_every_locked_version_has_hashes_and_no_address(lock):
    text = (ROOT / "locks" / f"{lock}.txt").read_text()
    blocks = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.M).strip())
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert re.findall(r"\w+://", text) == []


def test_differences_from_the_lock_are_told_by_package():
    locked = {"numpy": {"1.0", "2.0"}, "pandas": {"3.0"}}
    assert differences(locked, {"numpy": "2.0", "pandas": "3.1", "new": "1"}) == [
        f"{'new':<28} {'not locked':<18} -> 1",
        f"{'pandas':<28} {'3.0':<18} -> 3.1",
    ]
    assert locked_versions()["pandas"]
