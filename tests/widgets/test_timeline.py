"""Timeline: bars in lanes over time, waiting tasks, retries, and the next fires."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import pytest

from nbtasks import Retry, TaskManager
from nbtasks.widgets.timeline import Bar, Fire, Timeline, timeline_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def bar(name="it", state="completed", waits=30.0, started=20.0, ended=10.0, lane="default", note="") -> Bar:
    moments = [None if minutes is None else ago(minutes) for minutes in (waits, started, ended)]
    return Bar(name, lane, state, *moments, note)


def drawn(*bars, fires=()) -> ET.Element:
    """The SVG, which must be well formed."""
    return ET.fromstring(re.search("(?s)<svg.*</svg>", Timeline(bars, fires, NOW, HOUR).html())[0])


def rects(svg) -> list[dict[str, float]]:
    found = [one for one in svg.iter("rect") if one.get("x")]
    return [{key: float(one.get(key).rstrip("%")) for key in ("x", "y", "width")} for one in found]


def tooltips(svg) -> list[str]:
    return [one.text for one in svg.iter("title")]


def test_a_bar_is_at_the_position_of_its_times():
    [rect] = rects(drawn(bar(started=30, ended=15), fires=[Fire("next", NOW + timedelta(minutes=1))]))
    assert rect["x"] == pytest.approx(100 * 30 / 72, abs=0.01)
    assert rect["width"] == pytest.approx(100 * 15 / 72, abs=0.02)


def test_waiting_is_a_line_before_the_bar_or_a_dashed_line_without_a_bar():
    svg = drawn(bar(waits=30, started=20), bar("waits", "pending", started=None, ended=None, lane="single"))
    lines = [one.get("style") for one in svg.iter("line") if "opacity:.55" in one.get("style")]
    assert len(lines) == 2
    assert sum("dasharray" in style for style in lines) == 1
    assert len(rects(svg)) == 1


def test_overlapping_bars_of_one_lane_are_in_different_rows():
    one, two, three = rects(drawn(bar(started=30, ended=20), bar(started=25, ended=15), bar(started=18, ended=10)))
    assert one["y"] != two["y"]
    assert three["y"] == one["y"]


def test_the_tooltip_has_times_and_error():
    [tooltip] = tooltips(drawn(bar("fit", "failed", note="ValueError: boom")))
    assert tooltip.splitlines()[0] == "fit: failed"
    assert "waited 10:00" in tooltip
    assert "ran 10:00" in tooltip
    assert "ValueError: boom" in tooltip


def test_failed_and_cancelled_bars_differ_by_more_than_their_colour():
    svg = drawn(bar(state="failed"), bar(state="cancelled"), bar(state="completed"))
    fills = [one.get("style") for one in svg.iter("rect") if one.get("x")]
    assert sum("url(#" in fill for fill in fills) == 2


def test_the_next_fires_are_right_of_now():
    svg = drawn(bar(), fires=[Fire("refresh", NOW + timedelta(minutes=5)), Fire("far", NOW + HOUR)])
    assert [text for text in tooltips(svg) if "fires at" in text and "refresh" in text]
    assert not [text for text in tooltips(svg) if "far" in text]


def test_tasks_that_ended_before_the_span_are_left_out():
    assert "no tasks in the last 1 h" in Timeline([bar(waits=90, started=80, ended=70)], [], NOW, HOUR).html()


def test_a_thousand_bars_have_limited_size_and_height():
    bars = [bar(f"t{n}", started=60 - n * 0.05, ended=58 - n * 0.05, waits=60) for n in range(1000)]
    markup = Timeline(bars, [], NOW, HOUR).html()
    assert len(markup) < 700_000
    assert int(re.search(r'height="(\d+)" style="display:block', markup)[1]) < 600


def test_many_waiting_tasks_are_counted_and_bars_keep_their_height():
    waiting = [bar(f"w{n}", "pending", started=None, ended=None) for n in range(1000)]
    dropped = [bar(f"c{n}", "cancelled", started=None, ended=20) for n in range(50)]
    svg = drawn(bar(started=30, ended=15), *dropped, *waiting)
    texts = [one.text for one in svg.iter("text")]
    assert "994 more waiting, 50 more never started\u00a0" in texts
    assert len(list(svg.iter("g"))) == 1 + 6 and int(svg.get("height")) < 200
    assert "12 more never started\u00a0" in [one.text for one in drawn(*dropped[:18]).iter("text")]


def test_names_are_escaped():
    markup = Timeline([bar("<script>x</script>\x1b[31m", lane="<b>", note="<i>")], [], NOW, HOUR).html()
    assert "<script>" not in markup
    assert "\x1b" not in markup
    assert "<i>" not in markup


def test_as_text_waiting_and_running_have_different_signs():
    line = Timeline([bar("fit", waits=30, started=20, ended=10)], [], NOW, HOUR).text().splitlines()[1]
    assert line.startswith("fit ")
    assert re.search(r"\|\s+\.{10}#{10}\s+\| completed in default", line)


# -- from a manager -----------------------------------------------------------------------------------------------


def test_each_attempt_is_a_bar():
    def fail(task):
        if task.attempts < 3:
            raise ValueError("boom")

    with TaskManager() as manager:
        manager.create_task("it", fail, retry=Retry(attempts=3, delay=0)).wait()
        bars = timeline_of(manager).bars
    assert [one.state for one in bars] == ["failed", "failed", "completed"]
    assert bars[0].note == "attempt 1: ValueError: boom"
    assert bars[1].waits_from == bars[0].ended_at


def test_pruned_tasks_come_from_the_history(tmp_path):
    with TaskManager(history=tmp_path / "history.sqlite") as manager:
        task = manager.create_task("it", str)
        task.wait()
        manager.prune("completed")
        manager.history.flush()
        [one] = timeline_of(manager).bars
    assert (one.name, one.state, one.lane) == ("it", "completed", "default")


def test_schedules_have_their_next_fires():
    with TaskManager() as manager:
        manager.add_recurring_task("5m", str, name="refresh")
        fires = timeline_of(manager).fires
    assert {fire.name for fire in fires} == {"refresh"}
    assert len(fires) > 3
