"""The history as a list of runs: lines, filter, search, details, plot, static."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import pytest

from nbtasks import TaskManager
from nbtasks.history.database import Database
from nbtasks.history.history import History
from nbtasks.history.records import Run
from nbtasks.states import TaskState
from nbtasks.widgets import run_list_view
from nbtasks.widgets.duration_plot import duration_plot
from nbtasks.widgets.run_list import statistics_html
from nbtasks.widgets.run_list_view import LiveRunList
from nbtasks.widgets.run_query import PAGE_NAMES, PAGE_RUNS, RunQuery, read_list, run_list_bundle
from tests.core.clocks import wait_until


def fails():
    raise ValueError("no such <column>")


@pytest.fixture
def manager(tmp_path):
    with TaskManager(max_succeeded_tasks=None, history=tmp_path / "history.sqlite") as manager:
        yield manager


def fill(manager, *names: str, work=str) -> None:
    for name in names:
        manager.create_task(name, work)
        manager.wait()


@pytest.fixture
def show(manager, live, monkeypatch):
    """Show the list of the manager's history, with clicks that count at once."""
    monkeypatch.setattr("nbtasks.widgets.widget_factory.STALE_CLICK_SECONDS", 0.0)
    shown = []

    def show(query=RunQuery()) -> LiveRunList:  # noqa: B008 - frozen
        answer = read_list(manager.history, query)
        view = live.add(
            None,
            lambda: LiveRunList(manager.history, live.touch, lambda: live.state_changes, query, answer, "as text"),
        )
        shown.append(view)
        return view

    yield show
    for view in shown:
        live.remove(None, view)
        live.run(view.close)


def names(view) -> list[str]:
    """The names of the lines that are shown."""
    by_widget = {line.widget: line._key for line in view._lines}
    return [by_widget[widget] for widget in view._body.children if widget in by_widget]


def runs(view) -> list[str]:
    """The ids of the runs that are shown below the open line."""
    if view._open_part not in view._body.children:
        return []
    by_widget = {line.widget: line._key for line in view._run_lines}
    return [by_widget[widget] for widget in view._run_column.children if widget in by_widget]


def line_of(view, key):
    return next(line for line in (*view._lines, *view._run_lines) if line._key == key)


def test_a_line_for_each_name_has_its_last_states_and_durations(manager, show):
    fill(manager, "load", "fit", "load")
    fill(manager, "load", work=fails)
    view = show()
    assert names(view) == ["load", "fit"]
    line = line_of(view, "load")._cells.value
    assert "3 runs" in line and "no such &lt;column&gt;" in line
    assert 'aria-label="failed; last 3 runs: 2 completed, 1 failed"' in line
    assert re.search(r'aria-label="durations of the last 3 runs: [^"]+ to [^"]+"', line)
    assert line.index("✔") < line.rindex("✖")


def test_filters_count_and_search_finds_names_and_errors(manager, show):
    fill(manager, "load", "fit", "score")
    fill(manager, "fit", work=fails)
    view = show()
    assert view._filters.buttons["failed"].description == "failed 1"
    assert view._filters.buttons[None].description == "✓ all 4"
    view._filters.buttons["failed"].click()
    wait_until(lambda: names(view) == ["fit"])
    assert "nbtasks-chosen" in view._filters.buttons["failed"]._dom_classes
    view._filters.buttons[None].click()
    view._search.value = "o"
    wait_until(lambda: names(view) == ["fit", "score", "load"])  # "no such column" is an error of "fit"
    view._search.value = "ABC"
    wait_until(lambda: "nothing is recorded that matches" in view._note.value)
    assert view._filters.buttons[None].description == "✓ all 0"


def test_a_click_on_a_line_opens_its_newest_run_and_another_closes_it(manager, show):
    fill(manager, *["load"] * (PAGE_RUNS + 2), "fit")
    fill(manager, "load", work=fails)
    records = manager.history.tasks("load")[::-1]
    view = show()
    line_of(view, "load")._button.click()
    wait_until(lambda: runs(view) == [record.id for record in records[:PAGE_RUNS]])
    assert "no such &lt;column&gt;" in view._run_details.value and "Copy error" in view._run_details.value
    assert "13 runs, 1 failure, median" in view._statistics.value and "<svg" in view._statistics.value
    assert line_of(view, "load")._button.description == "Hide runs of load"
    line_of(view, records[1].id)._button.click()
    wait_until(lambda: records[1].id in view._run_details.value)
    line_of(view, records[1].id)._button.click()
    wait_until(lambda: view._run_details not in view._run_column.children)
    view._run_pager.next.click()
    wait_until(lambda: runs(view) == [record.id for record in records[PAGE_RUNS:]])
    line_of(view, "load")._button.click()
    wait_until(lambda: runs(view) == [])


