"""Every cell of the corpus shows the same in the background as in the foreground."""

from __future__ import annotations

import contextvars
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ipykernel
import pytest
from jupyter_core.utils import ensure_event_loop

from tests.fidelity.compare import compare
from tests.fidelity.interference import Interference
from tests.fidelity.left_out import PAGE, page
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


# `make test` compares each notebook on one of the two backends, `make test-long` on the other one too.
ON_THE_LOOP = ("captures", "coroutines", "display", "interactive_plots", "logs", "objects", "shell", "widgets")
ON_ONE_BACKEND = [
    pytest.param(
        *one.values,
        mode,
        id=f"{one.id}-{mode.value}",
        marks=[*one.marks, *([] if (mode is Mode.LOOP) is (one.id in ON_THE_LOOP) else [pytest.mark.long])],
    )
    for one in NOTEBOOKS
    for mode in (Mode.THREAD, Mode.LOOP)
]


def but_for(names: tuple[str, ...]) -> list[Any]:
    """The corpus, of which all but these notebooks are for `make test-long`."""
    return [
        pytest.param(*one.values, id=one.id, marks=[*one.marks, *([] if one.id in names else [pytest.mark.long])])
        for one in NOTEBOOKS
    ]


# Each cell takes a process of its own there.
IN_PROCESSES = but_for(("threads",))
AFTER_ADOPTION = but_for(("errors",))
BETWEEN_OTHERS = but_for(("display", "errors", "magics"))
LEFT_OUT = [
    pytest.param(
        one.values[0],
        index,
        id=f"{one.id}-{index}",
        marks=[*one.marks, pytest.mark.long],
    )
    for one in NOTEBOOKS
    for index, source in enumerate(one.values[0].cells)
    if source.not_apart
]


def shown_in(*modes: Mode) -> Callable[[Any], Any]:
    """The runs that a test compares, so that they can start while the tests before it wait for theirs."""

    def mark(test: Any) -> Any:
        test.modes = modes
        return test

    return mark


@functools.cache
def interference(notebook: Notebook) -> Interference:
    return Interference(notebook.name, plots=notebook.name not in WITHOUT_PLOTS_BETWEEN)


@pytest.fixture(scope="module")
def start(request, tmp_path_factory) -> Iterator[Callable[..., Future[Run]]]:
    """Starts a run of a notebook, unless it was started before; as many run at once as there are cores.

    All that the chosen tests compare are started at once, in their order, so that no core waits for a test's last run.
    Where several workers share the tests, each has some of the notebooks, and starts what a test compares with it.
    """
    numbers = itertools.count()
    one_of_several = "PYTEST_XDIST_WORKER" in os.environ
    with ThreadPoolExecutor(2 if one_of_several else os.cpu_count()) as pool:

        @functools.cache
        def begin(notebook: Notebook, mode: Mode, only: int | None = None) -> Future[Run]:
            # Paths of one length, since %whos cuts what is too long.
            home = tmp_path_factory.mktemp(f"{next(numbers):03}", numbered=False)
            return pool.submit(contextvars.Context().run, run, notebook, mode, home, only)

        def run(notebook: Notebook, mode: Mode, home: Path, only: int | None) -> Run:
            between = interference(notebook) if mode is Mode.DEFAULT else None
            try:
                return run_notebook(notebook, mode, home, timeout=120.0, between=between, only=only)
            finally:
                ensure_event_loop().close()  # the one that jupyter_client made for this context

        for item in [] if one_of_several else request.session.items:
            modes = getattr(getattr(item, "function", None), "modes", ())
            if modes and not (notebook := item.callspec.params["notebook"]).missing:
                for mode in (*modes, *filter(None, [item.callspec.params.get("mode")])):
                    begin(notebook, mode)
        yield begin
        pool.shutdown(cancel_futures=True)


def assert_same(expected: Run, actual: Run) -> None:
    comparisons = compare(expected, actual)
    if ipykernel.version_info < (7,):
        comparisons = [one for one in comparisons if not expected.notebook.cells[one.index].threads]
    if found := differences(comparisons, actual.strays):
        pytest.fail(found, pytrace=False)
    assert Score().add(comparisons).cells >= 9


@shown_in(Mode.FOREGROUND)
@pytest.mark.parametrize(("notebook", "mode"), ON_ONE_BACKEND)
def test_a_background_cell_shows_what_the_foreground_shows(start, notebook, mode):
    expected, actual = start(notebook, Mode.FOREGROUND), start(notebook, mode)
    assert_same(expected.result(), actual.result())


@pytest.mark.skipif(ipykernel.version_info < (7,), reason="no cell is sent to the background there")
@shown_in(Mode.FOREGROUND, Mode.ADOPTED)
@pytest.mark.parametrize("notebook", AFTER_ADOPTION)
def test_the_foreground_is_as_before_after_a_cell_was_sent_to_the_background(start, notebook):
    expected, actual = start(notebook, Mode.FOREGROUND), start(notebook, Mode.ADOPTED)
    assert_same(expected.result(), actual.result())


@shown_in(Mode.FOREGROUND, Mode.PROCESS)
@pytest.mark.parametrize("notebook", IN_PROCESSES)
def test_a_cell_in_a_process_shows_what_the_foreground_shows(start, notebook):
    """But for the cells that are marked, and listed in the docs: they run in the foreground."""
    expected, actual = start(notebook, Mode.FOREGROUND), start(notebook, Mode.PROCESS)
    assert_same(expected.result(), actual.result())


def test_the_docs_list_the_cells_that_are_left_out_of_processes():
    assert PAGE.read_text(encoding="utf-8") == page(corpus())


@pytest.mark.parametrize(("notebook", "index"), LEFT_OUT)
def test_a_cell_that_is_left_out_of_processes_could_not_be_the_same_there(start, notebook, index):
    """With it alone in a process, it or a later cell that uses its names shows something else."""
    expected, actual = start(notebook, Mode.FOREGROUND), start(notebook, Mode.PROCESS, only=index)
    comparisons = compare(expected.result(), actual.result())
    assert any(not one.same for one in comparisons[index:])
    assert all(one.same for one in comparisons[:index])


@shown_in(Mode.FOREGROUND, Mode.DEFAULT)
@pytest.mark.parametrize("notebook", BETWEEN_OTHERS)
def test_foreground_cells_and_background_cells_show_nothing_of_each_other(start, notebook):
    expected, actual, between = start(notebook, Mode.FOREGROUND), start(notebook, Mode.DEFAULT), interference(notebook)
    assert_same(expected.result(), actual.result())
    assert between.ran >= len(notebook.cells)
    if between.wrong:
        pytest.fail("\n".join(between.wrong), pytrace=False)
