"""CPython's own tests of executors, run on a manager's executor.

`test_executor.py` runs them by `python -m unittest` in a CPython 3.13 whose `test` package has them. Their assertions
are unchanged; tests that do not apply are left out by name, with the reason.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from test.support.script_helper import assert_python_ok
from test.test_concurrent_futures import test_as_completed, test_shutdown, test_thread_pool, test_wait
from test.test_concurrent_futures.util import BaseTestCase, ExecutorMixin, setup_module

from nbtasks import TaskManager
from nbtasks.executor import TaskExecutor

ROOT = Path(__file__).parent.parent.parent
POOLS = "looks at the threads of a ThreadPoolExecutor"
LEFT_OUT = {
    "test_default_workers": "looks at a private attribute, _max_workers",
    "test_saturation": "looks at private attributes, _max_workers and _threads",
    "test_idle_thread_reuse": "looks at a private attribute, _threads",
    "test_hang_global_shutdown_lock": "is about ThreadPoolExecutor's lock in a fork",
    "test_threads_terminate": "looks at a private attribute, _threads",
    "test_context_manager_shutdown": POOLS,
    "test_del_shutdown": POOLS,
    "test_shutdown_no_wait": POOLS,
    "test_thread_names_assigned": POOLS,
    "test_thread_names_default": POOLS,
}


class ManagerExecutor(TaskExecutor):
    """An executor with a manager of its own, made as the standard library's are."""

    managers: ClassVar[list[TaskManager]] = []

    def __init__(self, max_workers: int | None = None) -> None:
        manager = TaskManager()
        super().__init__(manager, max_workers=max_workers)
        self.managers.append(manager)


class ManagerMixin(ExecutorMixin):
    """Each test gets an executor as `self.executor`."""

    executor_type = ManagerExecutor

    def tearDown(self):
        self.executor.shutdown()
        while ManagerExecutor.managers:  # their threads are to be gone when the test is over
            ManagerExecutor.managers.pop().stop()
        super().tearDown()


class CallTest(ManagerMixin, test_thread_pool.ThreadPoolExecutorTest):
    """ExecutorTest, and what is asked of pools of threads."""


class WaitTest(ManagerMixin, test_wait.ThreadPoolWaitTests):
    """WaitTests."""


class AsCompletedTest(ManagerMixin, test_as_completed.AsCompletedTests, BaseTestCase):
    """AsCompletedTests."""


class ShutdownTest(ManagerMixin, test_shutdown.ThreadPoolShutdownTest):
    """ExecutorShutdownTest."""


for case in (CallTest, ShutdownTest):
    for name in LEFT_OUT:
        if hasattr(case, name):
            setattr(case, name, None)


def run_with_ours(*args, **env):
    """Some tests start an interpreter, with a script that imports the executor from the standard library."""
    *options, script = args
    for name in ("ThreadPoolExecutor", "ManagerExecutor"):
        script = script.replace(
            f"from concurrent.futures import {name}",
            f"from tests.core.cpython_executors import ManagerExecutor; {name} = ManagerExecutor",
        )
    assert "tests.core.cpython_executors" in script
    return assert_python_ok(*options, script, **env, PYTHONPATH=os.fspath(ROOT))


test_shutdown.assert_python_ok = run_with_ours


def setUpModule():
    setup_module()


del case, name
