"""Cost of carrying the settings of libraries to a background cell and back."""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.rows import ROUNDS, Row
from nbtasks.library_state import register_libraries
from nbtasks.notebook.cells.notebook_libraries import NotebookLibraries
from nbtasks.thread_state import Carried

LIBRARIES = (
    *("decimal", "joblib", "scipy.fft", "scipy.special", "sklearn", "threadpoolctl"),
    *("jax", "keras", "mlflow", "numba", "sympy", "torch", "xgboost"),
)
CELLS = 500


def library_state() -> Iterator[Row]:
    """CPU time that a launch costs more where all these libraries are imported; and the whole of a cell."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    unregister = register_libraries()
    imported = [name for name in LIBRARIES if importlib.util.find_spec(name.partition(".")[0]) is not None]
    for name in imported:
        importlib.import_module(name)
    if "numba" in imported:  # its threads are started, as in a notebook that uses them
        importlib.import_module("numba").get_num_threads()
    if "threadpoolctl" in imported:
        importlib.import_module("threadpoolctl").threadpool_limits(None)
    try:
        measured = [_measured() for _ in range(ROUNDS + 1)][1:]
    finally:
        unregister()
    missing = sorted(set(LIBRARIES) - set(imported))
    note = f"{len(imported)} libraries" + (f"; not installed: {', '.join(missing)}" if missing else "")
    yield Row("launch of a cell, settings of libraries (CPU)", [one for one, _ in measured], at_most=100, note=note)
    yield Row("the whole of a cell, settings of libraries (CPU)", [whole for _, whole in measured], note=note)


def _measured() -> tuple[float, float]:
    """Microseconds for one cell until its code begins, and in all."""
    notebook, spent = NotebookLibraries(), [0.0, 0.0]

    def cells() -> None:
        for _ in range(CELLS):
            began = time.thread_time()
            notebook.note()
            carried = Carried(notebook.snapshot())
            carried.enter()
            runs = time.thread_time()
            carried.leave()
            notebook.note()
            spent[0] += runs - began
            spent[1] += time.thread_time() - began

    thread = threading.Thread(target=cells)
    thread.start()
    thread.join()
    return 1e6 * spent[0] / CELLS, 1e6 * spent[1] / CELLS


ROWS: tuple[Any, ...] = (library_state,)
