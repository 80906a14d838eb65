"""`%load_ext nbtasks` in kernels that ipykernel does not provide."""

from __future__ import annotations

import subprocess
import sys

# A shell with a kernel that is none of ipykernel's, as that of xeus-python.
SCRIPT = """
from IPython.core.interactiveshell import InteractiveShell

class XKernel:
    comm_manager = None
    def get_parent(self): return {}

class XPythonShell(InteractiveShell):
    kernel = XKernel()

shell = XPythonShell.instance()
XPythonShell.__module__ = "xeus_python_shell.shell"
print(shell.run_cell("%load_ext nbtasks").success)
print(shell.run_cell("1 + 1").result, "nbtasks" in shell.extension_manager.loaded, shell.find_cell_magic("bgtask"))
"""


def test_one_line_says_that_another_kernel_is_needed() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    printed = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert printed.count("2 False None") == 1 and printed.count("False") == 1
    assert [line for line in printed if "nbtasks" in line] == [
        "UsageError: nbtasks needs a kernel of ipykernel, not one of xeus_python_shell: "
        "choose the kernel 'Python 3 (ipykernel)'"
    ]
    assert "Traceback" not in done.stdout + done.stderr
