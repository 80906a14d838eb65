"""The notebook file that a program runs, found by its cells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbtasks.notebook import executed_file
from nbtasks.notebook.executed_file import is_last_cell


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(executed_file, "_files_of_ancestors", tuple)  # those of the test run
    return tmp_path


def write(path: str, *sources: str, **tags: list[str]) -> None:
    cells = [
        {"cell_type": "code", "source": source.splitlines(keepends=True), "metadata": {"tags": tags.get(source, [])}}
        for source in sources
    ]
    cells.insert(1, {"cell_type": "markdown", "source": "text", "metadata": {}})
    Path(path).write_text(json.dumps({"cells": cells, "nbformat": 4}))


def test_the_last_cell_is_the_one_with_which_the_file_ends() -> None:
    write("it.ipynb", "load", "a = 1\nb = 2\n", "", "the_end")
    runs = [["load"], ["load", "a = 1\nb = 2"], ["load", "a = 1\nb = 2", "the_end"], ["a = 1\nb = 2", "the_end"]]
    assert [is_last_cell(run) for run in runs] == [False, False, True, True]
    assert not is_last_cell(["load", "the_end"]) and not is_last_cell([]) and not is_last_cell(["", "  "])


def test_no_cell_is_the_last_where_a_longer_file_has_it_too() -> None:
    write("it.ipynb", "load", "a", "the_end")
    write("shorter.ipynb", "load", "a")
    assert not is_last_cell(["load", "a"]) and is_last_cell(["load", "a", "the_end"])


def test_the_file_whose_name_is_known_comes_first(folder: Path) -> None:
    write("longer.ipynb", "load", "a", "the_end")
    (folder / "in").mkdir()
    write("in/it.ipynb", "load", "a")
    assert is_last_cell(["load", "a"], "in/it.ipynb") and not is_last_cell(["load", "a"])


def test_cells_that_a_program_adds_or_skips_make_no_difference() -> None:
    write("it.ipynb", "load", "a", "skipped", "the_end", skipped=["skip-execution"])
    assert is_last_cell(["load", "# Parameters\nx = 1\n", "a", "the_end"])
    assert not is_last_cell(["load", "# Parameters\nx = 1\n", "a"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 1}', '{"cells": [{}]}', '{"cells": [1]}', "\xff"])
def test_what_is_no_notebook_is_passed_over(folder: Path, text: str) -> None:
    (folder / "bad.ipynb").write_text(text, encoding="latin-1")
    (folder / "folder.ipynb").mkdir()
    os.symlink("nowhere", folder / "gone.ipynb")
    assert not is_last_cell(["load"])
    write("it.ipynb", "load")
    assert is_last_cell(["load"])


def test_a_file_on_the_command_line_of_the_program_is_found(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write("elsewhere/it.ipynb", "load", "the_end")
    ask = "from nbtasks.notebook.executed_file import is_last_cell; print(is_last_cell(['load', 'the_end']))"
    kernel = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ask!r}], check=True, cwd='/')"
    command = [sys.executable, "-c", kernel, "elsewhere/it.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "True\n"
