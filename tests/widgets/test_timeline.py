"""Timeline: bars in lanes over time, waiting tasks, retries, and the next fires."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sqlite3
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import pytest

from nbtasks import Retry, TaskManager
from nbtasks.widgets.live_writer import LiveWriter
from nbtasks.widgets.timeline import Bar, Fire, Timeline, timeline_of
from nbtasks.widgets.timeline_view import LiveTimeline

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


# -- fitting, names, arrows, details --------------------------------------------------------------------------------


def texts(svg) -> dict[str, ET.Element]:
    """The names of bars, by their text without the sign."""
    names = [text for group in svg.iter("g") if group.get("data-bar") for text in group.iter("text")]
    return {text.text[2:]: text for text in names}


def test_it_begins_with_the_first_start():
    with TaskManager() as manager:
        first = manager.create_task("first", str)
        first.wait()
        later = first.started_at + timedelta(minutes=10)
        timeline = timeline_of(manager, now=later)
    assert timeline.span == pytest.approx(timedelta(minutes=10.3), abs=timedelta(seconds=1))
    assert "since " in timeline.html() and timeline.text().startswith("since ")
    svg = ET.fromstring(re.search("(?s)<svg.*</svg>", timeline.html())[0])
    assert 0 < rects(svg)[0]["x"] < 5


def test_pruned_tasks_of_earlier_kernels_do_not_stretch_it(tmp_path):
    with TaskManager(history=tmp_path / "history.sqlite") as manager:
        manager.create_task("old", str).wait()
        manager.history.flush()
    with contextlib.closing(sqlite3.connect(tmp_path / "history.sqlite")) as database:
        database.execute("UPDATE tasks SET id = 'other-1', created_at = 1, started_at = 1, completed_at = 2")
        database.commit()
    with TaskManager(history=tmp_path / "history.sqlite") as manager:
        manager.create_task("new", str).wait()
        manager.prune("completed")
        timeline = timeline_of(manager)
    assert [one.name for one in timeline.bars] == ["new"] and timeline.span < timedelta(minutes=5)


def test_a_span_that_ends_in_the_past():
    bars = [bar("in", waits=30, started=25, ended=20), bar("late", waits=9, started=8, ended=7)]
    timeline = Timeline(bars, [], NOW, timedelta(minutes=20), until=ago(15))
    assert [one.name for one in timeline._visible_bars()] == ["in"]
    assert re.search(r"\d\d:25:00 to \d\d:45:00", timeline.html())
    assert rects(ET.fromstring(re.search("(?s)<svg.*</svg>", timeline.html())[0]))[0]["x"] == pytest.approx(50)


def test_short_bars_have_their_names_beside_them_in_rows_of_their_own():
    svg = drawn(
        bar("one", started=40, ended=39), bar("two", started=38.5, ended=38), bar("three", started=1, ended=0.5)
    )
    names = texts(svg)
    assert set(names) == {"one", "two", "three"}
    assert names["one"].get("y") != names["two"].get("y")
    assert float(names["one"].get("x").rstrip("%")) == pytest.approx(100 * 21 / 60.6, abs=0.1)
    assert "text-anchor:end" in names["three"].get("style") and "text-anchor:start" in names["one"].get("style")


def test_a_long_bar_has_its_name_on_it_and_a_waiting_task_in_front_of_its_line():
    svg = drawn(bar("long", started=50, ended=5), bar("waits", "pending", waits=40, started=None, ended=None))
    assert "fill:#fff" in texts(svg)["long"].get("style")
    assert "fill:currentColor" in texts(svg)["waits"].get("style")


def test_a_thousand_tasks_are_still_packed():
    bars = [bar(f"task number {n}", started=55 - n * 0.05, ended=54.99 - n * 0.05) for n in range(1000)]
    svg = drawn(*bars)
    assert int(svg.get("height")) < 100 and len(rects(svg)) == 1000


def test_text_is_readable_on_every_bar_and_on_its_hatching():
    def luminance(colour: tuple[float, ...]) -> float:
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    svg = drawn(*(bar(state, state, started=55, ended=5) for state in ("running", "completed", "failed", "cancelled")))
    fills = [one.get("style") for one in svg.iter("rect")]
    colours = {match[1] for fill in fills if (match := re.search("fill:#([0-9a-f]{6})", fill))}
    assert len(colours) == 4
    for colour in colours:
        base = tuple(int(colour[n : n + 2], 16) / 255 for n in (0, 2, 4))
        assert 1.05 / (luminance(base) + 0.05) >= 4.5
    lines = [one.get("style") for pattern in svg.iter("pattern") for one in pattern.iter("path")]
    assert len(lines) == 2 and all("stroke:rgba(0,0,0" in line for line in lines)  # darker still
    assert {text.get("style").split(";")[0] for text in texts(svg).values()} == {"fill:#fff"}


def test_an_arrow_points_from_a_task_to_each_that_comes_after_it():
    one = dataclasses.replace(bar("load", started=50, ended=40), task_id="a-1")
    near = dataclasses.replace(bar("clean", started=40, ended=30), task_id="a-2", after=("a-1", "a-9"))
    far = dataclasses.replace(bar("report", started=20, ended=10, lane="multiple"), task_id="a-3", after=("a-1",))
    arrows = [group for group in drawn(one, near, far).iter("g") if group.get("class") == "nbtasks-arrow"]
    assert [next(arrow.iter("title")).text for arrow in arrows] == ["clean comes after load", "report comes after load"]
    for arrow, start in zip(arrows, (20, 40), strict=True):
        lines = [{key: line.get(key).rstrip("%") for key in ("x1", "x2")} for line in arrow.iter("line")]
        assert float(lines[0]["x1"]) == pytest.approx(100 * 20 / 60.6, abs=0.1)
        assert float(lines[-1]["x2"]) == pytest.approx(100 * start / 60.6, abs=0.1)
        assert sum("marker-end" in (line.get("style") or "") for line in arrow.iter("line")) == 1


def test_dependencies_of_tasks_become_arrows_also_by_id():
    with TaskManager() as manager:
        first = manager.create_task("first", str)
        manager.create_task("second", str, after=first)
        manager.create_task("third", str, after=[first.id, "second"] if manager.get_task("second") else [first.id])
        manager.wait()
        bars = timeline_of(manager).bars
    assert [one.after for one in bars] == [(), (first.id,), (first.id,)]


def test_bars_can_be_focused_and_the_newest_are_reached_by_tab():
    bars = [dataclasses.replace(bar(f"t{n}", started=55, ended=5), task_id=f"a-{n}") for n in range(300)]
    groups = [group for group in drawn(*bars).iter("g") if group.get("data-bar")]
    assert (
        sum(group.get("tabindex") == "0" for group in groups) == 200 and len({g.get("data-bar") for g in groups}) == 300
    )
    assert all(group.get("role") == "img" and next(group.iter("title")).text for group in groups)


# -- live ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def live():
    with TaskManager(max_succeeded_tasks=None) as manager:
        writer = LiveWriter(manager)
        manager.create_task("fine", str).wait()
        manager.create_task("bad", fails)
        manager.wait()
        view = writer.add(None, lambda: LiveTimeline(manager, writer.touch))
        yield view
        writer.remove(None, view)
        writer.run(view.close)
        writer.close()


def fails():
    raise ValueError("no such <column>")


def wait_until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.01)


def button(view, name):
    return next(one for one in (*view._buttons.values(), *view._steps) if one.description == name)


def test_a_bar_with_the_focus_shows_its_details_and_the_picture_stands_still(live):
    bad = next(one for one in live._timeline.bars if one.name == "bad")
    live._field.value = bad.key
    wait_until(lambda: live._details in live.widget.children)
    assert "bad: failed" in live._details.value and "no such &lt;column&gt;" in live._details.value
    drawn_before = live._picture.value
    live._next_drawing = float("-inf")
    live._touch(live)
    live._field.value = ""
    wait_until(lambda: live._picture.value != drawn_before)
    assert live._details in live.widget.children
    live._close_details.click()
    wait_until(lambda: live._details not in live.widget.children)


def test_zoom_and_moves(live):
    assert "since " in live._picture.value and "nbtasks-chosen" in button(live, "fit")._dom_classes
    button(live, "1 h").click()
    wait_until(lambda: "the last 1 h" in live._picture.value)
    button(live, "zoom in").click()
    wait_until(lambda: "the last 30 min" in live._picture.value)
    button(live, "earlier").click()
    wait_until(lambda: re.search(r"\d\d:\d\d to \d\d:", live._picture.value))
    button(live, "later").click()
    wait_until(lambda: "the last 30 min" in live._picture.value)
    fine = next(one for one in live._timeline.bars if one.name == "fine")
    live._field.value = fine.key
    live._field.value = ""
    button(live, "zoom in").click()
    wait_until(lambda: live._timeline.span == timedelta(minutes=15))
    assert "fine: completed" in live._details.value
    button(live, "fit").click()
    wait_until(lambda: "since " in live._picture.value)
