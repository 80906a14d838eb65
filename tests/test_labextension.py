"""The JupyterLab extension as package data: what is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import nbtasks

ROOT = Path(__file__).parent.parent
EXTENSION = ROOT / "share" / "jupyter" / "labextensions" / "nbtasks"
FILES = sorted(path.relative_to(EXTENSION).as_posix() for path in EXTENSION.rglob("*") if path.is_file())
BUILD = """
import sys
from hatchling.builders.wheel import WheelBuilder
print(*WheelBuilder(sys.argv[1]).build(directory=sys.argv[2], versions=[sys.argv[3]]))
"""


def read_json(name: str) -> dict:
    return json.loads((EXTENSION / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("version", ["standard", "editable"])
def test_a_wheel_has_the_extension_where_servers_look_for_it(version, tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-c", BUILD, str(ROOT), str(tmp_path), version]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    prefix = re.sub(r"-py3.*", ".data/data/share/jupyter/labextensions/nbtasks/", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix)) == FILES


def test_jupyterlab_lists_it_as_enabled_and_ok(tmp_path):
    pytest.importorskip("jupyterlab")
    env = {**os.environ, "JUPYTER_PATH": str(ROOT / "share" / "jupyter"), "JUPYTER_CONFIG_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "jupyterlab.labextensions", "list"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd=tmp_path)
    listed = re.sub(r"\x1b\[\d+m", "", done.stdout + done.stderr)
    assert re.search(r"nbtasks v\S+ enabled +OK \(python, nbtasks\)", listed)


def test_its_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert read_json("package.json")["version"] == nbtasks.__version__ == project["version"]
    assert (EXTENSION / "schemas/nbtasks/package.json.orig").read_text() == (EXTENSION / "package.json").read_text()


def test_no_folder_is_called_static():
    """Browsers keep what is below such a folder for a year.

    Ours have the same names in each version.
    """
    assert [name for name in FILES if "static" in name.split("/")] == []
    assert read_json("package.json")["jupyterlab"]["_build"]["load"] in FILES


def test_the_commands_of_the_schema_are_those_of_the_plugin():
    schema = (EXTENSION / "schemas/nbtasks/plugin.json").read_text(encoding="utf-8")
    script = (EXTENSION / "js/extension.js").read_text(encoding="utf-8")
    in_schema = set(re.findall(r'"command": "(nbtasks:[\w-]+)"', schema))
    in_script = set(re.findall(r"'(nbtasks:[\w-]+)'", script)) - {"nbtasks:plugin", "nbtasks:status"}
    assert in_schema == in_script


def test_every_module_that_is_imported_exists():
    for path in EXTENSION.glob("js/*.js"):
        for name in re.findall(r"from '\./([\w.]+)'", path.read_text(encoding="utf-8")):
            assert f"js/{name}" in FILES
