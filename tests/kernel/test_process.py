"""Cells in worker processes: names, output, errors, settings, cancels."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from importlib.metadata import version

import pytest

from tests.kernel.driver import Cell, KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]
RUN = "%%bgtask it --backend process --quiet --wait\n"


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    """One for all: each test uses names of its own."""
    return load(module_kernel)


def text(outputs: list[dict[str, object]]) -> str:
    return "".join(str(output.get("text", "")) for output in outputs)


def test_a_cell_gets_the_names_that_it_reads_and_gives_back_those_that_it_binds(notebook: KernelDriver) -> None:
    notebook.run(
        "import os\nbase = 5\ndef times(n): return n * base\nclass Box:\n    def get(self): return times(2)"
    ).check()
    notebook.run(RUN + "where = os.getpid()\nbase = 7\nbox = Box()\nfound = box.get()\nfound").check()
    assert notebook.value("(found, base, times(1), where != os.getpid())") == (14, 7, 7, True)
    assert notebook.value("isinstance(box, Box)") is True
    assert notebook.value("it.result") == 14


def test_functions_of_the_cell_see_the_notebooks_live_names_later(notebook: KernelDriver) -> None:
    notebook.run(RUN + "unit = 1\ndef live(): return unit").check()
    notebook.run("unit = 2").check()
    assert notebook.value("live()") == 2


def test_a_failed_cell_keeps_the_names_that_it_bound_before(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it --backend process --quiet\nhalf = 1\n1 / 0").check()
    wait_over(notebook, "it")
    error = cell.outputs[-1]
    assert (error["ename"], "line 2" in str(error["traceback"])) == ("ZeroDivisionError", True)
    assert notebook.value("(half, it.namespace['half'], type(it.exception).__name__)") == (1, 1, "ZeroDivisionError")


def test_source_lines_of_other_cells_are_in_the_traceback(notebook: KernelDriver) -> None:
    notebook.run("def boom():\n    raise LookupError('here')").check()
    cell = notebook.run("%%bgtask it --backend process --quiet\nboom()").check()
    wait_over(notebook, "it")
    assert "raise" in str(cell.outputs[-1]["traceback"])


CODE = """
def function(): raise LookupError('function')
def outer():
    def nested(): raise LookupError('nested')
    return nested
nested = outer()
class Class:
    def method(self): raise LookupError('method')
lambdas = lambda: {}['lambdas']
async def coroutine(): raise LookupError('coroutine')
def generator(): yield {}['generator']
"""
KINDS = "function, outer, nested, Class.method, lambdas, coroutine, generator"
CALLS = ("function()", "nested()", "Class().method()", "lambdas()", "await coroutine()", "list(generator())")
SOURCES = f"[(one.__code__.co_filename, inspect.getsource(one)) for one in ({KINDS})]"


def trace(cell: Cell) -> str:
    """The error in the output, without colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(cell.outputs[-1]["traceback"]))


def line_of(call: str) -> str:
    [word] = set(re.findall(r"\w+", call)) & {"function", "nested", "method", "lambdas", "coroutine", "generator"}
    return next(line.strip() for line in CODE.splitlines() if f"'{word}'" in line)


def test_code_that_is_sent_has_its_source_and_cell_number_in_the_worker(notebook: KernelDriver) -> None:
    notebook.run(f"import inspect{CODE}").check()
    number = notebook.value("get_ipython().execution_count - 1")
    notebook.run(RUN + f"there = {SOURCES}").check()
    assert notebook.value(f"there == {SOURCES}") is True
    for call in CALLS:
        cell = notebook.run(f"%%bgtask it --backend process --quiet\n{call}").check()
        wait_over(notebook, "it")
        assert f"Cell In[{number}], line" in trace(cell)
        assert line_of(call) in trace(cell)


def test_code_that_comes_back_has_its_source_and_cell_number_in_the_notebook(notebook: KernelDriver) -> None:
    notebook.run(RUN + f"import inspect{CODE}there = {SOURCES}").check()
    number = notebook.value("get_ipython().execution_count - 1")
    assert notebook.value(f"there == {SOURCES}") is True
    for call in CALLS:
        cell = notebook.run(call)
        cell.wait()
        assert f"Cell In[{number}], line" in trace(cell)
        assert line_of(call) in trace(cell)


