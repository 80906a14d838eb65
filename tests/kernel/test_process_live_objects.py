"""Process cells that leave live objects in their worker, which later cells use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.kernel.driver import Cell, KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]
START = "%%bgtask it --backend process --quiet\n"
RUN = "%%bgtask it --backend process --quiet --wait\n"
COUNT = "def count():\n    n = 0\n    while True:\n        yield n\n        n += step\nstep = 1\n"


@pytest.fixture(scope="module")
def shared(module_kernel: KernelDriver) -> KernelDriver:
    return load(module_kernel)


@pytest.fixture
def notebook(shared: KernelDriver) -> KernelDriver:
    """One kernel for all; no worker is kept when a test begins."""
    shared.run("%reset -f").check()
    load(shared)
    wait_kept(shared, 0)
    return shared


def kept(notebook: KernelDriver) -> list[str]:
    rows = notebook.value("[row['task'] for row in get_manager().backends['process'].workers()]")
    return sorted(row for row in rows if row.startswith("kept for"))


def wait_kept(notebook: KernelDriver, count: int) -> list[str]:
    def what() -> str:
        return f"{count} kept workers, not {kept(notebook)}"

    notebook.wait_until(lambda: len(kept(notebook)) == count, what=what)
    return kept(notebook)


def run(notebook: KernelDriver, code: str, name: str = "it") -> Cell:
    return notebook.run(RUN.replace("it", name, 1) + code).check()


def shown(notebook: KernelDriver, code: str) -> str:
    """What the cell shows: nothing on stderr."""
    cell = run(notebook, code)
    assert cell.stderr == ""
    return cell.text.strip()


def pid(notebook: KernelDriver, name: str) -> str:
    """The process in which a cell runs that reads the name."""
    return shown(notebook, f"import os\n{name}\nprint(os.getpid())").splitlines()[0]


def test_a_begun_generator_continues_over_cells(notebook: KernelDriver) -> None:
    assert shown(notebook, COUNT + "g = count()\nnext(g)") == "0"
    assert notebook.value("('g' in globals(), step)") == (False, 1)
    assert wait_kept(notebook, 1) == ["kept for g"]
    assert shown(notebook, "next(g), next(g)") == "(1, 2)"
    assert shown(notebook, "third = next(g)\nthird") == "3"
    assert notebook.value("third") == 3
    assert wait_kept(notebook, 1) == ["kept for g"]
    assert "g    " not in notebook.run("%who").stdout
    assert "kept for g" in notebook.run("%bgtask workers").stdout


def test_a_name_that_the_notebook_changes_meanwhile_reaches_the_kept_worker(notebook: KernelDriver) -> None:
    assert shown(notebook, COUNT + "g = count()\nnext(g)") == "0"
    notebook.run("step = 10").check()
    assert shown(notebook, "next(g)") == "10"
    assert shown(notebook, "step = 100") == ""
    assert shown(notebook, "next(g)") == "110"


def test_a_change_of_a_big_object_reaches_it_when_a_cell_reads_that(notebook: KernelDriver) -> None:
    shown(notebook, "big = bytearray(2**21)\ng = (n for n in range(9))\nnext(g)")
    notebook.run("big[0] = 7").check()
    assert shown(notebook, "next(g)") == "1"  # it reads the other name only
    assert shown(notebook, "next(g), big[0]") == "(2, 7)"
    shown(notebook, "next(g)\nbig[1] = 8")
    assert notebook.value("(big[0], big[1])") == (7, 8)
    notebook.run("big = b'other'").check()
    assert shown(notebook, "next(g), big") == "(4, b'other')"


def test_a_function_that_the_notebook_replaces_meanwhile_reaches_it(notebook: KernelDriver) -> None:
    shown(notebook, "def double(n): return 2 * n\ng = (double(n) for n in range(9))\nnext(g), next(g)")
    notebook.run("def double(n): return 3 * n").check()
    assert shown(notebook, "next(g)") == "6"


def test_a_name_that_the_notebook_deletes_meanwhile_is_gone_there(notebook: KernelDriver) -> None:
    shown(notebook, "other = 1\ng = (n for n in range(9))\nnext(g)")
    notebook.run("del other").check()
    assert shown(notebook, "next(g), 'other' in globals()") == "(1, False)"


def test_a_connection_to_a_database_in_memory(notebook: KernelDriver) -> None:
    code = "import sqlite3\ncon = sqlite3.connect(':memory:')\ncon.execute('create table t (n)');"
    assert shown(notebook, code) == ""
    shown(notebook, "def add(n):\n    con.execute('insert into t values (?)', (n,))\nadd(1)\nadd(2)")
    shown(notebook, "add(3)")  # which reads the name
    assert shown(notebook, "con.execute('select sum(n) from t').fetchone()[0]") == "6"
    assert "sqlite3.Cursor" in shown(notebook, "con.execute('select 1')")
    shown(notebook, "con.close()\ndel con")
    wait_kept(notebook, 0)


def test_a_thread_fills_a_list_of_the_notebook(notebook: KernelDriver) -> None:
    code = (
        "import threading\nresults, go = [], threading.Event()\ndef work(found):\n    go.wait()\n    found += [1, 2]\n"
    )
    assert shown(notebook, code + "t = threading.Thread(target=work, args=(results,))\nt.start()") == ""
    assert wait_kept(notebook, 1) == ["kept for go, t"]
    assert shown(notebook, "go.set()\nt.join()\nprint(results)") == "[1, 2]"
    assert notebook.value("(results, t.is_alive())") == ([1, 2], False)


def test_a_thread_fills_a_list_that_an_earlier_cell_has_made(notebook: KernelDriver) -> None:
    shown(notebook, "results = [0]")
    code = "import threading\ngo = threading.Event()\ndef work(found):\n    go.wait()\n    found += [1, 2]\n"
    shown(notebook, code + "t = threading.Thread(target=work, args=(results,))\nt.start()")
    shown(notebook, "go.set()\nt.join()")
    assert shown(notebook, "print(results)") == "[0, 1, 2]"
    assert notebook.value("results") == [0, 1, 2]


def test_the_notebooks_change_of_a_list_is_not_lost_to_that_of_a_thread(notebook: KernelDriver) -> None:
    shown(notebook, "results = [0]\ng = (n for n in range(9))\nnext(g)")
    notebook.run("results.append(5)").check()
    assert shown(notebook, "next(g)\nprint(results)") == "[0, 5]"


def test_what_a_thread_binds_between_cells_comes_with_the_next_one(notebook: KernelDriver, tmp_path: Path) -> None:
    code = "import threading, os\ngo = threading.Event()\ndef work():\n    global late\n    open('fifo').read()\n"
    code += "    late = 7\n    print('late line')\n    open('over', 'w').close()\n"
    notebook.run(f"import os\nos.chdir({str(tmp_path)!r})\nos.mkfifo('fifo')").check()
    cell = run(notebook, code + "t = threading.Thread(target=work)\nt.start()")
    notebook.run("open('fifo', 'w').close()").check()
    cell.wait_output("late line")  # while no cell runs there
    assert shown(notebook, "t.join()\nlate") == "7"
    assert notebook.value("late") == 7


def test_an_open_pool_is_used_by_later_cells(notebook: KernelDriver) -> None:
    shown(notebook, "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)")
    assert shown(notebook, "future = pool.submit(lambda: print('used') or 2)\nfuture.result()") == "used\n2"
    shown(notebook, "pool.shutdown()")
    assert notebook.value("pool.submit.__name__") == "submit"  # it is back
    wait_kept(notebook, 0)


def test_a_task_of_asyncio_is_awaited_later(notebook: KernelDriver) -> None:
    code = "import asyncio\ngate = asyncio.Event()\nasync def work():\n    await gate.wait()\n    return 3\n"
    assert shown(notebook, code + "left = asyncio.create_task(work())\nawait asyncio.sleep(0)") == ""
    assert shown(notebook, "gate.set()\nawait left") == "3"
    assert notebook.value("left.result()") == 3
    code = "async def ticks():\n    yield 1\n    yield 2\nclock = ticks()\nawait anext(clock)"
    assert shown(notebook, code) == "1"
    assert shown(notebook, "await anext(clock)") == "2"


def test_locks_iterators_sockets_and_entered_contexts(notebook: KernelDriver) -> None:
    shown(notebook, "import threading\nlock = threading.Lock()\nlock.acquire()")
    assert shown(notebook, "lock.locked()") == "True"
    shown(notebook, "import socket\nleft, right = socket.socketpair()\nleft.send(b'over');")
    assert shown(notebook, "right.recv(9)") == "b'over'"
    code = "from contextlib import contextmanager\n@contextmanager\n"
    code += "def opened():\n    print('in')\n    yield 5\n    print('out')\n"
    assert shown(notebook, code + "context = opened()\ncontext.__enter__()") == "in\n5"
    assert shown(notebook, "context.__exit__(None, None, None)") == "out\nFalse"
    shown(notebook, "import itertools\na, b = itertools.tee(n * 2 for n in range(9))\nnext(a), next(a)")
    assert shown(notebook, "next(a), next(b)") == "(4, 0)"


def test_an_unbegun_generator_of_the_notebook_that_a_cell_begins(notebook: KernelDriver) -> None:
    notebook.run("g = (n for n in range(9))").check()
    assert shown(notebook, "next(g)") == "0"
    assert notebook.value("'g' in globals()") is False
    assert shown(notebook, "next(g)") == "1"
    assert shown(notebook, "list(g)") == "[2, 3, 4, 5, 6, 7, 8]"
    assert notebook.value("list(g)") == []  # it has ended, and is back
    wait_kept(notebook, 0)


@pytest.mark.parametrize("change", ["g = 1", "%reset -f", "%%bgtask --quiet --wait\ng = 1"])
def test_the_worker_ends_when_the_notebook_drops_its_names(notebook: KernelDriver, change: str) -> None:
    shown(notebook, "g = (n for n in range(9))\nnext(g)")
    wait_kept(notebook, 1)
    notebook.run(change).check()
    notebook.run("from nbtasks import get_manager").check()
    wait_kept(notebook, 0)


def test_the_notebook_makes_another_object_of_the_kind_for_a_name_that_has_moved(notebook: KernelDriver) -> None:
    for _ in range(3):  # it is likely to be where the former one was in memory
        notebook.run("g = (n for n in range(9))").check()
        wait_kept(notebook, 0)
        assert shown(notebook, "next(g), next(g)") == "(0, 1)"
        assert wait_kept(notebook, 1) == ["kept for g"]
        assert notebook.value("'g' in globals()") is False


def test_a_worker_that_holds_two_names_stays_until_both_are_dropped(notebook: KernelDriver) -> None:
    shown(notebook, "g, h = (n for n in range(9)), (n for n in range(9))\nnext(g), next(h)")
    notebook.run("g = 1").check()
    assert wait_kept(notebook, 1) == ["kept for h"]
    assert shown(notebook, "next(h), g") == "(1, 1)"
    shown(notebook, "del h")
    wait_kept(notebook, 0)


def test_an_object_is_freed_as_soon_as_it_is_deleted_there(notebook: KernelDriver) -> None:
    code = "import threading, weakref\nclass Loud:\n    def __init__(self): self.lock = threading.Lock()\n"
    code += "    def __del__(self): print('freed')\nclass Node: pass\n"
    shown(notebook, code + "loud, node = Loud(), Node()\nalive = weakref.WeakSet([node])")
    assert shown(notebook, "del loud\nprint('after')") == "freed\nafter"
    assert shown(notebook, "del node\nlen(alive)") == "0"


@pytest.mark.parametrize("backend", ["foreground", "thread", "loop"])
def test_other_cells_say_where_the_object_is(notebook: KernelDriver, backend: str) -> None:
    run(notebook, "g = (n for n in range(9))\nnext(g)", "make")
    magic = "" if backend == "foreground" else f"%%bgtask it --quiet --backend {backend}\n"
    cell = notebook.run(magic + "next(g)")
    cell.wait_output("g (generator): it lives in the worker process of the cell 'make': a cell with --backend process")
    assert "NameError: name 'g' is not defined" in cell.text
    assert shown(notebook, "next(g)") == "1"


def test_names_of_two_workers_are_in_the_error_with_what_to_do(notebook: KernelDriver) -> None:
    run(notebook, "g = (n for n in range(9))\nnext(g)", "one")
    run(notebook, "h = (n for n in range(9))\nnext(h)", "two")
    [error] = notebook.run(RUN + "next(g), next(h)").errors
    assert "g and h live in two worker processes, those of the cells 'one' and 'two', and no cell has both" in error
    run(notebook, "g\nh = (n for n in range(9))\nnext(h)", "two")  # as the error says
    assert shown(notebook, "next(g), next(h)") == "(1, 1)"
    assert wait_kept(notebook, 1) == ["kept for g, h"]


def test_a_name_that_only_a_branch_reads_may_be_in_another_worker(notebook: KernelDriver) -> None:
    run(notebook, "g = (n for n in range(9))\nnext(g)", "one")
    run(notebook, "h = (n for n in range(9))\nnext(h)", "two")
    assert shown(notebook, "if not next(g): next(h)") == ""
    [error] = notebook.run(RUN + "if next(g): next(h)").errors
    assert error == "NameError: name 'h' is not defined"


def test_the_death_of_the_worker_is_in_the_error_of_a_later_cell(notebook: KernelDriver) -> None:
    run(notebook, "import os\ng = (n for n in range(9))\nnext(g)\nwhere = os.getpid()", "make")
    wait_kept(notebook, 1)
    notebook.run("import os, signal\nos.kill(where, signal.SIGKILL)").check()
    wait_kept(notebook, 0)
    cell = notebook.run(RUN + "print('so far')\nnext(g)")
    assert "so far" in cell.wait().text
    assert "NameError: name 'g' is not defined" in cell.text
    assert "g (generator): it was lost with the worker process of the cell 'make' (the worker process was" in cell.text
    assert "SIGKILL" in cell.text
    assert "run that cell again" in cell.text


def test_a_cell_that_ends_the_worker_says_what_is_lost(notebook: KernelDriver) -> None:
    run(notebook, "g, h = (n for n in range(9)), (n for n in range(9))\nnext(g), next(h)", "make")
    cell = notebook.run(RUN + "next(g)\nimport os\nos._exit(3)").wait()
    assert "g, h are lost with the worker process (the worker process exited with code 3)" in cell.stderr
    assert notebook.value("it.state.value") == "failed"
    wait_kept(notebook, 0)


def test_two_cells_of_one_worker_run_one_after_the_other(notebook: KernelDriver, tmp_path: Path) -> None:
    notebook.run(f"import os\nos.chdir({str(tmp_path)!r})\nos.mkfifo('fifo')").check()
    run(notebook, "g = (n for n in range(9))\nnext(g)", "make")
    code = "first = next(g)\nprint('runs')\nopen('fifo').read()\ndone = True"
    notebook.run(START.replace("it", "one", 1) + code).check().wait_output("runs")
    second = notebook.run(START.replace("it", "two", 1) + "print(first, done, next(g))").check()
    usage = "from nbtasks.backends.base import usage_of\nprint(usage_of(two))"
    expected = "waiting for the process of g, where 'one' runs…\n"
    notebook.wait_until(lambda: notebook.run(usage).stdout == expected, what="the second cell waiting")
    notebook.run("open('fifo', 'w').close()").check()
    wait_over(notebook, "one", "two")
    assert second.text == "1 True 2\n"


def test_a_cell_that_waits_for_a_worker_is_cancelled(notebook: KernelDriver, tmp_path: Path) -> None:
    notebook.run(f"import os\nos.chdir({str(tmp_path)!r})\nos.mkfifo('fifo')").check()
    run(notebook, "g = (n for n in range(9))\nnext(g)", "make")
    notebook.run(START.replace("it", "one", 1) + "next(g)\nprint('runs')\nopen('fifo').read()").check().wait_output(
        "runs"
    )
    notebook.run(START.replace("it", "two", 1) + "next(g)").check()
    notebook.wait_until(lambda: notebook.value("two.state.value") == "running", what="the second cell waiting")
    notebook.run("two.cancel()").check()
    wait_over(notebook, "two")
    assert notebook.value("(one.state.value, two.state.value)") == ("running", "cancelled")
    notebook.run("open('fifo', 'w').close()").check()
    wait_over(notebook, "one")
    assert shown(notebook, "next(g)") == "2"


def test_a_cancelled_cell_leaves_the_objects_there(notebook: KernelDriver) -> None:
    run(notebook, "g = (n for n in range(9))\nnext(g)", "make")
    cell = notebook.run(START + "import time\nnext(g)\nprint('runs')\ntime.sleep(600)").check()
    cell.wait_output("runs")
    notebook.run("it.cancel()").check()
    wait_over(notebook, "it")
    assert notebook.value("it.state.value") == "cancelled"
    assert shown(notebook, "next(g)") == "2"


def test_a_cell_that_has_to_be_killed_loses_the_names_and_says_so(notebook: KernelDriver) -> None:
    run(notebook, "g = (n for n in range(9))\nnext(g)", "make")
    notebook.run("backend = get_manager().backends['process']\ngrace, backend.grace = backend.grace, 0.5").check()
    code = "next(g)\nimport signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('runs')\nwhile True: pass"
    cell = notebook.run(START + code).check()
    cell.wait_output("runs")
    notebook.run("it.cancel()").check()
    wait_over(notebook, "it")
    notebook.run("backend.grace = grace").check()
    assert notebook.value("it.state.value") == "cancelled"
    cell.wait_output("g is lost with the worker process ('it' did not stop within 0.5 s of its cancel there)")
    cell = notebook.run(RUN + "next(g)").wait()
    assert "lost with the worker process of the cell 'make' ('it' did not stop" in cell.text


def test_a_failed_cell_leaves_its_objects_and_an_atomic_one_does_not(notebook: KernelDriver) -> None:
    notebook.run(RUN + "g = (n for n in range(9))\nnext(g)\n1 / 0").wait()
    assert wait_kept(notebook, 1) == ["kept for g"]
    assert notebook.value("it.names_in_process") == ("g",)
    assert shown(notebook, "next(g)") == "1"
    code = "other = next(g)\nh = (n for n in range(9))\nnext(h)\n1 / 0"
    notebook.run("other = 'before'").check()
    notebook.run("%%bgtask it --backend process --quiet --atomic\n" + code).check()
    wait_over(notebook, "it")
    assert shown(notebook, "next(g), other, 'h' in globals()") == "(3, 'before', False)"


def test_a_retry_runs_in_the_same_worker(notebook: KernelDriver) -> None:
    run(notebook, "g = (n for n in range(9))\nnext(g)", "make")
    cell = notebook.run(
        "%%bgtask it --backend process --quiet --retries 2\nif next(g) < 3: 1 / 0\nprint('then', next(g))"
    )
    cell.check().wait_output("then 4")
    wait_over(notebook, "it")


def test_the_panel_says_what_stays(notebook: KernelDriver) -> None:
    code = "import threading\ng, h = (n for n in range(9)), threading.Lock()\nnext(g)"
    cell = notebook.run("%%bgtask it --backend process\n" + code).check()
    cell.wait_output("completed; g, h stay in its process")


def test_a_memory_limit_holds_for_its_own_cell(notebook: KernelDriver) -> None:
    code = "g = (n for n in range(9))\nnext(g)"
    notebook.run("%%bgtask it --backend process --quiet --wait --memory 1G\n" + code).check()
    assert shown(notebook, "next(g)\nlen(bytearray(2 * 2**30))") == str(2 * 2**30)


def test_widgets_of_an_earlier_cell_of_the_worker_are_the_notebooks(notebook: KernelDriver) -> None:
    pytest.importorskip("ipywidgets")
    shown(notebook, "import ipywidgets\ng = (n for n in range(9))\nnext(g)\nslider = ipywidgets.IntSlider(3)")
    assert notebook.value("slider.value") == 3
    notebook.run("slider.value = 4").check()
    assert shown(notebook, "next(g)\nprint(slider.value)\nslider.value = 5") == "4"
    assert notebook.value("slider.value") == 5
    assert shown(notebook, "next(g)") == "2"


def test_the_oldest_of_too_many_kept_workers_ends(notebook: KernelDriver) -> None:
    notebook.run(
        "backend = get_manager().backends['process']\nlimit, backend.kept_limit = backend.kept_limit, 2"
    ).check()
    for name in ("one", "two", "three"):
        run(notebook, f"of_{name} = (n for n in range(9))\nnext(of_{name})", name)
    assert wait_kept(notebook, 2) == ["kept for of_three", "kept for of_two"]
    cell = notebook.run(RUN + "next(of_one)").wait()
    assert "of the cell 'one' (at most 2 such processes are kept, and it was not used for longest)" in cell.text
    notebook.run("backend.kept_limit = limit").check()


def test_a_figure_is_the_open_one_in_the_next_cell(notebook: KernelDriver) -> None:
    pytest.importorskip("matplotlib")
    shown(
        notebook,
        "import matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt\n"
        "g = (n for n in range(9))\nnext(g)\nfig, ax = plt.subplots()\nplt.plot([1, 2]);",
    )
    assert shown(notebook, "next(g)\nplt.gcf() is fig, len(ax.lines)").endswith("(True, 1)")


def test_unloading_ends_kept_workers(kernel: KernelDriver) -> None:
    load(kernel)
    run(kernel, "g = (n for n in range(9))\nnext(g)")
    wait_kept(kernel, 1)
    kernel.run("%unload_ext nbtasks").check()
    wait_kept(kernel, 0)
    kernel.run("%load_ext nbtasks").check()
    cell = kernel.run(RUN + "next(g)").wait()
    assert "NameError" in cell.text


def test_the_end_of_the_manager_ends_kept_workers(kernel: KernelDriver) -> None:
    load(kernel)
    run(kernel, "import os\ng = (n for n in range(9))\nnext(g)\nwhere = os.getpid()")
    wait_kept(kernel, 1)
    kernel.run("get_manager().stop()\nimport psutil").check()
    assert kernel.value("psutil.pid_exists(where)") is False


@pytest.mark.parametrize(
    ("make", "end"),
    [
        ("pool = multiprocessing.get_context('fork').Pool(2)", "pool.terminate(); pool.join()"),
        (
            "from concurrent.futures import ProcessPoolExecutor\n"
            "pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('fork'))\npool.submit(int).result()",
            "pool.shutdown()",
        ),
    ],
    ids=["Pool", "ProcessPoolExecutor"],
)
def test_a_pool_finds_functions_that_were_defined_before_it(notebook: KernelDriver, make: str, end: str) -> None:
    """Its processes are copies of the worker as it is when they begin."""
    run(notebook, "def cubed(x): return x ** power\npower = 3")
    run(notebook, "import multiprocessing, warnings\nwarnings.simplefilter('ignore')")
    run(notebook, make)
    assert shown(notebook, "list(pool.map(cubed, range(4)))") == "[0, 1, 8, 27]"
    run(notebook, end)
