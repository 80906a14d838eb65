"""README.md: its code runs, its picture is there, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernel.driver import KernelDriver

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.kernel
def test_its_cells_run_in_order(kernel: KernelDriver) -> None:
    for block in BLOCKS:
        kernel.run(block).check()
    assert "done" in kernel.run("%bgtask show fit").check().text


def test_its_commands_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command in re.findall(r"`?make ([a-z-]+)", README):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command


def test_its_picture_is_there() -> None:
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).is_file(), path
