"""docs/tutorial.md says what is true: its cells run in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernel.driver import KernelDriver

PAGE = (Path(__file__).parent.parent.parent / "docs" / "tutorial.md").read_text()


@pytest.mark.kernel
def test_its_cells_run_in_order(kernel: KernelDriver) -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        kernel.run(block).check()
    assert kernel.value("slow.state.value") == "cancelled"
    assert kernel.value("manager.list_recurring_tasks()") == []
