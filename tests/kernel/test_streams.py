"""`sys.stdout` and other streams that background and foreground cells replace."""

from __future__ import annotations

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel

IMPORTS = "import contextlib, io, sys, logging\n"


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    load(module_kernel).run(IMPORTS).check()
    return module_kernel


def test_a_task_redirects_only_its_own_output(notebook: KernelDriver) -> None:
    background = notebook.run(
        "%%bgtask it --quiet\nbuffer = io.StringIO()\nwith contextlib.redirect_stdout(buffer):\n"
        "    print('redirected')\n    gates['bg'].set(); gates['fg'].wait()\n    print('again', sys.stdout is buffer)\n"
        "print('plain')"
    ).check()
    foreground = notebook.run("gates['bg'].wait(); print('foreground'); gates['fg'].set()\n6 * 7").check()
    wait_over(notebook, "it")
    assert background.wait_output("plain").stdout == "plain\n"
    assert notebook.value("buffer.getvalue()") == "redirected\nagain True\n"
    assert foreground.stdout == "foreground\n" and foreground.outputs[-1]["data"]["text/plain"] == "42"


def test_foreground_cells_print_as_usual_while_a_task_redirects(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it --quiet\nwith contextlib.redirect_stdout(io.StringIO()):\n"
        "    gates['in'].set(); gates['out'].wait()"
    ).check()
    assert notebook.run("gates['in'].wait(); print('one')").stdout == "one\n"
    assert notebook.run("print('two'); gates['out'].set()").stdout == "two\n"
    wait_over(notebook, "it")
    assert notebook.run("print('three')").stdout == "three\n"


def test_the_foreground_redirects_only_its_own_output(notebook: KernelDriver) -> None:
    background = notebook.run(
        "%%bgtask it --quiet\ngates['redirected'].wait()\nprint('task'); print('err', file=sys.stderr)\n"
        "gates['printed'].set()"
    ).check()
    foreground = notebook.run(
        "with contextlib.redirect_stdout(io.StringIO()) as held:\n    print('mine'); gates['redirected'].set()\n"
        "    gates['printed'].wait(); same = sys.stdout is held\nprint(repr(held.getvalue()), same)"
    ).check()
    wait_over(notebook, "it")
    assert background.wait_output("err").stdout == "task\n"
    assert foreground.stdout == "'mine\\n' True\n"


def test_a_stream_that_writes_to_the_original_one_writes_to_the_tasks_cell(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it --quiet\nclass Tee(io.StringIO):\n    def write(self, text):\n        before.write(text.upper())\n"
        "        return super().write(text)\nbefore = sys.stdout\nsys.stdout = tee = Tee()\nprint('both')\n"
        "sys.stdout = before\nprint('one')\ntee.getvalue()"
    ).check()
    wait_over(notebook, "it")
    assert cell.wait_output("both").stdout == "BOTH\none\n"
    assert cell.outputs[-1]["data"]["text/plain"] == "'both\\n'"


def test_a_stream_that_a_cell_has_replaced_stays_replaced_in_later_cells(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it --quiet\nclass Upper:\n    def __init__(self, below): self.below = below\n"
        "    def write(self, text): return self.below.write(text.upper())\n"
        "    def __getattr__(self, name): return getattr(self.below, name)\n"
        "sys.stdout = Upper(sys.stdout)"
    ).check()
    wait_over(notebook, "it")
    assert notebook.run("print('foreground')").stdout == "FOREGROUND\n"
    cell = notebook.run("%%bgtask it --quiet\nprint('task')").check()
    wait_over(notebook, "it")
    assert cell.wait_output("TASK").stdout == "TASK\n"
    notebook.run("sys.stdout = sys.stdout.below").check()
    assert notebook.run("print('plain')").stdout == "plain\n"


def test_a_call_of_the_displayhook_in_a_task_shows_a_result_in_its_cell(notebook: KernelDriver) -> None:
    notebook.run("'foreground'").check()
    cell = notebook.run("%%bgtask it --quiet\nsys.displayhook(5)").check()
    wait_over(notebook, "it")
    [result] = cell.wait_output("5").outputs
    assert result["output_type"] == "execute_result" and result["data"]["text/plain"] == "5"
    assert notebook.run("_").outputs[0]["data"]["text/plain"] == "'foreground'"
    assert not notebook.stray