def test_a_function_task_has_the_source_of_its_function_in_the_worker(notebook: KernelDriver) -> None:
    notebook.run(f"import inspect{CODE}def sources(): return {SOURCES}").check()
    notebook.run(
        "found = get_manager().create_task('found', sources, backend='process')\n"
        "fails = get_manager().create_task('fails', outer(), backend='process')"
    ).check()
    wait_over(notebook, "found")
    wait_over(notebook, "fails")
    assert notebook.value(f"found.result == {SOURCES}") is True
    assert line_of("nested()") in notebook.value("str(fails.exception.__cause__)")


def test_displays_and_results_come_as_in_the_foreground(notebook: KernelDriver) -> None:
    cell = notebook.run(
        RUN + "from IPython.display import HTML\nprint('said')\ndisplay(HTML('<b>b</b>'))\n6 * 7"
    ).check()
    kinds = [output["output_type"] for output in cell.outputs]
    assert kinds == ["stream", "display_data", "execute_result"]
    assert cell.outputs[-1]["data"] == {"text/plain": "42"}


def test_progress_is_reported_from_the_worker(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it --backend process --quiet\nimport time\nfrom nbtasks import current_task\n"
        "current_task().progress = 40\ncurrent_task().body = 'b'\ntime.sleep(60)"
    ).check()
    notebook.wait_until(lambda: notebook.value("(it.progress, it.body)") == (40.0, "b"), what="the progress")
    notebook.run("it.cancel()").check()
    wait_over(notebook, "it")
    assert notebook.value("it.state.value") == "cancelled"


def test_settings_are_the_notebooks_and_come_back(notebook: KernelDriver, tmp_path: object) -> None:
    notebook.run(
        "import random, os\nrandom.seed(1)\nexpected = random.Random(1).random()\nos.environ['OWN'] = 'x'"
    ).check()
    notebook.run(RUN + f"drawn = random.random()\nown = os.environ['OWN']\nos.chdir({str(tmp_path)!r})").check()
    assert notebook.value("(drawn == expected, own, os.getcwd())") == (True, "x", str(tmp_path))
    notebook.run("second = random.random()\ngenerator = random.Random(1)\ngenerator.random()").check()
    assert notebook.value("second == generator.random()") is True


def test_settings_that_a_library_keeps_in_a_context_are_the_foregrounds_without_a_wait(notebook: KernelDriver) -> None:
    notebook.run("import numpy as np").check()
    notebook.run("%%bgtask options --backend process --quiet\nnp.set_printoptions(precision=2)").check()
    notebook.run("%%bgtask following --after options --quiet\nprint('over')").check().wait_output("over")
    show = "print(np.array([2 / 3]))"
    assert notebook.run(show).check().stdout == "[0.67]\n"
    assert notebook.run(f"np.set_printoptions(precision=8)\n{show}").check().stdout == "[0.66666667]\n"
    if not version("ipykernel").startswith("7.0."):  # it runs each cell in another context
        assert notebook.run(show).check().stdout == "[0.66666667]\n"


def test_unpicklable_names_are_in_the_error_and_nothing_starts(notebook: KernelDriver) -> None:
    notebook.run("import threading\nlatch = threading.Lock()\ndef uses(): return latch").check()
    cell = notebook.run(RUN + "begun = True\nuses()")
    [error] = cell.errors
    assert "latch (_thread.lock), which uses() reads, used in line 2: cannot pickle '_thread.lock' object" in error
    assert notebook.value("'begun' in globals()") is False


def test_a_name_that_the_cell_binds_first_is_not_sent(notebook: KernelDriver) -> None:
    notebook.run("import threading\nheld = threading.Lock()").check()
    notebook.run(RUN + "held = 1\nheld += 1").check()
    assert notebook.value("held") == 2


def test_a_name_that_cannot_come_back_stays_in_the_process(notebook: KernelDriver) -> None:
    cell = notebook.run(RUN + "numbers = (n for n in range(3))\nkept = 1 + next(numbers)").check()
    assert cell.outputs == []
    assert notebook.value("(kept, 'numbers' in globals(), it.state.value)") == (1, False, "completed")
    assert notebook.value("it.names_in_process") == ("numbers",)