def test_pages_of_names(manager, show):
    fill(manager, *[f"n{number}" for number in range(PAGE_NAMES + 2)])
    view = show()
    assert "1 to 20 of 22" in view._pager.position.value
    view._pager.next.click()
    wait_until(lambda: names(view) == ["n1", "n0"])


def test_it_shows_what_finishes_meanwhile(manager, show, monkeypatch):
    monkeypatch.setattr(run_list_view, "READ_SECONDS", 0.0)
    view = show()
    assert names(view) == []
    fill(manager, "late")
    wait_until(lambda: names(view) == ["late"] and "completed" in line_of(view, "late")._cells.value)


def test_a_history_that_cannot_be_read_says_so_and_keeps_what_is_shown(manager, show, monkeypatch):
    fill(manager, "load")
    view = show()
    monkeypatch.setattr(manager.history, "path", manager.history.path.parent)
    view._search.value = "lo"
    wait_until(lambda: "cannot be used" in view._note.value)
    assert names(view) == ["load"]


def test_the_static_list_opens_the_newest_run_of_each_name(manager):
    fill(manager, "load", "fit")
    fill(manager, "load", work=fails)
    bundle = run_list_bundle(read_list(manager.history, RunQuery()), "as text")
    markup = bundle["text/html"]
    assert markup.count("<summary") == 2 and "2 completed, 1 failed" in markup and bundle["text/plain"] == "as text"
    assert "<button" not in markup and "<column>" not in markup and "var(--" not in markup
    ET.fromstring(markup.replace("&nbsp;", " "))
    assert "nothing is recorded" in run_list_bundle(read_list(manager.history, RunQuery(name="x")), "")["text/html"]


def test_of_many_runs_few_rows_are_read(tmp_path, monkeypatch):
    number = 20_000
    history = History(tmp_path / "many.sqlite", notebook="a.ipynb")
    read, query_rows = [], Database.query
    try:
        history.tasks()
        at = time.time() - number
        states = ["completed", "completed", "failed", "lost", "completed", "completed", "completed"]
        rows = [
            (
                n,
                f"fit {n % 300}",
                None,
                "default",
                states[n % 7],
                1,
                at + n,
                at + n,
                at + n + n % 5,
                "CellTask",
                *[None] * 3,
            )
            for n in range(number)
        ]
        with history._reading() as database:
            database.execute("INSERT INTO kernels VALUES ('k', 0, 'a.ipynb', 0, 1)")
            database.write("k", "a.ipynb", 0.0, {"p": rows}, [])
        monkeypatch.setattr(Database, "query", lambda *values: read.extend(found := query_rows(*values)) or found)
        for query in (RunQuery(notebook="a.ipynb"), RunQuery(notebook="a.ipynb", state="failed", page=3)):
            page = read_list(history, query).page
            assert (page.total, len(page.names), sum(page.states.values())) == (300, PAGE_NAMES, number)
        assert len(read) < 2_000
    finally:
        history.close()


# -- the plot -----------------------------------------------------------------------------------------------------


def run(minute: float, took: float | None, state=TaskState.COMPLETED) -> Run:
    return Run(f"r{minute}", state, datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(minutes=minute), took)


def test_the_plot_has_a_mark_for_each_run_at_its_time_and_duration():
    svg = ET.fromstring(duration_plot([run(0, 1.0), run(5, 4.0, TaskState.FAILED), run(10, 2.0), run(11, None)], 1.5))
    circles = [(float(one.get("cx").rstrip("%")), float(one.get("cy"))) for one in svg.iter("circle")]
    assert len(circles) == 2 and circles[0][0] < circles[1][0] and circles[0][1] > circles[1][1]
    [failed] = [one for one in svg.iter("text") if one.text == "✖"]
    assert circles[0][0] < float(failed.get("x").rstrip("%")) < circles[1][0]
    assert svg.get("aria-label") == "durations of 3 runs: 1 s to 4 s, median 1.5 s"
    assert "failed after 4 s" in [one.text for one in svg.iter("title")][2]


def test_one_run_makes_no_plot_and_equal_ones_do():
    assert duration_plot([run(0, 1.0), run(1, None)]) == ""
    assert len(list(ET.fromstring(duration_plot([run(0, 0.0), run(0, 0.0)])).iter("circle"))) == 2


def test_statistics_have_figures_and_a_plot(manager):
    fill(manager, "<load>", "<load>", "fit")
    history = manager.history
    one = history.statistics()
    markup = statistics_html(one, {name.name: history.last_runs(name.name) for name in one})
    assert markup.count("<svg") == 1 and "&lt;load&gt;" in markup and "2 runs, 0 failures, median" in markup
    assert "nothing is recorded" in statistics_html([], {})