def test_doctest_in_a_task_captures_only_its_own_output(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it --quiet\nimport doctest\ndef square(x):\n    '''\n    >>> gates['d'].set(); gates['f'].wait()\n"
        "    True\n    >>> square(4)\n    15\n    '''\n    return x * x\n"
        "doctest.testmod(__import__('__main__'))"
    ).check()
    foreground = notebook.run("gates['d'].wait(); print('foreground'); gates['f'].set()\n1 + 1").check()
    wait_over(notebook, "it")
    cell.wait_output("TestResults(failed=1, attempted=2)")
    assert "Expected:\n    15\nGot:\n    16" in cell.stdout
    assert foreground.stdout == "foreground\n" and foreground.outputs[-1]["data"]["text/plain"] == "2"


SAVED = {
    "a saved stream": (
        "orig = sys.stdout",
        "with contextlib.redirect_stdout(io.StringIO()) as held:\n    orig.write('written\\n')\n"
        "    print('printed', file=orig)\n    print('held')\nprint(repr(held.getvalue()))",
    ),
    "a stream that the cell saves": (
        "",
        "orig = sys.stdout\nwith contextlib.redirect_stdout(io.StringIO()) as held:\n    print('printed', file=orig)\n"
        "    print('held')\nprint(repr(held.getvalue()))",
    ),
    "a handler": (
        "log = logging.getLogger('a'); log.propagate = False; log.handlers[:] = [logging.StreamHandler()]",
        "with contextlib.redirect_stderr(io.StringIO()) as held:\n    log.error('logged')\n"
        "    print('held', file=sys.stderr)\nprint(repr(held.getvalue()))",
    ),
    "a handler, captured": (
        "log = logging.getLogger('a'); log.propagate = False; log.handlers[:] = [logging.StreamHandler()]",
        "from IPython.utils.capture import capture_output\nwith capture_output() as held:\n    log.error('logged')\n"
        "    print('held')\nprint(repr(held.stdout), repr(held.stderr))",
    ),
    "tqdm's recipe": (
        "from tqdm import tqdm\nfrom tqdm.contrib import DummyTqdmFile",
        "saved = sys.stdout, sys.stderr\n"
        "try:\n    sys.stdout, sys.stderr = map(DummyTqdmFile, saved)\n"
        "    for i in tqdm(range(3), file=saved[0], dynamic_ncols=True, bar_format='{n}/{total}'):\n"
        "        print('line', i)\nfinally:\n    sys.stdout, sys.stderr = saved\nprint('end')",
    ),
    "progressbar2": (
        "import progressbar, time",
        "for i in progressbar.progressbar(range(3), redirect_stdout=True, widgets=[progressbar.SimpleProgress()]):\n"
        "    print('line', i)\nprint('end')",
    ),
    "a tee": (
        "class Tee:\n    def __init__(self, below): self.below, self.kept = below, ''\n"
        "    def write(self, text): self.kept += text; return self.below.write(text.upper())\n"
        "    def flush(self): self.below.flush()",
        "sys.stdout = Tee(sys.stdout)\nprint('one')\ntee, sys.stdout = sys.stdout, sys.stdout.below\nprint(tee.kept)",
    ),
    "output of a nested capture": (
        "from IPython.utils.capture import capture_output",
        "with capture_output() as outer:\n    print('outer')\n    with capture_output() as inner:\n"
        "        print('inner')\n"
        "    sys.stdout.write('outer again')\nprint([outer.stdout, inner.stdout])",
    ),
}


@pytest.mark.parametrize("scene", SAVED)
def test_saved_streams_write_what_they_write_in_the_foreground(notebook: KernelDriver, scene: str) -> None:
    prepare, source = SAVED[scene]
    if "progressbar" in prepare:
        pytest.importorskip("progressbar")
    notebook.run(prepare).check()
    foreground = notebook.run(source).check()
    background = notebook.run(f"%%bgtask it --quiet\n{source}\nprint('over')").check()
    wait_over(notebook, "it")
    background.wait_output("over")
    assert background.stdout.replace("over\n", "") == foreground.stdout
    if "progressbar" not in prepare:  # ipykernel's two streams have a buffer each, and lose the order between them
        assert background.stderr == foreground.stderr


def test_sys_stdout_is_the_cells_own_however_often_the_same_code_reads_it(notebook: KernelDriver) -> None:
    """Python 3.14 specializes reads of a module's attributes, and then passes properties by."""
    notebook.run(
        "%%bgtask it --quiet\nimport io, sys\ndef swap():\n    before, sys.stdout = sys.stdout, io.StringIO()\n"
        "    sys.stdout = before\n    return type(before).__name__\nseen = {swap() for _ in range(100)}"
    ).check()
    wait_over(notebook, "it")
    assert notebook.value("seen") == {"OutStream"}
