"""Structure of the package: imports, public names, words, light imports."""

from __future__ import annotations

import importlib
import importlib.util
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import nbtasks

ROOT = Path(__file__).parent.parent
RUN_LINTER = "from importlinter.cli import lint_imports_command as run; run()"


def submodules() -> list[str]:
    return sorted(info.name for info in pkgutil.walk_packages(nbtasks.__path__, "nbtasks."))


def modules_after(code: str) -> set[str]:
    """The top-level names in sys.modules after a fresh interpreter has run the code."""
    listing = "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + listing], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout))


def test_imports_point_one_way():
    if importlib.util.find_spec("importlinter") is None:
        pytest.skip("import-linter is not installed here (`pip install nbtasks[dev]`)")
    done = subprocess.run(
        [sys.executable, "-c", RUN_LINTER, "--no-logo", "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_public_names_are_sorted_and_exist():
    assert list(nbtasks.__all__) == sorted(nbtasks.__all__)
    assert [name for name in nbtasks.__all__ if not hasattr(nbtasks, name)] == []


@pytest.mark.parametrize("name", submodules())
def test_a_modules_exports_exist(name):
    if name.startswith("nbtasks.web"):
        pytest.importorskip("uvicorn", reason="without the extra web")
    module = importlib.import_module(name)
    assert [export for export in getattr(module, "__all__", []) if not hasattr(module, export)] == []


@pytest.mark.parametrize("package", ["IPython", "ipykernel", "ipywidgets", "dask", "distributed", "matplotlib"])
def test_importing_nbtasks_does_not_import(package):
    assert package not in modules_after("import nbtasks")


def test_every_public_name_resolves_without_the_notebook_packages():
    """Names that the package loads on first use must not pull in the notebook either."""
    pulled = modules_after("import nbtasks; [getattr(nbtasks, name) for name in nbtasks.__all__]")
    assert pulled & {"IPython", "ipykernel", "ipywidgets", "dask", "distributed"} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "nbtasks").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_opens_with_a_docstring(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(('"""', 'r"""')), "a module opens with one sentence on what it holds"


def test_processes_of_the_tests_do_not_build_the_parser_of_addresses():
    """It takes two seconds; `tests/lean` hides it."""
    assert "rfc3987_syntax" not in modules_after("import nbformat")
