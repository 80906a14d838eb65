"""Cells that use what is new in Python 3.14 and 3.15, in each backend."""

from __future__ import annotations

import sys

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


def test_a_queue_of_interpreters_stays_behind_and_costs_no_other_name(notebook: KernelDriver) -> None:
    run(notebook, "process", "from concurrent import interpreters\nqueue = interpreters.create_queue()\nz = 3")
    notebook.run("assert z == 3 and 'queue' not in globals()").check()


@backends
def test_worker_processes_of_a_cell_find_the_notebooks_functions(notebook: KernelDriver, backend: str) -> None:
    run(
        notebook,
        backend,
        "import multiprocessing, math\nmethod = multiprocessing.get_context().get_start_method()\n"
        "with multiprocessing.get_context().Pool(1) as pool: roots = pool.map(math.sqrt, [4, 9])",
    )
    assert notebook.value("roots") == [2.0, 3.0]


@pytest.mark.parametrize("what", ["Thread", "Timer"])
def test_threads_of_a_cell_print_into_it(notebook: KernelDriver, what: str) -> None:
    call = "Thread(target=show)" if what == "Thread" else "Timer(0.01, show)"
    cell = notebook.run(
        f"%%bgtask it --wait\nimport threading, nbtasks\nmine = 1\n"
        f"def show(): print('printed', mine, nbtasks.current_task().name)\n"
        f"thread = threading.{call}\nthread.start(); thread.join()"
    ).check()
    assert "printed 1 it" in str(cell.outputs)
