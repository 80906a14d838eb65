"""Fixtures that start real kernels, each with its own folders."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from jupyter_core.utils import ensure_event_loop

from tests.kernel.driver import KernelDriver

ROOT = Path(__file__).parent.parent.parent

T = TypeVar("T")


def kernel_env(home: Path) -> dict[str, str]:
    """The environment of a kernel that touches neither the user's settings nor another test's."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("NBTASKS_", "PYTEST_"))}
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        env[name] = str(home / name.lower())
        Path(env[name]).mkdir(exist_ok=True)
    env.pop("MPLBACKEND", None)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    return env


class Kernels:
    """The kernels of a test session.

    A kernel ends in the background while the next test runs, and a kernel for a single test is started while the test
    before it runs. All have ended at the end of the session.
    """

    def __init__(self, new_folder: Callable[[], Path], wanted: int) -> None:
        self._new_folder = new_folder
        self._wanted = wanted
        """How many kernels for single tests are still needed at most."""
        self._aside = ThreadPoolExecutor(3)
        self._next: Future[KernelDriver] | None = None
        self._ends: list[Future[None]] = []

    def start(self, home: Path, *, stock: bool = False, **env: str) -> KernelDriver:
        """Start a kernel with settings and data in the folder, which is also its working directory."""
        kernel = KernelDriver({**kernel_env(home), **env}, cwd=home, stock=stock)
        try:
            kernel.start()
        except BaseException:
            self.end(kernel)
            raise
        return kernel

    def fresh(self) -> KernelDriver:
        """A kernel with its own folders."""
        coming = self._next or self._begin()
        self._wanted -= 1
        self._next = self._begin() if self._wanted > 0 else None
        return coming.result()

    def _begin(self) -> Future[KernelDriver]:
        return self._aside.submit(_apart, self.start, self._new_folder())

    def end(self, kernel: KernelDriver) -> None:
        """End the kernel in the background."""
        self._ends.append(self._aside.submit(_apart, kernel.shutdown))

    def close(self) -> None:
        """Wait until all kernels have ended; raises errors of their shutdown."""
        if self._next is not None:
            self.end(self._next.result())
        self._aside.shutdown()
        for end in self._ends:
            end.result()


def _apart(call: Callable[..., T], *args: Any) -> T:
    """Call a function in its own context, and close the event loop that jupyter_client creates there."""

    def call_and_close() -> T:
        try:
            return call(*args)
        finally:
            ensure_event_loop().close()

    return contextvars.Context().run(call_and_close)


@pytest.fixture(scope="session")
def kernels(request, tmp_path_factory) -> Iterator[Kernels]:
    own = sum("kernel" in item.fixturenames for item in request.session.items if isinstance(item, pytest.Function))
    kernels = Kernels(lambda: tmp_path_factory.mktemp("kernel"), own)
    yield kernels
    kernels.close()


@pytest.fixture
def start_kernel(tmp_path, kernels) -> Iterator[Callable[..., KernelDriver]]:
    """Start kernels in the folder of the test, with further environment variables; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(*, stock: bool = False, **env: str) -> KernelDriver:
            kernel = kernels.start(tmp_path, stock=stock, **env)
            stack.callback(kernels.end, kernel)
            return kernel

        yield start


@pytest.fixture
def kernel(kernels) -> Iterator[KernelDriver]:
    """A new kernel for the test; its folder is `kernel.cwd`."""
    kernel = kernels.fresh()
    yield kernel
    kernels.end(kernel)


@pytest.fixture(scope="module")
def module_kernel(tmp_path_factory, kernels) -> Iterator[KernelDriver]:
    """One kernel for all quick tests of a module; they share its names, so each uses different ones."""
    kernel = kernels.start(tmp_path_factory.mktemp("kernel"))
    yield kernel
    kernels.end(kernel)
