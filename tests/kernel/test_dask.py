"""Cells on a Dask cluster: names there and back, what stays on the cluster, output, errors and cancels."""

from __future__ import annotations

import sys

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]
RUN = "%%bgtask it --backend dask --quiet --wait\n"


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    load(module_kernel)
    module_kernel.run(
        "import distributed, os, time\n"
        "cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address='127.0.0.1:0')\n"
        "client = distributed.Client(cluster)"
    ).check()
    return module_kernel


def test_a_cell_gets_its_names_and_gives_back_its_own_and_shows_what_it_shows(notebook: KernelDriver) -> None:
    notebook.run("base = 20\ndef twice(n): return 2 * n").check()
    cell = notebook.run(RUN + "print('said')\nanswer = twice(base) + 2\nanswer").check()
    assert [output["output_type"] for output in cell.outputs] == ["stream", "execute_result"]
    assert notebook.value("(answer, it.result)") == (42, 42)


def test_futures_and_collections_stay_on_the_cluster(notebook: KernelDriver) -> None:
    notebook.run("import dask.array as da\nfar = client.scatter(20)\nones = da.ones(100, chunks=10).persist()").check()
    notebook.run(RUN + "kind = type(far).__name__\ntotal = far.result() + int(ones.sum().compute())").check()
    assert notebook.value("(kind, total)") == ("Future", 120)


def test_progress_and_output_come_live_and_a_cancel_stops_the_cell(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it --backend dask --quiet\nfrom nbtasks import current_task\nprint('begun')\n"
        "current_task().progress = 30\ntime.sleep(60)"
    ).check()
    cell.wait_output("begun")
    notebook.wait_until(lambda: notebook.value("it.progress") == 30.0, what="the progress")
    notebook.run("it.cancel()").check()
    wait_over(notebook, "it")
    assert notebook.value("it.state.value") == "cancelled"


def test_errors_have_their_source_lines(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it --backend dask --quiet\nx = 1\nx / 0").check()
    wait_over(notebook, "it")
    cell.wait_output("ZeroDivisionError")
    assert "line 2" in cell.text
