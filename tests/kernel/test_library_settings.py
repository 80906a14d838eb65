"""Per-thread settings of libraries, in background cells as in the foreground."""

from __future__ import annotations

import re

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.library_settings import BACKENDS, HEAVY, LIGHT, PAGE, Scene, results
from tests.kernel.notebook import load

pytestmark = pytest.mark.kernel


def _marked(scene: Scene) -> object:
    missing = pytest.mark.skipif(not scene.is_installed, reason=f"{scene.module} is not installed: extra test-heavy")
    marks = [missing, pytest.mark.long] if scene in HEAVY else [missing]
    return pytest.param(scene, marks=marks, id=scene.name.replace("`", ""))


SCENES = pytest.mark.parametrize("scene", [_marked(scene) for scene in (*LIGHT, *HEAVY)])


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


@SCENES
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_setting_is_carried_into_a_background_cell_and_committed_by_it(
    notebook: KernelDriver, scene: Scene, backend: str
) -> None:
    if backend in scene.depends_on_chance:
        pytest.skip("depends on the C libraries that the worker process has loaded")
    found = results(notebook, scene, backend)
    assert found.is_carried_in, found
    assert found.is_committed, found
    assert found.apart is None or found.is_apart, found


def test_the_code_of_the_page_carries_a_setting_of_ones_own(notebook: KernelDriver) -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        notebook.run(block).check()
    notebook.run("mine.unit = 'm'").check()
    notebook.run("%%bgtask it\nsaw = mine.unit\nmine.unit = 'km'").check()
    notebook.run("await it").check()
    assert notebook.value("(saw, mine.unit)") == ("m", "km")


def test_the_page_has_a_row_for_every_setting() -> None:
    page = PAGE.read_text("utf-8")
    assert [one.name for one in (*LIGHT, *HEAVY) if f"| {one.library} | {one.setting} |" not in page] == []
