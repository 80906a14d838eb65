"""Cells on a Dask cluster: names, futures, output, errors, cancels."""

from __future__ import annotations

import sys
from pathlib import Path

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


def test_a_cell_gets_its_names_gives_back_its_own_and_shows_its_output(notebook: KernelDriver) -> None:
    notebook.run("base = 20\ndef twice(n): return 2 * n").check()
    cell = notebook.run(RUN + "print('said')\nanswer = twice(base) + 2\nanswer").check()
    assert [output["output_type"] for output in cell.outputs] == ["stream", "execute_result"]
    assert notebook.value("(answer, it.result)") == (42, 42)


def test_futures_and_collections_stay_on_the_cluster(notebook: KernelDriver) -> None:
    notebook.run("import dask.array as da\nfar = client.scatter(20)\nones = da.ones(100, chunks=10).persist()").check()
    notebook.run(RUN + "kind = type(far).__name__\ntotal = far.result() + int(ones.sum().compute())").check()
    assert notebook.value("(kind, total)") == ("Future", 120)


def test_functions_use_futures_and_collections_that_stay_on_the_cluster(notebook: KernelDriver) -> None:
    notebook.run(
        "import dask.array as da\nend_ = time.sleep\nkept = client.scatter(20)\n"
        "later = client.map(lambda n: end_(0.5) or n, range(8))\nmany = da.ones(100, chunks=10).persist()\n"
        "def there(work): return get_manager().create_task('it', work, backend='dask').wait(60)"
    ).check()
    assert notebook.value("there(lambda: (type(kept).__name__, kept.result() + 1))") == ("Future", 21)
    assert notebook.value("there(lambda: float(many.sum().compute()))") == 100
    # As many of them as there are places on the cluster, each waiting for what is behind it there.
    notebook.run(
        "waits = [get_manager().create_task('it', lambda: sum(one.result() for one in later), backend='dask')\n"
        "         for _ in range(2)]\nsums = [task.wait(60) for task in waits]"
    ).check()
    assert notebook.value("sums") == [28, 28]


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


def test_the_cluster_is_the_notebooks_client_the_given_one_or_the_given_address(notebook: KernelDriver) -> None:
    notebook.run(
        "backend = get_manager().backends['dask']\n"
        "other = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address='127.0.0.1:0')\n"
        "def where(): return distributed.get_worker().scheduler.address\n"
        "def found(): return get_manager().create_task('where', where, backend='dask').wait(120)"
    ).check()
    assert notebook.value("found() == cluster.scheduler_address") is True
    notebook.run("backend.connect(other.scheduler_address)").check()
    assert notebook.value("found() == other.scheduler_address") is True
    assert notebook.value("distributed.default_client() is client") is True
    notebook.run("given = distributed.Client(other, set_as_default=False)\nbackend.connect(given)").check()
    assert notebook.value("(found() == other.scheduler_address, backend.client() is given)") == (True, True)
    notebook.run("backend.connect(None)").check()
    assert notebook.value("(found() == cluster.scheduler_address, backend.client() is client)") == (True, True)
    notebook.run("given.close()\nother.close()").check()


def test_an_asynchronous_client_is_used_too(notebook: KernelDriver) -> None:
    notebook.run(
        "its_own = await distributed.Client(cluster.scheduler_address, asynchronous=True, set_as_default=False)\n"
        "get_manager().backends['dask'].connect(its_own)"
    ).check()
    cell = notebook.run("%%bgtask it --backend dask --quiet\nprint('begun')\ntime.sleep(60)").check()
    cell.wait_output("begun")
    notebook.run("it.cancel()").check()
    wait_over(notebook, "it")
    assert notebook.value("it.state.value") == "cancelled"
    notebook.run("get_manager().backends['dask'].connect(None)\nawait its_own.close()").check()


def test_a_local_cluster_is_started_where_the_notebook_has_none(kernel: KernelDriver) -> None:
    load(kernel)
    kernel.run("import distributed, os\nbase = 20").check()
    cell = kernel.run(RUN + "print('said')\nfound = base + 1", timeout=300).check()
    assert cell.stdout == "said\n"
    assert kernel.value("found") == 21
    made = kernel.value("get_manager().create_task('pid', os.getpid, backend='dask').wait(60)")
    assert made != kernel.pid
    kernel.run(
        "client = distributed.Client(n_workers=1, threads_per_worker=1, dashboard_address='127.0.0.1:0')"
    ).check()
    assert kernel.value("get_manager().backends['dask'].client() is client") is True, "a client made later is not used"
    kernel.run("client.close()\nget_manager().stop()", timeout=120).check()
    kernel.wait_until(lambda: not Path(f"/proc/{made}").exists(), what="the end of the local cluster")
