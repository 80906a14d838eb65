"""Order of all tests, marks by folder, and fixtures that all tests share."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from nbtasks import TaskManager

HERE = Path(__file__).parent
# Hides a package that costs each process that reads or writes notebooks two seconds (see there).
LEAN = HERE / "lean"
# Browser tests come last: playwright keeps an event loop running on the main thread, and no other test could
# start one after it.
# The longest come first, so that with several workers (`make test`) none of them waits at the end for one test.
RANKS = {"fidelity": 0, "kernel": 1, "runner": 1, "unit": 2, "notebook": 3, "browser": 4}
REAL_KERNELS = ("fidelity", "kernel", "notebook")


# How fast examples come, and how many of them a test passes over, depends on the machine and on chance.
settings.register_profile("tests", suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
settings.load_profile("tests")


def _rank(item: pytest.Item) -> int:
    if item.get_closest_marker("browser"):
        return RANKS["browser"]
    path = item.path
    if path.suffix == ".ipynb":
        return RANKS["notebook"]
    part = path.relative_to(HERE).parts[0] if path.is_relative_to(HERE) else ""
    return RANKS.get(part, RANKS["unit"])


def pytest_configure(config: pytest.Config) -> None:
    """Keeps the user's settings out of the tests, and the tests' data out of the user's."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a shell that has started pytest in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # The tests start hundreds of interpreters, which would all compile the package again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(LEAN), os.environ.get("PYTHONPATH")]))
    home = tempfile.TemporaryDirectory(prefix="nbtasks-tests-")
    config.add_cleanup(home.cleanup)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        os.environ[name] = str(Path(home.name) / name.lower())
        Path(os.environ[name]).mkdir()
    os.environ["NBTASKS_HISTORY"] = str(Path(home.name) / "history.sqlite")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        rank = _rank(item)
        if rank in [RANKS[name] for name in REAL_KERNELS]:
            item.add_marker(pytest.mark.kernel)
        elif rank == RANKS["browser"]:
            item.add_marker(pytest.mark.browser)
        elif rank == RANKS["unit"] and item.config.pluginmanager.hasplugin("rerunfailures"):
            item.add_marker(pytest.mark.flaky(reruns=0))  # also with `make test`: no race of ours may hide there
    items.sort(key=_rank)


@pytest.fixture
def manager() -> Iterator[TaskManager]:
    """A manager of the test's own."""
    with TaskManager() as manager:
        yield manager


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Work waits at it for the test; it opens when the test is over."""
    gate = threading.Event()
    yield gate
    gate.set()
