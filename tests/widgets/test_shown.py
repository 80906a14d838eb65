"""What a panel shows of a task, and its picture as HTML."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from nbtasks import TaskManager
from nbtasks.widgets.shown import ERROR_CHARACTERS, PanelPicture, Shown


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
    assert "width:0.0%" in PanelPicture(shown(state="cancelled")).html()


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
