"""A background cell has its own pyplot figures and matplotlib settings."""

from __future__ import annotations

import pytest

from tests.kernel.driver import Cell, KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


def images(cell: Cell) -> int:
    return sum("image/png" in o.get("data", {}) for o in cell.outputs)


def test_a_cell_that_has_read_the_callbacks_shows_its_first_plot(notebook: KernelDriver) -> None:
    """matplotlib registers its callback with the first plot of the process."""
    cell = notebook.run(
        "%%bgtask it --quiet --wait\nget_ipython().events.callbacks\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])"
    ).check()
    assert images(cell) == 1


def test_the_first_plots_of_the_kernel_are_shown_where_two_cells_make_them(notebook: KernelDriver) -> None:
    """The second cell has begun when matplotlib registers its callback in the first one."""
    plot = "import matplotlib.pyplot as plt\nplt.plot([1, 2])"
    second = notebook.run(f"%%bgtask two --quiet\ngates['begun'].set(); gates['go'].wait()\n{plot}").check()
    notebook.run("gates['begun'].wait()").check()
    first = notebook.run(f"%%bgtask one --quiet --wait\n{plot}").check()
    notebook.run("gates['go'].set()").check()
    wait_over(notebook, "two")
    assert (images(first), images(second)) == (1, 1)


@pytest.mark.parametrize("imported", ["before", "by the cell"])
def test_a_background_plot_appears_in_its_cell_though_foreground_cells_end_before(
    notebook: KernelDriver, imported: str
) -> None:
    if imported == "before":
        notebook.run("import matplotlib.pyplot as plt").check()
    cell = notebook.run(
        "%%bgtask it --quiet\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\n"
        "gates['drawn'].set(); gates['go'].wait()\nplt.title('still the same figure')\nfigures = plt.get_fignums()"
    ).check()
    others = [
        notebook.run("gates['drawn'].wait()\nimport matplotlib.pyplot as plt\nplt.plot([3, 4]);").check(),
        notebook.run("plt.figure(); plt.plot([5]); plt.figure(); plt.plot([6]);").check(),
        notebook.run("gates['go'].set()").check(),
    ]
    wait_over(notebook, "it")
    assert images(cell) == 1 and notebook.value("figures") == [1]
    assert [images(other) for other in others] == [1, 2, 0]


def test_two_concurrent_cells_have_their_own_figures(notebook: KernelDriver) -> None:
    notebook.run("import matplotlib.pyplot as plt").check()
    body = "for n in range(3):\n    plt.figure()\n    plt.plot([n])\nnumbers{0} = plt.get_fignums()\nplt.show()"
    cells = [notebook.run(f"%%bgtask p{n} --quiet\n{body.format(n)}").check() for n in range(2)]
    wait_over(notebook, "p0", "p1")
    assert [images(cell) for cell in cells] == [3, 3]
    assert notebook.value("(numbers0, numbers1)") == ([1, 2, 3], [1, 2, 3])


def test_settings_are_a_snapshot_and_changes_are_committed(notebook: KernelDriver) -> None:
    notebook.run("import matplotlib.pyplot as plt\nplt.rcParams['font.size'] = 9").check()
    notebook.run(
        "%%bgtask it --quiet\nplt.rcParams['lines.linewidth'] = 7\nplt.rcParams['font.size'] = 20\n"
        "gates['set'].set(); gates['go'].wait()\ninside = plt.rcParams['lines.linewidth'], plt.rcParams['axes.grid']"
    ).check()
    notebook.run(
        "gates['set'].wait(); outside = plt.rcParams['lines.linewidth']\n"
        "plt.rcParams['axes.grid'] = True; plt.rcParams['font.size'] = 5; gates['go'].set()"
    ).check()
    wait_over(notebook, "it")
    assert notebook.value("(outside, inside)") == (1.5, (7.0, False))
    assert notebook.value("(plt.rcParams['lines.linewidth'], plt.rcParams['axes.grid'])") == (7.0, True)
    assert notebook.value("plt.rcParams['font.size']") == 5.0


def test_rc_context_and_styles_apply_in_the_task_only(notebook: KernelDriver) -> None:
    notebook.run("import matplotlib.pyplot as plt\nbefore = plt.rcParams['axes.facecolor']").check()
    notebook.run(
        "%%bgtask it --quiet\nwith plt.style.context('dark_background'):\n    within = plt.rcParams['axes.facecolor']\n"
        "    gates['in'].set(); gates['go'].wait()\nafter = plt.rcParams['axes.facecolor']"
    ).check()
    notebook.run("gates['in'].wait(); seen = plt.rcParams['axes.facecolor']; gates['go'].set()").check()
    wait_over(notebook, "it")
    assert notebook.value("seen == before == after") is True and notebook.value("within") == "black"


def test_after_an_error_the_plot_appears_below_it_as_in_the_foreground(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it --quiet\nimport matplotlib.pyplot as plt\nplt.plot([1])\n1 / 0").check()
    wait_over(notebook, "it")
    assert [o["output_type"] for o in cell.outputs] == ["error", "display_data"]
