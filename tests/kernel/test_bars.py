"""tqdm bars set the progress of their task and still draw themselves."""

from __future__ import annotations

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    return load(module_kernel)


BODY = """
bar = tqdm(total=4, mininterval=0, miniters=1)
seen = [current_task().progress]
for n in range(4):
    bar.update()
    seen.append(current_task().progress)
bar.close()
"""


@pytest.mark.parametrize(
    "kind", ["from tqdm import tqdm", "from tqdm.auto import tqdm", "from tqdm.notebook import tqdm"]
)
@pytest.mark.parametrize("backend", ["thread", "loop"])
def test_every_kind_of_bar_sets_the_progress(notebook: KernelDriver, kind: str, backend: str) -> None:
    notebook.run(f"%%bgtask it --quiet --backend {backend}\n{kind}\n{BODY}").check()
    wait_over(notebook, "it")
    assert notebook.value("seen") == [0.0, 25.0, 50.0, 75.0, 100.0]


def test_a_bar_still_draws_in_the_cell(notebook: KernelDriver) -> None:
    cell = notebook.run(f"%%bgtask it --quiet\nfrom tqdm import tqdm\n{BODY}").check()
    wait_over(notebook, "it")
    assert "4/4" in cell.stderr and "100%" in cell.stderr


def test_the_outermost_bar_sets_the_progress(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it --quiet\nfrom tqdm import tqdm\nfrom tqdm.notebook import tqdm as notebook_tqdm\nnested = []\n"
        "for _ in notebook_tqdm(range(2), mininterval=0):\n"
        "    for _ in tqdm(range(5), mininterval=0): nested.append(current_task().progress)"
    ).check()
    wait_over(notebook, "it")
    assert set(notebook.value("nested")) == {0.0, 50.0}


def test_pandas_progress_apply_sets_the_progress(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it --quiet\nimport pandas, tqdm\ntqdm.tqdm.pandas(mininterval=0)\napplied = []\n"
        "pandas.Series(range(10)).progress_apply(lambda x: applied.append(current_task().progress))"
    ).check()
    wait_over(notebook, "it")
    assert notebook.value("applied[0]") == 10.0 and notebook.value("applied[-1]") == 100.0  # pandas counts first


def test_a_bar_in_the_foreground_draws_itself(notebook: KernelDriver) -> None:
    cell = notebook.run("from tqdm import tqdm\nfor _ in tqdm(range(3)): pass").check()
    assert "3/3" in cell.stderr
