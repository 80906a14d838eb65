"""Runs the notebooks of this folder, each in a new kernel, and saves them with their outputs: `make notebooks`.

`python save_outputs.py NAME...` runs only those.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
TIME_LIMIT = 600


def run(path: Path) -> None:
    """Run one notebook in an empty folder, with an empty history, and save it."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "NBTASKS_HISTORY": str(Path(folder, "history.sqlite"))}
        client = NotebookClient(
            notebook, timeout=TIME_LIMIT, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute(env=env)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
        for output in cell.get("outputs", []):
            output.get("metadata", {}).pop("nbtasks", None)  # ids of tasks of a kernel that is gone
    nbformat.write(notebook, path)


def main(names: list[str]) -> None:
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not names or path.stem in names:
            print(path.name, flush=True)
            run(path)


if __name__ == "__main__":
    main(sys.argv[1:])
