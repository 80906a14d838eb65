"""Output of threads and greenlets in the cell that they belong to."""

from __future__ import annotations

import sys
from importlib.metadata import version

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel

SETUP = """
import _thread, ctypes, logging, logging.handlers, multiprocessing.pool, queue, sys, threading
from concurrent.futures import Future, ThreadPoolExecutor
from IPython.display import display
CALL = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
C = ctypes.CDLL(None)
calls = []
def in_c_thread(function):
    "Call the function in a thread that Python did not start, and wait for it."
    calls.append(CALL(lambda _: function()))
    thread = ctypes.c_ulong()
    assert C.pthread_create(ctypes.byref(thread), None, calls[-1], None) == 0
    C.pthread_join(thread, None)
"""


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    load(module_kernel).run(SETUP).check()
    return module_kernel


ALONE = {
    "start_new_thread": (
        "over = threading.Event()\n_thread.start_new_thread(lambda: (say(), over.set()), ())\nover.wait()"
    ),
    "a C thread": "in_c_thread(say)",
    "a greenlet": "import greenlet\ngreenlet.greenlet(say).switch()",
    "a greenlet with a redirect": (
        "import contextlib, greenlet, io\ndef held():\n    with contextlib.redirect_stdout(io.StringIO()) as text:\n"
        "        print('not seen')\n    say()\ngreenlet.greenlet(held).switch()"
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="starts threads by the C library of Linux")
@pytest.mark.parametrize("way", ALONE)
def test_a_cell_that_runs_alone_has_the_output_of_its_threads(notebook: KernelDriver, way: str) -> None:
    if "greenlet" in way:
        pytest.importorskip("greenlet")
    say = "def say():\n    print('printed'); display({'text/plain': 'shown'}, raw=True)"
    cell = notebook.run(f"%%bgtask it --quiet\n{say}\ngates['go'].wait()\n{ALONE[way]}\nprint('over')").check()
    notebook.run("1").check()
    notebook.run("gates['go'].set()").check()
    wait_over(notebook, "it")
    cell.wait_output("over")
    assert cell.stdout == "printed\nover\n"
    assert [output["data"]["text/plain"] for output in cell.outputs if "data" in output] == ["shown"]
    assert not notebook.stray


def test_start_new_thread_is_at_home_while_a_foreground_cell_runs(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it --quiet\nover = threading.Event()\ngates['on'].wait()\n"
        "_thread.start_new_thread(lambda: (print('mine'), over.set()), ())\nover.wait()\ngates['off'].set()"
    ).check()
    foreground = notebook.run("gates['on'].set(); gates['off'].wait();").check()
    wait_over(notebook, "it")
    assert cell.wait_output("mine").stdout == "mine\n" and not foreground.outputs


@pytest.mark.skipif(sys.platform != "linux", reason="starts threads by the C library of Linux")
def test_a_foreground_cell_is_told_of_lines_that_may_be_another_cells(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it --quiet\ngates['c'].wait()\nin_c_thread(lambda: (print('one'), print('two')))\ngates['d'].set()"
    ).check()
    foreground = notebook.run("gates['c'].set(); gates['d'].wait()").check()
    wait_over(notebook, "it")
    assert foreground.stdout == "one\ntwo\n"
    assert foreground.stderr.count("may belong to the background cell 'it'") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="starts threads by the C library of Linux")
def test_a_c_thread_of_the_foreground_writes_there(notebook: KernelDriver) -> None:
    cell = notebook.run("in_c_thread(lambda: print('mine'))").check()
    assert cell.stdout == "mine\n" and not cell.stderr


CALLBACKS = {
    "a future": (
        "ready = Future()\nstarted = threading.Thread(target=lambda: (gates['set'].wait(), ready.set_result(1)))\n"
        "started.start()",
        "ready.add_done_callback(lambda _: (print('mine'), gates['called'].set()))\ngates['set'].set()",
    ),
    "a pool of processes": (
        "import multiprocessing\npool = multiprocessing.get_context('spawn').Pool(1)\npool.apply(int)",
        "pool.apply_async(int, callback=lambda _: (print('mine'), gates['called'].set()))",
    ),
    "a log queue": (
        "records = queue.Queue()\nlog = logging.Logger('queued')\n"
        "log.addHandler(logging.handlers.QueueHandler(records))\n"
        "class Last(logging.StreamHandler):\n    def emit(self, record):\n        print(record.getMessage())\n"
        "        gates['called'].set()\nlistener = logging.handlers.QueueListener(records, Last())\nlistener.start()",
        "log.error('mine')",
    ),
}
OLD_THREADS = tuple(map(int, version("ipykernel").split(".")[:2])) < (7, 1)
"""ipykernel writes lines of a foreground thread to the cell that has started it; later, to the latest cell."""
END = {"a pool of processes": "pool.terminate()", "a log queue": "listener.stop()"}


@pytest.mark.parametrize("to", ["foreground", "background"])
@pytest.mark.parametrize("by", ["foreground", "background"])
@pytest.mark.parametrize("way", CALLBACKS)
def test_a_callback_writes_to_the_cell_that_added_it(notebook: KernelDriver, way: str, by: str, to: str) -> None:
    """Whatever cell has started the thread that calls it, if one of the two is in the background."""
    start, add = CALLBACKS[way]
    notebook.run("for name in ('set', 'called'): gates[name].clear()").check()
    if by == "foreground":
        starter = notebook.run(start).check()
    else:
        starter = notebook.run(f"%%bgtask first --quiet\n{start}").check()
        notebook.run("await first").check()
    if to == "foreground":
        cell = notebook.run(f"{add}\ngates['called'].wait()").check()
    else:
        cell = notebook.run(f"%%bgtask second --quiet\n{add}\ngates['called'].wait()").check()
        notebook.run("await second").check()
    if by == to == "foreground" and way != "a log queue" and OLD_THREADS:
        cell, starter = starter, cell
    assert cell.wait_output("mine").stdout == "mine\n" and "mine" not in starter.stdout
    notebook.run(END.get(way, "started.join()")).check()
    assert not notebook.stray


def test_lines_of_joblib_are_in_the_cell_that_calls_it(notebook: KernelDriver) -> None:
    notebook.run("import joblib\ncalls = [joblib.delayed(abs)(n) for n in range(2)]").check()
    notebook.run("run = lambda: joblib.Parallel(n_jobs=2, verbose=50)(calls)").check()
    first = notebook.run("%%bgtask it --quiet\nrun()\nprint('over')").check()
    wait_over(notebook, "it")
    first.wait_output("over")
    lines = len(first.text.splitlines())
    second = notebook.run("run()").check()
    assert "finished" in second.text
    assert len(first.text.splitlines()) == lines
    notebook.run("from joblib.externals.loky import get_reusable_executor; get_reusable_executor().shutdown()").check()
