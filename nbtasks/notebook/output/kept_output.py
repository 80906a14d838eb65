"""`KeptOutputs`: the outputs of a task that the kernel keeps, up to a limit."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

__all__ = ["HEAD_CHARACTERS", "HEAD_LINES", "TAIL_LINES", "KeptOutputs", "end_of_first_lines", "last_lines", "omission"]

KEPT_CHARACTERS = 20_000_000
HEAD_LINES = 1_000
TAIL_LINES = 100
HEAD_CHARACTERS = 500_000
EXCERPT_CHARACTERS = 2_000_000


class KeptOutputs:
    """Outputs in order. Text that is written to one stream in pieces is one output.

    Beyond 20 million characters the oldest are dropped; `dropped` counts their characters. Not thread-safe.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self.size = 0
        self._outputs: collections.deque[dict[str, Any]] = collections.deque()
        self._clears_first = False

    def add_text(self, name: str, text: str) -> None:
        """Add a piece of text of the stream `name`."""
        last = self._outputs[-1] if self._outputs and not self._clears_first else None
        if last is not None and last["output_type"] == "stream" and last["name"] == name:
            last["pieces"].append(text)
            self._grow(len(text))
        else:
            self.add({"output_type": "stream", "name": name, "pieces": collections.deque([text])})

    def add(self, output: dict[str, Any]) -> None:
        """Add an output; a display may have its display id in `transient`."""
        if self._clears_first:
            self.clear()
        self._outputs.append(output)
        self._grow(_size(output))

    def update(self, content: dict[str, Any]) -> None:
        """Replace the displays that have the same display id."""
        display_id = content["transient"].get("display_id")
        for output in self._outputs:
            if display_id is not None and output.get("transient", {}).get("display_id") == display_id:
                output.update(data=content["data"], metadata=content["metadata"])

    def clear(self, *, wait: bool = False) -> None:
        """Remove all outputs; with `wait`, when something new is added."""
        self._clears_first = wait
        if not wait:
            self._outputs.clear()
            self.size = 0

    def outputs(self) -> list[dict[str, Any]]:
        """All of them as notebook outputs (nbformat 4)."""
        return [_as_nbformat(output) for output in self._outputs]

    def excerpt(self) -> list[dict[str, Any]]:
        """The same, but of long text only the first and last lines, and of very long output the newest part."""
        return [_without(output, "transient") for output in self._newest()]

    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """The excerpt as messages of the Jupyter protocol: type and content."""
        return [(output["output_type"], _without(output, "output_type")) for output in self._newest()]

    def _newest(self) -> list[dict[str, Any]]:
        newest: collections.deque[dict[str, Any]] = collections.deque()
        characters = 0
        for output in reversed(self._outputs):
            shown = _as_excerpt(output)
            characters += _size(shown)
            if characters > EXCERPT_CHARACTERS and newest:
                newest.appendleft({"output_type": "stream", "name": "stdout", "text": "[... earlier output ...]\n"})
                break
            newest.appendleft(shown)
        return list(newest)

    def text(self) -> str:
        """All of them as plain text; a bundle without `text/plain` is represented by its mime types."""
        dropped = f"[... {self.dropped:,} characters dropped ...]\n" if self.dropped else ""
        return dropped + "".join(_as_text(output) for output in self.outputs())

    def ending(self, characters: int) -> str:
        """At most the last `characters` of `text`, without joining all of it."""
        parts: collections.deque[str] = collections.deque()
        missing = characters
        for output in reversed(self._outputs):
            for piece in reversed(_pieces(output)) if output["output_type"] == "stream" else [_as_text(output)]:
                if missing <= 0:
                    return "".join(parts)
                parts.appendleft(piece[-missing:])
                missing -= len(piece)
        return "".join(parts)

    def _grow(self, characters: int) -> None:
        self.size += characters
        while self.size > KEPT_CHARACTERS and self._outputs:
            first = self._outputs[0]
            if first["output_type"] == "stream" and len(first["pieces"]) > 1:
                size = len(first["pieces"].popleft())
            else:
                size = _size(self._outputs.popleft())
            self.size -= size
            self.dropped += size


def end_of_first_lines(text: str, lines: int, characters: int) -> int:
    """The index after the first `lines` whole lines that together have at most `characters`."""
    if text.count("\n") <= lines and len(text) <= characters:
        return len(text)
    cut = 0
    while lines and (end := text.find("\n", cut) + 1) and end <= characters:
        cut = end
        lines -= 1
    return cut


def last_lines(text: str, lines: int = TAIL_LINES) -> str:
    """The last lines of a text, at most HEAD_CHARACTERS of them."""
    start = len(text)
    for _ in range(lines + 1):
        start = text.rfind("\n", 0, start)
        if start < 0:
            return text[-HEAD_CHARACTERS:]
    return text[start + 1 :][-HEAD_CHARACTERS:]


def omission(lines: int) -> str:
    """The line that replaces this many lines that are not shown; empty for none."""
    return f"[... {lines:,} lines left out; task.output has them ...]\n" if lines else ""


def _size(output: dict[str, Any]) -> int:
    if output["output_type"] == "stream":
        return sum(map(len, _pieces(output)))
    if output["output_type"] == "error":
        return sum(map(len, output["traceback"]))
    return sum(len(value) if isinstance(value, str | bytes) else len(repr(value)) for value in output["data"].values())


def _pieces(output: dict[str, Any]) -> Sequence[str]:
    return output["pieces"] if "pieces" in output else [output["text"]]


def _as_nbformat(output: dict[str, Any]) -> dict[str, Any]:
    if output["output_type"] == "stream":
        return {"output_type": "stream", "name": output["name"], "text": "".join(output["pieces"])}
    return _without(output, "transient")


def _without(output: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in output.items() if name != key}


def _as_excerpt(output: dict[str, Any]) -> dict[str, Any]:
    if output["output_type"] != "stream":
        return output
    text = "".join(output["pieces"])
    cut = end_of_first_lines(text, HEAD_LINES, HEAD_CHARACTERS)
    if cut < len(text):
        tail = last_lines(text[cut:])
        text = text[:cut] + omission(text.count("\n", cut) - tail.count("\n")) + tail
    return {"output_type": "stream", "name": output["name"], "text": text}


def _as_text(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return str(output["text"])
    if output["output_type"] == "error":
        return "\n".join(output["traceback"]) + "\n"
    data = output["data"]
    named = f"<{', '.join(data)}>" if data else ""
    return f"{data.get('text/plain', named)}\n"
