"""Output of background cells where nobody watches: nbclient, nbconvert, papermill, nbval.

These drop what arrives for a cell once a later one runs. So the panel of a background cell is a slot with a display id,
and at the end of every later cell what came in between is put into the slots, as a message of that later cell. A cell
that is to show no panel has no slot: its late output is lost there, unless it is launched with `--wait`. Knows nothing
of how cells run.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nbtasks.notebook.kernel import Kernel, LaunchingCell
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task
from nbtasks.widgets.recurring_shown import shown_of
from nbtasks.widgets.snapshot import PanelPicture, plain_text

__all__ = ["Slots"]


@dataclass
class _Slot:
    task: Task | RecurringTask
    display_id: str
    sent: dict[str, Any]


class Slots:
    """The places in earlier cells that still wait for output. Used from the main thread only."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._open: list[_Slot] = []

    def open(self, task: Task | RecurringTask, cell: LaunchingCell) -> None:
        """Make the slot of `task` in `cell`."""
        slot = _Slot(task, f"nbtasks-{task.id}-output", {})
        self._open.append(slot)
        self._put(slot, cell, "display_data")

    def deliver(self, here: LaunchingCell) -> None:
        """Fill the slots with what there is now, as a message of the cell that runs now."""
        for slot in list(self._open):
            over = _is_over(slot.task)  # asked before it is read: what comes in between is delivered once more
            self._put(slot, here, "update_display_data")
            if over:
                self._open.remove(slot)

    def _put(self, slot: _Slot, cell: LaunchingCell, kind: str) -> None:
        picture = PanelPicture(shown_of(slot.task, datetime.now(UTC)))
        bundle = _bundle(picture, _outputs(slot.task))
        if bundle != slot.sent:
            slot.sent = bundle
            content = {"data": bundle, "metadata": {}, "transient": {"display_id": slot.display_id}}
            self._kernel.send(cell, kind, content)


def _is_over(task: Task | RecurringTask) -> bool:
    return task.removed and not task.instances if isinstance(task, RecurringTask) else task.done


def _outputs(task: Task | RecurringTask) -> list[dict[str, Any]]:
    """What a cell wrote; of a recurring cell, what its last run wrote that has finished or has written something."""
    if not isinstance(task, RecurringTask):
        details = task.cell_details()
        return [] if details is None else details.output.excerpt
    runs = task.template.kept_runs()
    for run in reversed([] if runs is None else runs.kept):
        if outputs := run.output.excerpt:
            return outputs
        if run.state not in ("pending", "running"):
            break
    return []


def _bundle(picture: PanelPicture, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """One mime bundle for all of it."""
    panel = picture.bundle()
    plain = [panel["text/plain"] + "\n", *map(_as_plain, outputs)]
    markup = [panel["text/html"], *map(_as_html, outputs)]
    return {"text/plain": "".join(plain), "text/html": "\n".join(markup)}


def _as_plain(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return str(output["text"])
    if output["output_type"] == "error":
        return "\n".join(output["traceback"]) + "\n"
    return f"{output['data'].get('text/plain', '')}\n"


def _as_html(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "text/html" in data:
        return str(data["text/html"])
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            return f'<img alt="{html.escape(data.get("text/plain", ""))}" src="data:{kind};base64,{data[kind]}">'
    if "image/svg+xml" in data:
        return str(data["image/svg+xml"])
    return f"<pre>{html.escape(plain_text(_as_plain(output)))}</pre>"
