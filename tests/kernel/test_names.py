"""Snapshot isolation: the names that a background cell sees and commits."""

from __future__ import annotations

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    return load(kernel)


def test_loop_variables_never_appear_in_the_foreground_while_the_cell_runs(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it\nfor i in range(10**9):\n    gates['in'].set()\n    if gates['go'].is_set(): break"
    ).check()
    notebook.run("gates['in'].wait(); assert 'i' not in globals()").check()
    notebook.run("gates['go'].set()").check()
    wait_over(notebook, "it")
    assert notebook.value("isinstance(i, int)") is True


def test_names_are_committed_between_cells_without_a_wait(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it\nx = 1").check()
    notebook.wait_until(lambda: notebook.value("'x' in globals()"), what="the commit")


def test_a_cell_that_runs_never_sees_a_commit_under_it(notebook: KernelDriver) -> None:
    notebook.run("x = 'old'").check()
    notebook.run("%%bgtask it\ngates['go'].wait()\nx = 'new'").check()
    notebook.run(
        "seen = []\ngates['go'].set()\n"
        "while it.state != 'completed': seen.append(x)\n"
        "seen.append(x); assert set(seen) == {'old'}, set(seen)"
    ).check()
    assert notebook.value("x") == "new"


def test_a_foreground_await_commits_no_names_of_other_tasks(notebook: KernelDriver) -> None:
    notebook.run("import asyncio\nx = 'old'").check()
    notebook.run("%%bgtask it\nawait asyncio.sleep(0)\nx = 'new'").check()
    cell = notebook.run("while it.state != 'completed': await asyncio.sleep(0.01)\nx").check()
    notebook.run("").check()
    assert notebook.value("x") == "new"
    assert cell.outputs[-1]["data"]["text/plain"] in ("'old'", "'new'")


@pytest.mark.parametrize("wait", ["await it", "it.wait()", "get_ipython().run_line_magic('bgtask', 'wait it')"])
@pytest.mark.parametrize("body", ["", "import asyncio\nawait asyncio.sleep(0)\n"], ids=["thread", "loop"])
def test_a_cell_that_waits_has_the_names_when_the_wait_ends(notebook: KernelDriver, wait: str, body: str) -> None:
    notebook.run(f"%%bgtask it\n{body}x = 41").check()
    cell = notebook.run(f"y = 1\n{wait}\nx + y").check()
    assert cell.outputs[-1]["data"]["text/plain"] == "42"


def test_a_name_rebound_meanwhile_keeps_the_notebooks_value_and_the_cell_reports_it(
    notebook: KernelDriver,
) -> None:
    cell = notebook.run("%%bgtask it\ngates['go'].wait()\nx = 'task'\ny = 'task'").check()
    notebook.run("x = 'notebook'; gates['go'].set()").check()
    wait_over(notebook, "it")
    assert notebook.value("(x, y)") == ("notebook", "task")
    assert notebook.value("it.namespace['x']") == "task"
    cell.wait_output("nbtasks: x changed in the notebook meanwhile and kept its value there")


FAILS = "raise ValueError"
IS_CANCELLED = "gates['in'].set()\nwhile True: pass"
BACKENDS = pytest.mark.parametrize("backend", ["thread", "loop", "process"])


@BACKENDS
def test_a_cell_that_fails_keeps_what_it_bound_by_then_as_the_foreground_does(
    notebook: KernelDriver, backend: str
) -> None:
    notebook.run("y = gone = 0").check()
    cell = notebook.run(
        f"%%bgtask it --backend {backend}\nimport math\ny = 1\ndel gone\ndef f(): return y + math.floor(2.5)\n"
        "1 / 0\nnever = 1"
    ).check()
    wait_over(notebook, "it")
    assert notebook.value("('gone' in globals(), 'never' in globals(), f(), it.namespace['y'])") == (False, False, 3, 1)
    assert notebook.value("f.__globals__ is globals()") is True
    cell.wait_output("ZeroDivisionError")
    notebook.run("it").check()
    assert notebook.value("it.kept_names") == 3


@pytest.mark.parametrize("options", ["", "--backend thread", "--retries 3"])
def test_a_cancelled_cell_keeps_what_it_bound_by_then(notebook: KernelDriver, options: str) -> None:
    notebook.run(f"%%bgtask it {options}\nx = 1\n{IS_CANCELLED}").check()
    notebook.run("gates['in'].wait()").check()
    notebook.run("%bgtask cancel it").check()
    wait_over(notebook, "it")
    assert notebook.value("(x, it.state.value, it.kept_names)") == (1, "cancelled", 1)


def test_a_cancelled_process_cell_keeps_what_it_bound_by_then(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it --backend process\nx = 1\nprint('x is bound')\nwhile True: pass").check()
    cell.wait_output("x is bound")
    notebook.run("%bgtask cancel it").check()
    wait_over(notebook, "it")
    assert notebook.value("(x, it.state.value)") == (1, "cancelled")


def test_a_cancelled_coroutine_keeps_what_it_bound_by_then(notebook: KernelDriver) -> None:
    notebook.run("import asyncio").check()
    notebook.run("%%bgtask it\nx = 1\ngates['in'].set()\nawait asyncio.sleep(600)").check()
    notebook.wait_until(lambda: notebook.value("gates['in'].is_set()"), what="the start of the coroutine")
    notebook.run("%bgtask cancel it").check()
    wait_over(notebook, "it")
    assert notebook.value("(x, it.state.value)") == (1, "cancelled")


@pytest.mark.parametrize("end", [FAILS, IS_CANCELLED], ids=["failed", "cancelled"])
def test_an_atomic_cell_that_does_not_complete_commits_nothing(notebook: KernelDriver, end: str) -> None:
    notebook.run(f"%%bgtask it --atomic\nx = 1\ngates['in'].set()\n{end}").check()
    notebook.run("gates['in'].wait()").check()
    notebook.run("%bgtask cancel it").check()
    wait_over(notebook, "it")
    assert notebook.value("('x' in globals(), it.namespace['x'], it.kept_names)") == (False, 1, 0)


def test_an_atomic_cell_that_completes_commits_all(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it --atomic\nx = 1").check()
    wait_over(notebook, "it")
    assert notebook.value("x") == 1


def test_atomic_and_shared_are_not_combined(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it --atomic --shared\nx = 1")
    assert "--atomic cannot be combined with --shared" in cell.text


def test_a_wait_for_a_cell_that_fails_has_its_names(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it\ngates['go'].wait()\nx = 1\n1 / 0").check()
    cell = notebook.run("gates['go'].set()\ntry:\n    await it\nexcept ZeroDivisionError:\n    print(x)").check()
    assert cell.stdout == "1\n"


def test_a_background_cell_that_waits_for_one_that_fails_has_its_names(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it\ngates['go'].wait()\nx = 1\n1 / 0").check()
    notebook.run("%%bgtask later\ntry:\n    it.wait()\nexcept ZeroDivisionError:\n    y = x + 1").check()
    notebook.run("gates['go'].set()").check()
    wait_over(notebook, "later")
    assert notebook.value("y") == 2


def test_what_the_notebook_rebound_meanwhile_is_kept_beside_a_cell_that_fails(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it\ngates['go'].wait()\nx = 'task'\ny = 'task'\n1 / 0").check()
    notebook.run("x = 'notebook'; gates['go'].set()").check()
    wait_over(notebook, "it")
    assert notebook.value("(x, y)") == ("notebook", "task")
    cell.wait_output("nbtasks: x changed in the notebook meanwhile and kept its value there")


RETRIED = """
from nbtasks import current_task
attempt = current_task().attempts
seen = 'half' in globals()
half = attempt
if attempt == 1:
    only_first = True
"""


@BACKENDS
def test_a_retry_starts_from_the_notebooks_names_and_only_the_last_attempt_commits(
    notebook: KernelDriver, backend: str
) -> None:
    notebook.run(f"%%bgtask it --retries 1 --backend {backend}{RETRIED}1 / 0").check()
    wait_over(notebook, "it")
    assert notebook.value("(attempt, half, seen, 'only_first' in globals())") == (2, 2, False, False)


def test_the_last_attempt_before_a_cancel_commits(notebook: KernelDriver) -> None:
    notebook.run("from nbtasks import Retry, get_manager").check()
    notebook.run("%%bgtask it --retries 5\nx = 1\nhold = range(3)\n1 / 0").check()
    # The delay before the second attempt is one second, in which the task is pending.
    notebook.run("while not (it.attempts and it.state == 'pending'): pass\nit.cancel()").check()
    assert notebook.value("(x, it.attempts, it.state.value, it.kept_names)") == (1, 1, "cancelled", 2)


def test_a_cancel_before_the_first_attempt_leaves_nothing(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask first --lane single\ngates['go'].wait()").check()
    notebook.run("%%bgtask second --lane single\nx = 1").check()
    notebook.run("second.cancel(); gates['go'].set()").check()
    wait_over(notebook, "first", "second")
    assert notebook.value("('x' in globals(), second.kept_names)") == (False, 0)


def test_settings_of_a_cell_that_fails_are_the_notebooks(notebook: KernelDriver) -> None:
    notebook.run("import matplotlib.pyplot as plt").check()
    notebook.run("%%bgtask it\nplt.rcParams['lines.linewidth'] = 7.0\n1 / 0").check()
    wait_over(notebook, "it")
    assert notebook.value("plt.rcParams['lines.linewidth']") == 7.0


def test_the_panel_of_a_cell_that_fails_says_how_many_names_it_kept(notebook: KernelDriver) -> None:
    cell = notebook.run("%%bgtask it\na = b = c = 1\n1 / 0").check()
    wait_over(notebook, "it")
    cell.wait_output("failed; 3 names kept")


def test_a_function_of_a_background_cell_sees_later_changes_of_the_notebook(notebook: KernelDriver) -> None:
    notebook.run("base = 1").check()
    notebook.run("%%bgtask it\ndef f(): return base\ntable = {'g': lambda: base}").check()
    wait_over(notebook, "it")
    cell = notebook.run("base = 2\nf(), table['g']()").check()
    assert cell.outputs[-1]["data"]["text/plain"] == "(2, 2)"


def test_shared_cells_run_straight_in_the_notebooks_names(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it --shared\nx = 1\ngates['in'].set()\ngates['go'].wait()").check()
    cell = notebook.run("gates['in'].wait(); print(x); gates['go'].set()").check()
    assert cell.stdout == "1\n"


def test_a_background_cell_that_waits_for_another_has_its_names(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask a\ngates['go'].wait()\nx = 20").check()
    notebook.run("%%bgtask b\nawait a\ny = x + 1").check()
    notebook.run("%%bgtask c\na.wait()\nz = x + 2").check()
    notebook.run("gates['go'].set()").check()
    wait_over(notebook, "b", "c")
    assert notebook.value("(y, z)") == (21, 22)


def test_a_name_error_names_the_task_that_will_bind_the_name(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it\ngates['go'].wait()\nmodel = 1").check()
    cell = notebook.run("model")
    assert cell.errors == ["NameError: name 'model' is not defined"]
    assert "will be bound by the background task 'it'" in cell.stderr
    notebook.run("gates['go'].set()").check()


def test_magics_pickling_and_main_in_a_running_cell_are_the_cells_own(notebook: KernelDriver) -> None:
    cell = notebook.run(
        "%%bgtask it --quiet\n"
        "import pickle, __main__\n"
        "class K: pass\n"
        "print(type(pickle.loads(pickle.dumps(K()))) is K, __main__.K is K)\n"
        "word = 'echoed'\n"
        "!echo {word}\n"
        "%time z = len(word)\n"
        "gates['in'].set(); gates['go'].wait()\n"
        "print(z)"
    ).check()
    notebook.run("gates['in'].wait(); assert not {'K', 'word', 'z'} & set(globals()); gates['go'].set()").check()
    wait_over(notebook, "it")
    assert cell.stdout.startswith("True True\nechoed") and cell.stdout.endswith("6\n")


def test_functions_of_other_cells_and_the_cell_see_each_others_names(notebook: KernelDriver) -> None:
    notebook.run("def read(): return x\ndef add(n):\n    global total\n    total += n\ntotal = 0").check()
    cell = notebook.run("%%bgtask it --quiet\n%time x = 5\nadd(3)\nread(), total").check()
    wait_over(notebook, "it")
    cell.wait_output("(5, 3)")
    assert notebook.value("total") == 3 and notebook.value("read()") == 5


def test_a_future_statement_applies_to_later_cells_as_in_the_foreground(notebook: KernelDriver) -> None:
    notebook.run("%%bgtask it --quiet\nfrom __future__ import annotations").check()
    wait_over(notebook, "it")
    notebook.run("def later(x: NotDefined): ...").check()
    assert notebook.value("later.__annotations__") == {"x": "NotDefined"}


def test_a_cell_that_only_creates_aio_tasks_runs_on_the_loop_that_runs_them(notebook: KernelDriver) -> None:
    notebook.run("import asyncio\nasync def work():\n    await asyncio.sleep(0)\n    print('worked')").check()
    cell = notebook.run("%%bgtask it --quiet\naio_task = asyncio.create_task(work())").check()
    wait_over(notebook, "it")
    notebook.run("await aio_task").check()
    cell.wait_output("worked")


def test_what_a_background_cell_defines_is_as_what_the_foreground_defines(notebook: KernelDriver) -> None:
    """Its code runs over plain dicts, at full speed, and so do its functions when they are committed."""
    notebook.run(
        "%%bgtask it --quiet\nassert type(globals()) is dict\n"
        "class C:\n    def method(self): return base\nhooks = [lambda: base]\nbase = 1"
    ).check()
    wait_over(notebook, "it")
    cell = notebook.run(
        "base = 2\nassert C.method.__globals__ is hooks[0].__globals__ is globals()\nC().method(), hooks[0]()"
    ).check()
    assert cell.outputs[-1]["data"]["text/plain"] == "(2, 2)"


@pytest.mark.parametrize(
    "binds",
    [
        "base = 5",
        "%time base = 5",
        "exec('base = 5')",
        "globals()['base'] = 5",
        "import sys, types\nsys.modules['made'] = types.SimpleNamespace(base=5)\nfrom made import *",
        "def bind():\n    global base\n    base = 5\nbind()",
    ],
)
def test_methods_and_callbacks_of_earlier_cells_see_what_a_background_cell_binds(
    notebook: KernelDriver, binds: str
) -> None:
    notebook.run("base = 1").check()
    notebook.run("%%bgtask one --quiet\nclass C:\n    def method(self): return base\nhooks = [lambda: base]").check()
    wait_over(notebook, "one")
    notebook.run(
        f"%%bgtask two --quiet\n{binds}\nseen = C().method(), hooks[0]()\ngates['in'].set(); gates['go'].wait()"
    ).check()
    notebook.run("gates['in'].wait(); assert (C().method(), hooks[0]()) == (1, 1); gates['go'].set()").check()
    wait_over(notebook, "two")
    assert notebook.value("seen") == (5, 5) and notebook.value("C().method()") == 5


def test_what_functions_of_one_cell_bind_by_global_the_others_read_at_once(notebook: KernelDriver) -> None:
    notebook.run(
        "%%bgtask it --quiet\ncount = 0\ndef start():\n    def step():\n        global count\n        count += 1\n"
        "    return step\nclass Counter:\n    def value(self): return count\nsteps = [start()]"
    ).check()
    wait_over(notebook, "it")
    cell = notebook.run("before = Counter().value()\nsteps[0]()\nbefore, Counter().value()").check()
    assert cell.outputs[-1]["data"]["text/plain"] == "(0, 1)"
    notebook.run("").check()
    assert notebook.value("count") == 1


def test_names_that_python_binds_are_no_conflict(notebook: KernelDriver) -> None:
    code = "import warnings\nwarnings.warn('once')\nx: int = 1\nfor _ in range(3): pass"
    cell = notebook.run(f"%%bgtask it\ngates['go'].wait()\n{code}").check()
    notebook.run(f"{code}\n6 * 7").check()
    notebook.run("gates['go'].set()").check()
    wait_over(notebook, "it")
    assert "changed in the notebook meanwhile" not in cell.text


@pytest.mark.parametrize("body", ["while run: pass", "import asyncio\nwhile run: await asyncio.sleep(0.01)"])
def test_a_loop_whose_flag_the_notebook_has_changed_is_hinted_at(notebook: KernelDriver, body: str) -> None:
    notebook.run("run = True").check()
    cell = notebook.run(f"%%bgtask it\ngates['in'].set()\n{body}").check()
    notebook.wait_until(lambda: notebook.value("gates['in'].is_set()"), what="the start of the loop")
    notebook.run("other = 1").check()
    assert "was changed in the notebook" not in cell.text
    notebook.run("run = False").check()
    cell.wait_output("nbtasks: run was changed in the notebook, but this cell's loop keeps the value from its start")
    notebook.run("run = None").check()
    notebook.run("it.cancel()").check()
    wait_over(notebook, "it")
    assert cell.text.count("nbtasks: run was changed") == 1


def test_a_shared_cell_sees_its_flag_and_has_no_hint(notebook: KernelDriver) -> None:
    notebook.run("run = True").check()
    cell = notebook.run("%%bgtask it --shared\ngates['in'].set()\nwhile run: pass").check()
    notebook.run("gates['in'].wait()").check()
    notebook.run("run = False").check()
    wait_over(notebook, "it")
    assert "was changed in the notebook" not in cell.text
