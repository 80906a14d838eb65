"""The lanes in the task table: their use, and their limits, which can be changed there.

Written by the live writer's thread only.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbtasks.exceptions import NbtasksError
from nbtasks.manager import TaskManager
from nbtasks.widgets.parts import Parts, put

__all__ = ["LaneControls"]

_NO_LIMIT = "no limit"


@dataclass(frozen=True, slots=True)
class _LaneRow:
    use: Any
    field: Any
    widget: Any


class LaneControls:
    """One line for each lane. A limit is a whole number, or "no limit"."""

    def __init__(self, parts: Parts, manager: TaskManager, say: Callable[[str], None]) -> None:
        self._parts = parts
        self._manager = manager
        self._say = say
        self._rows: dict[str, _LaneRow] = {}
        self.widget = parts.column(padding="4px 0 6px 8px")
        self.widget.add_class("nbtasks-more")

    def refresh(self) -> int:
        """Show the lanes as they are now; how many messages that took."""
        lanes = self._manager.lanes
        for name in lanes:
            if name not in self._rows:
                self._rows[name] = self._make(name)
        sent = put(self.widget, children=tuple(self._rows[name].widget for name in lanes))
        for name, lane in lanes.items():
            row = self._rows[name]
            use = f"{lane.running} running" + (f" · {lane.pending} pending" if lane.pending else "")
            sent += put(row.use, value=f"<span>{html.escape(use)}</span>")
            limit = _NO_LIMIT if lane.limit is None else str(lane.limit)
            sent += put(row.field, value=limit)
        return sent

    def _make(self, name: str) -> _LaneRow:
        field = self._parts.text(
            f"Limit of {name[:40]}", "140px", {"width": "250px", "max_width": "100%"}, continuous_update=False
        )
        field.observe(lambda change: self._set(name, str(change["new"])), names="value")
        use = self._parts.html(margin="0 0 0 12px")
        return _LaneRow(use, field, self._parts.row(field, use, align_items="center"))

    def _set(self, name: str, text: str) -> None:
        """Called where the field changed, by the user or by `refresh`."""
        lane = self._manager.lanes.get(name)
        wanted = text.strip().casefold()
        if lane is None or wanted == (_NO_LIMIT if lane.limit is None else str(lane.limit)):
            return
        if wanted in ("", "none", _NO_LIMIT):
            limit = None
        elif wanted.isdecimal() and wanted.isascii():
            limit = int(wanted)
        else:
            self._say(f"a lane's limit is a whole number from 0 on, or {_NO_LIMIT!r}; not {text[:40]!r}")
            return
        try:
            self._manager.resize_lane(name, limit)
        except NbtasksError as error:
            self._say(str(error))
        else:
            self._say("")
