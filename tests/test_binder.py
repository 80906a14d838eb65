"""The binder image: its packages install in a clean environment, postBuild runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BINDER = Path(__file__).parent.parent / "binder"


def pip_requirements(text: str) -> list[str]:
    """The entries under `- pip:` of an environment.yml, by its indentation."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    start = next(number for number, line in enumerate(lines) if line.strip() == "- pip:")
    indent = len(lines[start]) - len(lines[start].lstrip())
    entries = []
    for line in lines[start + 1 :]:
        if len(line) - len(line.lstrip()) <= indent:
            break
        entries.append(line.strip().removeprefix("- "))
    return entries


def run(command: list[str | Path], cwd: Path, env: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_the_environment_installs_nbtasks_with_what_the_notebooks_use():
    assert pip_requirements((BINDER / "environment.yml").read_text(encoding="utf-8")) == ["..[lab]"]


def test_post_build_is_executable():
    assert os.access(BINDER / "postBuild", os.X_OK)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_pip_part_and_post_build_work_in_a_clean_environment(tmp_path):
    requirements = pip_requirements((BINDER / "environment.yml").read_text(encoding="utf-8"))
    listed = tmp_path / "requirements.txt"
    listed.write_text("\n".join(requirements), encoding="utf-8")
    venv, home = tmp_path / "venv", tmp_path / "home"
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JUPYTER"))}
    env |= {"HOME": str(home), "PATH": f"{venv / 'bin'}{os.pathsep}{env['PATH']}", "VIRTUAL_ENV": str(venv)}
    run([sys.executable, "-m", "venv", venv], tmp_path, env)
    run([venv / "bin" / "pip", "install", "--quiet", "-r", listed], BINDER, env)
    # The build runs it in the repository's folder.
    run([BINDER / "postBuild"], BINDER.parent, env)
    listing = subprocess.check_output([venv / "bin" / "jupyter", "--paths"], env=env, text=True)
    assert str(venv) in listing
    # The package itself, not the folder of the repository, is what loads.
    where = [venv / "bin" / "python", "-c", "import nbtasks; print(nbtasks.__file__)"]
    assert str(venv) in subprocess.check_output(where, env=env, text=True, cwd=tmp_path)
