"""docs/how-to/terminal.md: its lines, typed into IPython, print what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("pexpect", reason="IPython's terminal is driven by pexpect, which needs a pseudo-terminal")

from tests.kernel.conftest import kernel_env
from tests.kernel.terminal import Terminal

PAGE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "terminal.md"
CELL = re.compile(r"^In \[\d+\]: (.*(?:\n   \.\.\.:.*)*)((?:\n(?!In \[).*)*)", re.MULTILINE)


def typed() -> list[tuple[str, str]]:
    """Each cell of the page, and what is shown below it."""
    text = "\n".join(re.findall(r"^```ipython\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
    return [(re.sub(r"\n   \.\.\.: ?", "\n", code).rstrip(), shown.strip()) for code, shown in CELL.findall(text)]


def test_its_lines_give_what_it_shows(tmp_path):
    cells = typed()
    assert len(cells) == 15
    with Terminal(kernel_env(tmp_path), tmp_path) as terminal:
        for code, shown in cells[:-1]:
            printed = terminal.run(code)
            assert shown in printed, (code, printed)
            assert "Error" not in printed, (code, printed)
        assert cells[-1][0] == "exit"
        assert terminal.exit() == 0
