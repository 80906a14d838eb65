"""Every cell of our corpus shows in the background what it shows in the foreground, whatever runs meanwhile."""

from __future__ import annotations

import contextvars
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import ipykernel
import pytest
from jupyter_core.utils import ensure_event_loop

from tests.fidelity.compare import compare
from tests.fidelity.interference import Interference
from tests.fidelity.notebooks import Notebook, corpus
from tests.fidelity.report import Score, differences
from tests.fidelity.runs import Mode, Run, run_notebook

# Notebooks run beside each other: the time limit holds for one and those that run before it.
pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]

NOTEBOOKS = [
    pytest.param(
        notebook,
        id=notebook.name,
        marks=pytest.mark.skipif(bool(notebook.missing), reason=f"needs {', '.join(notebook.missing)}"),
    )
    for notebook in corpus()
]

# Their cells show whether there was a plot before, or leave figures open, which the next `plt.show()` shows.
WITHOUT_PLOTS_BETWEEN = ("magics", "interactive_plots")


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Iterator[Callable[..., Future[Run]]]:
    """Starts a run of a notebook; as many at once as there are cores. The runs in the foreground are shared."""
    numbers = itertools.count()
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def begin(notebook: Notebook, mode: Mode, between: Interference | None = None) -> Future[Run]:
            # Paths of one length, since %whos cuts what is too long.
            home = tmp_path_factory.mktemp(f"{next(numbers):03}", numbered=False)
            return pool.submit(contextvars.Context().run, run, notebook, mode, home, between)

        def run(notebook: Notebook, mode: Mode, home: Path, between: Interference | None) -> Run:
            try:
                return run_notebook(notebook, mode, home, timeout=120.0, between=between)
            finally:
                ensure_event_loop().close()  # the one that jupyter_client made for this context

        shared = functools.cache(begin)
        yield (
            lambda notebook, mode, between=None: (
                begin(notebook, mode, between) if between is not None else shared(notebook, mode)
            )
        )
        pool.shutdown(cancel_futures=True)


def assert_same(expected: Run, actual: Run) -> None:
    comparisons = compare(expected, actual)
    if ipykernel.version_info < (7,):
        comparisons = [one for one in comparisons if not expected.notebook.cells[one.index].threads]
    if found := differences(comparisons, actual.strays):
        pytest.fail(found, pytrace=False)
    assert Score().add(comparisons).cells >= 10


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_background_cell_shows_what_the_foreground_shows(start, notebook):
    runs = [start(notebook, mode) for mode in (Mode.FOREGROUND, Mode.THREAD, Mode.LOOP)]
    expected, *actual = [run.result() for run in runs]
    for run in actual:
        assert_same(expected, run)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_foreground_cells_and_background_cells_show_nothing_of_each_other(start, notebook):
    between = Interference(notebook.name, plots=notebook.name not in WITHOUT_PLOTS_BETWEEN)
    expected, actual = start(notebook, Mode.FOREGROUND), start(notebook, Mode.DEFAULT, between)
    assert_same(expected.result(), actual.result())
    assert between.ran >= len(notebook.cells)
    if between.wrong:
        pytest.fail("\n".join(between.wrong), pytrace=False)