def test_a_result_that_cannot_come_back_stays_behind_and_is_reported(notebook: KernelDriver) -> None:
    cell = notebook.run(RUN + "import threading\nthreading.Lock()").check()
    assert "the result (_thread.lock) stayed behind in the worker process: cannot pickle" in cell.stderr


def test_a_task_of_asyncio_that_the_cell_leaves_takes_its_steps(notebook: KernelDriver) -> None:
    code = "async def work():\n    await asyncio.sleep(0)\n    print('worked')\n    return 3\n"
    cell = notebook.run(f"{RUN}import asyncio\n{code}left = asyncio.ensure_future(work())\nprint('left')").check()
    assert cell.stdout == "left\nworked\n"
    assert notebook.value("left.result()") == 3


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_a_later_cell_says_that_a_name_that_is_not_committed_stayed_behind(
    notebook: KernelDriver, backend: str
) -> None:
    name = f"latch_of_{backend}"
    code = f"import threading\n{name} = threading.Lock()\n1 / 0"
    cell = notebook.run("%%bgtask it --backend process --quiet --atomic\n" + code).check()
    wait_over(notebook, "it")
    assert f"{name} (_thread.lock) stayed behind in the worker process: cannot pickle" in cell.stderr
    cell = notebook.run(f"%%bgtask it --quiet --backend {backend}\n{name}.locked()")
    wait_over(notebook, "it")
    assert f"NameError: name '{name}' is not defined" in cell.text
    cell.wait_output(f"{name} (_thread.lock): it stayed behind in the worker process of an earlier cell: cannot pickle")
    notebook.run(f"{name} = 1").check()
    cell = notebook.run(f"%%bgtask it --quiet --backend {backend}\ndel {name}\n{name}")
    wait_over(notebook, "it")
    assert "NameError" in cell.text
    assert "stayed behind" not in cell.text


def test_a_generator_that_begins_in_both_processes_is_not_begun_once_more(notebook: KernelDriver) -> None:
    notebook.run("steps = (n for n in range(3))\nimport os\nos.mkfifo('gate')").check()
    cell = notebook.run("%%bgtask it --backend process --quiet\nnext(steps)\nprint('begun')\nopen('gate').read()")
    cell.wait_output("begun")
    notebook.run("next(steps), next(steps)\nopen('gate', 'w').close()").check()
    wait_over(notebook, "it")
    cell.wait_output("steps (generator) stayed behind in the worker process: cannot pickle a generator that has begun")
    assert notebook.value("next(steps)") == 2
    [error] = notebook.run(RUN + "1\nnext(steps)").errors
    assert "steps (generator), used in line 2: cannot pickle a generator that has begun" in error


def test_a_file_that_is_read_in_both_processes_stays_behind(notebook: KernelDriver) -> None:
    notebook.run("with open('lines', 'w') as lines:\n    lines.write('a\\nb\\nc\\n')\nlines = open('lines')").check()
    notebook.run("import os\nos.mkfifo('go')").check()  # to open it for reading waits until it is opened for writing
    cell = notebook.run(
        "%%bgtask it --backend process --quiet\nlines.readline()\nprint('read')\nwith open('go') as gate: gate.read()"
    )
    cell.wait_output("read")
    notebook.run("lines.readline(), lines.readline()\nopen('go', 'w').close()").check()
    wait_over(notebook, "it")
    cell.wait_output("lines (_io.TextIOWrapper) stayed behind in the worker process: lines was read, written or closed")
    assert notebook.value("lines.readline()") == "c\n"


def test_an_object_that_exists_only_by_name_does_not_cost_the_other_names(notebook: KernelDriver) -> None:
    cell = notebook.run(
        RUN + "from typing import NewType\nUserId = NewType('UserId', int)\nn = UserId(3)\n"
        "class ByName:\n    def __reduce__(self): return 'by_name'\nby_name = ByName()"
    ).check()
    assert cell.stderr == ""
    assert notebook.value("it.names_in_process") == ("by_name",)
    assert notebook.value("(n, UserId.__supertype__ is int, 'by_name' in globals())") == (3, True, False)
    notebook.run(RUN + "m = UserId(4)").check()
    assert notebook.value("m") == 4


