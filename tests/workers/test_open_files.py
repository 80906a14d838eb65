"""Open files in another process: each side continues where the other stopped."""

from __future__ import annotations

import gzip
import os
import tempfile

import pytest

from nbtasks.workers.open_files import leave_loop
from nbtasks.workers.serialization import pack
from tests.workers.other_process import other_process

MODES = [("r", {}), ("r+", {}), ("rb", {}), ("r+b", {}), ("rb", {"buffering": 0}), ("r", {"newline": ""})]


@pytest.fixture(scope="module")
def other():
    with other_process() as one:
        yield one


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_bytes("öne\r\ntwo\nthree\n".encode())
    return path


@pytest.mark.parametrize(("mode", "options"), MODES)
def test_reading_continues_there_and_here(other, path, mode, options):
    encoding = None if "b" in mode else "utf-8"
    with (
        open(path, mode, encoding=encoding, **options) as file,
        open(path, mode, encoding=encoding, **options) as alone,
    ):
        assert file.readline() == alone.readline()
        back, found = other.use(file, "found = it.readline(), it.tell(), it.mode, it.name, type(it)")
        assert found == (alone.readline(), alone.tell(), mode if encoding else alone.mode, str(path), type(alone))
        assert back is file
        assert file.readline() == alone.readline()


@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
@pytest.mark.parametrize("lines_read", [0, 1, 3])
def test_lines_end_as_it_was_opened(other, path, newline, lines_read):
    with open(path, encoding="utf-8", newline=newline) as file, open(path, encoding="utf-8", newline=newline) as alone:
        for _ in range(lines_read):
            file.readline(), alone.readline()
        assert other.use(file, "found = it.readlines()")[1] == alone.readlines()


@pytest.mark.parametrize("mode", ["w", "w+", "a", "a+", "x", "wb", "r+"])
def test_what_is_written_there_follows_what_was_written_here(other, tmp_path, mode):
    path = tmp_path / "new.txt"
    if mode in ("a", "a+", "r+"):
        path.write_text("old")
    as_text = "b" not in mode
    with path.open(mode, **({"encoding": "utf-16-le"} if as_text else {})) as file:
        for word in ("one", "two", "three"):
            if word == "two":
                _, found = other.use(file, f"it.write({word if as_text else word.encode()!r}); found = it.mode")
                assert found == file.mode
            else:
                file.write(word if as_text else word.encode())
    content = path.read_bytes()
    assert content.endswith("onetwothree".encode("utf-16-le" if as_text else "ascii")) or mode == "r+"


@pytest.mark.parametrize("newline", [None, "", "\n"])
@pytest.mark.parametrize("lines_read", [1, 2, 3])
def test_a_file_that_leaves_the_loop_over_its_lines_is_at_the_next_one(path, newline, lines_read):
    with open(path, encoding="utf-8", newline=newline) as file, open(path, encoding="utf-8", newline=newline) as alone:
        for _ in range(lines_read):
            next(file), next(alone)
        leave_loop(file)
        assert file.tell() == sum(map(len, path.read_bytes().splitlines(keepends=True)[:lines_read]))
        assert file.readlines() == alone.readlines()


def test_what_was_read_ahead_here_is_read_again_after_it_was_written_there(other, path):
    with path.open("r+", encoding="utf-8") as file:
        file.read(1)
        other.use(file, "it.seek(0); it.write('XYZ'); it.seek(0)")
        assert file.read(5) == "XYZe\n"


def test_a_file_that_is_closed_there_is_closed_here(other, path):
    file = path.open(encoding="utf-8")
    assert other.use(file, "it.close()")[0] is file
    assert file.closed


def test_a_file_that_was_opened_there_comes_back_open(other, path):
    back, _ = other.use(str(path), "it = open(it, encoding='utf-8'); it.readline()")
    with back:
        assert (back.readline(), back.name) == ("two\n", str(path))
        assert other.use(back, "found = it.readline()") == (back, "three\n")
        assert back.read() == ""


def test_it_is_opened_by_its_path_where_the_folder_has_changed(other, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with open(path.name, encoding="utf-8") as file:
        assert other.use(file, "found = it.name, it.readline()")[1] == (path.name, "öne\n")


def test_the_use_of_one_file_in_both_processes_is_an_error(other, path):
    with path.open(encoding="utf-8") as file:
        other.send(file, "it.readline()")
        file.readline()
        file.readline()
        with pytest.raises(TypeError, match=r"poem.txt was read, written or closed in both processes"):
            other.receive()
        other.send(file, "pass")
        assert file.readline() == "three\n"
        assert other.receive()[0] is file, "it was not used there"
        assert file.read() == ""


def test_a_file_that_was_replaced_on_disk_is_not_opened(other, path):
    with path.open(encoding="utf-8") as file:
        path.rename(path.with_suffix(".old"))
        with pytest.raises(RuntimeError, match="FileNotFoundError"):
            other.use(file, "pass")
        path.write_text("another")
        with pytest.raises(RuntimeError, match=r"poem\.txt is another file here"):
            other.use(file, "pass")


def test_files_that_have_no_place_to_go_to_are_not_sent(path):
    reading, writing = os.pipe()
    with os.fdopen(reading) as pipe, os.fdopen(writing, "w"), pytest.raises(TypeError, match="an open pipe"):
        pack(pipe)
    with tempfile.TemporaryFile() as nameless, pytest.raises(TypeError, match="temporary file"):
        pack(nameless)
    with gzip.open(path.with_suffix(".gz"), "wt") as zipped, pytest.raises(TypeError, match="an open GzipFile"):
        pack(zipped)
    with path.open(encoding="utf-8") as file:
        next(file)
        with pytest.raises(TypeError, match="in the middle of a loop over its lines"):
            pack(file)
