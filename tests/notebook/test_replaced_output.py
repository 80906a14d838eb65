"""The output of a recurring cell, replaced in place."""

from __future__ import annotations

import base64
from typing import Any

from nbtasks.notebook.output.replaced_output import PART_CHARACTERS, ReplacedOutput

CLEAR = ("clear_output", {"wait": True})


class Cell:
    """A front end's cell: outputs by display id, as JupyterLab keeps them."""

    def __init__(self) -> None:
        self.shown: dict[str, dict[str, Any]] = {}
        self.updates = 0

    def send(self, kind: str, content: dict[str, Any]) -> None:
        display_id = content["transient"]["display_id"]
        assert (kind == "update_display_data") == (display_id in self.shown)
        self.updates += kind == "update_display_data"
        self.shown[display_id] = content

    @property
    def texts(self) -> list[str]:
        return [content["data"]["text/plain"] for content in self.shown.values()]


def run(output: ReplacedOutput, *messages: tuple[str, dict[str, Any]], final: bool = True) -> None:
    for kind, content in (CLEAR, *messages):
        output.take(kind, content)
    output.flush(final=final)


def stream(text: str, name: str = "stdout") -> tuple[str, dict[str, Any]]:
    return "stream", {"name": name, "text": text}


def display(data: dict[str, Any], display_id: str | None = None) -> tuple[str, dict[str, Any]]:
    return "display_data", {"data": data, "metadata": {}, "transient": {"display_id": display_id}}


def test_each_run_takes_the_place_of_the_one_before():
    cell = Cell()
    output = ReplacedOutput(cell.send)
    run(output, stream("one\n"), display({"text/plain": "figure 1"}))
    run(output, stream("two\n"), display({"text/plain": "figure 2"}))
    assert cell.texts == ["two", "figure 2"]
    run(output, stream("two\n"))
    assert cell.texts == ["two", ""] and cell.updates == 3  # what is the same is not sent again


def test_what_is_left_of_the_run_before_stays_until_the_end():
    cell = Cell()
    output = ReplacedOutput(cell.send)
    run(output, stream("one\n"), stream("warning\n", "stderr"))
    run(output, stream("two\n"), final=False)
    assert cell.texts == ["two", "warning"]
    output.flush(final=True)
    assert cell.texts == ["two", ""]


def test_updates_progress_bars_and_long_text():
    cell = Cell()
    output = ReplacedOutput(cell.send)
    run(output, display({"text/plain": "0 of 2"}, "mine"), stream("1%\r50%\r"), stream("100%\nend\n"))
    update = {"data": {"text/plain": "2 of 2"}, "metadata": {}, "transient": {"display_id": "mine"}}
    output.take("update_display_data", update)
    output.flush(final=True)
    assert cell.texts == ["2 of 2", "100%\nend"]
    run(output, stream("x" * PART_CHARACTERS + "y"), stream("z"))
    assert [len(text) for text in cell.texts] == [PART_CHARACTERS + 1, 1]


def test_a_png_carries_its_size_and_a_cleared_cell_is_filled_again():
    cell = Cell()
    output = ReplacedOutput(cell.send)
    head = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big")
    png = base64.b64encode(head + bytes(100)).decode()
    run(output, display({"image/png": png, "text/plain": "figure"}))
    assert [one["metadata"]["image/png"] for one in cell.shown.values()] == [{"width": 640, "height": 480}]
    assert all(one["metadata"]["nbtasks"]["display_id"] == name for name, one in cell.shown.items())
    before = set(cell.shown)
    output.forget()
    output.flush(final=False)
    assert len(set(cell.shown) - before) == 1
