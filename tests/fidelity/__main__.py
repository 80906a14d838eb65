"""Command line: fidelity of background cells, and the cells that differ.

python -m tests.fidelity                          our own corpus
python -m tests.fidelity errors magics            some of its notebooks
python -m tests.fidelity ~/tutorial/*.ipynb       any other notebooks, each run in a copy of its folder
python -m tests.fidelity --left-out               writes the page of the docs on what is left out of processes
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fidelity.compare import compare
from tests.fidelity.left_out import PAGE, page
from tests.fidelity.notebooks import Notebook, corpus, read_ipynb, read_percent
from tests.fidelity.report import Score, differences, table
from tests.fidelity.runs import Mode, Run, run_notebook

_MODES = [mode.value for mode in Mode if mode is not Mode.FOREGROUND]


def main() -> int:
    arguments = _arguments()
    if arguments.left_out:
        PAGE.write_text(page(corpus()), encoding="utf-8")
        return 0
    notebooks = [notebook for notebook in _chosen(arguments.notebooks) if not _is_missing(notebook)]
    modes = [Mode(name) for name in arguments.modes.split(",")]
    scores: dict[tuple[str, str], Score] = {}
    with tempfile.TemporaryDirectory(prefix="fidelity-") as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        runs = {
            (index, mode): pool.submit(
                run_notebook,
                notebook,
                mode,
                Path(folder, str(index), mode.value),
                timeout=arguments.timeout,
            )
            for index, notebook in enumerate(notebooks)
            for mode in (Mode.FOREGROUND, *modes)
        }
        for index, notebook in enumerate(notebooks):
            expected = runs[index, Mode.FOREGROUND].result()
            for mode in modes:
                run = runs[index, mode].result()
                scores[notebook.name, mode.value] = _judge(expected, run, in_detail=arguments.strict)
    print("\n".join(table(scores)))
    return 0 if all(score.same == score.cells and not score.strays for score in scores.values()) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fidelity", description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", help="names of the corpus, or paths of .ipynb or .ipy files")
    parser.add_argument("--modes", default="control,thread,loop", help=f"some of {', '.join(_MODES)}")
    parser.add_argument(
        "--strict", action="store_true", help="print the cells that are not the same to the letter, too"
    )
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds that a cell may take")
    parser.add_argument("--left-out", action="store_true", help="write the page of the docs, and run nothing")
    parser.add_argument("--jobs", type=int, default=1, help="kernels at once")
    return parser.parse_args()


def _chosen(names: list[str]) -> list[Notebook]:
    ours = {notebook.name: notebook for notebook in corpus()}
    if not names:
        return list(ours.values())
    return [ours[name] if name in ours else _read(Path(name)) for name in names]


def _read(path: Path) -> Notebook:
    return read_ipynb(path) if path.suffix == ".ipynb" else read_percent(path)


def _is_missing(notebook: Notebook) -> bool:
    if notebook.missing:
        print(f"{notebook.name} is left out: {', '.join(notebook.missing)} is not installed", file=sys.stderr)
    return bool(notebook.missing)


def _judge(expected: Run, run: Run, *, in_detail: bool) -> Score:
    comparisons = compare(expected, run)
    if found := differences(comparisons, run.strays, in_detail=in_detail):
        print(f"===== {run.notebook.name}, {run.mode.value}\n{found}\n", flush=True)
    return Score().add(comparisons, run.strays)


if __name__ == "__main__":
    sys.exit(main())
