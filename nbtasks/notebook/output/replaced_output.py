"""`ReplacedOutput`: outputs of runs or of an animation, replaced in place."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["ReplacedOutput"]

Send = Callable[[str, dict[str, Any]], None]

PART_CHARACTERS = 20_000
"""Longer text is continued in another part: a part is sent whole whenever it grows."""
_EMPTY: dict[str, Any] = {"data": {"text/html": "", "text/plain": ""}, "metadata": {}}


@dataclass(slots=True)
class _Part:
    """One output of a run: text of a stream, or a mime bundle."""

    stream: str = ""
    text: str = ""
    data: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    display_id: str | None = None
    """The display id that the user's code gave it."""

    @property
    def content(self) -> dict[str, Any]:
        """Data and metadata of the message that shows it."""
        if self.data is not None:
            return {"data": self.data, "metadata": self.metadata or {}}
        data = {"text/plain": _as_on_a_terminal(self.text.removesuffix("\n"))}
        if self.stream == "stderr":
            data["application/vnd.jupyter.stderr"] = data["text/plain"]
        return {"data": data, "metadata": {}}


class ReplacedOutput:
    """The outputs of a cell below its panel, replaced in place by each run or frame.

    After a `clear_output` front ends build the whole cell again, its panel too, and the page jumps. So each output is a
    display whose id stays, and only its content changes. Not thread-safe: `CellRuns` and `Output` have the locks.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._id = f"nbtasks-output-{uuid.uuid4().hex}"
        self._parts: list[_Part] = []
        self._shown: list[dict[str, Any]] = []
        """The contents that the cell shows."""

    def forget(self) -> None:
        """The front end has cleared the cell: show everything again with the next `flush`."""
        self._id, self._shown = f"nbtasks-output-{uuid.uuid4().hex}", []

    def take(self, kind: str, content: dict[str, Any]) -> None:
        """Add a message of the current run; it is shown by `flush`."""
        if kind == "clear_output":
            self._parts = []
        elif kind == "stream":
            self._write(content["name"], content["text"])
        elif kind == "update_display_data":
            display_id = content["transient"].get("display_id")
            shown_here = [part for part in self._parts if part.display_id is not None and part.display_id == display_id]
            for part in shown_here:
                part.data, part.metadata = content["data"], content["metadata"]
            if not shown_here:  # but in another cell
                self._send(kind, content)
        elif kind == "error":
            text = "\n".join(content["traceback"])
            self._parts.append(_Part(data={"application/vnd.jupyter.stderr": text, "text/plain": text}))
        else:
            display_id = content.get("transient", {}).get("display_id")
            metadata = _with_size(content["data"], content["metadata"])
            self._parts.append(_Part(data=content["data"], metadata=metadata, display_id=display_id))

    def flush(self, *, final: bool) -> None:
        """Show the current run.

        What is left of the run before stays until the `final` flush, to keep the height.
        """
        for number, part in enumerate(self._parts):
            content = part.content
            if number == len(self._shown):
                self._show(number, content, "display_data")
                self._shown.append(content)
            elif content != self._shown[number]:
                self._show(number, content, "update_display_data")
                self._shown[number] = content
        if final:
            for number in range(len(self._parts), len(self._shown)):
                if self._shown[number] != _EMPTY:
                    self._show(number, _EMPTY, "update_display_data")
                    self._shown[number] = _EMPTY

    def _write(self, stream: str, text: str) -> None:
        last = self._parts[-1] if self._parts else None
        if last is None or last.stream != stream or len(last.text) > PART_CHARACTERS:
            self._parts.append(_Part(stream, text))
        else:
            last.text += text

    def _show(self, number: int, content: dict[str, Any], kind: str) -> None:
        display_id = f"{self._id}-{number}"
        # Also in the metadata, by which the JupyterLab extension finds it when the cell was moved.
        metadata = {**content["metadata"], "nbtasks": {"display_id": display_id}}
        self._send(kind, {"data": content["data"], "metadata": metadata, "transient": {"display_id": display_id}})


def _as_on_a_terminal(text: str) -> str:
    """Of each line what follows its last carriage return: progress bars overwrite themselves."""
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def _with_size(data: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata with the size of a PNG: a page knows it only when it has decoded the image, and jumps."""
    png = data.get("image/png")
    if not isinstance(png, str) or "image/png" in metadata:
        return metadata
    try:
        head = base64.b64decode(png[:32])
    except binascii.Error:
        return metadata
    if len(head) < 24 or not head.startswith(b"\x89PNG"):
        return metadata
    size = {"width": int.from_bytes(head[16:20], "big"), "height": int.from_bytes(head[20:24], "big")}
    return {**metadata, "image/png": size}
