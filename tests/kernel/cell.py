"""Outputs of a notebook cell, merged from messages by the rules of JupyterLab."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

OUTPUT_TYPES = frozenset({"stream", "display_data", "update_display_data", "execute_result", "error", "clear_output"})
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

Output = dict[str, Any]


def without_ansi(text: str) -> str:
    """The text without colour codes."""
    return ANSI.sub("", text)


def as_on_a_terminal(text: str) -> str:
    r"""The text as a terminal shows it: `\r` moves to the start of the line, `\b` one character back."""
    if "\r" not in text and "\b" not in text:
        return text
    return "\n".join(_overwritten(line) for line in text.replace("\r\n", "\n").split("\n"))


def _overwritten(line: str) -> str:
    written: list[str] = []
    column = 0
    for character in line:
        if character == "\r":
            column = 0
        elif character == "\b":
            if column == len(written) and written:
                written.pop()
            column = max(0, column - 1)
        else:
            written[column : column + 1] = [character]
            column += 1
    return "".join(written)


class OutputArea:
    """The outputs of one cell, as JupyterLab keeps them.

    Consecutive streams of the same name are one output. `clear_output` clears at once or, with `wait`, when the next
    output arrives. An update changes every output that has its display id.
    """

    def __init__(self) -> None:
        self._outputs: list[Output] = []
        self._display_ids: list[str | None] = []
        self._clear_next = False

    def add(self, msg_type: str, content: dict[str, Any]) -> None:
        """Add the content of an output message."""
        display_id = content.get("transient", {}).get("display_id")
        if msg_type == "clear_output":
            self._clear_next = bool(content.get("wait"))
            if not self._clear_next:
                self._clear()
        elif msg_type == "update_display_data":
            self.update(display_id, content)
        else:
            if self._clear_next:
                self._clear()
                self._clear_next = False
            self._append(msg_type, content, display_id)

    def update(self, display_id: str | None, content: dict[str, Any]) -> None:
        """Replace the content of every output that has the display id."""
        for output, known_id in zip(self._outputs, self._display_ids, strict=True):
            if display_id is not None and known_id == display_id:
                output["data"] = deepcopy(content["data"])
                output["metadata"] = deepcopy(content.get("metadata", {}))

    def as_notebook(self, *, as_sent: bool = False) -> list[Output]:
        r"""The outputs as in a notebook file; with `as_sent`, without applying `\r` and `\b`."""
        outputs = deepcopy(self._outputs)
        for output in outputs:
            if output["output_type"] == "stream" and not as_sent:
                output["text"] = as_on_a_terminal(output["text"])
        return outputs

    def _clear(self) -> None:
        self._outputs.clear()
        self._display_ids.clear()

    def _append(self, msg_type: str, content: dict[str, Any], display_id: str | None) -> None:
        if msg_type == "stream":
            last = self._outputs[-1] if self._outputs else None
            if last is not None and last["output_type"] == "stream" and last["name"] == content["name"]:
                last["text"] += content["text"]
                return
        output: Output = {"output_type": msg_type, **deepcopy(content)}
        output.pop("transient", None)
        self._outputs.append(output)
        self._display_ids.append(display_id)


def texts(outputs: list[Output]) -> Iterator[str]:
    """Each output as plain text: streams, `text/plain`, tracebacks without colours."""
    for output in outputs:
        if output["output_type"] == "stream":
            yield str(output["text"])
        elif output["output_type"] == "error":
            yield without_ansi("\n".join(output["traceback"])) + "\n"
        else:
            yield str(output["data"].get("text/plain", "")) + "\n"


def stream_text(outputs: list[Output], name: str) -> str:
    """All text of the stream `stdout` or `stderr`, in order."""
    return "".join(o["text"] for o in outputs if o["output_type"] == "stream" and o["name"] == name)
