"""Fixtures that start real kernels, each in folders of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
def start_kernel_in() -> Callable[..., contextlib.AbstractContextManager[KernelDriver]]:
    """Starts a kernel whose settings and data are in the folder, which also is its working directory."""

    @contextlib.contextmanager
    def start(home: Path, **env: str) -> Iterator[KernelDriver]:
        with KernelDriver({**kernel_env(home), **env}, cwd=home) as kernel:
            yield kernel

    return start


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
