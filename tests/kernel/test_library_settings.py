"""Per-thread settings of libraries, in background cells as in the foreground."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.library_settings import BACKENDS, HEAVY, LIGHT, PAGE, Scene, results
from tests.kernel.notebook import load

pytestmark = pytest.mark.kernel


# Each cell in a process costs a Python with the notebook's libraries. `make test` has one library of each kind of
# settings there: a thread's own, a context variable, the interpreter's.
OFTEN_IN_PROCESSES = ("sklearn", "numpy", "sys")


def _marked(scene: Scene, backend: str) -> object:
    marks = [pytest.mark.skipif(not scene.is_installed, reason=f"{scene.module} is not installed: extra test-heavy")]
    if scene.of_context and version("ipykernel").startswith("7.0."):
        marks.append(pytest.mark.skip("ipykernel 7.0 runs each cell in another context: none has what another has set"))
    if scene in HEAVY or (backend == "process" and scene.module not in OFTEN_IN_PROCESSES):
        marks.append(pytest.mark.long)
    return pytest.param(scene, backend, marks=marks, id=f"{backend}-{scene.name.replace('`', '')}")


EACH = pytest.mark.parametrize(
    ("scene", "backend"), [_marked(scene, backend) for backend in BACKENDS for scene in (*LIGHT, *HEAVY)]
)


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


@pytest.fixture(scope="module")
def shared_notebook(module_kernel: KernelDriver) -> KernelDriver:
    return load(module_kernel)


@pytest.fixture
def notebook_for(scene: Scene, request: pytest.FixtureRequest) -> Iterator[KernelDriver]:
    """A notebook of its own for a large library, else one whose workers have imported libraries already."""
    if scene in HEAVY:
        yield request.getfixturevalue("notebook")
        return
    notebook = request.getfixturevalue("shared_notebook")
    yield notebook
    notebook.run(scene.undone).check()


@EACH
def test_a_setting_is_carried_into_a_background_cell_and_committed_by_it(
    notebook_for: KernelDriver, scene: Scene, backend: str
) -> None:
    if backend in scene.depends_on_chance:
        pytest.skip("depends on the C libraries that the worker process has loaded")
    found = results(notebook_for, scene, backend)
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
