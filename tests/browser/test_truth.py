"""What panels show after a restart of the kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.lab import Lab
from tests.kernel.conftest import kernel_env

pytestmark = pytest.mark.browser

LOAD = (
    "%load_ext nbtasks\nimport threading, time\nfrom nbtasks import current_task, track\n"
    "go, never = threading.Event(), threading.Event()"
)
# The content of the rule that draws a broken chain before each widget that has lost its kernel.
CHAINS = """output => [...output.querySelectorAll('*')].filter(
    element => !['none', 'normal'].includes(getComputedStyle(element, '::before').content)
        && element.classList.contains('jupyter-widgets-disconnected')).map(element => element.outerHTML)"""
RUNNING = "%%bgtask {0} --lane multiple\nfor _ in track(range(1_000)):\n    if go.wait(0.1): break\nprint('the end')"


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """A server without the extension of nbtasks, which would replace the panels by their last pictures."""
    home = tmp_path_factory.mktemp("lab")
    with Lab(kernel_env(home), home, extension=False) as lab:
        yield lab


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_after_a_restart_panels_read_lost_and_show_no_broken_chains(open_page, frontend):
    loop = "for name in 'cd':\n    get_ipython().run_cell_magic('bgtask', f'{name} --lane multiple', 'never.wait()')"
    page = open_page(
        [LOAD, RUNNING.format("a"), "%%bgtask late --every 1h\nprint('run')", loop, "%bgtask"], frontend=frontend
    )
    page.set_size(1200, 1400)
    for number in range(5):
        page.run(number)
    page.wait_text(1, "it/s")
    page.wait_text(2, "next in")
    page.wait_text(4, "running 3")
    height = page.output(1).evaluate("output => output.getBoundingClientRect().height")
    page.restart()
    for number in (1, 2, 3, 4):
        page.wait_text(number, "lost")
        assert page.output(number).evaluate(CHAINS) == []
    page.screenshot(f"truth-restarted-{frontend}")
    assert "running" not in page.text(1) and "left" not in page.text(1) and "next in" not in page.text(2)
    assert page.output(1).evaluate("output => output.getBoundingClientRect().height") == height
    for number in (1, 2, 3, 4):
        assert page.output(number).locator("button:not(.nbtasks-heads *) >> visible=true").count() == 0
    table = page.output(4).locator(".nbtasks-table").first
    assert "The kernel has ended" in table.evaluate("table => getComputedStyle(table, '::after').content")
