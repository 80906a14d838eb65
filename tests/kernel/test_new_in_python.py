"""Cells that use what is new in Python 3.14 and 3.15, in each backend."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(sys.version_info < (3, 14), reason="cells of Python 3.14"),
]
python_3_15 = pytest.mark.skipif(sys.version_info < (3, 15), reason="new in Python 3.15")
backends = pytest.mark.parametrize("backend", ["thread", "loop", "process"])


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


def run(notebook: KernelDriver, backend: str, cell: str) -> None:
    notebook.run(f"%%bgtask it --backend {backend}\n{cell}").check()
    wait_over(notebook, "it")
    assert notebook.value("it.state.value + ': ' + str(it.error)") == "completed: None"


@backends
def test_annotations_name_what_a_later_cell_defines(notebook: KernelDriver, backend: str) -> None:
    run(
        notebook,
        backend,
        "from dataclasses import dataclass\n"
        "def f(y: Later = 1) -> Later: return y\n"
        "class C:\n    y: Later\n"
        "@dataclass\nclass D:\n    y: Later = None\n    own: D | None = None\n"
        "d = D(own=D(3))\nz = 2",
    )
    assert notebook.value("[z, f(), d.own.y, type(d.own) is D]") == [2, 1, 3, True]
    run(notebook, backend, "class Later: pass\nimport annotationlib\nlater = str(annotationlib.get_annotations(f))")
    notebook.run(
        "import annotationlib\n"
        "for one in (f, C, D): assert annotationlib.get_annotations(one)['y'] is Later, one\n"
        "assert annotationlib.get_annotations(D, format=annotationlib.Format.STRING)['own'] == 'D | None'"
    ).check()


ANNOTATED = """
import annotationlib, typing
def {0}f(y: {0}Later) -> list[{0}Later]: ...
class {0}C: y: {0}Later
class {0}T(typing.TypedDict): y: {0}Later
class {0}N(typing.NamedTuple): y: {0}Later
"""


@backends
def test_annotations_have_all_formats_of_the_foreground(notebook: KernelDriver, backend: str) -> None:
    notebook.run(ANNOTATED.format("a_")).check()
    run(notebook, backend, ANNOTATED.format("b_"))
    look = (
        "import re\n"
        "def seen(one, format):\n"
        "    try: return repr(annotationlib.get_annotations(one, format=format))\n"
        "    except NameError as error: return str(error)\n"
        "def all_seen(x): return [re.sub(f'{x}|0x[0-9a-f]+', '', seen(globals()[x + one], format))\n"
        "    for one in 'fCTN' for format in (1, 3, 4)]\n"
        "print(*all_seen('a_'), sep='\\n'); assert all_seen('a_') == all_seen('b_'), all_seen('b_')"
    )
    assert "'Later'" in notebook.run(look).check().stdout
    notebook.run("class a_Later: pass\nclass b_Later: pass").check()
    assert "class '__main__.Later'" in notebook.run(look).check().stdout


@backends
def test_models_of_pydantic_name_what_a_later_cell_defines(notebook: KernelDriver, backend: str) -> None:
    pytest.importorskip("pydantic")
    run(
        notebook,
        backend,
        "import pydantic\n"
        "class Item(pydantic.BaseModel):\n    name: str\n    parts: list[Item] = []\n"
        "class Box(pydantic.BaseModel):\n    size: int\n    content: Content | None = None\n"
        "item = Item(name='a', parts=[{'name': 'b'}])",
    )
    assert notebook.value("[item.parts[0].name, type(item.parts[0]) is Item, type(item) is Item]") == ["b", True, True]
    run(
        notebook,
        backend,
        "class Content(pydantic.BaseModel):\n    weight: float\nbox = Box(size=1, content={'weight': 2})",
    )
    assert notebook.value("[box.content.weight, Box(size=1, content=Content(weight=3)).content.weight]") == [2.0, 3.0]


@backends
def test_template_strings_and_bare_except(notebook: KernelDriver, backend: str) -> None:
    run(
        notebook,
        backend,
        "name = 'x'\nmade = t'hello {name}'\nvalues = made.values\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError, TypeError:\n    caught = True",
    )
    notebook.run("assert made.values == values == ('x',) and made.strings == ('hello ', '') and caught").check()


@backends
@python_3_15
def test_lazy_imports_frozendicts_and_sentinels(notebook: KernelDriver, backend: str) -> None:
    notebook.run("M = sentinel('M')").check()
    run(
        notebook,
        backend,
        "lazy import colorsys\nlazy from fractions import Fraction\nlazy import this\n"
        "third = Fraction(1, 3)\nfrozen = frozendict(a=1)\nsame = M",
    )
    notebook.run(
        "import sys\nassert 'this' not in sys.modules\n"
        "assert third == Fraction(1, 3) and frozen['a'] == 1 and same is M\nassert colorsys.rgb_to_hsv"
    ).check()


@pytest.mark.parametrize("backend", ["thread", "loop"])
def test_pools_of_interpreters(notebook: KernelDriver, backend: str) -> None:
    run(
        notebook,
        backend,
        "from concurrent.futures import InterpreterPoolExecutor\nimport math\n"
        "with InterpreterPoolExecutor(1) as pool: roots = list(pool.map(math.sqrt, [4, 9]))",
    )
    assert notebook.value("roots") == [2.0, 3.0]


@pytest.mark.parametrize("backend", ["thread", "loop"])
def test_interpreters_of_a_cell(notebook: KernelDriver, backend: str) -> None:
    run(
        notebook,
        backend,
        "from concurrent import interpreters\n"
        "def double(value): return 2 * value\n"
        "queue = interpreters.create_queue()\ninterpreter = interpreters.create()\n"
        "interpreter.prepare_main(queue=queue, start=3)\n"
        "interpreter.exec('queue.put(start + 1)')\n"
        "got = [queue.get(), interpreter.call(double, 4)]\ninterpreter.close()",
    )
    assert notebook.value("got") == [4, 8]


def test_a_queue_of_interpreters_stays_behind_and_costs_no_other_name(notebook: KernelDriver) -> None:
    run(notebook, "process", "from concurrent import interpreters\nqueue = interpreters.create_queue()\nz = 3")
    notebook.run("assert z == 3 and 'queue' not in globals()").check()


POOL = """
import concurrent.futures, multiprocessing
def square(value): return value * value
def pooled(method):
    try:
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
            return pool.submit(square, 3).result()
    except concurrent.futures.BrokenExecutor as error:
        return type(error).__name__
