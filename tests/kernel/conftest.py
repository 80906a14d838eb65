"""Fixtures that start real kernels, each in folders of its own."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from jupyter_core.utils import ensure_event_loop

from tests.kernel.driver import KernelDriver

ROOT = Path(__file__).parent.parent.parent


def kernel_env(home: Path) -> dict[str, str]:
    """The environment of a kernel that touches neither the user's settings nor another test's."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("NBTASKS_", "PYTEST_"))}
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        env[name] = str(home / name.lower())
        Path(env[name]).mkdir(exist_ok=True)
    env.pop("MPLBACKEND", None)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    return env


@pytest.fixture(scope="session")
def start_kernel_in() -> Iterator[Callable[..., contextlib.AbstractContextManager[KernelDriver]]]:
    """Starts a kernel whose settings and data are in the folder, which also is its working directory.

    It ends while the next test runs already, in a folder that pytest keeps; none outlives the session.
    """
    ends: list[Future[None]] = []
    with ThreadPoolExecutor(2) as ending:

        @contextlib.contextmanager
        def start(home: Path, **env: str) -> Iterator[KernelDriver]:
            kernel = KernelDriver({**kernel_env(home), **env}, cwd=home)
            try:
                kernel.start()
                yield kernel
            finally:
                ends.append(ending.submit(contextvars.Context().run, _end, kernel))

        yield start
    for end in ends:
        end.result()


def _end(kernel: KernelDriver) -> None:
    try:
        kernel.shutdown()
    finally:
        ensure_event_loop().close()  # the one that jupyter_client made for this context


@pytest.fixture
def start_kernel(tmp_path, start_kernel_in) -> Iterator[Callable[..., KernelDriver]]:
    """Starts kernels that share folders, with more environment variables if given; ended with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **env: stack.enter_context(start_kernel_in(tmp_path, **env))


@pytest.fixture
def kernel(start_kernel) -> KernelDriver:
    """A fresh kernel of the test's own."""
    return start_kernel()


@pytest.fixture(scope="module")
def module_kernel(tmp_path_factory, start_kernel_in) -> Iterator[KernelDriver]:
    """One kernel for all cheap tests of a module: they leave names behind, so each uses its own."""
    with start_kernel_in(tmp_path_factory.mktemp("kernel")) as kernel:
        yield kernel
