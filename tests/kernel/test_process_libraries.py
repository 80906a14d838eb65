"""Libraries and modules in worker processes, as in the foreground."""

from __future__ import annotations

import sys

import pytest

from tests.core.clocks import wait_until
from tests.kernel.driver import KernelDriver
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


def test_a_module_prints_once_when_a_cell_imports_it(notebook: KernelDriver) -> None:
    notebook.run("with open('loud.py', 'w') as file:\n    _ = file.write('print(\"loaded\")\\nbase = 3\\n')").check()
    first = notebook.run(RUN + "import loud\nprint('the cell')").check()
    assert first.stdout == "loaded\nthe cell\n"
    assert notebook.value("loud.base") == 3
    reads = notebook.run(RUN + "print(loud.base)").check()
    imports = notebook.run(RUN + "import loud\nprint(loud.base)").check()
    assert (reads.stdout, imports.stdout) == ("3\n", "3\n")


def test_a_module_of_a_folder_that_the_notebook_has_left_is_there(notebook: KernelDriver) -> None:
    notebook.run("with open('left.py', 'w') as file:\n    _ = file.write('class Box:\\n    size = 4\\n')").check()
    notebook.run("import os, sys, left\nbox = left.Box()\nhome = os.getcwd()\nos.mkdir('sub')\nos.chdir('sub')").check()
    try:
        notebook.run(RUN + "sizes = (left.Box.size, box.size)\npath = [one for one in sys.path if one == home]").check()
        assert notebook.value("(sizes, path)") == ((4, 4), [])
    finally:
        notebook.run("os.chdir(home)").check()


def test_a_subclass_of_tqdm_comes_back(notebook: KernelDriver) -> None:
    code = "from tqdm import tqdm\nclass Bar(tqdm):\n    def hello(self): return self.n\n"
    notebook.run(RUN + code + "used = Bar([1])\nfor _ in used: pass").check()
    assert notebook.value("(Bar(disable=True, initial=5).hello(), isinstance(used, Bar))") == (5, True)
    notebook.run(RUN + "again = Bar(disable=True, initial=6).hello()").check()
    assert notebook.value("again") == 6


def test_names_in_texts_of_functions_are_sent(notebook: KernelDriver) -> None:
    notebook.run("import pandas as pd\ntable = pd.DataFrame({'b': [1, 2, 3]})\nleast = 1").check()
    notebook.run("def chosen(): return len(table.query('b > @least'))").check()
    notebook.run(RUN + "count = chosen()").check()
    assert notebook.value("count") == 2


def test_log_lines_go_to_files_and_to_handlers_of_the_notebooks_own_classes(notebook: KernelDriver) -> None:
    notebook.run(
        "import logging\nclass Kept(logging.Handler):\n    def __init__(self):\n        super().__init__()\n"
        "        self.lines = []\n    def emit(self, record): self.lines.append(record.getMessage())\n"
        "log, kept = logging.getLogger('of a file'), Kept()\nlog.propagate = False\nlog.addHandler(kept)\n"
        "log.addHandler(logging.FileHandler('lines.log', mode='w'))\nlog.error('first')"
    ).check()
    notebook.run(
        RUN + "log.error('second')\nother = logging.getLogger('of another file')\nother.propagate = False\n"
        "other.addHandler(logging.FileHandler('other.log'))\nother.error('one')"
    ).check()
    notebook.run("log.error('third'); other.error('two')").check()
    assert (notebook.cwd / "lines.log").read_text() == "first\nsecond\nthird\n"
    assert (notebook.cwd / "other.log").read_text() == "one\ntwo\n"
    assert notebook.value("kept.lines") == ["first", "second", "third"]


