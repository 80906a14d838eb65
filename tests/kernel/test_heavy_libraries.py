"""Libraries of the extra `test-heavy`, in background cells as in the foreground."""

from __future__ import annotations

import importlib.util

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = [pytest.mark.kernel, pytest.mark.long]


def needs(module: str) -> pytest.MarkDecorator:
    is_missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(is_missing, reason=f"{module} is not installed: extra test-heavy")


@needs("gevent")
@pytest.mark.parametrize("backend", ["thread", "process"])
def test_greenlets_of_gevent_write_to_their_cell(kernel: KernelDriver, backend: str) -> None:
    load(kernel)
    kernel.run("import gevent\nfrom pathlib import Path").check()
    cell = kernel.run(
        f"%%bgtask it --quiet --backend {backend}\ndef work(number):\n    print('begins', number)\n"
        "    while not Path('END').exists(): gevent.sleep(0.001)\n    print('ends', number)\n"
        "_ = gevent.joinall([gevent.spawn(work, number) for number in range(3)])"
    ).check()
    cell.wait_output("begins 2\n")
    beside = kernel.run("Path('END').touch()\nprint('foreground')\nit.wait()").check()
    lines = [f"{verb} {number}\n" for verb in ("begins", "ends") for number in range(3)]
    assert (cell.stdout, beside.stdout) == ("".join(lines), "foreground\n")


@needs("pyinstrument")
@pytest.mark.parametrize("backend", ["thread", "process"])
def test_pyinstrument_profiles_its_cell_and_no_other(kernel: KernelDriver, backend: str) -> None:
    load(kernel)
    kernel.run("%load_ext pyinstrument").check()
    source = "%%pyinstrument\ntotal = sum(number * number for number in range(1_000_000))"
    foreground = kernel.run(source).check()
    assert foreground.outputs
    background = kernel.run(f"%%bgtask it --quiet --backend {backend}\n{source}").check()
    beside = kernel.run("print('foreground')").check()
    wait_over(kernel, "it")
    shown = [(one["output_type"], sorted(one.get("data", ()))) for one in foreground.outputs]
    kernel.wait_until(lambda: len(background.outputs) >= len(shown))
    assert [(one["output_type"], sorted(one.get("data", ()))) for one in background.outputs] == shown
    assert beside.stdout == "foreground\n" and len(beside.outputs) == 1
