"""Names, bodies, errors and output of users are shown as text in the page."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

NASTY = {
    "script": "<script>window.executed = 1</script><img src=x onerror='window.executed = 1'>",
    "markup": "</span></div></td><b>bold</b> &amp; \"quoted' <style>* { display: none !important; }</style>",
    "ansi": "\\x1b[31mred\\x1b[0m \\x1b]8;;javascript:window.executed=1\\x07link\\x1b]8;;\\x07 \\x9b31m",
    "bidi": "\\u202egnorw si siht\\u2066 \\u05d0\\u05d1\\u05d2 mixed",
    "emoji": "\\U0001f468\\u200d\\U0001f469\\u200d\\U0001f467 \\U0001f1e9\\U0001f1ea e\\u0301 z\\u0351\\u0352\\u0353",
    "long": "abcdefghij" * 1000,
}
LOAD = f"""%load_ext nbtasks
import threading
from IPython.display import display
from nbtasks import get_manager
manager, go, nasty = get_manager(), threading.Event(), {{{
    ", ".join(f"{name!r}: {text!r}".replace(chr(92) * 2, chr(92)) for name, text in NASTY.items())
}}}
def runs(text):
    def work(task):
        task.body, task.heading, task.parameters = text, text, {{text: text}}
        go.wait()
    return work
def fails(text):
    def work(task):
        task.body = text
        raise ValueError(text)
    return work"""
CELL = "%%bgtask written\nfor text in nasty.values(): print(text)\ncurrent = nasty['script']\nraise ValueError(current)"
RUNNING = "for text in nasty.values(): display(manager.create_task(text, runs(text), tags=[text], lane='multiple'))"
ALONE = "display(manager.create_task(nasty['bidi'], runs(nasty['markup']), lane='multiple'))"
FAILED = "manager.wait(*(manager.create_task(text, fails(text)) for text in nasty.values()))"
# What sticks out to the side of its output, or was made an element by the text.
BROKEN = """area => {
    const edge = area.getBoundingClientRect().right + 1;
    const made = [...area.querySelectorAll('script, style, img')];
    const own = made.filter(one => one.matches('img') || !one.closest('.nbtasks-table, .nbtasks-panel'));
    const wide = [...area.querySelectorAll('button, b, .progress, pre')].filter(
        part => part.offsetParent && part.getBoundingClientRect().right > edge
            && part.closest('.nbtasks-table, .nbtasks-panel'));
    return [...own, ...wide].map(part => part.outerHTML.slice(0, 200));
}"""


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
@pytest.mark.reloads
def test_what_users_write_shows_as_text_and_breaks_nothing(open_page, frontend):
    page = open_page([LOAD, ALONE, RUNNING, FAILED, "%bgtask", CELL, "go.set()"], frontend=frontend)
    page.set_size(1200, 1800)
    for cell in range(6):
        page.run(cell)
    page.wait_text(1, "<style>* { display: none !important; }</style>")
    page.wait_text(2, "6 running")
    page.wait_text(4, "running 7")
    page.wait_text(5, "failed")
    for name in ("Details of", "Output of written"):
        page.page.wait_for_timeout(500)
        page.button(4, name).first.click()
    page.page.wait_for_timeout(500)
    page.screenshot(f"safety-{frontend}")
    assert page.output(5).evaluate(BROKEN) == []
    for cell in (1, 2, 4):
        assert page.output(cell).evaluate(BROKEN) == []
        assert page.output(cell).bounding_box()["height"] < 1200
    page.run(6)
    page.wait_text(1, "completed")
    page.wait_text(2, "6 completed")
    page.save()
    page.reload()
    page.output(1).get_by_text("completed").wait_for()
    assert page.page.evaluate("() => window.executed") is None
    assert page.console_errors == []
