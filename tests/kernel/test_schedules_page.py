"""docs/schedules.md: its code runs; its table of differences is that of the tests."""

from __future__ import annotations

import re
from pathlib import Path

from tests.kernel.driver import KernelDriver
from tests.schedules.test_cron_peers import LINES

PAGE = (Path(__file__).parent.parent.parent / "docs" / "schedules.md").read_text()


def test_its_cells_run_in_order(kernel: KernelDriver) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        kernel.run(block).check()


def test_its_table_has_every_known_difference() -> None:
    for row, reason in zip(LINES[::2], LINES[1::2], strict=True):
        expression, zone, _, ours, theirs = (cell.strip() for cell in row.split("|"))
        lines = [line for line in PAGE.splitlines() if line.startswith(f"| `{expression}` | {zone} |") and ours in line]
        assert lines and theirs in lines[0] and reason.strip() in lines[0], row


def test_its_commands_exist(kernel: KernelDriver) -> None:
    kernel.run("%load_ext nbtasks").check()
    commands = kernel.run("%bgtask help").check().stdout
    for command in re.findall(r"(?<!%)%bgtask (\w+)", PAGE):
        assert f"%bgtask {command} " in commands, command