def test_a_printer_of_ones_own_for_a_class_by_its_name_is_there(notebook: KernelDriver) -> None:
    notebook.run(
        "def drawn(table, printer, cycle): printer.text('a table')\n"
        "by_name = get_ipython().display_formatter.formatters['text/plain'].for_type_by_name\n"
        "_ = by_name('collections', 'Counter', drawn)\nimport collections"
    ).check()
    there = notebook.run(RUN + "collections.Counter()").check()
    assert there.outputs[0]["data"]["text/plain"] == "a table"
    notebook.run(
        RUN + "def here(table, printer, cycle): printer.text('a chain')\n"
        "get_ipython().display_formatter.formatters['text/plain'].for_type_by_name('collections', 'ChainMap', here);"
    ).check()
    assert notebook.run("collections.ChainMap()").check().outputs[0]["data"]["text/plain"] == "a chain"


HOOK = """
import ast, sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
class Loader(SourceFileLoader):
    def source_to_code(self, data, path, *_, **__):  # Python 3.15 gives the module's name, too
        return compile(data.replace(b"left", b"right"), path, "exec")
    def set_data(self, *_, **__): "Cache no code, which would be found without the hook."
class Finder(MetaPathFinder):
    def __init__(self, names): self.names = names
    def find_spec(self, name, path, target=None):
        if name not in self.names: return None
        spec = PathFinder.find_spec(name, path)
        spec.loader = Loader(name, spec.loader.path)
        return spec
"""


def test_import_hooks_go_and_come_back_and_a_module_without_its_hook_is_named(notebook: KernelDriver) -> None:
    (notebook.cwd / "turning.py").write_text(HOOK)
    for name in ("first", "second", "third", "fourth"):
        (notebook.cwd / f"{name}_turned.py").write_text("side = 'left'\n")
    notebook.run("import turning, sys").check()
    notebook.run("sys.meta_path.insert(0, turning.Finder(['first_turned', 'second_turned']))").check()
    notebook.run("import first_turned").check()
    cell = notebook.run(
        RUN + "import second_turned\nsides = (first_turned.side, second_turned.side)\n"
        "sys.meta_path.insert(0, turning.Finder(['third_turned']))"
    )
    assert cell.check().stderr == ""
    notebook.run("import third_turned").check()
    assert notebook.value("(sides, third_turned.side, sum(isinstance(f, turning.Finder) for f in sys.meta_path))") == (
        ("right", "right"), "right", 2,
    )  # fmt: skip
    notebook.run("sys.meta_path.insert(0, turning.Finder(['fourth_turned']))\nimport fourth_turned").check()
    notebook.run("sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, turning.Finder)]").check()
    cell = notebook.run(RUN + "side = fourth_turned.side").check()
    assert notebook.value("side") == "left"
    assert "nbtasks: imported without the import hook of turning in the worker process: fourth_turned\n" in cell.stderr


@pytest.mark.long
def test_hooks_of_typeguard_and_beartype(kernel: KernelDriver) -> None:
    load(kernel)
    for name in ("checked", "claimed"):
        (kernel.cwd / f"{name}.py").write_text("def double(x: int) -> int: return x * 2\n")
    kernel.run("import typeguard\nhook = typeguard.install_import_hook('checked')\nimport checked").check()
    assert "TypeCheckError" in kernel.run(RUN + "checked.double('a')").text
    kernel.run("from beartype.claw import beartype_package\nbeartype_package('claimed')\nimport claimed").check()
    cell = kernel.run(RUN + "claimed.double('a')")
    assert "nbtasks: imported without the import hook of beartype in the worker process: claimed" in cell.stderr


def test_classes_and_functions_without_a_module_go_and_come_back(notebook: KernelDriver) -> None:
    notebook.run(
        "import multiprocessing\nclass Meta(type):\n    pass\n"
        "Free = Meta('Free', (), {'__module__': None, 'size': 1})\n"
        "def half(number: int): return number / 2\nhalf.__module__ = None"
    ).check()
    notebook.run(
        RUN + "free = Free()\nMade = Meta('Made', (), {'__module__': None, 'size': 2})\nmade = Made()\n"
        "def third(number): return half(2 * number) / 3\nthird.__module__ = None"
    ).check()
    assert notebook.value("(free.size, made.size, third(9))") == (1, 2, 3)


