"""A front end with Output widgets: output inside `with Output():` goes there.
"""

from __future__ import annotations

from typing import Any

from tests.kernel.cell import OUTPUT_TYPES, OutputArea
from tests.kernel.connection import Arrival
from tests.kernel.driver import Cell, KernelDriver


class FrontEnd(KernelDriver):
    """A kernel and a front end that follows the protocol of ipywidgets' Output.

    An Output widget names a request in its state `msg_id`; from then on, until it takes that back, output of that
    request is shown in the widget and not in the cell. `widgets` has what each shows, by model id.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.widgets: dict[str, OutputArea] = {}
        self._captures: dict[str, list[str]] = {}
        self._captured: dict[str, str] = {}

    def _file(self, arrival: Arrival) -> None:
        request = arrival.parent_id or ""
        capturing = self._captures.get(request)
        if arrival.channel == "iopub" and arrival.type in OUTPUT_TYPES and capturing:
            self.messages.append(arrival)
            self.widgets[capturing[-1]].add(arrival.type, arrival.content)
        else:
            super()._file(arrival)

    def _file_comm(self, arrival: Arrival) -> None:
        super()._file_comm(arrival)
        comm_id = arrival.content["comm_id"]
        state = (arrival.content.get("data") or {}).get("state") or {}
        if self.models.get(comm_id, {}).get("_model_name") != "OutputModel":
            return
        self.widgets.setdefault(comm_id, OutputArea())
        if "msg_id" in state:
            self._capture(comm_id, state["msg_id"])

    def _capture(self, comm_id: str, request: str) -> None:
        before = self._captured.pop(comm_id, None)
        if before is not None:
            self._captures[before].remove(comm_id)
        if request:
            self._captured[comm_id] = request
            self._captures.setdefault(request, []).append(comm_id)

    def outputs_with_widgets(self, cell: Cell) -> list[dict[str, Any]]:
        """The cell's outputs as they were sent; an Output widget's view is followed by what the widget shows."""
        with self.changed:
            return list(self._expanded(cell.area.as_notebook(as_sent=True), frozenset()))

    def _expanded(self, outputs: list[dict[str, Any]], inside: frozenset[str]) -> Any:
        for output in outputs:
            yield output
            for model_id in self._shown_by(output):
                if model_id in self.widgets and model_id not in inside:
                    shown = self.widgets[model_id].as_notebook(as_sent=True)
                    shown += list(self.models[model_id].get("outputs") or ())
                    yield from self._expanded(shown, inside | {model_id})

    def _shown_by(self, output: dict[str, Any]) -> list[str]:
        """The Output widgets in a view: the widget itself, or the children of the box that it is."""
        view = output.get("data", {}).get("application/vnd.jupyter.widget-view+json")
        found, left = [], [view["model_id"]] if view else []
        while left:
            model_id = left.pop(0)
            found.append(model_id)
            children = self.models.get(model_id, {}).get("children") or ()
            left += [child.removeprefix("IPY_MODEL_") for child in children]
        return found
