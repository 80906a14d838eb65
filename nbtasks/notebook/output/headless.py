"""Output of background cells in nbclient, nbconvert, papermill and nbval.

These programs drop messages for a cell once a later cell runs. So the panel of a background cell is a slot: a display
with an id, which is updated at the end of every later cell, by a message of that later cell. A cell without a panel has
no slot, and its late output is lost there unless it is launched with `--wait`.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nbtasks.formatting import plain_text
from nbtasks.notebook.kernel import Kernel, LaunchingCell
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.task import Task
from nbtasks.widgets.html import panel_bundle
from nbtasks.widgets.snapshot import Snapshot, snapshot_of

__all__ = ["Slots"]


@dataclass
class _Slot:
    task: Task | RecurringTask
    display_id: str
    sent: dict[str, Any]


class Slots:
    """The displays of earlier cells whose tasks may still write output.

    Used on the main thread only.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._open: list[_Slot] = []

    def open(self, task: Task | RecurringTask, cell: LaunchingCell) -> None:
        """Show a slot of `task` in `cell`."""
        slot = _Slot(task, f"nbtasks-{task.id}-output", {})
        self._open.append(slot)
        self._put(slot, cell, "display_data")

    def deliver(self, here: LaunchingCell) -> None:
        """Update all slots by messages of the current cell, `here`."""
        for slot in list(self._open):
            finished = _is_finished(slot.task)  # before its output is read: there may be more after that
            self._put(slot, here, "update_display_data")
            if finished:
                self._open.remove(slot)

    def _put(self, slot: _Slot, cell: LaunchingCell, kind: str) -> None:
        snapshot = snapshot_of(slot.task, datetime.now(UTC))
        bundle = _bundle(snapshot, _outputs(slot.task), _unfinished(slot.task, cell))
        if bundle != slot.sent:
            slot.sent = bundle
            content = {"data": bundle, "metadata": {}, "transient": {"display_id": slot.display_id}}
            self._kernel.send(cell, kind, content)


def _is_finished(task: Task | RecurringTask) -> bool:
    return task.removed and not task.instances if isinstance(task, RecurringTask) else task.done


def _unfinished(task: Task | RecurringTask, cell: LaunchingCell) -> str:
    """Of an unfinished task, what the notebook says if it ends with this cell."""
    if isinstance(task, RecurringTask) or task.done:
        return ""
    return (
        f"nbtasks: {task.name} was still {task.state.value} when cell [{cell.execution_count}] ended. "
        "If that was the last one, the end of the kernel has cut it off: %bgtask wait\n"
    )


def _outputs(task: Task | RecurringTask) -> list[dict[str, Any]]:
    """The output of a cell; of a recurring cell, that of its last run that has finished or has any output."""
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


def _bundle(snapshot: Snapshot, outputs: list[dict[str, Any]], unfinished: str) -> dict[str, Any]:
    """A mime bundle of the panel, the outputs and a last line."""
    panel = panel_bundle(snapshot)
    plain = [panel["text/plain"] + "\n", *map(_as_plain, outputs), unfinished]
    markup = [panel["text/html"], *map(_as_html, outputs)]
    if unfinished:
        markup.append(f"<pre>{html.escape(unfinished)}</pre>")
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
