"""Saved outputs of the notebooks: without errors, and without a machine's paths."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PATH = re.compile(r"/(?:home|root|tmp|work|Users|usr|opt|var)/[\w.]|site-packages|[A-Z]:\\\\")
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


def text_of(output: dict) -> str:
    """All text of an output, without pictures."""
    data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
    parts = [output.get("text", ""), *data.values(), output.get("evalue", ""), output.get("traceback", [])]
    return "\n".join("".join(part) if isinstance(part, list) else str(part) for part in parts)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request) -> list[dict]:
    notebook = json.loads(request.param.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_all_cells_ran_once_and_in_order(cells):
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell["outputs"]) for cell in cells) >= 3


def test_no_cell_shows_an_error(cells):
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert not [output for output in outputs if "Traceback (most recent call last)" in text_of(output)]


def test_nothing_tells_of_the_machine(cells):
    texts = [text_of(output) for cell in cells for output in cell["outputs"]]
    found = [match[0] for text in texts for kind in (PATH, ADDRESS) for match in kind.finditer(text)]
    assert found == []
    assert not any(re.search(rf"\b{re.escape(socket.gethostname())}\b", text) for text in texts)


def test_no_output_needs_a_kernel_to_be_shown(cells):
    kinds = {kind for cell in cells for output in cell["outputs"] for kind in output.get("data", {})}
    assert not kinds & {"application/vnd.jupyter.widget-view+json", "application/javascript"}
