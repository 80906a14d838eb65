"""Static HTML of panels and tables, with all text of the user escaped."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nbtasks import TaskManager
from nbtasks.widgets.html import panel_html, row_html, table_bundle
from nbtasks.widgets.snapshot import Snapshot, group_snapshot, task_snapshot
from nbtasks.widgets.text import panel_text, task_list


@pytest.fixture
def manager():
    with TaskManager(max_succeeded_tasks=None) as manager:
        yield manager


def snapshot(**fields) -> Snapshot:
    return Snapshot(**{"state": "running", "title": "it", "elapsed": 3, **fields})


def test_unknown_progress_is_a_pale_bar_over_the_whole_width():
    assert "width:100.0%" in panel_html(snapshot())
    assert "opacity:.35" in panel_html(snapshot())
    assert "width:0.0%" in panel_html(snapshot(state="pending"))


def test_the_colours_survive_in_untrusted_notebooks():
    assert "var(" not in panel_html(snapshot(body="epoch 4", progress=40.0))


def test_text_of_the_user_is_escaped():
    markup = panel_html(snapshot(title='<b>"x"</b>', body="<script>y</script>"))
    assert "<script>" not in markup
    assert 'title="&lt;b&gt;&quot;x&quot;&lt;/b&gt;"' in markup


@pytest.mark.parametrize("state", ["completed", "cancelled"])
def test_a_finished_task_is_one_line(state):
    markup = panel_html(snapshot(state=state, progress=50.0, body="so far: 3"))
    assert markup.count("<div") == 2
    assert "so far: 3" in markup


def test_a_failed_task_is_one_line_and_its_error():
    markup = panel_html(snapshot(state="failed", error="ValueError: boom"))
    assert markup.count("<div") == 5 and 'aria-label="Copy error"' in markup
    assert "width:" not in markup.replace("min-width:", "").replace("max-width:", "")


def test_a_completed_group_is_one_line(manager):
    tasks = [manager.create_task(str(number), str) for number in range(3)]
    manager.wait(*tasks)
    markup = panel_html(group_snapshot(tasks, datetime.now(UTC)))
    assert markup.count("<div") == 2
    assert "3 completed" in markup


@pytest.mark.parametrize(("state", "offered"), [("failed", True), ("completed", True), ("running", False)])
def test_the_panel_of_a_finished_cell_has_a_button_to_run_it_again(state, offered):
    assert ("Run again" in panel_html(snapshot(state=state), run_again=True)) is offered
    assert "Run again" not in panel_html(snapshot(state=state))


@pytest.mark.parametrize(("state", "shown"), [("failed", True), ("cancelled", True), ("completed", False)])
def test_without_such_a_button_the_command_is_shown(state, shown):
    assert ("%bgtask retry a&lt;b" in panel_html(snapshot(state=state), command="%bgtask retry a<b")) is shown
    assert "%bgtask" not in panel_html(snapshot(state=state), run_again=True, command="%bgtask retry it")


def test_loops_attempts_and_children_are_shown():
    markup = panel_html(snapshot(loops="epoch 3/10 · batch 40/200", attempt="attempt 2 of 3", children="2 running"))
    assert "epoch 3/10 · batch 40/200 · children: 2 running" in markup
    assert "running, attempt 2 of 3" in markup


def test_names_bodies_and_errors_are_plain_text_everywhere(manager):
    text = (
        "<b>x</b><script>1</script> \x1b[31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07 \x00\x9b \u202egnal\nnext"
    )

    def work(task):
        task.body = text * 1000
        raise ValueError(text * 100)

    task = manager.create_task(text * 100, work)
    manager.wait(task)
    now = datetime.now(UTC)
    one, together = task_snapshot(task, now), group_snapshot([task], now)
    for markup in (panel_html(one), row_html(task, one), panel_html(together)):
        assert "<script>" not in markup
        assert "<b>x" not in markup
        assert "\x1b" not in markup
        assert len(markup) < 10_000
    assert len(panel_text(one)) < 2_000
    assert "\x1b" not in panel_text(one) + task_list([task])


def test_a_static_table_is_escaped_html_and_plain_text(manager):
    manager.wait(manager.create_task("<b>it</b>", str))
    bundle = table_bundle(manager)
    assert "&lt;b&gt;it&lt;/b&gt;" in bundle["text/html"]
    assert "<b>it</b>" not in bundle["text/html"]
    assert bundle["text/plain"].splitlines()[1].split() == ["<b>it</b>", "completed", "default", "100%", "0:00"]