"""


@backends
def test_processes_of_a_cell_find_the_notebooks_functions_as_those_of_the_foreground(
    notebook: KernelDriver, backend: str
) -> None:
    notebook.run(POOL + "here = [pooled('fork'), pooled('forkserver'), pooled(None)]").check()
    run(notebook, backend, POOL + "there = [pooled('fork'), pooled('forkserver'), pooled(None)]")
    assert notebook.value("here[0]") == 9
    assert notebook.value("there") == notebook.value("here")


@backends
def test_processes_of_a_cell_start_by_the_default_method(notebook: KernelDriver, backend: str) -> None:
    run(
        notebook,
        backend,
        "import multiprocessing, math\nmethod = multiprocessing.get_context().get_start_method()\n"
        "with multiprocessing.get_context().Pool(1) as pool: roots = pool.map(math.sqrt, [4, 9])",
    )
    assert notebook.value("[method, roots]") == ["forkserver", [2.0, 3.0]]


@pytest.mark.parametrize("what", ["Thread", "Timer"])
def test_threads_of_a_cell_print_into_it(notebook: KernelDriver, what: str) -> None:
    call = "Thread(target=show)" if what == "Thread" else "Timer(0.01, show)"
    cell = notebook.run(
        f"%%bgtask it --wait\nimport threading, nbtasks\nmine = 1\n"
        f"def show(): print('printed', mine, nbtasks.current_task().name)\n"
        f"thread = threading.{call}\nthread.start(); thread.join()"
    ).check()
    assert "printed 1 it" in str(cell.outputs)


flags = pytest.mark.parametrize("flag", ["0", "1"])


@pytest.fixture
def notebook_with(start_kernel) -> Callable[..., KernelDriver]:
    """Starts a kernel with environment variables, and loads the extension."""
    return lambda **env: load(start_kernel(**env))


INHERITED = """
import contextvars, threading
from concurrent.futures import ThreadPoolExecutor
variable = contextvars.ContextVar("variable", default="unset")
def in_threads():
    variable.set("set")
    seen = []
    def look(): print("seen", variable.get()); seen.append(variable.get())
    thread = threading.Thread(target=look)
    thread.start(); thread.join()
    with ThreadPoolExecutor(1) as pool: pool.submit(look).result()
    return seen
{} = contextvars.copy_context().run(in_threads)
"""


@flags
def test_threads_inherit_the_context_or_not_as_in_the_foreground(notebook_with, flag: str) -> None:
    notebook = notebook_with(PYTHON_THREAD_INHERIT_CONTEXT=flag)
    notebook.run(f"import sys; assert sys.flags.thread_inherit_context == {flag}").check()
    notebook.run(INHERITED.format("here")).check()
    assert notebook.value("here") == 2 * ["set" if flag == "1" else "unset"]
    for backend in ("thread", "loop", "process"):
        cell = notebook.run(f"%%bgtask it --backend {backend} --wait{INHERITED.format('there')}").check()
        assert notebook.value("there") == notebook.value("here"), backend
        assert str(cell.outputs).count("seen ") == 2, backend


def test_warnings_by_context_are_those_of_their_cell(notebook_with) -> None:
    notebook = notebook_with(PYTHON_CONTEXT_AWARE_WARNINGS="1", PYTHON_THREAD_INHERIT_CONTEXT="1")
    notebook.run(
        "%%bgtask it\nimport warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    gates['inside'].set()\n    gates['go'].wait()\n"
        "    warnings.warn('of the cell')\n"
        "    thread = threading.Thread(target=warnings.warn, args=('of its thread',))\n"
        "    thread.start(); thread.join()\n"
        "messages = [str(one.message) for one in caught]"
    ).check()
    here = notebook.run("gates['inside'].wait()\nimport warnings\nwarnings.warn('of the foreground')").check()
    assert "of the foreground" in here.stderr
    notebook.run("gates['go'].set()").check()
    wait_over(notebook, "it")
    assert notebook.value("messages") == ["of the cell", "of its thread"]


def test_asyncio_ps_names_the_tasks_of_the_loop(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask fetching\nimport asyncio\n"
        "async def page(): await asyncio.Event().wait()\n"
        "gates['running'].set()\nawait page()"
    ).check()
    notebook.run("gates['running'].wait()").check()
    done = subprocess.run(
        [sys.executable, "-m", "asyncio", "ps", str(notebook.pid)], capture_output=True, text=True, check=False
    )
    skip_if_not_permitted(done.stderr)
    assert "fetching" in done.stdout and "page" in done.stdout, done.stdout + done.stderr


def test_pdb_of_another_process_sees_the_tasks(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask crunching\ngates['running'].set()\ngates['go'].wait()").check()
    notebook.run("gates['running'].wait()").check()
    command = [sys.executable, "-m", "pdb", "-p", str(notebook.pid)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, **pipes) as debugger:
        assert debugger.stdin is not None and debugger.stdout is not None
        debugger.stdin.write("import nbtasks\np nbtasks.get_manager().list_tasks()\nq\n")
        debugger.stdin.close()
        while debugger.poll() is None:  # the main thread is stopped when it next runs code
            notebook.value("1")
        printed = debugger.stdout.read()
    skip_if_not_permitted(printed)
    assert "'crunching'" in printed and "running" in printed, printed


def skip_if_not_permitted(printed: str) -> None:
    if "Operation not permitted" in printed or "PermissionError" in printed:
        pytest.skip("this machine does not let one process read another")
