"""Timers of cells, in background cells and beside them."""

from __future__ import annotations

import re

import pytest

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = pytest.mark.kernel

TICKER = '''
from time import monotonic
class Watch:
    def start(self, *_): self.start_time = monotonic()
    def stop(self, *_): print(f"time: {monotonic() - self.start_time:.9f} s (started: now)")
watch = Watch()
def load_ipython_extension(shell):
    watch.start()
    shell.events.register("pre_run_cell", watch.start)
    shell.events.register("post_run_cell", watch.stop)
'''
LINE = re.compile(r"time: ([\d.]+) (μs|ms|s) \(started: .*\)\n")
UNITS = {"μs": 1e-6, "ms": 1e-3, "s": 1.0}


def seconds(text: str) -> float:
    """The time in the one line of a timer, which must be the last."""
    [(number, unit)] = LINE.findall(text)
    assert LINE.fullmatch(text[text.rindex("time: ") :])
    return float(number) * UNITS[unit]


@pytest.mark.parametrize("backend", ["thread", "loop", "process"])
@pytest.mark.parametrize("extension", ["ticker", pytest.param("autotime", marks=pytest.mark.long)])
def test_a_background_cell_shows_its_time_at_its_end_and_changes_no_other(
    kernel: KernelDriver, extension: str, backend: str
) -> None:
    (kernel.cwd / "ticker.py").write_text(TICKER)
    load(kernel)
    kernel.run("import asyncio, time\nfrom pathlib import Path").check()
    kernel.run(f"%load_ext {extension}").check()
    pause = "await asyncio.sleep(0.001)" if backend == "loop" else "time.sleep(0.001)"
    cell = kernel.run(
        f"%%bgtask it --backend {backend} --quiet\nbegan = time.monotonic()\nprint('begun')\n"
        f"while not Path('END').exists(): {pause}\nrun = time.monotonic() - began"
    ).check()
    cell.wait_output("begun\n")
    assert "time:" not in cell.stdout  # of the launch
    ended = "" if backend == "loop" else "\nPath('END').touch()\nit.wait()"
    beside = kernel.run(f"before = time.monotonic(){ended}\ntook = time.monotonic() - before").check()
    if backend == "loop":
        (kernel.cwd / "END").touch()
    wait_over(kernel, "it")
    assert 0.99 * kernel.value("took") <= seconds(beside.stdout)
    assert 0.99 * kernel.value("run") <= seconds(cell.wait_output("time:").stdout)
    failed = kernel.run(f"%%bgtask bad --backend {backend} --quiet --wait\n1 / 0")
    assert seconds(failed.stdout) > 0
