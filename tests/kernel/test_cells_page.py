"""docs/cells.md: its cells run in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernel.driver import KernelDriver

PAGE = (Path(__file__).parent.parent.parent / "docs" / "cells.md").read_text()


@pytest.mark.kernel
def test_its_cells_run_in_order(kernel: KernelDriver) -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        kernel.run(block).check()
    assert kernel.value("squares.result") == 328_350 and kernel.value("broken.state.value") == "failed"
