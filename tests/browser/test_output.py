"""Output of background cells in JupyterLab: floods, reloads, animations, plots."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.driver import TIME_LIMIT_MS

pytestmark = pytest.mark.browser

LOAD = (
    "%load_ext nbtasks\nimport threading\nfrom nbtasks import current_task, track\n"
    "go, end = threading.Event(), threading.Event()"
)
BAR_WIDTH = "element => element.style.width"


def test_a_flood_leaves_the_browser_responsive_and_other_panels_live(open_page):
    page = open_page(
        [
            LOAD,
            "%%bgtask flood\nfor n in range(1_000_000): print('line', n)",
            "%%bgtask beside --lane multiple\nimport time\nfor _ in track(range(10_000)):\n"
            "    if end.is_set(): break\n    time.sleep(0.01)",
            "flood.state, len(flood.output.text.splitlines())",
        ]
    )
    page.run(0)
    page.run(2)
    beside = page.sample(2, ".progress-bar", BAR_WIDTH)
    page.watch_stalls()
    page.run(1)
    page.wait_text(1, "lines left out; task.output has them")
    page.wait_text(1, "line 999999")
    stall = page.longest_stall()
    page.screenshot("output-flood")
    text = page.text(1)
    assert "line 999\n" in text and "line 1000\n" not in text and "line 999900\n" in text
    assert len(set(beside.values())) >= 10
    page.run(3)
    assert "completed" in page.text(3) and "1000000" in page.text(3)
    # Undisturbed it is below 200 ms; a machine that runs other things too must not make this fail. Without the
    # shortening it is many seconds.
    assert stall < 1_000, f"the longest stall of the page was {stall:.0f} ms"
    page.set_source(3, "end.set()")
    page.run(3)


@pytest.mark.long
@pytest.mark.reloads
def test_after_a_reload_of_a_saved_notebook_the_panel_shows_all_output_and_stays_live(open_page):
    page = open_page(
        [LOAD, "%%bgtask it\nprint('from the start')\ngo.wait()\nprint('after the reload')\nend.wait()", "go.set()"]
    )
    page.run(0)
    page.run(1)
    page.wait_text(1, "from the start")
    page.save()
    page.reload()
    page.wait_text(1, "running")
    page.output(1).locator(".jupyter-widgets.widget-output, .jupyter-widgets-output-area").first.wait_for()
    page.run(2)
    page.wait_text(1, "after the reload")
    page.screenshot("output-after-reload")
    page.button(1, "Output").click()  # opened by itself, and only once
    expect(page.output(1).get_by_text("after the reload").first).to_be_hidden(timeout=TIME_LIMIT_MS)
    assert not page.has_broken_widget(1)
    page.set_source(2, "end.set()")
    page.run(2)
    page.wait_text(1, "completed")


@pytest.mark.reloads
def test_after_a_reload_without_saving_show_brings_the_output_back(open_page):
    page = open_page(
        [LOAD, "%%bgtask it\nprint('from the start')\ngo.wait()\nprint('later')", "%bgtask show it", "go.set()"]
    )
    page.run(0)
    page.save()
    page.run(1)
    page.wait_text(1, "from the start")
    page.reload()
    page.run(2)
    page.wait_text(2, "from the start")
    page.run(3)
    page.wait_text(2, "later")
    page.wait_text(2, "completed")
    assert page.text(2).count("from the start") == 1
    assert not page.has_broken_widget(2)


def test_an_animation_replaces_its_frames_and_leaves_the_panel_and_its_button(open_page):
    page = open_page(
        [
            LOAD,
            "%%bgtask it\nimport time\nfrom IPython.display import clear_output\nn = 0\n"
            "while True:\n    n += 1\n    clear_output(wait=True)\n    print('frame', n)\n    time.sleep(0.05)",
        ]
    )
    page.run(0)
    page.run(1)
    frames = page.sample(1, ".jp-OutputArea-output pre")
    page.wait_text(1, "frame 1")
    page.page.wait_for_function("() => /frame [3-9][0-9]/.test(document.body.innerText)")
    cancel = page.button(1, "Cancel")
    cancel.evaluate("button => { button.dataset.mark = 'the same'; button.focus(); }")
    page.page.wait_for_function("() => /frame [6-9][0-9]/.test(document.body.innerText)")
    assert cancel.evaluate("button => [button.dataset.mark, document.activeElement === button]") == ["the same", True]
    assert page.text(1).count("frame") == 1
    assert len(set(frames.values())) >= 4
    page.page.keyboard.press("Enter")
    page.wait_text(1, "cancelled")
    assert page.page.evaluate("() => !!document.activeElement.closest('.nbtasks-panel, .nbtasks')")
    page.screenshot("output-animation")


def test_two_cells_that_plot_at_once_keep_their_plots_apart(open_page):
    plot = (
        "%%bgtask {0} --lane multiple\nimport matplotlib.pyplot as plt\n"
        "plt.plot([1, 2])\ngo.wait()\nplt.title('{0}')\nprint(plt.gcf().number)"
    )
    page = open_page(
        [
            LOAD,
            plot.format("one"),
            plot.format("two"),
            "import matplotlib.pyplot as plt\nplt.plot([3, 1]);",
            "go.set()",
            "%bgtask wait",
        ]
    )
    for index in range(6):
        page.run(index)
    for index in (1, 2):
        page.output(index).locator("img").wait_for()
        assert page.output(index).locator("img").count() == 1
    assert page.output(3).locator("img").count() == 1
    assert page.output(4).locator("img").count() == page.output(5).locator("img").count() == 0
    page.screenshot("output-two-plots")
