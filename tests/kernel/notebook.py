"""Helpers for tests in a kernel with the extension loaded."""

from __future__ import annotations

from tests.kernel.driver import Cell, KernelDriver

LOAD = "%load_ext nbtasks\nimport threading, nbtasks\nfrom nbtasks import current_task, get_manager, track"

# A gate that a background cell waits at until a foreground cell opens it: tests then need no sleeping.
GATES = """
class Gates(dict):
    def __missing__(self, name):
        return self.setdefault(name, threading.Event())
gates = Gates()
"""


def load(kernel: KernelDriver) -> KernelDriver:
    """Load the extension, and define `gates`, events by name."""
    kernel.run(LOAD).check()
    kernel.run(GATES).check()
    return kernel


def wait_over(kernel: KernelDriver, *names: str) -> Cell:
    """Wait in a foreground cell until the named tasks are finished, whether or not they failed."""
    return kernel.run(f"%bgtask wait --no-raise {' '.join(names)}").check()