@pytest.mark.parametrize(("limit", "size"), [("600M", 600 * 2**20), ("4G", 4 * 2**30)])
def test_a_memory_limit_ends_in_a_clear_error(notebook: KernelDriver, limit: str, size: int) -> None:
    cell = notebook.run(
        f"%%bgtask it --backend process --quiet --memory {limit}\nsmall = bytearray(2**20)\nprint('so far')\n"
        f"big = bytearray({2 * size})"
    ).check()
    wait_over(notebook, "it")
    assert notebook.value("it.error.partition(':')[0]") == "MemoryError"
    assert "so far" in cell.stdout
    assert f"limited to {size:,} bytes" in text(cell.outputs)


def test_the_error_of_a_dead_worker_has_its_signal(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it --backend process --quiet\nimport os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"
    ).check()
    wait_over(notebook, "it")
    assert "SIGSEGV" in notebook.value("it.error")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--memory 1", "--memory must be a number with K, M, G or T"),
        ("--memory lots", "--memory must be a number with K, M, G or T"),
        ("--shared", "--shared needs the notebook's own process"),
    ],
)
def test_wrong_options_are_refused_in_one_line(notebook: KernelDriver, line: str, expected: str) -> None:
    cell = notebook.run(f"%%bgtask refused --backend process {line}\n1")
    assert expected in text(cell.outputs)
    assert text(cell.outputs).count("\n") == 1


