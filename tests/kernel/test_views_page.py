"""docs/views.md: its cells run in order, and its images exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernel.driver import KernelDriver

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = (DOCS / "views.md").read_text()


@pytest.mark.kernel
def test_its_cells_run_in_order(kernel: KernelDriver) -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        kernel.run(block).check()
    kernel.run("%bgtask wait fit").check()
    assert kernel.value("(fit.state.value, fit.body)") == ("completed", "epoch 2: loss 0.333")


def test_its_images_exist() -> None:
    paths = re.findall(r"!\[.*?\]\((.*?)\)", PAGE)
    assert [Path(path).stem for path in paths] == ["panel", "table", "timeline", "history"]
    assert [path for path in paths if not (DOCS / path).is_file()] == []