def test_what_a_metaclass_adds_to_an_empty_class_is_not_in_the_copy(notebook: KernelDriver) -> None:
    notebook.run(
        "class Base: complete = False\n"
        "class Marking(type):\n"
        "    def __init__(cls, *_):\n"
        "        cls.complete = 'field' not in vars(cls)\n"
        "        if cls.complete: cls.empty = True\n"
        "class Marked(Base, metaclass=Marking): field = 1"
    ).check()
    notebook.run(
        RUN + "class There(Base, metaclass=Marking): field = 2\nseen = [Marked.complete, hasattr(Marked, 'empty')]"
    )
    notebook.run(RUN + "again = [There.complete, hasattr(There, 'empty'), There.field]").check()
    assert notebook.value("[seen, There.complete, hasattr(There, 'empty')]") == [[False, False], False, False]
    assert notebook.value("again") == [False, False, 2]


def test_a_model_of_pydantic_that_names_a_later_class_goes_and_comes_back(notebook: KernelDriver) -> None:
    pytest.importorskip("pydantic")
    code = "import pydantic\nclass Crate(pydantic.BaseModel):\n    size: int\n    content: 'Content | None' = None"
    notebook.run(RUN + code).check()
    notebook.run(
        RUN + "class Content(pydantic.BaseModel):\n    weight: float\ncrate = Crate(size=1, content={'weight': 2})"
    ).check()
    assert notebook.value("[crate.content.weight, isinstance(crate, Crate)]") == [2.0, True]


def test_attributes_of_modules_that_no_pickle_holds_go_by_name(notebook: KernelDriver) -> None:
    notebook.run(
        "with open('odd.py', 'w') as file:\n"
        "    _ = file.write('import threading\\nlock = threading.Lock()\\n__all__ = [\"lock\"]\\n')\n"
        "import sys\nfrom odd import *"
    ).check()
    cell = notebook.run(RUN + "import odd\nsame = lock is odd.lock\nfrom odd import *").check()
    assert notebook.value("(same, lock is sys.modules['odd'].lock)") == (True, True)
    assert "stayed behind" not in cell.stderr


def test_printers_that_a_library_registers_go_and_come_back(notebook: KernelDriver) -> None:
    notebook.run(
        "with open('look.py', 'w') as file:\n"
        "    _ = file.write('''def use(shell, sign):\n"
        "    shell.display_formatter.formatters['text/plain'].for_type(complex, lambda o, p, c: p.text(sign))\n''')\n"
        "import look\nlook.use(get_ipython(), 'here')"
    ).check()
    there = notebook.run(RUN + "display(1j)\nlook.use(get_ipython(), 'there')").check()
    assert there.outputs[0]["data"]["text/plain"] == "here"
    assert notebook.run("1j").check().outputs[0]["data"]["text/plain"] == "there"


def test_a_name_that_cannot_be_rebuilt_fails_only_code_that_reads_it(notebook: KernelDriver) -> None:
    notebook.run("class Odd:\n    def __reduce__(self): return int, ('x',)\nodd, wanted = Odd(), False").check()
    notebook.run(RUN + "if wanted: print(odd)\nwithout = 1").check()
    notebook.run(RUN + "match wanted:\n    case True: print(odd)\nmatched = 1").check()
    assert notebook.value("(without, matched)") == (1, 1)
    cell = notebook.run(RUN + "if not wanted: print(odd)")
    assert "name 'odd' is not defined" in cell.text
    assert "not sent to a worker process: odd (builtins.int): invalid literal" in cell.text


def test_a_cancel_ends_the_import_before_the_cell(notebook: KernelDriver) -> None:
    """The notebook has the module already: the worker imports it quietly, and here without end."""
    code = "import os, time\nif not os.path.exists('quick'):\n"
    code += "    with open('begun', 'a') as file: file.write('x')\n    while True: time.sleep(0.01)\n"
    (notebook.cwd / "endless.py").write_text(code)
    (notebook.cwd / "quick").touch()
    notebook.run("import endless").check()
    (notebook.cwd / "quick").unlink()
    notebook.run("%%bgtask it --backend process --quiet\nimport endless").check()
    wait_until((notebook.cwd / "begun").exists)
    notebook.run("%bgtask cancel it").check()
    wait_over(notebook, "it")
    assert notebook.value("it.state.value") == "cancelled"
    assert (notebook.cwd / "begun").read_text() == "x"  # not once more, by the cell


