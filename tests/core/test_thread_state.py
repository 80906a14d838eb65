"""Settings that libraries keep per thread, carried from one thread to another."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbtasks import thread_state
from nbtasks.notebook.cells.notebook_libraries import NotebookLibraries
from nbtasks.thread_state import UNSET, Carried, Changes


class Library:
    """A library that keeps its settings per thread, as its public functions show them."""

    def __init__(self) -> None:
        self._local = threading.local()

    def capture(self) -> dict[str, Any]:
        return dict(vars(self._local))

    def apply(self, changed: Any) -> None:
        for name, value in changed.items():
            if value is UNSET:
                delattr(self._local, name)
            else:
                setattr(self._local, name, value)

    def set(self, **settings: Any) -> None:
        self.apply(settings)


@pytest.fixture
def library() -> Iterator[Library]:
    library = Library()
    unregister = thread_state.register("threading", library.capture, library.apply)
    yield library
    unregister()


@pytest.fixture
def notebook(library: Library) -> NotebookLibraries:
    return NotebookLibraries()


def on_thread(call: Callable[[], Any]) -> Any:
    """Call it on a new thread and return what it returns or raise what it raises."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def run_cells(notebook: NotebookLibraries, *cells: Callable[[], Any]) -> list[Changes]:
    """Run cells one after another on one thread, as on one of the pool; returns what each has set."""

    def run() -> list[Changes]:
        changes = []
        for cell in cells:
            carried = Carried(notebook.snapshot())
            carried.enter()
            cell()
            changes.append(carried.leave())
        return changes

    found: list[Changes] = on_thread(run)
    return found


def test_a_cell_has_what_the_notebook_has_set(library: Library, notebook: NotebookLibraries) -> None:
    library.set(unit="cm")
    notebook.note()
    seen: list[Any] = []
    run_cells(notebook, lambda: seen.append(library.capture()))
    assert seen == [{"unit": "cm"}]


def test_what_a_cell_sets_is_the_notebooks_when_the_next_foreground_cell_begins(
    library: Library, notebook: NotebookLibraries
) -> None:
    library.set(unit="cm", other=1)
    notebook.note()
    (changes,) = run_cells(notebook, lambda: library.set(unit="m"))
    notebook.commit(changes)
    assert library.capture() == {"unit": "cm", "other": 1}
    notebook.foreground_began()
    assert library.capture() == {"unit": "m", "other": 1}


def test_a_setting_that_a_cell_removes_is_removed_in_the_notebook(
    library: Library, notebook: NotebookLibraries
) -> None:
    library.set(unit="cm")
    notebook.note()
    (changes,) = run_cells(notebook, lambda: library.set(unit=UNSET))
    notebook.commit(changes)
    notebook.foreground_began()
    assert library.capture() == {}


def test_a_cell_that_commits_nothing_leaves_nothing_to_the_next_one_on_its_thread(
    library: Library, notebook: NotebookLibraries
) -> None:
    seen: list[Any] = []
    run_cells(notebook, lambda: library.set(unit="m"), lambda: seen.append(library.capture()))
    assert seen == [{}]


def test_a_setting_that_the_notebook_has_changed_meanwhile_stays(library: Library, notebook: NotebookLibraries) -> None:
    library.set(unit="cm")
    notebook.note()
    (changes,) = run_cells(notebook, lambda: library.set(unit="m", other=1))
    library.set(unit="inch")
    notebook.commit(changes)
    notebook.foreground_began()
    assert library.capture() == {"unit": "inch", "other": 1}


def test_between_two_cells_the_later_commit_wins(library: Library, notebook: NotebookLibraries) -> None:
    library.set(unit="cm")
    notebook.note()
    (one,) = run_cells(notebook, lambda: library.set(unit="m"))
    (other,) = run_cells(notebook, lambda: library.set(unit="km"))
    notebook.commit(one)
    notebook.foreground_began()
    notebook.commit(other)
    notebook.foreground_began()
    assert library.capture() == {"unit": "km"}


