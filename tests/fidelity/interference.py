"""Foreground cells that print, plot and fail while background cells run.

Each shows a mark of its own, and is checked to show that and nothing else.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

from tests.fidelity.frontend import FrontEnd
from tests.kernel.cell import stream_text

Check = Callable[[list[dict[str, Any]], str], bool]


def _printed(outputs: list[dict[str, Any]], mark: str) -> bool:
    return len(outputs) == 1 and stream_text(outputs, "stdout") == f"{mark}\n" * 50


def _described(outputs: list[dict[str, Any]], mark: str) -> bool:
    return len(outputs) == 1 and stream_text(outputs, "stderr") == f"{mark}\n"


def _displayed(outputs: list[dict[str, Any]], mark: str) -> bool:
    return [output.get("data") for output in outputs] == [{"text/plain": repr(mark)}]


def _failed(outputs: list[dict[str, Any]], mark: str) -> bool:
    return [(output.get("ename"), output.get("evalue")) for output in outputs] == [("RuntimeError", mark)]


def _plotted(outputs: list[dict[str, Any]], mark: str) -> bool:
    return len(outputs) == 1 and f"size {mark}00x100 " in outputs[0].get("data", {}).get("text/plain", "")


# They bind no names, since these would be the notebook's.
CELLS: list[tuple[str, Check]] = [
    ("any(__import__('time').sleep(0.0005) or print('{mark}') for i in range(50)) or None", _printed),
    ("print('{mark}', file=__import__('sys').stderr)", _described),
    ("__import__('IPython').display.display('{mark}')", _displayed),
    ("raise RuntimeError('{mark}')", _failed),
]
# A figure as many inches wide as the mark says, drawn without any of the notebook's settings.
PLOT: tuple[str, Check] = (
    "with __import__('matplotlib').rc_context({{'figure.dpi': 100, 'savefig.bbox': None}}):\n"
    "    __import__('matplotlib.pyplot').pyplot.figure(figsize=({mark}, 1)).get_axes()\n"
    "    __import__('matplotlib.pyplot').pyplot.show()",
    _plotted,
)


class Interference:
    """Runs one to three foreground cells, chosen by `seed`, after each cell."""

    def __init__(self, seed: str, *, plots: bool = True) -> None:
        self._random = random.Random(seed)
        self._cells = [*CELLS, PLOT] if plots else CELLS
        self._marks = itertools.count(1)
        self.ran = 0
        self.wrong: list[str] = []
        """The foreground cells that showed anything but their own."""

    def __call__(self, frontend: FrontEnd, index: int) -> None:
        for source, check in self._random.choices(self._cells, k=self._random.randint(1, 3)):
            number = next(self._marks)
            mark = str(1 + number % 20) if check is _plotted else f"foreground {number}"
            shown = frontend.start_cell(source.format(mark=mark), store_history=False).wait(60)
            self.ran += 1
            # After a cell that fails when it is started, as one with a syntax error does, the kernel drops the next.
            if shown.reply["status"] != "aborted" and not check(shown.outputs, mark):
                self.wrong.append(f"while cell {index} ran: {source.format(mark=mark)!r} showed {shown.outputs}")