def test_a_prompt_of_click_is_refused_like_input(notebook: KernelDriver) -> None:
    notebook.run("import click").check()
    cell = notebook.run(RUN + "click.confirm('sure?')")
    assert "NoInputError: input() was called in a background cell" in cell.text


def test_loops_nest_in_a_process_if_they_do_in_the_notebook(kernel: KernelDriver) -> None:
    load(kernel)
    kernel.run("import nest_asyncio2\nnest_asyncio2.apply()\nasync def three(): return 3").check()
    kernel.run(RUN + "import asyncio\nfound = asyncio.run(three())").check()
    assert kernel.value("found") == 3


def test_a_registered_bar_of_dask_shows_in_a_process(kernel: KernelDriver) -> None:
    load(kernel)
    kernel.run("import dask\nfrom dask.diagnostics import ProgressBar\nProgressBar(width=10).register()").check()
    cell = kernel.run(RUN + "dask.delayed(abs)(-1).compute()").check()
    assert "[##########] | 100% Completed" in cell.stdout
    kernel.run(RUN + "ProgressBar(width=20).register()").check()
    assert "[" + 20 * "#" + "] | 100%" in kernel.run("dask.delayed(abs)(-1).compute()").check().stdout


@pytest.mark.long
def test_a_figure_of_plotly_goes_and_comes_back(kernel: KernelDriver) -> None:
    load(kernel)
    kernel.run("import plotly.graph_objects as go\nfigure = go.FigureWidget(data=[go.Bar(y=[1, 2])])\nfigure").check()
    kernel.run(RUN + "figure.add_bar(y=[3])\nnew = go.FigureWidget(data=[go.Bar(y=[4])])\nnew").check()
    kernel.run("new.add_bar(y=[5])").check()
    assert kernel.value("(len(figure.data), [one.y for one in new.data])") == (2, [(4,), (5,)])


@pytest.mark.long
def test_functions_names_and_printers_of_sympy_are_the_foregrounds(kernel: KernelDriver) -> None:
    load(kernel)
    code = "from sympy import *\nx = symbols('x')\nf = Function('f')(x)\ninit_printing(use_latex=False)"
    assert kernel.run(RUN + code).check().stderr == ""
    shown = kernel.run("f.diff(x)").check().outputs[0]["data"]["text/plain"]
    assert shown == "d       \n──(f(x))\ndx      "
    there = kernel.run(RUN + "f.diff(x)").check()
    assert there.outputs[0]["data"]["text/plain"] == shown
    kernel.run(RUN + "init_printing()").check()
    here, there = kernel.run("x + 1").check().outputs[0]["data"], kernel.run(RUN + "x + 1").check().outputs[0]["data"]
    assert here == there
    assert "image/png" in here


@pytest.mark.long
def test_configurations_of_structlog_and_altair_go_and_come_back(kernel: KernelDriver) -> None:
    load(kernel)
    kernel.run("import structlog, altair\nfrom structlog.processors import KeyValueRenderer, JSONRenderer").check()
    kernel.run("structlog.configure(processors=[KeyValueRenderer()])\nlog = structlog.get_logger()").check()
    kernel.run("_ = altair.renderers.enable('mimetype')").check()
    cell = kernel.run(RUN + "log.info('said', a=1)\nrenderer = altair.renderers.active").check()
    assert (cell.stdout, kernel.value("renderer")) == ("a=1 event='said'\n", "mimetype")
    kernel.run(
        RUN + "structlog.configure(processors=[JSONRenderer()])\n_ = altair.data_transformers.enable('json')"
    ).check()
    assert kernel.run("structlog.get_logger().info('said', a=1)").check().stdout == '{"a": 1, "event": "said"}\n'
    assert kernel.value("altair.data_transformers.active") == "json"