def test_a_cell_begins_with_commits_that_wait_for_the_foreground(library: Library, notebook: NotebookLibraries) -> None:
    (changes,) = run_cells(notebook, lambda: library.set(unit="m"))
    notebook.commit(changes)
    seen: list[Any] = []
    run_cells(notebook, lambda: seen.append(library.capture()))
    assert seen == [{"unit": "m"}]


def test_a_cell_that_waits_for_another_has_what_that_has_set_and_does_not_count_it_as_its_own(
    library: Library, notebook: NotebookLibraries
) -> None:
    (changes,) = run_cells(notebook, lambda: library.set(unit="m", other=1))

    def wait() -> tuple[Any, Changes]:
        carried = Carried(notebook.snapshot())
        carried.enter()
        library.set(other=2)
        carried.rebase(changes)
        return library.capture(), carried.leave()

    seen, own = on_thread(wait)
    assert seen == {"unit": "m", "other": 2}
    assert {key[1] for key in own} == {"other"}


def test_a_library_that_a_cell_imports_has_its_settings_committed_and_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notebook: NotebookLibraries
) -> None:
    (tmp_path / "nbtasks_late_library.py").write_text("import threading\nlocal = threading.local()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "nbtasks_late_library"
    unregister = thread_state.register(
        name,
        lambda: {"unit": getattr(sys.modules[name].local, "unit", "cm")},
        lambda changed: setattr(sys.modules[name].local, "unit", changed["unit"]),
    )
    notebook.note()
    assert not any(key.startswith(name) for key in thread_state.capture())

    def import_and_set() -> None:
        __import__(name)
        sys.modules[name].local.unit = "m"

    seen: list[Any] = []
    changes, _ = run_cells(
        notebook, import_and_set, lambda: seen.append(getattr(sys.modules[name].local, "unit", "cm"))
    )
    notebook.commit(changes)
    notebook.foreground_began()
    unit = sys.modules[name].local.unit
    unregister()
    del sys.modules[name]
    assert (seen, unit) == (["cm"], "m")


def test_settings_go_to_another_process_and_back_without_those_that_cannot_be_pickled(library: Library) -> None:
    library.set(unit="cm", lock=threading.Lock())
    packed = thread_state.pack(thread_state.capture())
    before = thread_state.capture()

    def in_process() -> Any:
        process = thread_state.Process(packed)
        began = library.capture()
        library.set(unit="m")
        return began, process.changed()

    began, changed = on_thread(in_process)
    assert began == {"unit": "cm"}
    (change,) = thread_state.unpack_changes(changed, before).values()
    assert change == ("cm", "m")


def test_a_library_that_raises_costs_no_other_its_settings(
    library: Library, notebook: NotebookLibraries, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(changed: Any) -> None:
        raise ValueError(f"not {changed}")

    units = threading.local()
    undo = thread_state.register("sys", lambda: {"unit": getattr(units, "value", "cm")}, refuse)
    library.set(unit="m")
    units.value = "m"
    notebook.note()
    seen: list[Any] = []
    with caplog.at_level(logging.WARNING, "nbtasks"):
        run_cells(notebook, lambda: seen.append(library.capture()))
    undo()
    assert seen == [{"unit": "m"}]
    assert "cannot be carried to another thread: not {'unit': 'm'}" in caplog.text


def test_settings_of_the_process_are_not_touched_in_threads(notebook: NotebookLibraries) -> None:
    applied: list[Any] = []
    undo = thread_state.register("sys", lambda: {"limit": 1}, applied.append, per_thread=False)
    run_cells(notebook, lambda: None)
    found = thread_state.capture(per_thread=False)
    undo()
    assert applied == [] and {"limit": 1} in found.values()


def test_values_whose_comparison_raises_or_is_no_truth_value_are_told_apart_by_identity(
    library: Library, notebook: NotebookLibraries
) -> None:
    class Array:
        def __eq__(self, other: object) -> Any:
            raise ValueError("ambiguous")

        __hash__ = None  # type: ignore[assignment]

    one = Array()
    library.set(array=one)
    notebook.note()
    (same,) = run_cells(notebook, lambda: None)
    (other,) = run_cells(notebook, lambda: library.set(array=Array()))
    assert not same and other
