"""Outputs of a notebook's cells, built from the messages of a kernel as they come.

Unlike nbclient, which drops what a cell writes after a later one has started, messages find their cell by the request
that they belong to, for as long as the kernel runs.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from nbtasks.packages import require

__all__ = ["NotebookOutputs"]

_OUTPUTS = frozenset({"stream", "display_data", "execute_result", "error"})
_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\r\n])")
"""Text of a line before a carriage return that more text follows: what a terminal would overwrite."""


class NotebookOutputs:
    """The outputs of the cells of one notebook. Used by one thread."""

    def __init__(self) -> None:
        self._cells: dict[str, Any] = {}
        self._to_clear: set[int] = set()
        self._display_ids: defaultdict[int, dict[int, str]] = defaultdict(dict)
        """By the id() of a cell: the display id of each of its outputs that has one."""
        self._from_message: Any = require("nbformat.v4", "nbtasks run").output_from_msg
        self.changed = False
        """Whether there is anything new since the caller set it to False."""

    def begin(self, cell: Any, request_id: str) -> None:
        """Empty the cell; what belongs to this request is written there from now on."""
        cell.outputs, cell.execution_count = [], None
        self._cells[request_id] = cell
        self.changed = True

    def cell_of(self, message: dict[str, Any]) -> Any:
        """The cell of the request that a message belongs to; None if it is of no cell."""
        return self._cells.get((message.get("parent_header") or {}).get("msg_id", ""))

    def take(self, message: dict[str, Any]) -> None:
        """Apply a message of the kernel's iopub channel."""
        kind, content, cell = message["msg_type"], message["content"], self.cell_of(message)
        if kind == "update_display_data":
            self._update(content)
            return
        if cell is None:
            return
        if kind == "execute_input":
            cell.execution_count = content["execution_count"]
            self.changed = True
        elif kind == "clear_output":
            if content.get("wait"):
                self._to_clear.add(id(cell))
            else:
                self._clear(cell)
        elif kind in _OUTPUTS:
            self._append(cell, kind, content, message)

    def write(self, cell: Any, text: str) -> None:
        """Write a line of the runner itself to the stderr of a cell."""
        self._append_stream(cell, "stderr", text + "\n")

    def _append(self, cell: Any, kind: str, content: dict[str, Any], message: dict[str, Any]) -> None:
        if id(cell) in self._to_clear:
            self._clear(cell)
        if kind == "stream":
            self._append_stream(cell, content["name"], content["text"])
            return
        output = self._from_message(message)
        display_id = (content.get("transient") or {}).get("display_id")
        if display_id is not None:
            self._update(content)
            self._display_ids[id(cell)][len(cell.outputs)] = display_id
        cell.outputs.append(output)
        self.changed = True

    def _append_stream(self, cell: Any, name: str, text: str) -> None:
        last = cell.outputs[-1] if cell.outputs else None
        if last is not None and last.output_type == "stream" and last.name == name:
            last.text = _OVERWRITTEN.sub("", last.text + text)
        else:
            new_output = require("nbformat.v4", "nbtasks run").new_output
            cell.outputs.append(new_output("stream", name=name, text=_OVERWRITTEN.sub("", text)))
        self.changed = True

    def _update(self, content: dict[str, Any]) -> None:
        """Replace the data of every display with this id, in whichever cell it is."""
        display_id = (content.get("transient") or {}).get("display_id")
        for cell in self._cells.values():
            for index, known in self._display_ids[id(cell)].items():
                if known == display_id and index < len(cell.outputs):
                    nbformat = require("nbformat", "nbtasks run")
                    cell.outputs[index].data = nbformat.from_dict(content["data"])
                    cell.outputs[index].metadata = nbformat.from_dict(content.get("metadata") or {})
                    self.changed = True

    def _clear(self, cell: Any) -> None:
        self._to_clear.discard(id(cell))
        self._display_ids[id(cell)].clear()
        cell.outputs = []
        self.changed = True