def test_workers_are_listed(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it --backend process --quiet\nimport time; time.sleep(60)").check()
    row = re.compile(r"^ *\d+ +[\d,]+ MB +[\d.]+ s +\d+ s  it$", re.MULTILINE)
    notebook.wait_until(lambda: row.search(notebook.run("%bgtask workers").stdout), what="the worker")
    assert "pid     memory      cpu      age  task" in notebook.run("%bgtask workers").stdout
    notebook.run("it.cancel()").check()
    wait_over(notebook, "it")


def test_workers_die_with_a_kernel_that_is_killed(kernel: KernelDriver) -> None:
    load(kernel)
    kernel.run(
        "%%bgtask it --backend process --quiet\nimport os, subprocess, time\nfrom nbtasks import current_task\n"
        "child = subprocess.Popen(['sleep', '600'])\ncurrent_task().body = f'{os.getpid()} {child.pid}'\n"
        "while True: pass"
    ).check()
    kernel.wait_until(lambda: kernel.value("it.body") is not None, what="the worker")
    pids = [int(pid) for pid in kernel.value("it.body").split()]
    os.kill(kernel.value("__import__('os').getpid()"), signal.SIGKILL)
    end = time.monotonic() + 30
    while not all(is_over(pid) for pid in pids):
        assert time.monotonic() < end, "the worker or its child lives on"
        time.sleep(0.05)


def is_over(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"  # a zombie
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_an_object_that_the_cells_source_changes_comes_back(notebook: KernelDriver) -> None:
    notebook.run("table, log, kept = {'a': 1}, [1], [1]").check()
    notebook.run(RUN + "table['b'] = 2\nlog.append(2)\nprint(kept.index(1))\nbefore = id(kept)").check()
    assert notebook.value("(table, log, kept)") == ({"a": 1, "b": 2}, [1, 2], [1])


def test_magics_and_loggers_of_the_notebook_are_there_and_new_ones_come_back(notebook: KernelDriver) -> None:
    notebook.run(
        "import logging\nfrom IPython.core.magic import register_line_magic\n"
        "@register_line_magic\ndef shout(line): return line.upper()\nlogging.basicConfig(format='seen %(message)s')"
    ).check()
    cell = notebook.run(
        RUN + "logging.warning('it')\nloud = get_ipython().run_line_magic('shout', 'a')\n"
        "from IPython.core.magic import register_line_magic\n"
        "@register_line_magic\ndef whisper(line): return line.lower()"
    ).check()
    assert "seen it" in text(cell.outputs)
    assert notebook.value("(loud, get_ipython().run_line_magic('whisper', 'B'))") == ("A", "b")


def test_the_panel_shows_the_loops_and_the_usage_of_the_process(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it --backend process --quiet\nimport time\nfrom nbtasks import track\n"
        "for epoch in track(range(4)):\n    for batch in track(range(1000)): time.sleep(0.02)"
    ).check()
    notebook.run(
        "from datetime import UTC, datetime\nfrom nbtasks.widgets.snapshot import snapshot_of\n"
        "from nbtasks.widgets.text import panel_text\n"
        "def shown(): return panel_text(snapshot_of(it, datetime.now(UTC)))"
    ).check()
    notebook.wait_until(lambda: "MB" in notebook.value("shown()"), what="the process's memory")
    notebook.wait_until(lambda: "/1,000" in notebook.value("shown()").replace("/1000", "/1,000"), what="the inner loop")
    notebook.run("it.cancel()").check()
    wait_over(notebook, "it")


def test_functions_of_the_notebook_closures_and_lambdas_run_there(notebook: KernelDriver) -> None:
    notebook.run(
        "import os\nmanager, home, factor = get_manager(), os.getpid(), 3\n"
        "def inner(n): return n * factor\n"
        "def outer(n): return inner(n) + 1, os.getpid() != home\n"
        "def make(n):\n    def closure(task): return task.name, outer(n)\n    return closure\n"
        "def there(work): return manager.create_task('it', work, backend='process').wait(60)"
    ).check()
    assert notebook.value("there(lambda: outer(2))") == (7, True)
    assert notebook.value("there(make(5))") == ("it", (16, True))
    notebook.run("factor = 10").check()
    assert notebook.value("there(make(5))") == ("it", (51, True))


def test_a_spare_worker_has_imported_what_the_notebook_has(notebook: KernelDriver) -> None:
    loaded = RUN + "import sys\nloaded = 'imaplib' in sys.modules"
    spare = "any(row['task'] == 'spare' for row in get_manager().backends['process'].workers())"
    notebook.run(loaded).check()
    assert notebook.value("loaded") is False
    notebook.wait_until(lambda: notebook.value(spare), what="a spare worker")
    notebook.run("import imaplib").check()
    notebook.run(RUN + "1").check()  # it takes the spare of before
    notebook.wait_until(lambda: notebook.value(spare), what="a spare worker")
    notebook.run(loaded).check()
    assert notebook.value("loaded") is True


def test_output_of_functions_appears_in_their_cell(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "from IPython.display import HTML, display\n"
        "def shows():\n    print('said')\n    display(HTML('<b>b</b>'))\n"
        "get_manager().create_task('it', shows, backend='process').wait(60)"
    ).check()
    assert [output["output_type"] for output in cell.outputs] == ["stream", "display_data"]


def test_an_executor_runs_functions_of_the_notebook_there(notebook: KernelDriver) -> None:
    notebook.run(
        "import os\nscale, home = 4, os.getpid()\ndef scaled(n): return n * scale\n"
        "executor = get_manager().as_executor(backend='process')\n"
        "class Model:\n    def __init__(self): self.fitted = 0\n"
        "    def fit(self, n): self.fitted += n; return self"
    ).check()
    assert notebook.value("list(executor.map(lambda n: scaled(n), range(4)))") == [0, 4, 8, 12]
    assert notebook.value("executor.submit(os.getpid).result(60) != home") is True
    assert notebook.value("executor.submit(Model().fit, 4).result(60).fitted") == 4
    failed = "executor.submit(lambda: 1 / 0).exception(60)"
    assert notebook.value(f"type({failed}).__name__") == "ZeroDivisionError"
    notebook.run("executor.shutdown()").check()


def test_an_unpicklable_object_that_a_function_uses_is_named(notebook: KernelDriver) -> None:
    notebook.run("import threading\nbolt = threading.Lock()\ndef closes():\n    return bolt").check()
    cell = notebook.run("task = get_manager().create_task('it', closes, backend='process')\nget_manager().wait(task)")
    expected = "bolt (_thread.lock), which closes() reads in line 4: cannot pickle '_thread.lock' object"
    assert expected in notebook.value("task.error")
    assert expected in text(cell.outputs)
    assert "Traceback" not in text(cell.outputs)
