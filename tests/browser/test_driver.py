"""The browser driver itself, with stock widgets: clicks, saving, reloads.

What is not marked `long` is what the other browser tests rest on most: that widgets are seen to live and move, and
that what must not be seen there would be seen.
"""

from __future__ import annotations

import pytest

WIDGETS = """
import ipywidgets
bar, button = ipywidgets.FloatProgress(value=10), ipywidgets.Button(description="Further")
clicks = []
def on_click(_):
    clicks.append(1)
    bar.value += 30
button.on_click(on_click)
ipywidgets.VBox([bar, button])
"""
MOVE = """
import time
for value in range(10, 61, 2):
    bar.value = value
    time.sleep(0.05)
print("moved")
"""
WIDTH = "element => element.style.width"


@pytest.fixture(params=["lab", pytest.param("notebook", marks=pytest.mark.long)])
def page(request, open_page):
    return open_page([WIDGETS, MOVE, "len(clicks)"], frontend=request.param)


def bar_width(page):
    return page.output(0).locator(".progress-bar").evaluate(WIDTH)


def stall(page):
    """Has the page's main thread stand still for 300 ms."""
    stall = "const end = performance.now() + 300; while (performance.now() < end);"
    page.page.evaluate(f"() => {{ setTimeout(() => {{ {stall} }}); }}")
    page.page.wait_for_function("() => window.nbStalls.some(stall => stall >= 250)")


def test_widgets_are_shown_moved_and_clicked(page):
    page.run(0)
    sampler = page.sample(0, ".progress-bar", WIDTH)
    page.start(1)
    page.wait_done(1)
    page.wait_text(1, "moved")
    page.button(0, "Further").click()
    page.page.wait_for_function("width => document.querySelector('.progress-bar').style.width === width", arg="90%")
    page.run(2)
    assert page.text(2).strip().endswith("1")
    positions = sampler.values()
    assert len(positions) >= 5
    assert positions[0] == "10%"
    assert positions[-1] == "90%"
    times = [at for at, _ in sampler.stop()]
    assert times == sorted(times)
    page.screenshot(f"driver-{page.frontend}-moved")
    assert page.console_errors == []


@pytest.mark.reloads
def test_a_saved_notebook_is_live_again_after_a_reload(page):
    page.run(0)
    saved = page.save()
    views = [output["data"] for output in saved["cells"][0]["outputs"]]
    assert "application/vnd.jupyter.widget-view+json" in views[0]
    page.reload()
    page.button(0, "Further").click()
    page.page.wait_for_function("width => document.querySelector('.progress-bar').style.width === width", arg="40%")
    page.close()
    page.reopen()
    page.button(0, "Further").wait_for()
    assert bar_width(page) == "40%"


def test_a_running_cell_a_broken_widget_a_stall_and_an_error_are_each_seen(open_page):
    broken = "display({'application/vnd.jupyter.widget-view+json': {'model_id': 'gone', 'version_major': 2}}, raw=True)"
    page = open_page(["print('whole')", broken, "import time\nprint('in')\ntime.sleep(600)"])
    page.watch_stalls()
    page.run(0)
    assert (page.is_running(0), page.has_broken_widget(0), page.console_errors) == (False, False, [])
    page.start(1)
    page.page.wait_for_function("() => /(Loading|Error displaying) widget/.test(document.body.textContent)")
    assert page.has_broken_widget(1)
    page.start(2)
    page.wait_text(2, "in")
    assert page.is_running(2)
    page.interrupt()
    page.wait_done(2)
    assert not page.is_running(2)
    stall(page)
    assert page.longest_stall() >= 250
    for event, script in (("console", "console.error('broke')"), ("pageerror", "throw new Error('broke')")):
        with page.page.expect_event(event, lambda message: "broke" in str(message)):
            page.page.evaluate(f"() => {{ setTimeout(() => {{ {script}; }}); }}")
        assert "broke" in page.console_errors.pop()


@pytest.mark.long
@pytest.mark.reloads
def test_what_was_not_saved_is_gone_after_a_reload(page):
    page.run(0)
    page.reload()
    assert page.text(0).strip() == ""


@pytest.mark.long
@pytest.mark.reloads
def test_a_notebook_reopened_without_a_kernel_has_its_text_but_no_live_widget(page):
    page.run(0)
    page.run(1)
    page.save()
    page.reopen_without_kernel()
    assert page.kernel_status() == "none"
    page.wait_text(1, "moved")
    page.wait_text(0, "Loading widget")
    assert page.has_broken_widget(0)
    assert not page.has_broken_widget(1)
    page.screenshot(f"driver-{page.frontend}-without-kernel")


@pytest.mark.long
def test_a_notebook_reopened_with_a_new_kernel_has_no_live_widget(page):
    page.run(0)
    page.save()
    page.reopen_with_new_kernel()
    page.wait_text(0, "Error displaying widget")
    assert page.has_broken_widget(0)
    page.screenshot(f"driver-{page.frontend}-new-kernel")


@pytest.mark.long
def test_a_running_cell_is_seen_to_run_and_can_be_interrupted(open_page):
    page = open_page(["import time\nprint('in')\ntime.sleep(600)"])
    page.start(0)
    page.wait_text(0, "in")
    assert page.is_running(0)
    page.interrupt()
    page.wait_done(0)
    page.wait_text(0, "KeyboardInterrupt")
    assert not page.is_running(0)


@pytest.mark.long
def test_a_cell_off_the_screen_is_read_as_any_other(open_page):
    tall = "x = 1\n" * 60
    page = open_page(["print('first')", tall, tall, "import time\nprint('last')\ntime.sleep(600)"])
    page.run(0)
    page.start(3)
    page.wait_text(3, "last")
    assert page.text(0).strip() == "first"
    assert page.is_running(3)
    assert page.text(3).strip() == "last"


@pytest.mark.long
def test_theme_size_and_stalls_are_under_control(open_page):
    page = open_page(["print('hello')"])
    page.watch_stalls()
    page.run(0)
    page.set_theme("dark")
    page.set_size(800, 600)
    assert page.page.evaluate("() => window.innerWidth") == 800
    assert page.page.evaluate("() => document.body.dataset.jpThemeLight") == "false"
    assert page.screenshot("driver-dark").stat().st_size > 1000
    stall(page)
    assert page.longest_stall() >= 250
