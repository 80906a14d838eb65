"""A refreshing cell in JupyterLab: nothing moves, and its controls stay in place."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

LOAD = "%load_ext nbtasks\nimport time\nimport matplotlib.pyplot as plt\nn = 0"
PLOT = (
    "%%bgtask load {0}\nn += 1\nprint('run', n)\ntime.sleep(0.3)\n"
    "plt.plot(range(n + 1))\nplt.title(f'run {{n}}');"
)
# Where the cell below is, and the height of the output, at each frame; and which element the panel is.
WATCH = """([output, below]) => {
    const [tops, heights, panels, images] = [new Set(), new Set(), new Set(), new Set()];
    const seen = window.nbSeen = { tops, heights, panels, images, on: true };
    const tick = () => {
        if (!seen.on) return;
        seen.tops.add(Math.round(below.getBoundingClientRect().top));
        seen.heights.add(Math.round(output.getBoundingClientRect().height));
        seen.panels.add(output.querySelector('.nbtasks-panel'));
        const image = output.querySelector('img');
        if (image) seen.images.add(image.src.slice(-200, -100) + image.src.length);
        requestAnimationFrame(tick);
    };
    tick();
}"""
SEEN = "() => ({ tops: [...nbSeen.tops], heights: [...nbSeen.heights], panels: nbSeen.panels.size })"


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_twenty_runs_of_a_plot_move_nothing_by_more_than_two_pixels(open_page, frontend):
    page = open_page([LOAD, PLOT.format("--every 900ms"), "'below'"], frontend=frontend)
    page.run(0)
    page.run(1)
    page.output(1).locator("img").wait_for()
    page.button(1, "Schedule").click()
    field = page.output(1).get_by_label("Schedule")
    field.wait_for()
    field.fill("17 3 * * *")  # typed while it runs, and not applied
    page.wait_text(1, "would fire")
    handles = [page.output(1).element_handle(), page.cell(2).element_handle()]
    page.page.evaluate(WATCH, handles)
    page.page.wait_for_function("() => nbSeen.images.size >= 21", timeout=600_000)
    seen = page.page.evaluate(SEEN)
    page.screenshot(f"standing-still-{frontend}")
    assert field.input_value() == "17 3 * * *"
    assert seen["panels"] == 1
    assert max(seen["tops"]) - min(seen["tops"]) <= 2, seen
    assert max(seen["heights"]) - min(seen["heights"]) <= 2, seen


def test_after_an_edit_of_the_schedule_the_line_to_paste_is_shown(open_page):
    page = open_page([LOAD, PLOT.format('--lane multiple --cron "0 7 * * *" --now')])
    page.run(0)
    page.run(1)
    page.wait_text(1, "run 1")  # --now
    page.button(1, "Schedule").click()
    page.output(1).get_by_label("Schedule").fill("2h")
    page.button(1, "Apply").click()
    page.wait_text(1, "%%bgtask load --lane multiple --now --every 2h")
    page.output(1).get_by_label("Schedule").fill("*/5 * * * *")
    page.button(1, "Apply").click()
    page.wait_text(1, '%%bgtask load --lane multiple --now --cron "*/5 * * * *"')
    page.screenshot("schedule-line-to-paste")


def test_clear_all_outputs_does_not_lose_a_running_panel(open_page):
    page = open_page(
        [
            "%load_ext nbtasks\nimport threading\ngo, end = threading.Event(), threading.Event()",
            "%%bgtask it\ngo.wait()\nprint('later')\nend.wait()",
            "%%bgtask again --every 2s\nprint('a run')",
            "go.set()",
        ]
    )
    for number in (0, 1, 2):
        page.run(number)
    page.wait_text(1, "running")
    page.wait_text(2, "a run")
    page.command("notebook:clear-all-cell-outputs")
    page.wait_text(2, "a run")
    page.button(2, "Schedule").wait_for()
    page.run(3)
    page.wait_text(1, "later")
    page.button(1, "Cancel").click()
    page.set_source(3, "end.set()")
    page.run(3)
    page.wait_text(1, "cancelled")
