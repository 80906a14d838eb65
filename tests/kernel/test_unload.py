"""`%unload_ext nbtasks` restores every attribute that the extension has patched."""

from __future__ import annotations

import pytest

from tests.kernel.conftest import kernel_env
from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import GATES, LOAD, wait_over

pytestmark = pytest.mark.kernel

IMPORTS = """
import asyncio, builtins, concurrent.futures, getpass, io, multiprocessing.pool, sys, tempfile, threading
import ipywidgets, matplotlib.pyplot as plt, nest_asyncio2, tqdm.auto, tqdm.notebook
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from IPython.utils.capture import capture_output
from jupyter_client.provisioning import KernelProvisionerFactory
KernelProvisionerFactory.instance()
tempfile.TemporaryDirectory().cleanup()
nest_asyncio2.apply()  # blocking waits use it; it cannot be reverted
"""
# Each in a cell.
WORK = {
    "prints": "print('out')\nprint('err', file=sys.stderr)\ndisplay(1)\n42",
    "plots": "plt.plot([1, 2])\nplt.rcParams['font.size'] = 11",
    "threads": (
        "thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()\n"
        "with ThreadPoolExecutor() as pool: list(pool.map(print, range(3)))"
    ),
    "captures": "with capture_output() as captured: print('captured')\nget_ipython().run_cell('1 + 1')",
    "widgets": "widget = ipywidgets.Output()\nwith widget: print('in')\ndisplay(widget)",
    "bars": "for _ in tqdm.auto.tqdm(range(3)): pass\nfor _ in tqdm.std.tqdm(range(3)): pass",
    "awaits": "await asyncio.sleep(0.01)",
    "fails": "1 / 0",
    "pages": "len?",
    "redirects": "from contextlib import redirect_stdout\nwith redirect_stdout(io.StringIO()): print('redirected')",
}
# Attributes that differ between two cells without nbtasks are not compared.
SNAPSHOT = "from tests.kernel.attributes import Snapshot\nearlier = Snapshot()"
COMPARE = "print(*(text for place, text in before.changes().items() if place not in volatile), sep='\\n', end='')"
PATCHES = "from nbtasks.notebook import extension\npatches = list(extension.loaded(get_ipython()).patches)"


@pytest.fixture
def notebook(kernel: KernelDriver) -> KernelDriver:
    """A kernel with a snapshot `before`, and the attributes that change without nbtasks in `volatile`."""
    kernel.run(IMPORTS).check()
    kernel.run("%unload_ext nothing")  # IPython loads these magics when they are first used
    for code in WORK.values():
        kernel.run(code)
    kernel.run(SNAPSHOT).check()
    for code in WORK.values():
        kernel.run(code)
    kernel.run("volatile = earlier.changes()\nbefore = Snapshot()").check()
    kernel.run(GATES).check()
    return kernel


def run_work(notebook: KernelDriver) -> None:
    for name, code in WORK.items():
        notebook.run(code)
        notebook.run(f"%%bgtask {name}\n{code}").check()
    notebook.run("%%bgtask in_process --backend process\nprint('process')\nproduced = 42").check()
    wait_over(notebook, *WORK, "in_process")


def differences(notebook: KernelDriver) -> list[str]:
    return notebook.run(COMPARE).check().stdout.splitlines()


def test_every_attribute_is_the_same_object_as_before_the_load(notebook: KernelDriver) -> None:
    notebook.run(LOAD).check()
    notebook.run(PATCHES).check()
    run_work(notebook)
    assert len(notebook.value("patches")) > 30
    assert notebook.value("[patch for patch in patches if not patch.is_applied]") == []
    assert notebook.value("before.missing(patches)") == []
    assert notebook.value("[p for p in patches if (id(p.owner), p.name) in volatile]") == []
    assert notebook.value("len(before.changes()) > len(patches)")
    notebook.run("%unload_ext nbtasks").check()
    assert "\n".join(differences(notebook)) == ""
    assert notebook.value("[patch for patch in patches if patch.is_applied]") == []


