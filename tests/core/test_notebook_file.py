"""Notebook files: read, written whole, given parameters."""

from __future__ import annotations

import math
import os
import stat

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from nbtasks.exceptions import InvalidValueError
from nbtasks.notebook_file import assignments, checked_output, inject, kernel_language, read_notebook, save_notebook


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, -2.5, 1j, "it's", b"\x00"),
        *([1, [2]], (), (1,), (1, 2), set(), {1}, {}, {"a": [1, {"b": (2,)}]}),
        *(math.inf, -math.inf, [{"x": math.inf}]),
    ],
    ids=repr,
)
def test_the_code_of_a_parameter_gives_its_value_and_type(value):
    names = {}
    exec(assignments({"value": value}), names)
    assert (names["value"], type(names["value"])) == (value, type(value))


def test_a_parameter_that_is_not_a_number_stays_one():
    names = {}
    exec(assignments({"value": math.nan}), names)
    assert math.isnan(names["value"])


@pytest.mark.parametrize(
    "value", [object(), [print], {"key": range(2)}, {1: {2: len}}], ids=["itself", "in a list", "in a dict", "deep"]
)
def test_a_parameter_without_a_literal_is_named(value):
    with pytest.raises(InvalidValueError, match="the parameter 'value' is not a literal"):
        assignments({"value": value})


@pytest.mark.parametrize("name", ["two words", "1st", 7])
def test_the_name_of_a_parameter_must_be_an_identifier(name):
    with pytest.raises(InvalidValueError, match=f"must be an identifier, not {name!r}"):
        assignments({name: 1})


def test_parameters_follow_the_cell_that_is_tagged_for_them():
    tagged = new_code_cell("x = 1")
    tagged.metadata["tags"] = ["parameters"]
    notebook = new_notebook(cells=[new_markdown_cell("text"), tagged, new_code_cell("x")])
    inject(notebook, "x = 2", "python")
    assert [cell.source for cell in notebook.cells] == ["text", "x = 1", "# Parameters\nx = 2", "x"]
    nbformat.validate(notebook)


def test_parameters_come_first_where_no_cell_is_tagged_also_in_an_older_notebook():
    notebook = nbformat.from_dict(
        {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [new_markdown_cell("text")]}
    )
    del notebook.cells[0]["id"]
    inject(notebook, "x = 2", "Python")
    assert [cell.source for cell in notebook.cells] == ["# Parameters\nx = 2", "text"]
    nbformat.validate(notebook)


def test_a_kernel_that_does_not_speak_python_gets_no_parameters():
    notebook = new_notebook()
    with pytest.raises(InvalidValueError, match="speaks R"):
        inject(notebook, "x = 2", "R")
    assert notebook.cells == []


def test_a_kernel_that_is_not_installed_is_named_with_those_that_are():
    assert kernel_language("python3") == "python"
    with pytest.raises(InvalidValueError, match=r"no kernel 'fortran77'.*python3"):
        kernel_language("fortran77")


@pytest.mark.parametrize(
    "text", ["", "no", '["list"]', "{}", '{"cells": 1, "nbformat": 4}', '{"cells": [1], "nbformat": 4}']
)
def test_a_file_that_is_no_notebook_is_refused(tmp_path, text):
    path = tmp_path / "it.ipynb"
    path.write_text(text)
    with pytest.raises(InvalidValueError, match=r"it.ipynb' is not a notebook"):
        read_notebook(path)


def test_a_notebook_is_written_with_the_permissions_of_the_file_it_replaces(tmp_path):
    target = tmp_path / "it.ipynb"
    target.write_text("before")
    target.chmod(0o640)
    save_notebook(new_notebook(cells=[new_code_cell("1 + 1")]), target)
    assert read_notebook(target).cells[0].source == "1 + 1"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["it.ipynb"]


def test_a_new_notebook_has_the_permissions_of_any_new_file(tmp_path):
    save_notebook(new_notebook(), tmp_path / "it.ipynb")
    (tmp_path / "other").touch()
    assert (tmp_path / "it.ipynb").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    target = tmp_path / "it.ipynb"
    target.write_text("before")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_notebook(new_notebook(), target)
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["it.ipynb"]


def test_the_output_must_be_a_file_in_a_folder_that_exists(tmp_path):
    assert checked_output(tmp_path / "new.ipynb") == tmp_path / "new.ipynb"
    for wrong in (tmp_path, tmp_path / "absent" / "new.ipynb"):
        with pytest.raises(InvalidValueError, match="must be a file in an existing folder"):
            checked_output(wrong)
