"""What a panel shows of a task, and its picture as HTML."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from nbtasks import TaskManager
from nbtasks.widgets.group_panel import group_shown
from nbtasks.widgets.snapshot import ERROR_CHARACTERS, PanelPicture, Shown, plain_text
from nbtasks.widgets.task_table import cells_html, task_list


@pytest.fixture
def manager():
    with TaskManager() as manager:
        yield manager


def shown_at_end(manager, work) -> Shown:
    task = manager.create_task("it", work)
    manager.wait(task)
    return Shown.of(task, datetime.now(UTC))


def shown(**changes) -> Shown:
    fields = {"state": "running", "title": "it", "body": "", "error": "", "progress": None, "elapsed": 3}
    return Shown(**{**fields, "waited_to_stop": None, **changes})


def fail(text):
    def work():
        raise ValueError(text)

    return work


def test_a_short_error_is_shown_whole(manager):
    assert shown_at_end(manager, fail("boom")).note == "ValueError: boom"


def test_of_a_long_error_the_beginning_is_shown(manager):
    note = shown_at_end(manager, fail("x" * 10_000)).note
    assert note.startswith("ValueError: xxx")
    assert note.endswith(" …")
    assert len(note) <= ERROR_CHARACTERS + 2


def test_a_task_that_was_cancelled_shows_what_it_said_last(manager):
    gate = threading.Event()
    manager.create_task("first", gate.wait, lane="single")
    task = manager.create_task("second", gate.wait, lane="single", body="epoch 4")
    manager.cancel_task(task)
    gate.set()
    shown = Shown.of(task, datetime.now(UTC))
    assert (shown.state, shown.note) == ("cancelled", "epoch 4")


@pytest.mark.parametrize(
    ("state", "progress", "indeterminate"),
    [
        ("running", None, True),
        ("running", 0.0, False),
        ("pending", None, False),
        ("cancelling", None, False),
        ("failed", None, False),
    ],
)
def test_only_what_runs_and_cannot_tell_how_far_is_indeterminate(state, progress, indeterminate):
    assert shown(state=state, progress=progress).indeterminate is indeterminate


def test_what_runs_and_cannot_tell_how_far_has_a_pale_bar_over_the_whole_width():
    assert "width:100.0%" in PanelPicture(shown()).html()
    assert "opacity:.35" in PanelPicture(shown()).html()
    assert "width:0.0%" in PanelPicture(shown(state="pending")).html()


def test_a_picture_has_colours_that_untrusted_notebooks_may_use():
    assert "var(" not in PanelPicture(shown(body="epoch 4", progress=40.0)).html()


def test_what_the_user_wrote_is_escaped():
    markup = PanelPicture(shown(title='<b>"x"</b>', body="<script>y</script>")).html()
    assert "<script>" not in markup
    assert 'title="&lt;b&gt;&quot;x&quot;&lt;/b&gt;"' in markup


def test_a_cancel_that_has_to_wait_says_so_after_two_seconds():
    assert shown(state="cancelling", body="in C", waited_to_stop=1).note == "in C"
    late = shown(state="cancelling", body="in C", waited_to_stop=75)
    assert late.note == "in C (cannot be stopped yet: asked 1:15 ago)"


def test_the_line_of_text_tells_state_name_figures_and_note():
    assert shown(progress=42.4, body="epoch 4").text() == "[running] it  42% · 0:03  epoch 4"


def test_elapsed_time_runs_from_the_start_to_the_end(manager):
    task = manager.create_task("it", lambda: 1)
    manager.wait(task)
    assert Shown.of(task, datetime.now(UTC) + timedelta(hours=2)).elapsed == 0


@pytest.mark.parametrize("state", ["completed", "cancelled"])
def test_what_is_over_is_one_line(state):
    html = PanelPicture(shown(state=state, progress=50.0, body="so far: 3")).html()
    assert html.count("<div") == 2
    assert "so far: 3" in html


def test_what_failed_is_one_line_and_the_error():
    html = PanelPicture(shown(state="failed", error="ValueError: boom")).html()
    assert html.count("<div") == 3
    assert "width:" not in html.replace("min-width:", "").replace("max-width:", "")


@pytest.mark.parametrize(("state", "offered"), [("failed", True), ("cancelled", True), ("completed", False)])
def test_a_cell_that_did_not_complete_offers_to_run_again(state, offered):
    assert ("Run again" in PanelPicture(shown(state=state), again=True).html()) is offered
    assert "Run again" not in PanelPicture(shown(state=state)).html()


@pytest.mark.parametrize(("state", "told"), [("failed", True), ("cancelled", True), ("completed", False)])
def test_where_no_cell_runs_it_again_the_line_that_does_is_told(state, told):
    assert ("%bgtask retry a&lt;b" in PanelPicture(shown(state=state), command="%bgtask retry a<b").html()) is told
    assert "%bgtask" not in PanelPicture(shown(state=state), again=True, command="%bgtask retry it").html()


def test_all_figures_in_one_line():
    told = shown(progress=40.0, rate="12 it/s", left=18)
    assert told.figures == "40% · 12 it/s · 0:03 · 0:18 left"


def test_loops_attempts_and_children_are_told():
    told = shown(loops="epoch 3/10 · batch 40/200", attempt="attempt 2 of 3", children="2 running")
    html = PanelPicture(told).html()
    assert "epoch 3/10 · batch 40/200 · children: 2 running" in html
    assert "running, attempt 2 of 3" in html
    assert told.text().startswith("[running, attempt 2 of 3] it")


def test_while_another_attempt_is_due_the_last_error_is_told():
    assert shown(state="pending", last_error="ValueError: boom").note == "the last attempt failed: ValueError: boom"


NASTY = "<b>x</b><script>1</script> \x1b[31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07 \x00\x9b \u202egnal\nnext"


def test_codes_that_steer_a_terminal_are_left_out():
    assert plain_text(NASTY).split()[1:] == ["red", "link", "\u202egnal", "next"]


def test_names_bodies_and_errors_show_as_text(manager):
    def work(task):
        task.body = NASTY * 1000
        raise ValueError(NASTY * 100)

    task = manager.create_task(NASTY * 100, work)
    manager.wait(task)
    shown = Shown.of(task, datetime.now(UTC))
    together = group_shown([task], datetime.now(UTC))
    for html in (PanelPicture(shown).html(), cells_html(task, shown), PanelPicture(together).html()):
        assert "<script>" not in html
        assert "<b>x" not in html
        assert "\x1b" not in html
        assert len(html) < 10_000
    assert len(shown.text()) < 2_000
    assert "\x1b" not in shown.text() + task_list([task])