def test_attributes_are_restored_with_tasks_still_running_and_after_a_second_load(notebook: KernelDriver) -> None:
    notebook.run(LOAD).check()
    in_process = "import time, os\nwhile not os.path.exists('go'): time.sleep(0.01)"
    for backend, source in {"thread": "gates['go'].wait()", "process": in_process}.items():
        notebook.run(f"%%bgtask in_{backend} --backend {backend}\n{source}\nprint('end')\nfrom_{backend} = 42").check()
    notebook.wait_until(lambda: notebook.value("(in_thread.state.value, in_process.state.value)") == ("running",) * 2)
    notebook.run("%unload_ext nbtasks").check()
    assert "\n".join(differences(notebook)) == ""
    notebook.run("gates['go'].set(); open('go', 'w').close()").check()
    notebook.run("get_manager().wait(); foreground = 1").check()
    assert notebook.value("(from_thread, from_process)") == (42, 42)
    notebook.run("%load_ext nbtasks").check()
    run_work(notebook)
    cell = notebook.run("%%bgtask again --quiet\nprint('lands')").check()
    wait_over(notebook, "again")
    assert cell.wait_output("lands").stdout == "lands\n"
    notebook.run("%unload_ext nbtasks").check()
    assert "\n".join(differences(notebook)) == ""


def test_patches_that_other_code_has_applied_since_stay(notebook: KernelDriver) -> None:
    notebook.run(LOAD).check()
    notebook.run(
        "shell = get_ipython()\nlog = []\n"
        "def wrap(owner, name):\n"
        "    original = getattr(owner, name)\n"
        "    def theirs(*args, **kwargs):\n        log.append(name); return original(*args, **kwargs)\n"
        "    setattr(owner, name, theirs); return owner, name, theirs\n"
        "theirs = [wrap(shell, 'run_cell'), wrap(shell.display_pub, 'publish'), wrap(threading.Thread, 'start'),\n"
        "    wrap(sys, 'breakpointhook'), wrap(capture_output, '__enter__'), wrap(tqdm.std.tqdm, 'close')]"
    ).check()
    notebook.run("class Tee(io.StringIO): pass\nplain, tee = sys.stdout, Tee(); sys.stdout = tee").check()
    notebook.run("%unload_ext nbtasks").check()
    assert notebook.value("[name for owner, name, one in theirs if vars(owner)[name] is not one]") == []
    assert notebook.value("vars(sys)['stdout'] is tee") is True
    notebook.run("sys.stdout = plain\nfor _ in tqdm.std.tqdm(range(2)): pass").check()
    cell = notebook.run(
        "shell.run_cell('1 + 1')\nwith capture_output() as captured: print('captured')\ndisplay(2)\n"
        "thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()"
    ).check()
    assert cell.stdout == "thread\n" and notebook.value("captured.stdout") == "captured\n"
    assert notebook.value("set(log)") == {"run_cell", "publish", "start", "__enter__", "close"}


def test_in_a_terminal_every_attribute_is_the_same_object_as_before_the_load(tmp_path) -> None:
    pytest.importorskip("pexpect", reason="IPython's terminal is driven by pexpect, which needs a pseudo-terminal")
    from tests.kernel.terminal import Terminal

    with Terminal(kernel_env(tmp_path), tmp_path) as terminal:
        terminal.run("import multiprocessing.pool")
        terminal.run("import asyncio, getpass, nest_asyncio2, tqdm.std, typing_extensions, matplotlib.pyplot as plt")
        terminal.run("from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor")
        for line in ("await asyncio.sleep(0)", "nest_asyncio2.apply()", "plt.plot([1, 2])", "%unload_ext nothing"):
            terminal.run(line)
        terminal.run("from tests.kernel.attributes import Snapshot; earlier = Snapshot()")
        for line in ("1 / 0", "1 + 1", "2 + 2", "3 + 3"):
            terminal.run(line)
        terminal.run("volatile = earlier.changes(); before = Snapshot()")
        terminal.run("%load_ext nbtasks")
        terminal.run("%%bgtask it\nprint('printed')\nplt.plot([1, 2])\n1 / 0")
        assert "it: failed" in terminal.run("%bgtask wait it --no-raise")
        assert "True" in terminal.run("len(before.changes()) > 20")
        terminal.run("%unload_ext nbtasks")
        assert terminal.run(COMPARE) == ""
