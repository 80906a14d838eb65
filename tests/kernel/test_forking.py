"""Forked kernels: the same as stock ones, and independent of each other."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from tests.kernel.connection import TIME_LIMIT
from tests.kernel.driver import KernelDriver
from tests.kernel.forking import can_fork

pytestmark = pytest.mark.skipif(not can_fork(), reason="kernels are not forked here")

ADDED = {"gc", "importlib", "selectors"}
"""What the server imports for itself, and a kernel might import later."""

# What a process has from its start; without the connection file's name and the numbers of threads.
LOOK = r"""
import gc, os, re, resource, signal, stat, sys, threading, warnings
def look():
    without_file = lambda arguments: [re.sub(r"/\S*\.json", "FILE", one) for one in arguments]
    files = [f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd")]
    # Debian's Pythons 3.14 and 3.15 keep libffi's file open.
    modes = [os.stat(one).st_mode for one in files if os.path.exists(one) and ".so." not in os.readlink(one)]
    parent = int(os.environ["JPY_PARENT_PID"])
    limits = (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_AS)
    mask = os.umask(0)
    os.umask(mask)
    return {
        "arguments": without_file(sys.argv),
        "command line": without_file(sys.orig_argv),
        "path": sys.path,
        "flags": (str(sys.flags), sys._xoptions, sys.warnoptions),
        "warnings": len(warnings.filters),
        "handlers": [re.sub("0x.*", "", str(signal.getsignal(one))) for one in sorted(signal.valid_signals())],
        "blocked signals": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "threads": sorted(re.sub(r"\d+", "N", one.name) for one in threading.enumerate()),
        "runs on the main thread": threading.current_thread() is threading.main_thread(),
        "files": sorted(stat.S_IFMT(mode) for mode in modes),
        "input": os.read(0, 1),
        "leads its session and group": (os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()),
        "knows its parent": parent == os.getppid() == get_ipython().kernel.parent.parent_handle,
        "settings": sorted(os.environ),
        "folder": os.getcwd() == os.path.dirname(os.environ["IPYTHONDIR"]),
        "limits": [resource.getrlimit(one) for one in limits],
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "mask": mask,
        "collector": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "main": sorted(vars(sys.modules["__main__"])),
    }
"""


@pytest.fixture
def both(start_kernel) -> tuple[KernelDriver, KernelDriver]:
    """A stock kernel and a forked one."""
    return start_kernel(stock=True), start_kernel()


def test_a_forked_kernel_is_as_one_that_its_command_line_has_started(both) -> None:
    for kernel in both:
        kernel.run(LOOK).check()
    stock, forked = (kernel.value("look()") for kernel in both)
    assert stock == forked
    assert stock["knows its parent"] and stock["folder"]


def test_it_has_imported_what_a_stock_kernel_has_and_little_else(both) -> None:
    stock, forked = (set(kernel.value("sorted(__import__('sys').modules)")) for kernel in both)
    assert stock - forked <= {"runpy"}
    assert {name.partition(".")[0] for name in forked - stock} <= ADDED


def test_forked_kernels_have_nothing_of_each_other(start_kernel) -> None:
    """Session, random numbers, environment and modules are their own; one ends, the other continues."""
    one, other = start_kernel(MARK="one"), start_kernel()
    own = "(k.session.session, k.shell.history_manager.session_number, __import__('random').random())"
    first, second = (kernel.value(own.replace("k.", "get_ipython().kernel.")) for kernel in (one, other))
    assert first[0] != second[0] and first[2] != second[2]
    one.run("import os, sys, this; sys.modules['mine'] = this").check()
    assert other.value("[name in __import__('sys').modules for name in ('this', 'mine')]") == [False, False]
    assert [kernel.value("__import__('os').environ.get('MARK')") for kernel in (one, other)] == ["one", None]
    one.kill()
    assert other.run("'lives'").check().ok
    assert (one.alive, other.alive) == (False, True)


def test_it_is_interrupted_and_shut_down(kernel) -> None:
    cell = kernel.start_cell("print('in')\nwhile True: pass")
    cell.wait_output("in")
    kernel.interrupt()
    assert cell.wait().errors == ["KeyboardInterrupt: "]
    assert kernel.alive
    kernel.shutdown()
    assert not kernel.alive


def test_kernels_end_with_the_process_that_asked_for_them(tmp_path) -> None:
    """As those of a Jupyter server that has died."""
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom tests.kernel.conftest import kernel_env\n"
        "from tests.kernel.driver import KernelDriver\nhome = Path(sys.argv[1])\n"
        "kernel = KernelDriver(kernel_env(home), home)\nkernel.start()\nprint(kernel.pid, flush=True)\nos._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    try:
        psutil.Process(int(done.stdout)).wait(TIME_LIMIT)
    except psutil.NoSuchProcess:
        pass  # it has ended already
